"""The budget of request weight of one source address in one group of markets: who may send now, who waits, who gave up.

Rules (Binance, general info): weight is counted per address in fixed clock minutes and resets to zero at each; the
response says what the venue has counted. So
1. in no clock minute is more than limit x share granted, and a request in flight across a minute counts in both (the
   venue counts it on arrival, which nobody here knows);
2. what the venue says about the running minute is believed where it is higher: others may share the address;
3. a lower priority number goes first, then who was served longest ago: where a plan is too dense for the budget, all
   are served less often, and none never. A heavy request is not overtaken by light ones;
4. who waits longer than its own time gives up, so nothing queues beyond one interval;
5. work of another address (`LENT`) comes last, and of each minute only gets what the polls planned here leave over.

Pure: no I/O, no task, the time is an argument (ns since the epoch). Never decides what a gap is.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from heapq import heappop, heappush
from typing import TYPE_CHECKING, Generic, TypeVar

from shared.venues.base import MINUTE_NS

if TYPE_CHECKING:
    from collections.abc import Hashable

    from shared.venues.base import Reason

URGENT, ANCHOR, REFRESH, POLL = 0, 1, 2, 3
"""Priorities: what the line stands on (instrument lists); anchors after gaps; other anchors; then the polls."""
LENT = 4
"""Added to the last two where an address asks in another's place: behind all its own."""

T = TypeVar("T")


@dataclass(eq=False, slots=True)
class Ticket(Generic[T]):
    """A request that wants to be sent: `what` is the caller's own."""

    what: T
    weight: int
    served_ns: int  # when the same was granted before; 0 = never
    expires_ns: int  # then it gives up
    priority: int = POLL
    waiting: bool = field(default=True, init=False)  # once false, both heaps drop it when it comes to their top
    minute: int = field(default=-1, init=False)  # the clock minute it was granted in


