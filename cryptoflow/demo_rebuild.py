"""Rebuilds one book from the updates, by the public API, and compares it with the snapshot that was polled at its id.

The instant is chosen so that both are the book at one update id: when the update with the snapshot's id and the snapshot
itself had been received, and the next update had not. Of several instants that one which lies the most updates behind its
anchor.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from cryptoflow import demo_stored, lake
from cryptoflow.demo_run import LIMIT, SYMBOLS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from cryptoflow.demo_frames import BookName
    from cryptoflow.demo_run import Run
    from cryptoflow.demo_stored import Message, Side
    from cryptoflow.lake import Levels


@dataclass(frozen=True, slots=True)
class Choice:
    """An instant of a symbol, and the snapshot that must equal its book."""

    name: BookName
    at_ns: int
    snapshot: Message
    updates: int  # since the latest anchor


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """What came of it: `bids` and `asks` levels were compared; equal where `problem` is empty."""

    choice: Choice
    book: lake.Book
    bids: int
    asks: int
    problem: str


def rebuild(run: Run) -> Rebuilt | None:
    """None where no instant is good: the run was too short."""
    choice = _choose(run)
    if choice is None:
        return None
    market, symbol = choice.name
    book = lake.book(
        str(run.lake), exchange="binance", market=market, symbol=symbol, at=choice.at_ns, stream=run.stream
    )
    bids, bids_equal = _compare(book.bids, choice.snapshot.bids)
    asks, asks_equal = _compare(book.asks, choice.snapshot.asks)
    problem = ""
    if book.gaps:
        problem = f"a gap lies between: {book.gaps[0]}"
    elif book.update_id != choice.snapshot.last_id:
        problem = f"the book has update id {book.update_id}, the snapshot {choice.snapshot.last_id}"
    elif not (bids_equal and asks_equal):
        problem = "their levels differ"
    return Rebuilt(choice, book, bids, asks, problem)


def _choose(run: Run) -> Choice | None:
    """The first symbol of `SYMBOLS` that has an instant."""
    polled = demo_stored.read(run.lake, run.stream, "fobs")
    streamed = demo_stored.read(run.lake, run.stream, "fobd")
    for name in ((market, symbol) for market, symbols in SYMBOLS.items() for symbol in symbols):
        choices = _choices(name, polled.get(name, []), streamed.get(name, []))
        best = max(choices, key=lambda choice: choice.updates, default=None)
        if best is not None:
            return best
    return None


def _choices(name: BookName, polled: Sequence[Message], streamed: Sequence[Message]) -> Iterator[Choice]:
    snapshots = {message.last_id: message for message in polled if message.type == "snapshot"}
    updates = [message for message in streamed if message.type == "update"]
    after = {update.last_id: following for update, following in pairwise(updates)}
    since: int | None = None  # updates since the anchor; None: there is none
    for message in streamed:
        if message.type != "update":
            since = 0 if message.type == "snapshot" else None
            continue
        since = None if since is None else since + 1
        snapshot, following = snapshots.get(message.last_id), after.get(message.last_id)
        if since and snapshot is not None and following is not None:
            at_ns = max(snapshot.recv_ns, message.recv_ns)
            if at_ns < following.recv_ns:
                yield Choice(name, at_ns, snapshot, since)


def _compare(levels: Levels, side: Side) -> tuple[int, bool]:
    """How many levels were compared, and whether they are equal: all that are known for sure in both."""
    known = int(np.argmax(levels.beyond_anchor)) if levels.beyond_anchor.any() else len(levels)
    polled = len(side[0])
    if levels.whole and polled < LIMIT and known != polled:
        return min(known, polled), False
    first = slice(min(known, polled))
    equal = np.array_equal(levels.price[first], side[0][first]) and np.array_equal(
        levels.quantity[first], side[1][first]
    )
    return min(known, polled), equal and first.stop > 0
