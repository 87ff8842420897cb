"""What the exchange says of its streams, and a judge that holds the raw topic against it.

The judge reads the simulator's log of events and the records of raw-fobd with `json` alone; it knows a venue's ids and
nothing of our sequence rules: two updates follow one another if the exchange made no event between them.
"""

from __future__ import annotations

import json
from bisect import bisect_right
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import aiohttp

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from shared.kafka import Record
    from tests.processes import Simulator

Name = tuple[str, str]  # market, symbol
SPOILING = {"garbage", "truncated_frame", "no_symbol", "unknown_event"}
Sides = tuple[dict[float, float], dict[float, float]]  # quantity by price: bids, asks


@dataclass(frozen=True)
class Event:
    """A depth event the exchange made. `fault`: what it did to the frame on its way, if anything; None of delivered."""

    first_id: int
    last_id: int
    at_ns: int
    text: str


@dataclass
class Truth:
    """The log of ``--truth-frames``."""

    bases: dict[Name, dict[str, Any]] = field(default_factory=dict)
    events: dict[Name, list[Event]] = field(default_factory=lambda: defaultdict(list))
    faults: dict[tuple[Name, int], set[str]] = field(default_factory=lambda: defaultdict(set))  # of an event
    spoiled_ns: list[int] = field(default_factory=list)  # when a frame that is no update went out
    lines: list[dict[str, Any]] = field(default_factory=list)  # connections and subscriptions

    @classmethod
    def read(cls, path: Path) -> Truth:
        truth = cls()
        for text in path.read_text().splitlines():
            line = json.loads(text)
            name = line["market"], line.get("symbol", "")
            if line["what"] == "base":
                truth.bases.setdefault(name, line)
            elif line["what"] == "event":
                truth.events[name].append(Event(line["U"], line["u"], line["at_ns"], line["text"]))
            elif line["what"] == "frame":
                if line["fault"]:
                    truth.faults[name, line["u"]].add(line["fault"])
                if line["fault"] in SPOILING:
                    truth.spoiled_ns.append(line["sent_ns"])
            else:
                truth.lines.append(line)
        return truth

    def books(self, name: Name, last_ids: Iterable[int]) -> Iterator[tuple[int, Sides]]:
        """The true book at each of these ids, which rise and are ids of events or of the base."""
        base = self.bases[name]
        sides: Sides = tuple({float(p): float(q) for p, q in base[side]} for side in ("bids", "asks"))  # type: ignore[assignment]
        events = iter(self.events[name])
        reached = base["last_id"]
        for wanted in last_ids:
            while reached < wanted:
                event = next(events)
                apply(sides, json.loads(event.text))
                reached = event.last_id
            assert reached == wanted, f"{wanted} is no event of {name}"
            yield wanted, sides


@dataclass(frozen=True)
class Hole:
    """Events that were made between two published updates, and the gaps that stand there."""

    name: Name
    lost: tuple[Event, ...]
    gaps: tuple[dict[str, Any], ...]


@dataclass
class Verdict:
    """What was found: `holes` are all places with lost events or gaps, in order."""

    updates: int = 0
    anchors: int = 0
    holes: list[Hole] = field(default_factory=list)

    def gaps(self, *causes: str) -> list[dict[str, Any]]:
        return [gap for hole in self.holes for gap in hole.gaps if gap["cause"] in causes]


def judge(records: Iterable[Record], truth: Truth) -> Verdict:
    """Every update verbatim, once and in the order of the exchange; no anchor older than an update before it.

    A hole lies between two updates, or, where a gap was told, between an update and an anchor or an anchor and an update.
    """
    verdict = Verdict()
    by_book: dict[Name, list[Record]] = defaultdict(list)
    for record in records:
        headers = dict(record.headers)
        by_book[headers["market"].decode(), headers["symbol"].decode()].append(record)
    for name, of_book in by_book.items():
        _judge_book(name, of_book, truth, verdict)
    return verdict


def _judge_book(name: Name, records: list[Record], truth: Truth, verdict: Verdict) -> None:
    events = truth.events[name]
    place = {event.last_id: number for number, event in enumerate(events)}
    reached: int | None = None  # the place of the latest event that a consumer has, by an update or an anchor
    published: int | None = None  # of the latest update
    gaps: list[dict[str, Any]] = []
    for record in records:
        headers = {key: value.decode() for key, value in record.headers}
        content = json.loads(record.value)
        if headers["type"] == "gap":
            gaps.append(content)
            continue
        if headers["type"] == "snapshot":
            verdict.anchors += 1
            anchored = bisect_right([event.last_id for event in events], content["lastUpdateId"]) - 1
            assert published is None or gaps or published <= anchored, f"{name}: an anchor behind a newer update"
            if gaps:
                lost = events[reached + 1 : anchored + 1] if reached is not None else []
                verdict.holes.append(Hole(name, tuple(lost), tuple(gaps)))
                reached, gaps = anchored, []
            continue
        data = content.get("data", content)
        here = place[data["u"]]
        assert data == json.loads(events[here].text), f"{name}: update {data['u']} is not what the exchange made"
        assert published is None or here > published, f"{name}: update {data['u']} comes again, or late"
        lost = events[reached + 1 : here] if reached is not None else []  # before the first nothing was awaited
        if lost or gaps:
            verdict.holes.append(Hole(name, tuple(lost), tuple(gaps)))
        verdict.updates += 1
        published, gaps = here, []
        reached = here if reached is None else max(reached, here)
    if gaps:
        verdict.holes.append(Hole(name, (), tuple(gaps)))


def apply(sides: Sides, event: dict[str, Any]) -> None:
    """Absolute quantities; zero removes."""
    for side, levels in zip(sides, (event["b"], event["a"]), strict=True):
        for price, quantity in levels:
            if float(quantity) == 0:
                side.pop(float(price), None)
            else:
                side[float(price)] = float(quantity)


async def control(simulator: Simulator, method: str, path: str, body: object = None) -> Any:
    """The simulator's own API."""
    async with (
        aiohttp.ClientSession() as session,
        session.request(method, f"{simulator.control}/{path}", json=body) as response,
    ):
        assert response.status == 200, await response.text()
        return await response.json()
