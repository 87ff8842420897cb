"""A true exchange stream of one symbol, what becomes of it on its way to a `BookSync`, and anchors of the true book.

The book is a dict of quantities by price. Changes have ids of their own (spot: contiguous, futures: sparse); an event
carries those of some time, a snapshot is taken at any change. A connection delivers in order and within a second unless
a fault says otherwise; what was on its way when it ends is gone.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from typing import TYPE_CHECKING

from services.reader.book_sync import Anchor, BookSync
from shared.venues.base import SECOND_NS
from shared.venues.sequence import ChainedByPrevious, ContiguousIds, UpdateIds
from tests.book_syncs import BOOK, LIMIT, T0, TICK_NS

if TYPE_CHECKING:
    from collections.abc import Callable

    from services.reader.channel import RawRecord

MS = SECOND_NS // 1000
DELAY_MS = 900  # of a delivery, at most
LATE_MS = 2000  # of one that was overtaken
STANDBY_MS = 2500  # what a hand-over goes back, at most


@dataclass(frozen=True)
class Event:
    number: int
    ids: UpdateIds
    levels: dict[int, int]
    made_ns: int


@dataclass(frozen=True)
class Told:
    """A record and when it was published."""

    record: RawRecord
    at_ns: int


@dataclass
class World:
    spot: bool
    slow: bool  # answers come up to 8 s after their request, or not at all
    lagging: bool  # snapshots may be older than their request
    now: int = T0
    told: list[Told] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    changes: list[tuple[int, int, int, int]] = field(default_factory=list)  # id, price, quantity, made_ns
    delivered: list[int] = field(default_factory=list)  # numbers of events, in order, repeats included
    received_ns: dict[int, int] = field(default_factory=dict)  # by number, the first time
    happened: list[tuple[int, str]] = field(default_factory=list)  # what may have cost updates, when

    def __post_init__(self) -> None:
        self.rule = ContiguousIds() if self.spot else ChainedByPrevious()
        self.sync = BookSync(
            BOOK, self.rule, lambda record: self.told.append(Told(record, self.now)), ip=None,
            anchor_interval_ns=120 * SECOND_NS, check_after_ns=20 * SECOND_NS, random=lambda: 0.5,
        )  # fmt: skip
        self._agenda: list[tuple[int, int, Callable[[], None]]] = []
        self._numbers = count()
        self._pending: list[tuple[int, int, int]] = []
        self._link = 0
        self._up = self._muted = False
        self._free_ns = 0  # when the latest delivery arrives: the next one comes no earlier
        self._next_tick_ns = T0
        self._draw = 0
        self.sync.start(self.now)
        self.back()

    # --- time ---------------------------------------------------------------------------------------------------------

    def step(self, kind: str, wait_ms: int, draw: int) -> None:
        self._draw = draw
        getattr(self, kind)()
        self.wait(wait_ms)

    def wait(self, ms: int) -> None:
        end = self.now + ms * MS
        while True:
            due = self._agenda[0][0] if self._agenda else end
            self.now = max(self.now, min(due, self._next_tick_ns, end))
            if self._agenda and self._agenda[0][0] <= self.now:
                heapq.heappop(self._agenda)[2]()
            elif self._next_tick_ns <= self.now:
                self._tick()
            else:
                return

    def _after(self, ms: int, what: Callable[[], None]) -> None:
        heapq.heappush(self._agenda, (self.now + ms * MS, next(self._numbers), what))

    def _note(self, what: str) -> None:
        """At a time of its own, so that it is known whether an update came before or after."""
        self.now += 1
        self.happened.append((self.now, what))

    def _some(self, most: int) -> int:
        """A number that is another each time, and the same in every run of the same steps."""
        self._draw = (self._draw * 1103515245 + 12345) % 2**31
        return self._draw // 65536 % (most + 1)

    def _tick(self) -> None:
        self._next_tick_ns += TICK_NS
        self.sync.tick(self.now, live=self._up)
        if self.sync.resubscribe:
            self.sync.resubscribe = False
            self.happened.append((self.now, "stale"))
            self._after(self._some(300), partial(self._resubscribed, self._link))
        if self._up and self.sync.wanted(self.now):
            self.sync.request_open = True
            self._after(self._some(2000 if self.slow else 50), self._request)

    # --- the exchange -------------------------------------------------------------------------------------------------

    def change(self) -> None:
        """One or two levels; the event that tells them is made soon."""
        for _ in range(1 + self._some(1)):
            id_ = (self.changes[-1][0] if self.changes else 10) + (1 if self.spot else 1 + self._some(3))
            price, quantity = 100 + self._some(4), self._some(3)
            self.changes.append((id_, price, quantity, self.now))
            self._pending.append((id_, price, quantity))
        self._after(self._some(200), self.flush)

    def flush(self) -> None:
        if not self._pending:
            return
        prev = self.events[-1].ids.last_id if self.events else 10
        first = self._pending[0][0]
        ids = UpdateIds(first, self._pending[-1][0], None if self.spot else prev)
        event = Event(len(self.events), ids, {price: quantity for _, price, quantity in self._pending}, self.now)
        self._pending.clear()
        self.events.append(event)
        self._send(event)

    def book(self, at_id: int) -> dict[int, int]:
        book: dict[int, int] = {}
        for id_, price, quantity, _ in self.changes:
            if id_ <= at_id:
                apply(book, {price: quantity})
        return book

    # --- its way ------------------------------------------------------------------------------------------------------

    _fault = ""

    def drop(self) -> None:
        self._fault = "drop"
        self.change()

    def garble(self) -> None:
        self._fault = "garble"
        self.change()

    def twice(self) -> None:
        self._fault = "twice"
        self.change()

    def overtaken(self) -> None:
        self._fault = "overtaken"
        self.change()

    def mute(self) -> None:
        """The subscription brings nothing any more, until it is renewed."""
        self._muted = True

    def _send(self, event: Event) -> None:
        fault, self._fault = self._fault, ""
        if not self._up or self._muted or fault == "drop":
            return
        self._free_ns = max(self._free_ns, self.now + self._some(DELAY_MS) * MS)
        arrives_ms = (self._free_ns - self.now) // MS
        if fault == "overtaken":
            arrives_ms = self._some(LATE_MS)
        what = partial(self._garbled, self._link) if fault == "garble" else partial(self._deliver, event, self._link)
        self._after(arrives_ms, what)
        if fault == "twice":
            self._after(arrives_ms + self._some(20_000), what)

    def _deliver(self, event: Event, link: int) -> None:
        if self._up and link == self._link:
            self.now += 1
            self.delivered.append(event.number)
            self.received_ns.setdefault(event.number, self.now)
            self.sync.update(event.ids, str(event.number).encode(), self.now, link, None)

    def _garbled(self, link: int) -> None:
        if self._up and link == self._link:
            self._note("malformed")
            self.sync.suspect("malformed")

    # --- the connection -----------------------------------------------------------------------------------------------

    def cut(self) -> None:
        self._cut("disconnect")

    def overflow(self) -> None:
        self._cut("overflow")

    def _cut(self, cause: str) -> None:
        if self._up:
            self._up = False
            self._note(cause)
            self.sync.lost(cause, self.now)  # type: ignore[arg-type]

    def back(self) -> None:
        if not self._up:
            self._up, self._muted = True, False
            self._link += 1
            self._free_ns = self.now
            self.sync.subscribed(self._link, self.now)

    def hand_over(self) -> None:
        """Another connection takes over, open for some seconds: it has what the old one brought last, and all since."""
        if not self._up or self._muted:
            return
        last = self.delivered[-1] if self.delivered else -1
        if self._some(1):
            self._cut("disconnect")  # forced
        self._up = True
        self._link += 1
        self._free_ns = self.now
        for event in self.events[max(0, last - self._some(2)) :]:
            if event.made_ns >= self.now - STANDBY_MS * MS:
                self._deliver(event, self._link)
        self._after(self._some(100), partial(self._resubscribed, self._link))

    def _resubscribed(self, link: int) -> None:
        if self._up and link == self._link:
            self._muted = False
            self.sync.subscribed(link, self.now)

    # --- snapshots ----------------------------------------------------------------------------------------------------

    def poll(self) -> None:
        if self.changes:
            self.sync.saw_snapshot(self.changes[-1][0], self.now)

    def _request(self) -> None:
        self.sync.anchor_sent(self.now)
        taken_ms = self._some(4000 if self.slow else 200)
        answer_ms = taken_ms + self._some(4000 if self.slow else 200)
        if self.slow and self._some(9) == 0:
            self._after(answer_ms, lambda: self.sync.anchor_failed(self.now))
            return
        as_of_ns = self.now + taken_ms * MS - (self._some(2000) * MS if self.lagging else 0)
        self._after(answer_ms, partial(self._answer, self.now, as_of_ns))

    def _answer(self, sent_ns: int, as_of_ns: int) -> None:
        id_ = max((change[0] for change in self.changes if change[3] <= as_of_ns), default=10)
        self.sync.anchor_arrived(Anchor(id_, str(id_).encode(), sent_ns, self.now, LIMIT), self.now)


def apply(book: dict[int, int], levels: dict[int, int]) -> None:
    """Absolute quantities; zero removes."""
    for price, quantity in levels.items():
        if quantity:
            book[price] = quantity
        else:
            book.pop(price, None)
