"""What Prometheus shows of each service is exactly what the exchange says it sent, and what lies in the lake.

Between two moments at which the exchange is held and the line has come to rest, raw counters are compared: none is
estimated, none may be one off. Faults of known number are caused in between. `SCREENS_LOAD_SECONDS` makes it longer.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from cryptoflow import demo_stored
from shared.messages import KINDS, Kind
from tests.e2e.simulated import Exchange
from tests.support import eventually_sync

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from cryptoflow.demo_stored import Message
    from tests.compose import Stack

pytestmark = [pytest.mark.docker, pytest.mark.xdist_group("compose"), pytest.mark.timeout(900)]

LOAD_SECONDS = float(os.environ.get("SCREENS_LOAD_SECONDS", "20"))
REST_SECONDS = 8.0  # the slowest gauge is set every 5 s
FLUSHED_SECONDS = 90.0
SKIPPED = (("future", "BTCUSDT"), ("inverse", "BTCUSD_PERP"), ("spot", "ETHUSDT"))
REFUSED = 2
STREAM = "main"

Book = tuple[str, str]


@dataclass
class Moment:
    """Everything, while nothing moves."""

    at_ns: int
    exchange: dict[str, Any]
    seq: int
    metrics: dict[tuple[str, ...], float]
    starts: dict[tuple[str, ...], float]


class Screens:
    """Prometheus and the exchange of a running stack."""

    def __init__(self, stack: Stack) -> None:
        self.exchange = Exchange(stack.compose)
        self._prometheus = stack.prometheus
        self._refusing: int | None = None

    def hold(self) -> Moment:
        """No update and no book is sent any more; what was sent has come to rest in the lake, and is shown."""
        self.exchange.speed(0)
        self._refusing = self.exchange.fault("http_503_unavailable", probability=1.0)
        held_at = time.time()
        eventually_sync(lambda: self._rests(held_at), FLUSHED_SECONDS, "the line rests, and Prometheus has seen it")
        counters, entries = self.exchange.counters(), self.exchange.truth(0)
        return Moment(
            at_ns=time.time_ns(),
            exchange=counters,
            seq=max(entry["seq"] for entry in entries),
            metrics=self._counters(),
            starts=self._prometheus.by("cryptoflow_start_timestamp_seconds", "job", "instance"),
        )

    def release(self) -> None:
        """It goes on."""
        if self._refusing is not None:
            self.exchange.lift(self._refusing)
            self._refusing = None
        self.exchange.speed(1)

    def _rests(self, held_at: float) -> bool:
        if self._prometheus.scraped_at() < held_at + REST_SECONDS:
            return False
        lags = ("cryptoflow_position_lag_records", "cryptoflow_stored_lag_records", "cryptoflow_channel_depth_bytes")
        return all(self._prometheus.value(name) == 0 for name in lags)

    def _counters(self) -> dict[tuple[str, ...], float]:
        """Of all replicas together: (name, label=value, …) → raw value."""
        found: Counter[tuple[str, ...]] = Counter()
        for labels, value in self._prometheus.query('{__name__=~"cryptoflow_.*_total"}'):
            own = {name: text for name, text in labels.items() if name not in {"__name__", "job", "instance"}}
            found[labels["__name__"], *(f"{name}={own[name]}" for name in sorted(own))] += value
        return dict(found)


class Shown:
    """What counters rose by between two moments."""

    def __init__(self, before: Moment, after: Moment) -> None:
        self._before, self._after = before.metrics, after.metrics

    def __call__(self, name: str, **labels: str) -> int:
        """The sum over the series with these labels."""
        wanted = {f"{label}={value}" for label, value in labels.items()}
        series = [key for key in self._after if key[0] == f"cryptoflow_{name}_total" and wanted <= set(key)]
        assert series, f"no series of {name} {labels}"
        return round(sum(self._after[key] - self._before.get(key, 0) for key in series))


@pytest.fixture
def screens(stack) -> Iterator[Screens]:
    made = Screens(stack)
    yield made
    made.release()
    made.exchange.lift()


def test_counters_are_what_the_exchange_sent_and_the_lake_holds(stack, screens, tmp_path):
    before = screens.hold()
    screens.release()
    for market, symbol in SKIPPED:  # one of each: two in a row would be one hole
        screens.exchange.fault("skip", path="stream", market=market, symbol=symbol)
    screens.exchange.fault("http_500", market="spot", symbol="ETHUSDT", count=REFUSED)
    _load(screens, before)
    after = screens.hold()
    assert after.starts == before.starts, "a process was restarted meanwhile"

    shown = Shown(before, after)
    lake = {kind: _between(stack, kind, before.at_ns, after.at_ns, tmp_path) for kind in KINDS}
    answers = [one for one in screens.exchange.truth(before.seq) if one["book"] and one["complete"]]
    _assert_streams(shown, before, after)
    _assert_answers(shown, lake, answers, _rise(before, after, "levels"))
    _assert_gaps(shown, lake)
    _assert_line(shown, lake)


def _load(screens: Screens, before: Moment) -> None:
    """For so long; and until the faults have hit."""
    until = time.monotonic() + LOAD_SECONDS

    def hit() -> bool:
        now = screens.exchange.counters()
        skipped = now["stream"]["by_fault"].get("skip", 0) - before.exchange["stream"]["by_fault"].get("skip", 0)
        refused = now["by_fault"].get("http_500", 0) - before.exchange["by_fault"].get("http_500", 0)
        return time.monotonic() > until and (skipped, refused) == (len(SKIPPED), REFUSED)

    eventually_sync(hit, LOAD_SECONDS + 60, "the load is over and every fault has hit")


def _rise(before: Moment, after: Moment, what: str) -> Counter[str]:
    return Counter(after.exchange["stream"][what]) - Counter(before.exchange["stream"][what])


def _assert_streams(shown: Shown, before: Moment, after: Moment) -> None:
    frames = _rise(before, after, "frames")
    assert set(frames) == {"future", "inverse", "spot"}
    for market, sent in frames.items():
        assert shown("updates_received", market=market) == sent
    for reason in ("repeat", "overlap", "unwanted"):
        assert shown("updates_dropped", reason=reason) == 0


def _assert_answers(
    shown: Shown, lake: dict[str, dict[Book, list[Message]]], answers: list[dict[str, Any]], sent: Counter[str]
) -> None:
    """A body is a poll's, an anchor's, or serves both: the lake says which, the exchange how many levels it had."""
    placed = {kind: _ids(lake[kind], "snapshot") for kind in KINDS}
    served = Counter((one["market"], one["symbol"], one["lastUpdateId"]) for one in answers)
    levels = {(one["market"], one["symbol"], one["lastUpdateId"]): one["bids"] + one["asks"] for one in answers}
    assert not [key for key in served if key not in placed["fobs"] and key not in placed["fobd"]]
    assert shown("polls", reason="ok") == placed["fobs"].total()
    assert shown("anchors", outcome="placed") == placed["fobd"].total()
    in_books = {kind: sum(levels[key] * number for key, number in placed[kind].items()) for kind in KINDS}
    assert shown("flattened_levels", kind="fobs") == in_books["fobs"]
    assert shown("flattened_levels", kind="fobd") == in_books["fobd"] + sent.total()
    updates = sum(message.type == "update" for messages in lake["fobd"].values() for message in messages)
    assert shown("updates_received") == updates


def _assert_gaps(shown: Shown, lake: dict[str, dict[Book, list[Message]]]) -> None:
    for kind in KINDS:
        rows = sum(message.type == "gap" for messages in lake[kind].values() for message in messages)
        assert shown("gaps", kind=kind) == rows
    assert shown("gaps", kind="fobd", cause="sequence") == shown("gaps", kind="fobd") == len(SKIPPED)
    assert shown("gaps", kind="fobs", cause="poll") == shown("gaps", kind="fobs")
    polls = shown("polls", reason="internal_error")  # an anchor may have met a refusal instead, or with a poll
    assert polls <= REFUSED <= polls + shown("anchors", outcome="failed")


def _assert_line(shown: Shown, lake: dict[str, dict[Book, list[Message]]]) -> None:
    """Each stage took what the one before it gave, and nothing else happened."""
    for kind in KINDS:
        messages = [message for found in lake[kind].values() for message in found]
        rows = sum(max(1, message.rows) for message in messages)
        raw, norm = f"raw-{kind}", f"norm-{kind}"
        assert shown("produced_records", topic=raw) == shown("consumed_records", topic=raw) == len(messages)
        assert shown("flattened_messages", kind=kind) == len(messages)
        assert shown("flattened_rows", kind=kind) == shown("stored_rows", kind=kind) == rows
        assert shown("produced_records", topic=norm) == shown("consumed_records", topic=norm) > 0
        assert shown("flushes", kind=kind, outcome="written") == shown("flushes", kind=kind)
    for nothing in ("dead_letters", "repeated_records", "source_holes", "claims_lost", "records_unacknowledged"):
        assert shown(nothing) == 0


def _ids(books: dict[Book, list[Message]], what: str) -> Counter[tuple[str, str, int | None]]:
    return Counter(
        (*book, message.last_id) for book, messages in books.items() for message in messages if message.type == what
    )


def _between(stack: Stack, kind: Kind, since_ns: int, until_ns: int, folder: Path) -> dict[Book, list[Message]]:
    """What was received between two moments, as the lake holds it."""
    return {
        book: [message for message in messages if since_ns < message.recv_ns <= until_ns]
        for book, messages in demo_stored.read(stack.copy_lake(folder, kind), STREAM, kind).items()
    }
