"""The updates of one market from one source address: which symbols, over which connections, with which anchors.

It follows the venue's instrument list: what is listed is subscribed and anchored, what is delisted ends with a gap. Only
what trades is subscribed; without any list the named symbols are, after `NO_LIST_SECONDS`. Never reads a level, never
judges a chain.
"""

from __future__ import annotations

import asyncio
import random
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from services.reader.book_sync import BookSync
from services.reader.channel import RawRecord
from services.reader.connection import Link
from services.reader.meters import FeedMeters
from services.reader.pace import Pace
from services.reader.slot import LARGEST_UPDATE_BYTES, Slot, Tracked
from shared import metrics
from shared.log import get_logger
from shared.messages import Book, Gap
from shared.venues.base import MINUTE_NS, SECOND_NS

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Sequence

    from services.reader.anchors import Anchors
    from services.reader.channel import Channel
    from services.reader.pressure import Pressure
    from services.reader.symbols import Selection
    from services.reader.ways import Way, Ways
    from shared.errors import PoisonMessage
    from shared.venues.base import Venue
    from shared.venues.instruments import Instrument

STEP_SECONDS = 0.1
NO_LIST_SECONDS = 10.0
REPORT_EVERY_STEPS = 10
LINKS_END_SECONDS = 3.0
BURIED_PER_MINUTE = 100
"""Frames that are no update are kept as dead letters up to so many; all are counted."""
UNKNOWN_SYMBOL = "unknown"

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class StreamPlan:
    """How the streams of a market are taken."""

    url: str
    interval_ms: int
    streams_per_connection: int
    max_age_seconds: float
    silence_seconds: float
    stale_seconds: float
    anchor_seconds: float


