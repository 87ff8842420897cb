"""REST requests of one source address: who may send, what came back, who is told.

Who wants a book is a `Taker`; one body serves all who want the same book at the same time. Markets of one weight group
share a budget, all share the connections. Every taker is told exactly once what became of its wish: it took the book,
or it missed it and why. Never parses a price, never alters a body, never spends more than the budget.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol

from services.reader.fetch import FetchFailed
from services.reader.weight import Ticket, WeightScheduler
from shared import metrics
from shared.venues.base import SECOND_NS, Outcome

if TYPE_CHECKING:
    from collections.abc import Callable

    from services.reader.fetch import Answer, Source
    from services.reader.reach import Reach
    from shared.venues.base import MissCause, Reason, Venue

SNAPSHOT_BODY_BYTES = 15 * 1024 * 1024
"""Larger is refused: with its headers it would not fit a Kafka record of 16 MiB."""
INSTRUMENTS_BODY_BYTES = 64 * 1024 * 1024
IN_FLIGHT_SECONDS = 5.0
"""What requests on their way get when the reader stops."""
LOOP_SECONDS = 1.0
"""The loop looks at the clock at least this often: a clock that was set is noticed."""
RESET_AFTER = 3
"""So many falling ids in a row are no stale body: the venue has started its count again."""


Purpose = Literal["poll", "anchor", "list"]


class Taker(Protocol):
    """Who wants a book (or, as `purpose` list, the instrument list, whose update id is 0)."""

    purpose: Purpose

    def sent(self, now_ns: int) -> None:
        """The request leaves now, or is on its way."""

    def took(self, answer: Answer, last_update_id: int, now_ns: int) -> None:
        """Here is the book."""

    def missed(self, reason: Reason, cause: MissCause, now_ns: int) -> None:
        """There will be none."""


class Work(Protocol):
    """What asks for books as time goes by."""

    @property
    def next_ns(self) -> int | None:
        """When `ask` has something to do; None = not by the clock."""

    def ask(self, now_ns: int) -> None:
        """Ask for what is due."""


class _Wish(NamedTuple):
    taker: Taker
    priority: int
    expires_ns: int


@dataclass(eq=False, slots=True)
class _Request:
    """One GET. `symbol` None is the market's instrument list."""

    desk: Desk
    symbol: str | None
    limit: int
    wishes: list[_Wish] = field(default_factory=list)
    ticket: Ticket[_Request] | None = None
    sent: bool = False


