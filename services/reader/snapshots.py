"""Polling the order books of one market from one source address: which are due, and what became of each.

A slot that has passed is counted, not made up for; a poll that was due ends in the ledger as a snapshot or as a miss.
Never sends and never waits.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from services.reader.schedule import PollSchedule
from services.reader.weight import POLL
from shared.messages import Book

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from services.reader.desk import Desk, Purpose
    from services.reader.fetch import Answer
    from services.reader.ledger import Ledger
    from shared.venues.base import MissCause, Reason


class Polls:
    """What one source address polls of one market. `seen` is told the id of every book that came."""

    def __init__(
        self,
        desk: Desk,
        ledger: Ledger,
        symbols: Collection[str],
        *,
        interval_ms: int,
        limit: int,
        now_ns: int,
        seen: Callable[[str, int, int], None] = lambda _symbol, _last_update_id, _now_ns: None,
    ) -> None:
        self._desk = desk
        self._ledger = ledger
        self._symbols: frozenset[str] = frozenset()
        self._interval_ms = interval_ms
        self._limit = limit
        self._seen = seen
        self._open: set[str] = set()
        self._schedule = PollSchedule((), interval_ms, now_ns)
        self.follow(symbols, now_ns)

    @property
    def next_ns(self) -> int | None:
        """When the next book is due."""
        return self._schedule.next_ns

    def follow(self, symbols: Collection[str], now_ns: int) -> None:
        """Poll these from now on: each that is new starts with a gap, each that is left ends with one."""
        wanted = frozenset(symbols)
        if wanted == self._symbols:
            return
        self._ledger.tell_stop(map(self._book, sorted(self._symbols - wanted)), now_ns)
        self._ledger.tell_start(map(self._book, sorted(wanted - self._symbols)), now_ns)
        self._symbols = wanted
        self._schedule = PollSchedule(tuple(wanted), self._interval_ms, now_ns)
        self._desk.plan(len(wanted), self._limit, self._interval_ms)

    def ask(self, now_ns: int) -> None:
        """Ask for what is due."""
        for due in self._schedule.due(now_ns):
            book = self._book(due.symbol)
            for _ in range(due.skipped):
                self._ledger.missed(book, "late", self._desk.cause("poll", now_ns), now_ns)
            if due.symbol in self._open:
                self._ledger.missed(book, "late", self._desk.cause("poll", now_ns), now_ns)
            elif not self._ledger.has_room(book):
                self._ledger.missed(book, "queue_full", "overflow", now_ns)
            else:
                self._open.add(due.symbol)
                poll = _Poll(self, due.symbol)
                self._desk.ask(due.symbol, self._limit, poll, priority=POLL, expires_ns=due.expires_ns)
        self._ledger.tell_overdue(now_ns)

    def stop(self, now_ns: int) -> None:
        """Nothing is polled any more, and that is told."""
        self.follow((), now_ns)

    def took(self, symbol: str, answer: Answer, last_update_id: int, now_ns: int) -> None:
        """A good book came."""
        self._open.discard(symbol)
        if symbol in self._symbols:
            self._ledger.snapshot(self._book(symbol), answer, self._limit, now_ns)
        self._seen(symbol, last_update_id, now_ns)

    def missed(self, symbol: str, reason: Reason, cause: MissCause, now_ns: int) -> None:
        """None came."""
        self._open.discard(symbol)
        if symbol in self._symbols:
            self._ledger.missed(self._book(symbol), reason, cause, now_ns)

    def _book(self, symbol: str) -> Book:
        return Book(self._desk.venue.exchange, self._desk.venue.market, symbol)


class _Poll:
    """One poll that was due."""

    purpose: Purpose = "poll"

    def __init__(self, polls: Polls, symbol: str) -> None:
        self._polls = polls
        self._symbol = symbol

    def sent(self, now_ns: int) -> None:
        """Nothing waits for it."""

    def took(self, answer: Answer, last_update_id: int, now_ns: int) -> None:
        """See `Polls.took`."""
        self._polls.took(self._symbol, answer, last_update_id, now_ns)

    def missed(self, reason: Reason, cause: MissCause, now_ns: int) -> None:
        """See `Polls.missed`."""
        self._polls.missed(self._symbol, reason, cause, now_ns)
