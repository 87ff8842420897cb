"""Polling the order books of one source address: what is due, what may be sent, what came back.

Never parses a price, never alters a body, never spends more than the budget, never makes up for a slot that has passed.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from services.reader.fetch import Answer, FetchFailed
from services.reader.instruments import INSTRUMENTS_BODY_BYTES, Instruments
from services.reader.schedule import PollSchedule
from services.reader.weight import URGENT, Ticket, WeightScheduler
from shared import metrics
from shared.messages import Book
from shared.venues.base import MINUTE_NS, SECOND_NS, Outcome

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from services.reader.fetch import Source
    from services.reader.ledger import Ledger
    from services.reader.reach import Reach
    from shared.venues.base import MissCause, Reason, Venue

SNAPSHOT_BODY_BYTES = 15 * 1024 * 1024
"""Larger is refused: with its headers it would not fit a Kafka record of 16 MiB."""
IN_FLIGHT_SECONDS = 5.0
"""What requests on their way get when the reader stops."""
LOOP_SECONDS = 1.0
"""The loop looks at the clock at least this often: a clock that was set is noticed."""
RESET_AFTER = 3
"""So many falling ids in a row are no stale body: the venue has started its count again."""


@dataclass(frozen=True, slots=True)
class Line:
    """What one source address polls of one market."""

    venue: Venue
    rest_url: str
    symbols: Sequence[str]
    interval_ms: int
    limit: int

    def book(self, symbol: str) -> Book:
        """The book of a symbol."""
        return Book(self.venue.exchange, self.venue.market, symbol)


@dataclass(eq=False, slots=True)
class _Polled:
    """A line at work."""

    line: Line
    schedule: PollSchedule
    instruments: Instruments
    scheduler: WeightScheduler[_Request]
    last_update_ids: dict[str, int] = field(default_factory=dict)
    falling: defaultdict[str, int] = field(default_factory=lambda: defaultdict(int))
    served_ns: dict[str, int] = field(default_factory=dict)
    open: set[str] = field(default_factory=set)  # waiting for weight, or in flight


@dataclass(frozen=True, slots=True)
class _Request:
    """A book, or with `symbol` None the market's instrument list."""

    polled: _Polled
    symbol: str | None