class Desk:
    """Where the books of one market are asked for."""

    def __init__(self, venue: Venue, rest_url: str, scheduler: WeightScheduler[_Request], requester: Requester) -> None:
        self.venue = venue
        self.scheduler = scheduler
        self._base = rest_url.rstrip("/")
        self._requester = requester
        self._open: dict[tuple[str | None, int], _Request] = {}
        self._last_update_ids: dict[str, int] = {}
        self._falling: defaultdict[str, int] = defaultdict(int)
        self._served_ns: dict[str | None, int] = {}

    def ask(self, symbol: str | None, limit: int, taker: Taker, *, priority: int, expires_ns: int) -> bool:
        """Ask for a book of `limit` levels a side, or for the list. False: a request for the same purpose is open.

        Who joins a request that is on its way already gets a book that may have left the venue before it asked: good
        for a poll; an anchor, whose updates must wait from the moment of sending, is refused.
        """
        request = self._open.get((symbol, limit))
        if request is None:
            request = self._open[symbol, limit] = _Request(self, symbol, limit)
        elif any(wish.taker.purpose == taker.purpose for wish in request.wishes) or (
            request.sent and taker.purpose == "anchor"
        ):
            return False
        request.wishes.append(_Wish(taker, priority, expires_ns))
        if request.sent:
            taker.sent(time.time_ns())
        else:
            self._submit(request)
        self._requester.wake()
        return True

    def url(self, request: _Request) -> str:
        """What to GET."""
        if request.symbol is None:
            return self._base + self.venue.instruments_path
        return self._base + self.venue.depth_path(request.symbol, request.limit)

    def granted(self, request: _Request, now_ns: int) -> None:
        """It is sent now."""
        request.sent = True
        self._served_ns[request.symbol] = now_ns
        for wish in request.wishes:
            wish.taker.sent(now_ns)

    def expired(self, request: _Request, reason: Reason, now_ns: int) -> None:
        """It was not sent in time for some of its takers; a request heavier than the whole budget never will be."""
        ticket = request.ticket
        assert ticket is not None
        patient = [wish for wish in request.wishes if wish.expires_ns > now_ns]
        if ticket.expires_ns > now_ns:
            patient = []
        for wish in [wish for wish in request.wishes if wish not in patient]:
            wish.taker.missed(reason, self.cause("poll", now_ns), now_ns)
        request.wishes = patient
        if patient:
            self._submit(request)
        else:
            del self._open[request.symbol, request.limit]

    def judged(self, request: _Request, answer: Answer | None) -> Outcome:
        """What the answer is, before it is believed."""
        assert answer is not None
        symbol = request.symbol
        last_update_id = None if symbol is None else self._last_update_ids.get(symbol)
        outcome = self.venue.classify(
            answer.status,
            answer.headers,
            answer.body,
            answer.recv_ns,
            symbol=symbol or "",
            last_update_id=last_update_id,
        )
        return outcome if symbol is None else self._after_resets(symbol, outcome)

    def finished(self, request: _Request, answer: Answer | None, outcome: Outcome, now_ns: int) -> None:
        """It is over: tell all who wait for it."""
        del self._open[request.symbol, request.limit]
        good = answer is not None and (outcome.ok or (request.symbol is None and _is_list(answer, outcome)))
        if good and request.symbol is not None:
            assert outcome.last_update_id is not None
            self._last_update_ids[request.symbol] = outcome.last_update_id
        for wish in request.wishes:
            if good:
                assert answer is not None
                wish.taker.took(answer, outcome.last_update_id or 0, now_ns)
            else:
                wish.taker.missed(outcome.reason, self.cause(outcome.cause, now_ns), now_ns)

    def cause(self, cause: MissCause, now_ns: int) -> MissCause:
        """Whatever is missed while the venue refuses the address is missed for that."""
        return "ban" if self.scheduler.is_standing_down(now_ns) else cause

    def _submit(self, request: _Request) -> None:
        if request.ticket is not None:
            request.ticket.waiting = False
        weight = self.venue.instruments_weight if request.symbol is None else self.venue.depth_weight(request.limit)
        request.ticket = Ticket(
            request,
            weight,
            self._served_ns.get(request.symbol, 0),
            min(wish.expires_ns for wish in request.wishes),
            min(wish.priority for wish in request.wishes),
        )
        self.scheduler.submit(request.ticket)

    def _after_resets(self, symbol: str, outcome: Outcome) -> Outcome:
        """A falling id is refused, but not for ever: a venue that counts anew would never be recorded again."""
        if outcome.reason != "went_backwards":
            self._falling.pop(symbol, None)
            return outcome
        self._falling[symbol] += 1
        if self._falling[symbol] < RESET_AFTER:
            return outcome
        del self._falling[symbol]
        return Outcome("ok", last_update_id=outcome.last_update_id)


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
        self._schedulers: dict[str, WeightScheduler[_Request]] = {}

    def desk(self, venue: Venue, rest_url: str) -> Desk:
        """The desk of a market."""
        scheduler = self._schedulers.setdefault(
            venue.shared_weight_group, WeightScheduler(venue.default_weight_limit, self._weight_share)
        )
        return Desk(venue, rest_url, scheduler, self)

    def wake(self) -> None:
        """Something was asked for."""
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

    async def _request(self, ticket: Ticket[_Request]) -> None:
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
            elif answer is None or request.symbol is not None or not _is_list(answer, outcome):
                self._reach.failed(desk.venue, outcome, now_ns)
            desk.finished(request, answer, outcome, now_ns)

    def _report(self, now_ns: int) -> None:
        ip = self._source.ip or "default"
        for group, scheduler in self._schedulers.items():
            metrics.REQUEST_WEIGHT_USED.labels(ip, group).set(scheduler.used(now_ns))
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


def _is_list(answer: Answer, outcome: Outcome) -> bool:
    """Whether this may be an instrument list: it is no book, so its outcome is some complaint about a good answer."""
    return answer.status == 200 and outcome.action == "continue"  # noqa: PLR2004
