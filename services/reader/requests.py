"""REST requests of one source address: when each is sent, and what the answer means for the address.

Markets of one weight group share a budget, all share the connections. Never parses a price, never alters a body, never
spends more than the budget.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Protocol

from services.reader.desk import Desk, Request, is_list
from services.reader.fetch import FetchFailed
from services.reader.weight import Ticket, WeightScheduler
from shared import metrics
from shared.venues.base import SECOND_NS, Outcome

if TYPE_CHECKING:
    from collections.abc import Callable

    from services.reader.fetch import Source
    from services.reader.reach import Reach
    from shared.venues.base import Venue

SNAPSHOT_BODY_BYTES = 15 * 1024 * 1024
"""Larger is refused: with its headers it would not fit a Kafka record of 16 MiB."""
INSTRUMENTS_BODY_BYTES = 64 * 1024 * 1024
IN_FLIGHT_SECONDS = 5.0
"""What requests on their way get when the reader stops."""
LOOP_SECONDS = 1.0
"""The loop looks at the clock at least this often: a clock that was set is noticed."""


class Work(Protocol):
    """What asks for books as time goes by."""

    @property
    def next_ns(self) -> int | None:
        """When `ask` has something to do; None = not by the clock."""

    def ask(self, now_ns: int) -> None:
        """Ask for what is due."""


class Requester:
    """All requests of one source address."""

    def __init__(
        self,
        source: Source,
        reach: Reach,
        *,
        weight_share: float,
        max_connections: int,
        clock: Callable[[], int] = time.time_ns,
        beat: Callable[[], None] = lambda: None,
    ) -> None:
        self.works: list[Work] = []
        self._source = source
        self._reach = reach
        self._weight_share = weight_share
        self._connections = max_connections
        self._clock = clock
        self._beat = beat
        self._wake = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._schedulers: dict[str, WeightScheduler[Request]] = {}

    def desk(self, venue: Venue, rest_url: str) -> Desk:
        """The desk of a market."""
        scheduler = self._schedulers.setdefault(
            venue.shared_weight_group, WeightScheduler(venue.default_weight_limit, self._weight_share)
        )
        return Desk(venue, rest_url, scheduler, self._wake.set)

    async def run(self, stopping: asyncio.Event) -> None:
        """Send what may be sent until told to stop, then let requests on their way finish within `IN_FLIGHT_SECONDS`."""
        async with asyncio.TaskGroup() as tasks:
            waker = tasks.create_task(self._wake_at(stopping))
            while not stopping.is_set():
                now_ns = self._clock()
                # First in a round: who gives up at its next slot is no longer in the way of that slot.
                for scheduler in self._schedulers.values():
                    for ticket, reason in scheduler.expire(now_ns, self._connections - len(self._tasks)):
                        ticket.what.desk.expired(ticket.what, reason, now_ns)
                for work in self.works:
                    work.ask(now_ns)
                self._send_granted(tasks, now_ns)
                self._report(now_ns)
                self._beat()
                await self._sleep(now_ns)
            waker.cancel()
            if self._tasks:
                _, late = await asyncio.wait(self._tasks, timeout=IN_FLIGHT_SECONDS)
                for task in late:
                    task.cancel()

    def _send_granted(self, tasks: asyncio.TaskGroup, now_ns: int) -> None:
        for scheduler in self._schedulers.values():
            for ticket in scheduler.take(now_ns, self._connections - len(self._tasks)):
                ticket.what.desk.granted(ticket.what, now_ns)
                task = tasks.create_task(self._request(ticket))
                self._tasks.add(task)
                task.add_done_callback(self._done)

    async def _request(self, ticket: Ticket[Request]) -> None:
        request, desk = ticket.what, ticket.what.desk
        answer, used, outcome = None, None, Outcome("stopped", text="the reader stopped")
        try:
            limit = INSTRUMENTS_BODY_BYTES if request.symbol is None else SNAPSHOT_BODY_BYTES
            answer = await self._source.get(desk.url(request), max_body_bytes=limit)
            used = desk.venue.used_weight(answer.headers)
            outcome = desk.judged(request, answer)
        except FetchFailed as failure:
            outcome = Outcome(failure.reason, text=str(failure))
        finally:
            now_ns = self._clock()
            desk.scheduler.finish(ticket, now_ns, used)
            if outcome.until_ns is not None:
                stop = desk.scheduler.stand_down if outcome.action == "stand_down" else desk.scheduler.hold
                stop(outcome.until_ns)
            if outcome.ok:
                self._reach.good(desk.venue, now_ns)
            elif answer is None or request.symbol is not None or not is_list(answer, outcome):
                self._reach.failed(desk.venue, outcome, now_ns)
            desk.finished(request, answer, outcome, now_ns)

    def _report(self, now_ns: int) -> None:
        ip = self._source.ip or "default"
        for group, scheduler in self._schedulers.items():
            metrics.REQUEST_WEIGHT_USED.labels(ip, group).set(scheduler.used(now_ns))
            metrics.REQUEST_WEIGHT_OWN.labels(ip, group).set(scheduler.own(now_ns))
            metrics.REQUEST_WEIGHT_LIMIT.labels(ip, group).set(scheduler.limit)
            metrics.BANNED_UNTIL.labels(ip, group).set(scheduler.standing_down_until_ns / SECOND_NS)

    async def _sleep(self, now_ns: int) -> None:
        """Until something is due, a request is done, or the loop should look at the clock again."""
        free = self._connections - len(self._tasks)
        times = [work.next_ns for work in self.works]
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