class Poller:
    """All lines of one source address. They share its connections; lines of one weight group share a budget."""

    def __init__(
        self,
        lines: Sequence[Line],
        source: Source,
        ledger: Ledger,
        reach: Reach,
        *,
        weight_share: float,
        max_connections: int,
        clock: Callable[[], int] = time.time_ns,
        beat: Callable[[], None] = lambda: None,
    ) -> None:
        self._source = source
        self._ledger = ledger
        self._reach = reach
        self._connections = max_connections
        self._clock = clock
        self._beat = beat
        self._wake = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._schedulers: dict[str, WeightScheduler[_Request]] = {}
        self._books = [line.book(symbol) for line in lines for symbol in line.symbols]
        now_ns = clock()
        self._polled = []
        for line in lines:
            scheduler = self._schedulers.setdefault(
                line.venue.shared_weight_group, WeightScheduler(line.venue.default_weight_limit, weight_share)
            )
            schedule = PollSchedule(line.symbols, line.interval_ms, now_ns)
            self._polled.append(_Polled(line, schedule, Instruments(line.venue, line.symbols, now_ns), scheduler))

    async def run(self, stopping: asyncio.Event) -> None:
        """Poll until told to stop, then let requests on their way finish within `IN_FLIGHT_SECONDS`."""
        self._ledger.tell_start(self._books, self._clock())
        async with asyncio.TaskGroup() as tasks:
            waker = tasks.create_task(self._wake_at(stopping))
            while not stopping.is_set():
                now_ns = self._clock()
                self._give_up(now_ns)
                self._ask_for_due(now_ns)
                self._send_granted(tasks, now_ns)
                self._ledger.tell_overdue(now_ns)
                self._report(now_ns)
                self._beat()
                await self._sleep(now_ns)
            waker.cancel()
            if self._tasks:
                _, late = await asyncio.wait(self._tasks, timeout=IN_FLIGHT_SECONDS)
                for task in late:
                    task.cancel()
        self._ledger.tell_stop(self._books, self._clock())

    def _give_up(self, now_ns: int) -> None:
        """First in a round: who gives up at its next slot is no longer in the way of that slot."""
        for scheduler in self._schedulers.values():
            for ticket, reason in scheduler.expire(now_ns, self._connections - len(self._tasks)):
                polled, symbol = ticket.what.polled, ticket.what.symbol
                if symbol is None:
                    polled.instruments.failed(now_ns)
                else:
                    polled.open.discard(symbol)
                    self._miss(polled, symbol, reason, now_ns)

    def _ask_for_due(self, now_ns: int) -> None:
        for polled in self._polled:
            line, submit = polled.line, polled.scheduler.submit
            weight = line.venue.depth_weight(line.limit)
            if polled.instruments.due(now_ns):
                submit(Ticket(_Request(polled, None), line.venue.instruments_weight, 0, now_ns + MINUTE_NS, URGENT))
            for due in polled.schedule.due(now_ns):
                for _ in range(due.skipped):
                    self._miss(polled, due.symbol, "late", now_ns)
                if due.symbol in polled.open:
                    self._miss(polled, due.symbol, "late", now_ns)
                elif not self._ledger.has_room(line.book(due.symbol)):
                    self._miss(polled, due.symbol, "queue_full", now_ns)
                else:
                    polled.open.add(due.symbol)
                    served_ns = polled.served_ns.get(due.symbol, 0)
                    submit(Ticket(_Request(polled, due.symbol), weight, served_ns, due.expires_ns))

    def _send_granted(self, tasks: asyncio.TaskGroup, now_ns: int) -> None:
        for scheduler in self._schedulers.values():
            for ticket in scheduler.take(now_ns, self._connections - len(self._tasks)):
                if ticket.what.symbol is not None:
                    ticket.what.polled.served_ns[ticket.what.symbol] = now_ns
                task = tasks.create_task(self._request(ticket))
                self._tasks.add(task)
                task.add_done_callback(self._done)

    async def _request(self, ticket: Ticket[_Request]) -> None:
        polled, symbol = ticket.what.polled, ticket.what.symbol
        line, scheduler = polled.line, polled.scheduler
        answer, used, outcome = None, None, Outcome("stopped", text="the reader stopped")
        try:
            answer = await self._get(line, symbol)
            used = line.venue.used_weight(answer.headers)
            outcome = line.venue.classify(
                answer.status,
                answer.headers,
                answer.body,
                answer.recv_ns,
                symbol=symbol or "",
                last_update_id=None if symbol is None else polled.last_update_ids.get(symbol),
            )
        except FetchFailed as failure:
            outcome = Outcome(failure.reason, text=str(failure))
        finally:
            now_ns = self._clock()
            scheduler.finish(ticket, now_ns, used)
            if outcome.until_ns is not None:
                (scheduler.stand_down if outcome.action == "stand_down" else scheduler.hold)(outcome.until_ns)
            if symbol is None:
                self._take_instruments(polled, answer, outcome, now_ns)
            else:
                polled.open.discard(symbol)
                self._take_book(polled, symbol, answer, _after_resets(polled, symbol, outcome), now_ns)

    async def _get(self, line: Line, symbol: str | None) -> Answer:
        base = line.rest_url.rstrip("/")
        if symbol is None:
            return await self._source.get(base + line.venue.instruments_path, max_body_bytes=INSTRUMENTS_BODY_BYTES)
        return await self._source.get(
            base + line.venue.depth_path(symbol, line.limit), max_body_bytes=SNAPSHOT_BODY_BYTES
        )

    def _take_instruments(self, polled: _Polled, answer: Answer | None, outcome: Outcome, now_ns: int) -> None:
        limit = polled.instruments.take(answer, outcome, now_ns)
        if limit is None:
            self._reach.failed(polled.line.venue, outcome, now_ns)
        else:
            polled.scheduler.learn(polled.line.venue.market, limit)

    def _take_book(self, polled: _Polled, symbol: str, answer: Answer | None, outcome: Outcome, now_ns: int) -> None:
        line = polled.line
        if answer is None or not outcome.ok:
            self._reach.failed(line.venue, outcome, now_ns)
            self._miss(polled, symbol, outcome.reason, now_ns, outcome.cause)
        elif self._ledger.snapshot(line.book(symbol), answer, line.limit, now_ns):
            assert outcome.last_update_id is not None
            polled.last_update_ids[symbol] = outcome.last_update_id
            self._reach.good(line.venue, now_ns)

    def _miss(self, polled: _Polled, symbol: str, reason: Reason, now_ns: int, cause: MissCause = "poll") -> None:
        if reason == "queue_full":
            cause = "overflow"
        elif polled.scheduler.is_standing_down(now_ns):
            cause = "ban"
        self._ledger.missed(polled.line.book(symbol), reason, cause, now_ns)

    def _report(self, now_ns: int) -> None:
        ip = self._source.ip or "default"
        for group, scheduler in self._schedulers.items():
            metrics.REQUEST_WEIGHT_USED.labels(ip, group).set(scheduler.used(now_ns))
            metrics.REQUEST_WEIGHT_LIMIT.labels(ip, group).set(scheduler.limit)
            metrics.BANNED_UNTIL.labels(ip, group).set(scheduler.standing_down_until_ns / SECOND_NS)

    async def _sleep(self, now_ns: int) -> None:
        """Until something is due, a request is done, or the loop should look at the clock again."""
        free = self._connections - len(self._tasks)
        times = [polled.schedule.next_ns for polled in self._polled]
        times += [scheduler.wake_ns(now_ns, free) for scheduler in self._schedulers.values()]
        next_ns = min((time_ns for time_ns in times if time_ns is not None), default=now_ns + SECOND_NS)
        seconds = min(max((next_ns - self._clock()) / SECOND_NS, 0.0), LOOP_SECONDS)
        try:
            async with asyncio.timeout(seconds):
                await self._wake.wait()
        except TimeoutError:
            return
        self._wake.clear()

    async def _wake_at(self, stopping: asyncio.Event) -> None:
        await stopping.wait()
        self._wake.set()

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._wake.set()


def _after_resets(polled: _Polled, symbol: str, outcome: Outcome) -> Outcome:
    """A falling id is refused, but not for ever: a venue that counts anew would never be recorded again."""
    if outcome.reason != "went_backwards":
        polled.falling.pop(symbol, None)
        return outcome
    polled.falling[symbol] += 1
    if polled.falling[symbol] < RESET_AFTER:
        return outcome
    del polled.falling[symbol]
    return Outcome("ok", last_update_id=outcome.last_update_id)
