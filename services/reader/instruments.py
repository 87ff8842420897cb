"""What a venue says of a market: its request weight limit, what is listed and what trades. Asked at start and again and again.

A list that cannot be had or read is asked for again with growing pauses. Never decides what is recorded.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from services.reader.weight import URGENT
from shared import metrics
from shared.errors import PoisonMessage
from shared.log import get_logger
from shared.venues.base import MINUTE_NS, SECOND_NS

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from services.reader.desk import Desk, Purpose
    from services.reader.fetch import Answer
    from shared.venues.base import MissCause, Reason
    from shared.venues.instruments import Instrument

    Listed = Callable[[Sequence[Instrument], int], None]

LONGEST_PAUSE_NS = 5 * MINUTE_NS
NAMED_SYMBOLS = 20

log = get_logger(__name__)


class Instruments:
    """One market's instrument list. `explicit` are the symbols that should trade; each of `on_listed` gets every list."""

    purpose: Purpose = "list"

    def __init__(
        self,
        desk: Desk,
        explicit: Collection[str],
        on_listed: Sequence[Listed],
        *,
        interval_seconds: float,
        now_ns: int,
    ) -> None:
        self._desk = desk
        self._explicit = frozenset(explicit)
        self._on_listed = on_listed
        self._interval_ns = int(interval_seconds * SECOND_NS)
        self._next_ns: int | None = now_ns
        self._pause_ns = SECOND_NS
        self._not_trading: frozenset[str] = frozenset()

    @property
    def next_ns(self) -> int | None:
        """When to ask; None while an answer is awaited."""
        return self._next_ns

    def ask(self, now_ns: int) -> None:
        """Ask if it is time."""
        if self._next_ns is not None and now_ns >= self._next_ns:
            self._next_ns = None
            self._desk.ask(None, 0, self, priority=URGENT, expires_ns=now_ns + MINUTE_NS)

    def sent(self, now_ns: int) -> None:
        """Nothing waits for it."""

    def took(self, answer: Answer, _last_update_id: int, now_ns: int) -> None:
        """Learn from it. What is no list is a miss."""
        venue = self._desk.venue
        try:
            limit = venue.weight_limit(answer.body)
            listed = venue.instruments(answer.body)
            if not any(item.trading for item in listed):
                # Not believed: to follow it would end the recording of every symbol.
                raise PoisonMessage("not_exchange_info", f"nothing trades, of {len(listed)} listed")  # noqa: TRY301
        except PoisonMessage as poison:
            log.warning("instruments unreadable", exchange=venue.exchange, market=venue.market, reason=str(poison))
            self._again(now_ns)
            return
        self._desk.scheduler.learn(venue.market, limit)
        self._pause_ns = SECOND_NS
        self._next_ns = now_ns + self._interval_ns
        self._report(self._explicit - {item.symbol for item in listed if item.trading})
        for told in self._on_listed:
            told(listed, answer.recv_ns)

    def missed(self, _reason: Reason, _cause: MissCause, now_ns: int) -> None:
        """The venue's reach is reported with every request; here it is only tried again."""
        self._again(now_ns)

    def _again(self, now_ns: int) -> None:
        self._next_ns = now_ns + random.randint(0, self._pause_ns)  # noqa: S311 - jitter, no secret
        self._pause_ns = min(2 * self._pause_ns, LONGEST_PAUSE_NS)

    def _report(self, not_trading: frozenset[str]) -> None:
        venue = self._desk.venue
        metrics.SYMBOLS_NOT_TRADING.labels(venue.exchange, venue.market).set(len(not_trading))
        if not_trading and not_trading != self._not_trading:
            log.warning(
                "symbols not trading",
                exchange=venue.exchange,
                market=venue.market,
                symbols=sorted(not_trading)[:NAMED_SYMBOLS],
                count=len(not_trading),
            )
        self._not_trading = not_trading