class Feed:
    """All of it. `numbers` are those of the websockets of this process; `way` is where they go out from as a rule."""

    def __init__(
        self,
        venue: Venue,
        plan: StreamPlan,
        selection: Selection,
        *,
        way: Way,
        ways: Ways,
        channel: Channel,
        pressure: Pressure,
        anchors: Anchors,
        numbers: Iterator[int],
        ready: Callable[[str, bool, str], None],
    ) -> None:
        self._venue = venue
        self._plan = plan
        self._selection = selection
        self._way = way
        self._ways = ways
        self._ip = way.ip
        self._channel = channel
        self._pressure = pressure
        self._anchors = anchors
        self._numbers = numbers
        self._ready = ready
        self._slots: list[Slot] = []
        self._slot_of: dict[str, Slot] = {}
        self._buried = Pace(BURIED_PER_MINUTE, MINUTE_NS)
        self._tasks: asyncio.TaskGroup
        self._links: dict[asyncio.Task[str], tuple[Link, Way]] = {}
        self._listed = False
        self._stopping = False
        self._said: tuple[bool, str] | None = None
        self._meters = FeedMeters(venue, way.ip, plan.stale_seconds)
        self._show_ready()

    async def run(self, stopping: asyncio.Event) -> None:
        """Until told to stop; then the connections end and every symbol's end is told."""
        started = time.monotonic()
        steps = 0
        async with asyncio.TaskGroup() as self._tasks:
            while not stopping.is_set():
                if not self._listed and time.monotonic() - started > NO_LIST_SECONDS:
                    self._listed = True
                    log.warning("no instrument list", exchange=self._venue.exchange, market=self._venue.market)
                    self._follow(self._selection.explicit, time.time_ns())
                self._step(time.time_ns())
                steps += 1
                if steps % REPORT_EVERY_STEPS == 0:
                    self._report(time.time_ns())
                try:
                    async with asyncio.timeout(STEP_SECONDS):
                        await stopping.wait()
                except TimeoutError:
                    continue
            await self._stop()

    def listed(self, instruments: Sequence[Instrument], recv_ns: int) -> None:
        """The venue's list came: follow it."""
        if self._stopping:
            return
        self._listed = True
        trading = {item.symbol for item in instruments if item.trading}
        unassigned = self._selection.unassigned(trading)
        metrics.SYMBOLS_UNASSIGNED.labels(self._venue.exchange, self._venue.market).set(len(unassigned))
        self._follow(self._selection.of(trading), recv_ns)

    def saw_snapshot(self, symbol: str, last_update_id: int, now_ns: int) -> None:
        """A poll saw this book: its stream should reach it."""
        slot = self._slot_of.get(symbol)
        if slot is not None:
            slot.tracked[symbol].sync.saw_snapshot(last_update_id, now_ns)

    def told_elsewhere(self, books: Iterable[Book]) -> None:
        """The publisher published gaps of these books."""
        for book in books:
            slot = self._slot_of.get(book.symbol)
            if slot is not None and (book.exchange, book.market) == (self._venue.exchange, self._venue.market):
                slot.tracked[book.symbol].sync.told_elsewhere(time.time_ns())

    # --- inside -------------------------------------------------------------------------------------------------------

    def _follow(self, symbols: Collection[str], now_ns: int) -> None:
        wanted = frozenset(symbols)
        gone, new = sorted(self._slot_of.keys() - wanted), sorted(wanted - self._slot_of.keys())
        for symbol in gone:
            self._slot_of.pop(symbol).drop(symbol, now_ns)
        for symbol in new:
            slot = self._slot_with_room()
            self._slot_of[symbol] = slot
            stream = self._venue.stream_name(symbol, self._plan.interval_ms)
            slot.track(symbol, Tracked(self._sync(symbol), stream), now_ns)
        if gone or new:
            log.info(
                "symbols followed",
                exchange=self._venue.exchange,
                market=self._venue.market,
                symbols=len(wanted),
                new=len(new),
                gone=len(gone),
            )

    def _slot_with_room(self) -> Slot:
        for slot in self._slots:
            if len(slot.tracked) < self._plan.streams_per_connection:
                return slot
        slot = Slot(
            self._venue,
            self._pressure,
            open_link=self._open_link,
            bury=self._bury,
            max_age_ns=int(self._plan.max_age_seconds * SECOND_NS),
            silence_ns=int(self._plan.silence_seconds * SECOND_NS),
            random=random.random,
        )
        self._slots.append(slot)
        return slot

    def _sync(self, symbol: str) -> BookSync:
        return BookSync(
            Book(self._venue.exchange, self._venue.market, symbol),
            self._venue.sequence,
            self._emit,
            ip=self._ip,
            anchor_interval_ns=int(self._plan.anchor_seconds * SECOND_NS),
            check_after_ns=int(self._plan.stale_seconds * SECOND_NS),
            random=random.random,
        )

    def _open_link(self, slot: Slot, now_ns: int) -> Link | None:
        way = self._ways.for_websocket(self._way, self._venue, now_ns)
        if way is None:
            return None
        url = self._plan.url.rstrip("/") + self._venue.stream_path
        link = Link(next(self._numbers), url, self._venue, owner=slot, session=way.session, ip=way.ip)
        task = self._tasks.create_task(link.run())
        self._links[task] = link, way
        way.websockets += 1
        task.add_done_callback(self._link_ended)
        return link

    def _link_ended(self, task: asyncio.Task[str]) -> None:
        link, way = self._links.pop(task)
        way.websockets -= 1
        if link.refusal is not None:
            way.refused(self._venue, link.refusal, time.time_ns())
        elif link.updates:
            way.opened(self._venue)

    def _emit(self, record: RawRecord) -> None:
        if record.type == "gap":
            cause = Gap.decode(record.value).cause
            metrics.GAPS.labels("fobd", record.book.exchange, record.book.market, cause).inc()
        self._channel.put(record)

    def _bury(self, payload: bytes, recv_ns: int, link: int, poison: PoisonMessage) -> None:
        """What is no update, to the dead letters: verbatim, or if there are too many or it is too large only counted."""
        metrics.DEAD_LETTERS.labels("reader", poison.reason).inc()
        if len(payload) <= LARGEST_UPDATE_BYTES and self._buried.take(recv_ns):
            book = Book(self._venue.exchange, self._venue.market, UNKNOWN_SYMBOL)
            error = f"{poison.reason}: {poison}"
            self._channel.put(RawRecord(book, "dead", payload, recv_ns, self._ip, link=link, error=error))

    def _step(self, now_ns: int) -> None:
        for link, way in self._links.values():
            if way.missing:
                link.close("the source address has gone")
        for slot in self._slots:
            if slot.is_away(self._ip) and self._ways.is_back(self._way, self._venue, now_ns):
                slot.retire(now_ns)
            slot.step(now_ns)
            if not self._pressure.overflowed:
                self._anchors.ask(slot.tracked.values(), now_ns)

    def _report(self, now_ns: int) -> None:
        self._meters.show(self._slots, now_ns)
        self._show_ready()

    def _show_ready(self) -> None:
        """Said when it changes."""
        down = sum(slot.primary is None or not slot.primary.complete for slot in self._slots if slot.tracked)
        why = f"{down} of {len(self._slots)} connections are not subscribed" if down else ""
        if not self._listed:
            why = "no instrument list yet"
        if (not why, why) != self._said:
            self._said = not why, why
            what = f"{self._venue.exchange} {self._venue.market} streams from {self._ip or 'the default route'}"
            self._ready(what, not why, why)

    async def _stop(self) -> None:
        self._stopping = True
        now_ns = time.time_ns()  # nothing is read from here on, however long the connections take to end
        for slot in self._slots:
            slot.close("stopped")
        if self._links:
            _, late = await asyncio.wait(self._links, timeout=LINKS_END_SECONDS)
            for task in late:
                task.cancel()
        for slot in self._slots:
            slot.stop(now_ns)
        self._slot_of.clear()  # answers and gaps that come later concern nobody here
        self._report(now_ns)
