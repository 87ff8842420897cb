"""Random streams of updates with skips, repeats, gaps, anchors and crossing receive times, against a naive book."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from cryptoflow import lake
from shared.lake.gap import BROKEN_CHAIN
from shared.lake.store_local import LocalStore
from shared.messages import Book
from tests.lakes import HOUR_0, FobdRows, fobd_line

SECOND = 1_000_000_000
T0 = HOUR_0 * 1000
MINUTE = 60 * SECOND

levels = st.lists(st.tuples(st.integers(90, 99), st.integers(0, 3)), max_size=3)
steps = st.tuples(
    st.sampled_from(
        ["update"] * 12 + ["anchor"] * 3 + ["held"] * 3 + ["gap", "skip", "repeat", "flush", "flush", "pause"]
    ),
    levels,
    levels,
)


@dataclass
class Told:
    """One message, as the naive book needs it."""

    kind: str
    recv_ns: int
    first: int = 0
    last: int = 0
    prev: int = 0
    bids: list = field(default_factory=list)
    asks: list = field(default_factory=list)


class World:
    """An exchange's true book, and the reader's messages of it. Every id, level and time is known."""

    def __init__(self, *, spot: bool) -> None:
        self.spot = spot
        self.id, self.now = 10, T0
        self.sides: tuple[dict[int, int], dict[int, int]] = ({}, {})
        self.truth = {self.id: ([], [])}  # the book as of each id
        self.told: list[Told] = []
        self.flushes: list[int] = []

    def step(self, kind: str, bids: list, asks: list) -> None:
        getattr(self, f"_{kind}")(bids, asks)

    def _update(self, bids, asks) -> None:
        self.told.append(self._changed(bids, asks))

    def _skip(self, bids, asks) -> None:
        self._changed(bids, asks)

    def _repeat(self, *_: list) -> None:
        if self.told[-1].kind == "update":
            self.told.append(self.told[-1])

    def _anchor(self, *_: list) -> None:
        self.now += SECOND
        self.told.append(Told("anchor", self.now, 0, self.id, 0, *self.truth[self.id]))

    def _held(self, bids, asks) -> None:
        """Updates that wait for an anchor: one that it holds already, perhaps, and one received before it."""
        update = self._changed(bids, asks)
        self._anchor()
        if len(bids) % 2:
            self.told.append(update)
        self._update(asks, bids)
        before, after = self.told[-2:]
        before.recv_ns, after.recv_ns = after.recv_ns, before.recv_ns

    def _gap(self, *_: list) -> None:
        self.told.append(Told("gap", self.now))

    def _pause(self, *_: list) -> None:
        self.now += 61 * MINUTE

    def _flush(self, *_: list) -> None:
        self.flushes.append(len(self.told))

    def _changed(self, bids, asks) -> Told:
        self.now += SECOND
        prev, first, self.id = self.id, self.id + 1 + (0 if self.spot else 3), self.id + 5
        update = Told("update", self.now, first, self.id, prev, bids, [(price + 20, amount) for price, amount in asks])
        for side, changes in zip(self.sides, (update.bids, update.asks), strict=True):
            side.update(changes)
        self.truth[self.id] = best_first(*self.sides)
        return update

    def store(self, key: Book, folder: str) -> None:
        """Everything told, flush by flush."""
        line, rows, begin = fobd_line(LocalStore(folder)), FobdRows(), 0
        for end in [*self.flushes, len(self.told)]:
            for message in self.told[begin:end]:
                if message.kind == "anchor":
                    rows.anchor(message.last, message.bids, message.asks, at=message.recv_ns)
                elif message.kind == "gap":
                    rows.gap("disconnect", at=message.recv_ns)
                else:
                    ids = (message.first, message.last, None if self.spot else message.prev)
                    rows.update(*ids, message.bids, message.asks, at=message.recv_ns)
            if end > begin:
                line.write((key, rows.take()))
            begin = end


def best_first(bids: dict[int, int], asks: dict[int, int]):
    there = ([level for level in side.items() if level[1]] for side in (bids, asks))
    return sorted(next(there), reverse=True), sorted(next(there))


def naive(told: list[Told], at: int, *, spot: bool):
    """The recipe in plain Python, a dict per side; (book, id, broken), or None where there is no anchor."""
    begin = max(
        (n for n, message in enumerate(told) if message.kind == "anchor" and message.recv_ns <= at), default=None
    )
    if begin is None:
        return None
    sides = (dict(told[begin].bids), dict(told[begin].asks))
    id_, applied, broken = told[begin].last, 0, False
    for message in told[begin + 1 :]:
        if message.kind == "anchor" or (message.kind == "update" and message.last <= id_):
            continue
        broken = message.kind == "gap" or not follows(message, id_, applied, spot=spot)
        if broken or message.recv_ns > at:  # what follows the instant only tells whether it lies in a hole
            break
        id_, applied = message.last, applied + 1
        for side, changes in zip(sides, (message.bids, message.asks), strict=True):
            side.update(changes)
    return *best_first(*sides), id_, broken


def follows(update: Told, id_: int, applied: int, *, spot: bool) -> bool:
    if spot:
        return update.first <= id_ + 1
    return update.prev == id_ if applied else update.prev <= id_


@settings(max_examples=80, deadline=None)
@given(st.booleans(), st.lists(steps, min_size=1, max_size=60), st.lists(st.integers(0, 70), min_size=1, max_size=6))
def test_rebuilt_books_are_the_naive_ones_and_the_true_ones(spot, script, seconds):
    key = Book("binance", "spot" if spot else "future", "BTCUSDT")
    world = World(spot=spot)
    for step in [("anchor", [], []), *script]:
        world.step(*step)
    span = max(message.recv_ns for message in world.told) + SECOND - T0  # the last one need not be the latest
    where = {"exchange": key.exchange, "market": key.market, "symbol": key.symbol}
    with tempfile.TemporaryDirectory() as folder:
        world.store(key, folder)
        history = lake.history(folder, start=T0, end=T0 + span, **where)
        for at in [T0 + span * second // 70 for second in seconds] + [m.recv_ns for m in world.told[::7]]:
            expected = naive(world.told, at, spot=spot)
            if expected is None:
                continue
            for book in (lake.book(folder, at=at, **where), history.at(at)):
                found = [list(zip(side.price, side.quantity, strict=True)) for side in (book.bids, book.asks)]
                assert (*found, book.update_id, bool(book.gaps)) == expected
                assert tuple(found) == world.truth[book.update_id]
                assert {gap.cause for gap in book.gaps} <= {"disconnect", BROKEN_CHAIN}
