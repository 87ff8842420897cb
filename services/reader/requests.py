"""REST requests of one source address: when each is sent, and what the answer means for the address.

Markets of one weight group share a budget, all share the connections. While the address cannot ask, what waits goes to
those that can (`services.reader.ways`). Never parses a price, never alters a body, never spends more than the budget.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from services.reader.desk import Desk, Request, is_list
from services.reader.fetch import FetchFailed
from services.reader.weight import Ticket, WeightScheduler
from shared import metrics
from shared.log import get_logger
from shared.venues.base import SECOND_NS, Outcome

if TYPE_CHECKING:
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

log = get_logger(__name__)


class Work(Protocol):
    """What asks for books as time goes by."""

    @property
    def next_ns(self) -> int | None:
        """When `ask` has something to do; None = not by the clock."""

    def ask(self, now_ns: int) -> None:
        """Ask for what is due."""


Substitute = Callable[["Requester", "Venue", int, int], "Requester | None"]
"""Who asks in the place of an address: (that address, the market, weight, now) → another one, or None."""


def nobody(_for: Requester, _venue: Venue, _weight: int, _now_ns: int) -> None:
    """Every address asks for itself alone."""


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
        substitute: Substitute = nobody,
    ) -> None:
        self.works: list[Work] = []
        self.missing = False  # the address is not on this host any more
        self.relieved: set[str] = set()  # weight groups whose requests go out from other addresses
        self._source = source
        self._reach = reach
        self._weight_share = weight_share
        self._connections = max_connections
        self._clock = clock
        self._beat = beat
        self._wake = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._schedulers: dict[str, WeightScheduler[Request]] = {}
        self._desks: list[Desk] = []
        self._substitute = substitute

    @property
    def ip(self) -> str | None:
        """The source address; None = the default route."""
        return self._source.ip

    def desk(self, venue: Venue, rest_url: str) -> Desk:
        """The desk of a market."""
        desk = Desk(venue, rest_url, self.scheduler(venue), self._wake.set)
        self._desks.append(desk)
        return desk

    def scheduler(self, venue: Venue) -> WeightScheduler[Request]:
        """The budget that a market's requests spend."""
        return self._schedulers.setdefault(
            venue.shared_weight_group, WeightScheduler(venue.default_weight_limit, self._weight_share)
        )

    def is_out(self, venue: Venue, now_ns: int) -> bool:
        """Whether nothing can be asked from here: the address has gone, or the venue refuses it."""
        return self.missing or self.scheduler(venue).is_standing_down(now_ns)

    def spare(self, venue: Venue, now_ns: int) -> int:
        """Weight that may be spent from here now in the place of another address."""
        if self.missing or len(self._tasks) >= self._connections:
            return 0
        return self.scheduler(venue).spare(now_ns)

    def take_over(self, request: Request, limit: int) -> None:
        """Ask from here in another's place, which knows of this limit per minute."""
        scheduler = self.scheduler(request.desk.venue)
        scheduler.learn("lent", limit)
        request.desk.lend(request, scheduler)
        self._wake.set()

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
                self._hand_out(now_ns)
                self._send_granted(tasks, now_ns)
                self._report(now_ns)
                self._beat()
                await self._sleep(now_ns)
            waker.cancel()
            if self._tasks:
                _, late = await asyncio.wait(self._tasks, timeout=IN_FLIGHT_SECONDS)
                for task in late:
                    task.cancel()

    def _hand_out(self, now_ns: int) -> None:
        """While nothing can be asked from here, give what waits to who can; what nobody can take goes on waiting."""
        for group, scheduler in self._schedulers.items():
            if not self.missing and not scheduler.is_standing_down(now_ns):
                if group in self.relieved:
                    self.relieved.remove(group)
                    log.info("requests taken over no more", ip=self.ip, group=group)
                continue
            while ticket := scheduler.next:
                other = self._substitute(self, ticket.what.desk.venue, ticket.weight, now_ns)
                if other is None:
                    break
                other.take_over(ticket.what, scheduler.limit)
                if group not in self.relieved:
                    self.relieved.add(group)
                    log.warning("requests taken over", ip=self.ip, group=group, by=other.ip)

    def _send_granted(self, tasks: asyncio.TaskGroup, now_ns: int) -> None:
        for scheduler in self._schedulers.values():
            for ticket in scheduler.take(now_ns, self._connections - len(self._tasks)):
                ticket.what.desk.granted(ticket.what, now_ns)
                task = tasks.create_task(self._request(ticket, scheduler))
                self._tasks.add(task)
                task.add_done_callback(self._done)

    async def _request(self, ticket: Ticket[Request], scheduler: WeightScheduler[Request]) -> None:
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
            scheduler.finish(ticket, now_ns, used)
            if outcome.until_ns is not None:
                stop = scheduler.stand_down if outcome.action == "stand_down" else scheduler.hold
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
        for desk in self._desks:
            venue = desk.venue
            taken_over = desk.polled if venue.shared_weight_group in self.relieved else 0
            metrics.SYMBOLS_TAKEN_OVER.labels("fobs", venue.exchange, venue.market, ip).set(taken_over)

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