class WeightScheduler(Generic[T]):
    """One budget. `limit` is the documented weight per minute until `learn` is told the venue's own word."""

    def __init__(self, limit: int, share: float) -> None:
        self._documented = limit
        self._learned: dict[Hashable, int] = {}
        self._share = share
        self._minute = 0
        self._used = 0
        self._own = 0  # of it, by our count
        self._in_flight: set[Ticket[T]] = set()
        self._queue: list[tuple[int, int, int, Ticket[T]]] = []
        self._expiries: list[tuple[int, int, Ticket[T]]] = []
        self._tickets = 0
        self._planned: dict[Hashable, int] = {}
        self._held_until_ns = 0
        self._standing_down_until_ns = 0

    @property
    def limit(self) -> int:
        """Weight per minute of the venue: the tightest of what its markets say, or what is documented."""
        return min(self._learned.values(), default=self._documented)

    @property
    def budget(self) -> int:
        """Weight per minute that is spent here."""
        return int(self.limit * self._share)

    @property
    def standing_down_until_ns(self) -> int:
        """End of the latest ban; 0 if there never was one."""
        return self._standing_down_until_ns

    def used(self, now_ns: int) -> int:
        """Weight spent in the running minute, by our count or the venue's, whichever is higher."""
        self._roll(now_ns)
        return self._used

    def own(self, now_ns: int) -> int:
        """Weight spent in the running minute by our count alone: what is used beyond it others have spent."""
        self._roll(now_ns)
        return self._own

    def learn(self, market: Hashable, limit: int) -> None:
        """The limit as one market's instrument list states it."""
        self._learned[market] = limit

    def plan(self, market: Hashable, weight_per_minute: int) -> None:
        """What this address's own polls of a market will take: no work of others is to cost it."""
        self._planned[market] = weight_per_minute

    def spare(self, now_ns: int) -> int:
        """Weight that may be spent now for another address; 0 where it is refused or held itself."""
        self._roll(now_ns)
        if now_ns < self._stopped_until_ns():
            return 0
        lent = sum(entry[3].weight for entry in self._queue if entry[3].waiting and entry[0] >= LENT)
        return max(0, self._room(LENT, now_ns) - lent)

    def hold(self, until_ns: int) -> None:
        """Send nothing until then: the budget is spent, by the venue's count."""
        self._held_until_ns = max(self._held_until_ns, until_ns)

    def stand_down(self, until_ns: int) -> None:
        """Send nothing until then: the venue refuses this address."""
        self._standing_down_until_ns = max(self._standing_down_until_ns, until_ns)

    def is_standing_down(self, now_ns: int) -> bool:
        """Whether the venue refuses this address now."""
        return now_ns < self._standing_down_until_ns

    def submit(self, ticket: Ticket[T]) -> None:
        """Ask to send; `take` decides when."""
        self._tickets += 1
        heappush(self._queue, (ticket.priority, ticket.served_ns, self._tickets, ticket))
        heappush(self._expiries, (ticket.expires_ns, self._tickets, ticket))

    @property
    def next(self) -> Ticket[T] | None:
        """Who is to send next."""
        return self._head()

    def expire(self, now_ns: int, connections: int) -> list[tuple[Ticket[T], Reason]]:
        """Who gives up now, and why: its time is over, or it is heavier than the whole budget."""
        given_up: list[tuple[Ticket[T], Reason]] = []
        while self._expiries and (self._expiries[0][0] <= now_ns or not self._expiries[0][2].waiting):
            ticket = heappop(self._expiries)[2]
            if ticket.waiting:
                ticket.waiting = False
                given_up.append((ticket, self._why(now_ns, connections)))
        while (head := self._head()) and head.weight > self.budget:
            head.waiting = False
            given_up.append((head, "no_weight"))
        return given_up

    def take(self, now_ns: int, connections: int) -> list[Ticket[T]]:
        """Who may send now over so many free connections. Each must come to `finish`."""
        self._roll(now_ns)
        granted: list[Ticket[T]] = []
        if now_ns < self._stopped_until_ns():
            return granted
        while len(granted) < connections and (head := self._head()):
            if head.weight > self._room(head.priority, now_ns):
                break
            head.waiting = False
            head.minute = self._minute
            self._used += head.weight
            self._own += head.weight
            self._in_flight.add(head)
            granted.append(head)
        return granted

    def finish(self, ticket: Ticket[T], now_ns: int, venue_used: int | None) -> None:
        """The request is over. `venue_used` is what the response says this address has used in the running minute.

        It is believed only if the minute of sending is still running: else it may speak of the minute before.
        """
        self._roll(now_ns)
        self._in_flight.discard(ticket)
        if venue_used is not None and ticket.minute == self._minute:
            self._used = max(self._used, venue_used)

    def wake_ns(self, now_ns: int, connections: int) -> int | None:
        """When `expire` or `take` may decide something new by the clock alone; None = never."""
        head = self._head()
        while self._expiries and not self._expiries[0][2].waiting:
            heappop(self._expiries)
        times = [self._expiries[0][0]] if self._expiries else []
        if head and connections > 0:
            if now_ns < self._stopped_until_ns():
                times.append(self._stopped_until_ns())
            elif head.weight > self._room(head.priority, now_ns):
                times.append((self._minute + 1) * MINUTE_NS)
            else:
                times.append(now_ns)
        return min(times, default=None)

    def _room(self, priority: int, now_ns: int) -> int:
        """Weight that is left in this minute for work of this priority."""
        left_ns = MINUTE_NS - now_ns % MINUTE_NS
        planned = sum(self._planned.values()) if priority >= LENT else 0
        return self.budget - self._used - planned * left_ns // MINUTE_NS

    def _why(self, now_ns: int, connections: int) -> Reason:
        if self.is_standing_down(now_ns):
            return "standing_down"
        if now_ns < self._held_until_ns:
            return "held"
        return "no_weight" if connections > 0 else "no_connection"

    def _head(self) -> Ticket[T] | None:
        while self._queue and not self._queue[0][3].waiting:
            heappop(self._queue)
        return self._queue[0][3] if self._queue else None

    def _stopped_until_ns(self) -> int:
        return max(self._held_until_ns, self._standing_down_until_ns)

    def _roll(self, now_ns: int) -> None:
        minute = now_ns // MINUTE_NS
        if minute > self._minute:
            self._minute = minute
            self._used = self._own = sum(ticket.weight for ticket in self._in_flight)
        elif minute < self._minute - 1:
            self._minute = minute  # the clock was set back: what is spent stays spent until the next minute
