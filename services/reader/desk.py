"""The desk of one market: who wants which book, and who is told what became of it.

Who wants a book is a `Taker`; one body serves all who want the same book at the same time. Every taker is told exactly
once: it took the book, or it missed it and why. Never sends (the `Requester` does), never parses a price.
"""

from __future__ import annotations

import time
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol

from services.reader.weight import ANCHOR, LENT, Ticket
from shared.venues.base import Outcome

if TYPE_CHECKING:
    from collections.abc import Callable

    from services.reader.fetch import Answer
    from services.reader.weight import WeightScheduler
    from shared.venues.base import MissCause, Reason, Venue

MINUTE_MS = 60_000
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


class _Wish(NamedTuple):
    taker: Taker
    priority: int
    expires_ns: int


@dataclass(eq=False, slots=True)
class Request:
    """One GET. `symbol` None is the market's instrument list."""

    desk: Desk
    symbol: str | None
    limit: int
    wishes: list[_Wish] = field(default_factory=list)
    ticket: Ticket[Request] | None = None
    sent: bool = False


class Desk:
    """Where the books of one market are asked for."""

    def __init__(
        self, venue: Venue, rest_url: str, scheduler: WeightScheduler[Request], wake: Callable[[], None]
    ) -> None:
        self.venue = venue
        self.scheduler = scheduler
        self.polled = 0  # symbols
        self._base = rest_url.rstrip("/")
        self._wake = wake
        self._open: dict[tuple[str | None, int], Request] = {}
        self._last_update_ids: dict[str, int] = {}
        self._falling: defaultdict[str, int] = defaultdict(int)
        self._served_ns: dict[str | None, int] = {}

    def plan(self, symbols: int, limit: int, interval_ms: int) -> None:
        """So many symbols are polled from now on: their weight is not lent to other addresses."""
        self.polled = symbols
        per_minute = symbols * self.venue.depth_weight(limit) * MINUTE_MS // interval_ms
        self.scheduler.plan(self.venue.market, per_minute)

    def ask(self, symbol: str | None, limit: int, taker: Taker, *, priority: int, expires_ns: int) -> bool:
        """Ask for a book of `limit` levels a side, or for the list. False: a request for the same purpose is open.

        Who joins a request that is on its way already gets a book that may have left the venue before it asked: good
        for a poll; an anchor, whose updates must wait from the moment of sending, is refused.
        """
        request = self._open.get((symbol, limit))
        if request is None:
            request = self._open[symbol, limit] = Request(self, symbol, limit)
        elif any(wish.taker.purpose == taker.purpose for wish in request.wishes) or (
            request.sent and taker.purpose == "anchor"
        ):
            return False
        request.wishes.append(_Wish(taker, priority, expires_ns))
        if request.sent:
            taker.sent(time.time_ns())
        else:
            self._submit(request)
        self._wake()
        return True

    def lend(self, request: Request, scheduler: WeightScheduler[Request]) -> None:
        """Let it be sent from another address, by that one's budget."""
        self._submit(request, scheduler)

    def url(self, request: Request) -> str:
        """What to GET."""
        if request.symbol is None:
            return self._base + self.venue.instruments_path
        return self._base + self.venue.depth_path(request.symbol, request.limit)

    def granted(self, request: Request, now_ns: int) -> None:
        """It is sent now."""
        request.sent = True
        self._served_ns[request.symbol] = now_ns
        for wish in request.wishes:
            wish.taker.sent(now_ns)

    def expired(self, request: Request, reason: Reason, now_ns: int) -> None:
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

    def judged(self, request: Request, answer: Answer | None) -> Outcome:
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

    def finished(self, request: Request, answer: Answer | None, outcome: Outcome, now_ns: int) -> None:
        """It is over: tell all who wait for it."""
        del self._open[request.symbol, request.limit]
        good = answer is not None and (outcome.ok or (request.symbol is None and is_list(answer, outcome)))
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

    def _submit(self, request: Request, lender: WeightScheduler[Request] | None = None) -> None:
        if request.ticket is not None:
            request.ticket.waiting = False
        weight = self.venue.instruments_weight if request.symbol is None else self.venue.depth_weight(request.limit)
        priority = min(wish.priority for wish in request.wishes)
        if lender is not None and priority > ANCHOR:
            priority += LENT
        request.ticket = Ticket(
            request,
            weight,
            self._served_ns.get(request.symbol, 0),
            min(wish.expires_ns for wish in request.wishes),
            priority,
        )
        (lender or self.scheduler).submit(request.ticket)

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


def is_list(answer: Answer, outcome: Outcome) -> bool:
    """Whether this may be an instrument list: it is no book, so its outcome is some complaint about a good answer."""
    return answer.status == 200 and outcome.action == "continue"  # noqa: PLR2004
