"""A synthetic order book that moves by events, so that snapshots and diffs tell one story.

Integer ticks and lots inside, decimal text outside. A book is a pure function of (seed, instrument, first event time,
time advanced to): how often it was looked at changes nothing. It knows no clock and does no I/O.

Ids follow the venue. Futures: sparse, shared by all symbols of a market (here: derived from the event's millisecond and
the symbol's own slot, hence unique and monotonic); ``pu`` chains. Spot: contiguous per symbol, U = previous u + 1.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_left, insort
from dataclasses import dataclass, replace
from random import Random
from typing import TYPE_CHECKING

import msgspec

from simulator.markets import depth_body

if TYPE_CHECKING:
    from simulator.instruments import Instrument

EVENT_INTERVAL_MS = 100
IDS_PER_MS = 1024  # room for a slot per symbol in one millisecond; 1.8e12 ms * 1024 stays below 2^53
SPOT_IDS_PER_MS = 2  # where a spot book's ids start: ahead of any earlier run's
CHANGES_MAX = 12
MOVE_SHARE = 0.25  # of events that move the fair price
MOVE_TICKS_MAX = 4
LEAN_MAX = 0.3
LEAN_RANGE = 0.02  # how far from its start, relative to it, the price leans back with all its weight
REMOVE_SHARE = 0.25  # of touched levels
DENSE_LEVELS = 50  # at the front of a new book, one tick apart
STEP_SHARE = 0.8  # of the levels behind them one tick apart, the others two
LEVELS_MIN = 3  # of a side that still loses levels
SLACK_LEVELS = 10  # around the size that a side keeps to
FRONT_SHARE = 0.03  # how near to the front a change falls, as a share of the side


STEPS = (-1, 1)  # from a level to the next one out: bids, asks
Changed = tuple[dict[int, int], dict[int, int]]  # lots by tick: bids, asks


@dataclass(frozen=True, slots=True)
class Answer:
    """A rendered depth answer, kept until the book changes."""

    body: bytes
    sha256: str
    last_update_id: int
    bids: int  # levels
    asks: int
    recorded: bool = False  # verbatim from a capture


@dataclass(frozen=True, slots=True)
class Diff:
    """One depth event: ids, times and absolute quantities in lots by tick (0 = level removed)."""

    first_id: int  # U
    last_id: int  # u
    previous_id: int  # pu
    event_ms: int  # E
    transaction_ms: int  # T
    bids: dict[int, int]
    asks: dict[int, int]


class Side:
    """One side: sorted ticks, lots by tick, and the rendered text of every level."""

    def __init__(self, instrument: Instrument, *, ascending: bool) -> None:
        self._sign = 1 if ascending else -1  # ranks ascend from the best level
        self._ranks: list[int] = []
        self._lots: dict[int, int] = {}
        self._texts: dict[int, bytes] = {}
        self._instrument = instrument

    def __len__(self) -> int:
        return len(self._ranks)

    def tick(self, depth: int) -> int:
        """The tick of the level at `depth` (0 = best, -1 = worst)."""
        return self._ranks[depth] * self._sign

    def lots(self, tick: int) -> int:
        """Lots at `tick`, 0 where there is no level."""
        return self._lots.get(tick * self._sign, 0)

    def put(self, tick: int, lots: int) -> None:
        """Sets the absolute quantity at `tick`; 0 removes the level."""
        rank = tick * self._sign
        if lots == 0:
            if self._lots.pop(rank, None) is not None:
                del self._ranks[bisect_left(self._ranks, rank)]
                del self._texts[rank]
            return
        if rank not in self._lots:
            insort(self._ranks, rank)
        self._lots[rank] = lots
        self._texts[rank] = self._instrument.level(tick, lots)

    def render(self, limit: int) -> bytes:
        """The best `limit` levels as JSON pairs joined by commas."""
        texts = self._texts
        return b",".join([texts[rank] for rank in self._ranks[:limit]])

    def levels(self) -> list[tuple[str, str]]:
        """All levels, best first, as price and quantity texts."""
        return [
            (price, quantity) for rank in self._ranks for price, quantity in (msgspec.json.decode(self._texts[rank]),)
        ]


class Book:
    """One symbol's book. `slot` (< `IDS_PER_MS`) keeps futures ids of different symbols apart."""

    def __init__(self, instrument: Instrument, *, seed: int, slot: int, start_ms: int) -> None:
        self.instrument = instrument
        self.bids = Side(instrument, ascending=False)
        self.asks = Side(instrument, ascending=True)
        self._sides = (self.bids, self.asks)
        self._fair = instrument.mid_tick
        self._random = Random(f"{seed}:{instrument.market}:{instrument.symbol}").random  # a text seeds alike everywhere
        self._slot = slot
        self._spot = instrument.market == "spot"
        self.event_ms = self.transaction_ms = start_ms
        self.last_update_id = start_ms * SPOT_IDS_PER_MS + slot if self._spot else start_ms * IDS_PER_MS + slot
        self._next_ms = start_ms + 1 + int(self._random() * EVENT_INTERVAL_MS)
        self._answers: dict[int, Answer] = {}
        self._fill()

    def advance(self, now_ms: int) -> list[Diff]:
        """Applies every event up to `now_ms` and returns them in order. A halted symbol never moves."""
        diffs: list[Diff] = []
        if self.instrument.status != "TRADING":
            return diffs
        while self._next_ms <= now_ms:
            diffs.append(self._event(self._next_ms))
            self._next_ms += EVENT_INTERVAL_MS + int((self._random() - 0.5) * 20)
        if diffs:
            self._answers.clear()
        return diffs

    def set_status(self, status: str, now_ms: int) -> None:
        """From `now_ms` on it trades or not; what a halt left out never happened."""
        self.instrument = replace(self.instrument, status=status)
        self._next_ms = max(self._next_ms, now_ms + 1)

    def answer(self, limit: int) -> Answer:
        """The depth answer for `limit` levels a side, rendered once per change."""
        answer = self._answers.get(limit)
        if answer is None:
            body = depth_body(
                self.instrument.market,
                symbol=self.instrument.symbol,
                pair=self.instrument.pair,
                last_update_id=self.last_update_id,
                event_ms=self.event_ms,
                transaction_ms=self.transaction_ms,
                bids=self.bids.render(limit),
                asks=self.asks.render(limit),
            )
            answer = Answer(
                body,
                hashlib.sha256(body).hexdigest(),
                self.last_update_id,
                min(limit, len(self.bids)),
                min(limit, len(self.asks)),
            )
            self._answers[limit] = answer
        return answer

    def levels(self) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
        """Bids and asks, best first, as texts: the whole book."""
        return self.bids.levels(), self.asks.levels()

    def _fill(self) -> None:
        """The first book: dense at the front, with holes further out."""
        for index, count in enumerate((self.instrument.bids, self.instrument.asks)):
            tick = self._front(index)
            for depth in range(count):
                self._sides[index].put(tick, self._some_lots(depth))
                tick += STEPS[index] * self._hop(depth)

    def _hop(self, depth: int) -> int:
        """Ticks from one level to the next one out, at least 1; kept small so that bids stay above zero."""
        return 1 if depth < DENSE_LEVELS or self._random() < STEP_SHARE else 2

    def _some_lots(self, depth: int) -> int:
        """A quantity, heavy-tailed, larger further out."""
        u = self._random()
        return 1 + int(self.instrument.typical_lots * (1 + min(depth, 400) / 40) * u * u / (1.05 - u))

    def _event(self, at_ms: int) -> Diff:
        changed: Changed = ({}, {})
        if self._random() < MOVE_SHARE:
            self._move(changed)
        for _ in range(1 + int(self._random() ** 2 * CHANGES_MAX)):
            self._change(changed)
        self._keep_size(changed)
        previous = self.last_update_id
        if self._spot:
            first = previous + 1
            last = previous + max(1, len(changed[0]) + len(changed[1]))
        else:
            last = at_ms * IDS_PER_MS + self._slot
            first = previous + 1 + int((last - previous - 1) * (0.1 + 0.8 * self._random()))
        self.last_update_id = last
        self.transaction_ms = at_ms
        self.event_ms = at_ms + 1 + int(self._random() * 8)
        return Diff(first, last, previous, self.event_ms, at_ms, *changed)

    def _move(self, changed: Changed) -> None:
        """Trades take the best levels of one side away and the other side follows; the price leans back to its start."""
        middle = self.instrument.mid_tick
        lean = max(-LEAN_MAX, min(LEAN_MAX, (middle - self._fair) / (middle * LEAN_RANGE)))
        step = 1 + int(self._random() ** 3 * MOVE_TICKS_MAX)
        up = self._random() < 0.5 + lean
        self._fair += step if up else -step
        taken, follower = (1, 0) if up else (0, 1)
        side = self._sides[taken]
        while len(side) >= LEVELS_MIN and (side.tick(0) <= self._fair) == up:
            self._put(changed, taken, side.tick(0), 0)
        self._put(changed, follower, self._front(follower), self._some_lots(0))

    def _change(self, changed: Changed) -> None:
        """A price mostly near the front: an empty one gets a level, a level changes or goes."""
        index = int(self._random() * 2)
        side = self._sides[index]
        depth = int(len(side) * FRONT_SHARE * self._random() / (1.0 - 0.97 * self._random()))
        tick = self._front(index) + depth * STEPS[index]
        if tick < 1 or (side.tick(-1) - tick) * STEPS[index] < 0:
            return
        gone = side.lots(tick) > 0 and len(side) >= LEVELS_MIN and self._random() < REMOVE_SHARE
        self._put(changed, index, tick, 0 if gone else self._some_lots(depth))

    def _keep_size(self, changed: Changed) -> None:
        """Keeps both sides near their size by adding or dropping the deepest levels."""
        for index, count in enumerate((self.instrument.bids, self.instrument.asks)):
            side = self._sides[index]
            while len(side) < count - SLACK_LEVELS:
                tick = side.tick(-1) + STEPS[index] * self._hop(count)
                if tick < 1:
                    break
                self._put(changed, index, tick, self._some_lots(count))
            while len(side) > count + SLACK_LEVELS:
                self._put(changed, index, side.tick(-1), 0)

    def _front(self, index: int) -> int:
        """The best tick a side may have: bids at the fair price or below, asks above it."""
        return self._fair + index

    def _put(self, changed: Changed, index: int, tick: int, lots: int) -> None:
        self._sides[index].put(tick, lots)
        changed[index][tick] = lots
