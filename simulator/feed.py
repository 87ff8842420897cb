"""A market's stream: the one place where its events go out, in order, to whoever listens to their symbol.

Whatever moves a book (time, a step, a REST request) publishes here, so that answers and stream tell one story. It knows
listeners by what they can do and no socket. Names are the venue's: lower case, ``btcusdt@depth@100ms``.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

    from simulator.depth_event import Event
    from simulator.markets import MarketName

_FUTURES = frozenset({"", "@0ms", "@100ms", "@250ms", "@500ms"})
CADENCES: dict[MarketName, frozenset[str]] = {
    "future": _FUTURES,
    "inverse": _FUTURES,
    "spot": frozenset({"", "@100ms", "@1000ms"}),
}
DEPTH = "@depth"


class Listener(Protocol):
    """Who takes events."""

    def deliver(self, event: Event, name: str) -> None:
        """One event of the stream `name`, subscribed to under it."""

    def buffered_bytes(self) -> int:
        """What was delivered and has not left."""


class Feed:
    """Subscriptions by symbol. All cadences of a symbol carry the same events, each when it happens."""

    def __init__(self, market: MarketName, now: Callable[[], float] = time.monotonic) -> None:
        self.market: MarketName = market
        self.watched: set[str] = set()  # symbols that were subscribed to at least once: only their events are rendered
        self.events = 0
        self.observers: list[Callable[[Event], None]] = []
        self._now = now
        self._listeners: dict[str, dict[tuple[Listener, str], None]] = {}  # by symbol in lower case
        self._muted: dict[str, float] = {}

    def depth_symbol(self, name: str) -> str | None:
        """The symbol, in lower case, of a depth stream's name; None for any other name."""
        symbol, found, cadence = name.partition(DEPTH)
        if not found or not symbol or symbol != symbol.lower() or cadence not in CADENCES[self.market]:
            return None
        return symbol

    def add(self, symbol: str, listener: Listener, name: str) -> None:
        """From the next event on. `symbol` in lower case; it need not exist (yet)."""
        self._listeners.setdefault(symbol, {})[listener, name] = None

    def remove(self, listener: Listener, name: str | None = None) -> None:
        """Ends one subscription, or all of a listener."""
        for symbol, listening in list(self._listeners.items()):
            for key in [key for key in listening if key[0] is listener and name in {None, key[1]}]:
                del listening[key]
            if not listening:
                del self._listeners[symbol]

    def listened(self, symbol: str) -> bool:
        """Whether anyone listens now."""
        return symbol.lower() in self._listeners

    def publish(self, event: Event) -> None:
        """Hands an event to all who listen to its symbol."""
        self.events += 1
        for observer in self.observers:
            observer(event)
        for listener, name in tuple(self._listeners.get(event.symbol.lower(), ())):
            listener.deliver(event, name)

    def backed_up(self, limit_bytes: int) -> bool:
        """Whether any listener has more than this waiting."""
        return any(
            listener.buffered_bytes() > limit_bytes
            for listening in self._listeners.values()
            for listener, _ in listening
        )

    def mute(self, symbol: str, seconds: float) -> None:
        """For so long this symbol's events reach nobody."""
        self._muted[symbol] = self._now() + seconds

    def muted(self, symbol: str) -> bool:
        """Whether it is mute now."""
        until = self._muted.get(symbol)
        return until is not None and self._now() < until
