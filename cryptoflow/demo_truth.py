"""Compares what lies in the lake with what the exchange served: message by message, level by level, bit by bit.

Every book that was served whole must lie in the lake, once as a poll, once as an anchor, or as both where one answer was
both, each price and quantity being the float64 of the venue's text; or else inside a gap row of its symbol (a poll cut
off by the stop is such a one). Every update that was sent must lie there once and in order (`demo_truth_updates`). What
lies in the lake must have been served.
"""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import msgspec

from cryptoflow import demo_frames, demo_stored
from cryptoflow.demo_truth_updates import UpdatesFound, compare_updates, exact

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from cryptoflow.demo_frames import BookName
    from cryptoflow.demo_run import Run
    from cryptoflow.demo_stored import Message

SHOWN_PROBLEMS = 5
US_NS = 1000


class Answer(msgspec.Struct, rename={"last_update_id": "lastUpdateId"}):
    """A line of the exchange's truth."""

    market: str | None
    symbol: str | None
    sha256: str | None
    served_ns: int
    last_update_id: int | None
    bids: int | None
    asks: int | None
    book: bool
    complete: bool


@dataclass(slots=True)
class Comparison:
    """`polls` and `levels` were served whole; `rows` of levels were found. Equal where `problems` is empty."""

    polls: int = 0
    levels: int = 0
    rows: int = 0
    gap_rows: int = 0  # of snapshots
    in_gaps: int = 0  # answers served whole but not taken any more, and covered by a gap row
    refused: int = 0  # answers that came too late to be anchors
    anchors: int = 0
    updates: UpdatesFound = field(default_factory=UpdatesFound)
    problems: list[str] = field(default_factory=list)

    @property
    def equal(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems and self.rows == self.levels and self.updates.rows == self.updates.levels


def compare(run: Run, refused_anchors: int = 0) -> Comparison:
    """Reads the lake of this run's stream, and the truth. So many answers may be missing, as the reader refused them."""
    result = Comparison()
    served, streamed = _served(run.truth_path), demo_frames.read(run.frames_path)
    snapshots = demo_stored.read(run.lake, run.stream, "fobs")
    deltas = demo_stored.read(run.lake, run.stream, "fobd")
    lost: list[str] = []
    for name in sorted(served.keys() | streamed.keys() | snapshots.keys() | deltas.keys()):
        polls, stream = snapshots.get(name, []), deltas.get(name, [])
        answers = served.get(name, [])
        lost += _compare_books(name, answers, polls, stream, run.bodies, result)
        compare_updates(name, streamed.get(name, demo_frames.Streamed()), stream, result.updates, result.problems)
    if len(lost) <= refused_anchors:
        result.refused = len(lost)
    else:
        result.problems += lost
    return result


def _served(path: Path) -> dict[BookName, list[Answer]]:
    found: dict[BookName, list[Answer]] = defaultdict(list)
    with path.open("rb") as lines:
        for line in lines:
            answer = msgspec.json.decode(line, type=Answer)
            if answer.book and answer.complete and answer.market and answer.symbol:
                found[answer.market, answer.symbol].append(answer)
    return found


def _compare_books(  # noqa: PLR0917 - what was served, what was found, where to say it
    name: BookName,
    served: Sequence[Answer],
    polls: Sequence[Message],
    stream: Sequence[Message],
    bodies: Path,
    result: Comparison,
) -> list[str]:
    """Of polls and anchors; returns what was served and is nowhere."""
    by_id: dict[int | None, list[Answer]] = defaultdict(list)
    for answer in sorted(served, key=lambda answer: answer.served_ns):
        by_id[answer.last_update_id].append(answer)
    polled = _found(name, "book", by_id, polls, bodies, result.problems)
    anchored = _found(name, "anchor", by_id, stream, bodies, result.problems)
    result.anchors += sum(map(len, anchored.values()))
    result.rows += sum(message.rows for messages in polled.values() for message in messages)
    result.gap_rows += sum(message.type == "gap" for message in polls)
    covered = [((gap.gap_since_us or 0) * US_NS, gap.recv_ns) for gap in polls if gap.type == "gap"]
    lost = []
    for update_id, answers in by_id.items():
        found = len(polled[update_id])
        result.polls += found
        result.levels += sum((answer.bids or 0) + (answer.asks or 0) for answer in answers[:found])
        for answer in answers[found + len(anchored[update_id]) :]:
            if any(since <= answer.served_ns <= until for since, until in covered):
                result.in_gaps += 1
            else:
                lost.append(f"{name}: book {update_id} was served and lies neither in the lake nor in a gap")
    return lost


def _found(  # noqa: PLR0917 - as above
    name: BookName,
    what: str,
    by_id: dict[int | None, list[Answer]],
    messages: Sequence[Message],
    bodies: Path,
    problems: list[str],
) -> dict[int | None, list[Message]]:
    """The snapshots among the messages, by id; none more often than it was served, each as it was."""
    found: dict[int | None, list[Message]] = defaultdict(list)
    for message in messages:
        if message.type != "snapshot":
            continue
        answers, known = by_id.get(message.last_id, []), found[message.last_id]
        known.append(message)
        if len(known) > len(answers):
            problems.append(f"{name}: {what} {message.last_id} lies in the lake more often than it was served")
            continue
        body = json.loads((bodies / str(answers[0].sha256)).read_bytes())
        if not (exact(message.bids, body["bids"]) and exact(message.asks, body["asks"])):
            problems.append(f"{name}: {what} {message.last_id} differs from what was served")
    return found
