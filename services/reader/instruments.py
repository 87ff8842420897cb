"""What a venue says of a market: its request weight limit, and which of our symbols trade. Asked at start and hourly.

Pure but for its log lines. Never decides what is polled: a symbol that does not trade is reported, and its polls say the
rest.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from shared import metrics
from shared.errors import PoisonMessage
from shared.log import get_logger
from shared.venues.base import MINUTE_NS, SECOND_NS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from services.reader.fetch import Answer
    from shared.venues.base import Outcome, Venue

INSTRUMENTS_BODY_BYTES = 64 * 1024 * 1024
EVERY_NS = 60 * MINUTE_NS
LONGEST_PAUSE_NS = 5 * MINUTE_NS
NAMED_SYMBOLS = 20
_OK = 200

log = get_logger(__name__)


class Instruments:
    """When to ask for one market's instrument list, and what was learned from it."""

    def __init__(self, venue: Venue, symbols: Sequence[str], now_ns: int) -> None:
        self._venue = venue
        self._symbols = frozenset(symbols)
        self._next_ns = now_ns
        self._asking = False
        self._pause_ns = SECOND_NS
        self._not_trading: frozenset[str] = frozenset()

    def due(self, now_ns: int) -> bool:
        """Whether to ask for the list now. One request at a time: it ends with `take` or `failed`."""
        if self._asking or now_ns < self._next_ns:
            return False
        self._asking = True
        return True

    def take(self, answer: Answer | None, outcome: Outcome, now_ns: int) -> int | None:
        """The weight limit per minute, or None if the answer is no instrument list."""
        if answer is None or answer.status != _OK or outcome.action != "continue":
            self.failed(now_ns)
            return None
        try:
            limit = self._venue.weight_limit(answer.body)
            listed = self._venue.instruments(answer.body)
        except PoisonMessage as poison:
            log.warning(
                "instruments unreadable", exchange=self._venue.exchange, market=self._venue.market, reason=str(poison)
            )
            self.failed(now_ns)
            return None
        self._asking = False
        self._pause_ns = SECOND_NS
        self._next_ns = now_ns + EVERY_NS
        self._report(self._symbols - {item.symbol for item in listed if item.trading})
        return limit

    def failed(self, now_ns: int) -> None:
        """Ask again after a pause with full jitter, longer each time."""
        self._asking = False
        self._next_ns = now_ns + random.randint(0, self._pause_ns)  # noqa: S311 - jitter, no secret
        self._pause_ns = min(2 * self._pause_ns, LONGEST_PAUSE_NS)

    def _report(self, not_trading: frozenset[str]) -> None:
        venue = self._venue
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
