"""Whether the venues can be reached from one source address: said once when it changes, and at /readyz.

A single symbol that fails says nothing about the venue; a market without any good book for a while does, and so does a
ban at once. What the address asks for in another's place, of markets that are not its own, is no matter of its readiness.
Never logs per poll.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from shared.log import get_logger
from shared.venues.base import SECOND_NS

if TYPE_CHECKING:
    from collections.abc import Callable

    from shared.venues.base import Outcome, Venue

log = get_logger(__name__)


@dataclass(slots=True)
class _Market:
    last_good_ns: int | None = None
    down: str | None = None  # the reason that was said


class Reach:
    """`ready` is `Lifecycle.ready`: told (what, ok, why) when a market's reach changes."""

    def __init__(
        self, ip: str | None, venues: list[Venue], patience_seconds: float, ready: Callable[[str, bool, str], None]
    ) -> None:
        self._ip = ip or "the default route"
        self._patience_ns = int(patience_seconds * SECOND_NS)
        self._ready = ready
        self._markets = {(venue.exchange, venue.market): _Market() for venue in venues}
        for exchange, market in self._markets:
            ready(self._what(exchange, market), False, "no book received yet")

    def good(self, venue: Venue, now_ns: int) -> None:
        """A good book came."""
        state = self._markets.get((venue.exchange, venue.market))
        if state is None:
            return
        if state.last_good_ns is None or state.down is not None:
            self._ready(self._what(venue.exchange, venue.market), True, "")
        if state.down is not None:
            log.info("exchange recovered", exchange=venue.exchange, market=venue.market, ip=self._ip)
        state.last_good_ns, state.down = now_ns, None

    def failed(self, venue: Venue, outcome: Outcome, now_ns: int) -> None:
        """A request gave no good answer."""
        state = self._markets.get((venue.exchange, venue.market))
        if state is None:
            if outcome.action == "stand_down":
                self._say(venue, outcome)
            return
        patient = state.last_good_ns is not None and now_ns - state.last_good_ns < self._patience_ns
        if (patient and outcome.action != "stand_down") or state.down == outcome.reason:
            return
        until = _until(outcome)
        why = f"{outcome.reason}: {outcome.text}" + (f"; until {until}" if until else "")
        self._ready(self._what(venue.exchange, venue.market), False, why)
        if state.down is None or outcome.action == "stand_down":
            self._say(venue, outcome)
        state.down = outcome.reason

    def _say(self, venue: Venue, outcome: Outcome) -> None:
        log.warning(
            "exchange unavailable",
            exchange=venue.exchange,
            market=venue.market,
            ip=self._ip,
            reason=outcome.reason,
            said=outcome.text,
            until=_until(outcome),
        )

    def _what(self, exchange: str, market: str) -> str:
        return f"{exchange} {market} from {self._ip}"


def _until(outcome: Outcome) -> str | None:
    if outcome.until_ns is None:
        return None
    return datetime.fromtimestamp(outcome.until_ns // SECOND_NS, UTC).isoformat()
