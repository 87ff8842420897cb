"""The venue's rules for connections: ages, pings, messages a second, attempts. Facts and pure counters.

Futures and spot as the venue's "General Info" and websocket pages say (spot's pings are closer since 2024); what a test
cannot wait for is shortened by options.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from simulator.markets import MarketName

MESSAGES_PER_SECOND: dict[MarketName, int] = {"future": 10, "inverse": 10, "spot": 5}
PING_SECONDS: dict[MarketName, float] = {"future": 180.0, "inverse": 180.0, "spot": 20.0}
PONG_SECONDS: dict[MarketName, float] = {"future": 600.0, "inverse": 600.0, "spot": 60.0}
ATTEMPTS_WINDOW_SECONDS = 300.0
MAX_AGE_SECONDS = 86_400.0
NOTICE_SHARE = 0.2  # of the age: how long before its end spot says so, at most
NOTICE_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class StreamLimits:
    """What is enforced. None: the venue's own."""

    messages_per_second: int | None = None
    ping_seconds: float | None = None
    max_streams: int = 1024
    max_age_seconds: float = MAX_AGE_SECONDS  # 0: none
    connects_per_five_minutes: int = 300
    slow_consumer_bytes: int = 32 * 1024 * 1024  # 0: none

    def messages(self, market: MarketName) -> int:
        """Incoming messages a second; pings and pongs count."""
        return MESSAGES_PER_SECOND[market] if self.messages_per_second is None else self.messages_per_second

    def ping_every(self, market: MarketName) -> float:
        """Seconds between the server's pings."""
        return PING_SECONDS[market] if self.ping_seconds is None else self.ping_seconds

    def pong_within(self, market: MarketName) -> float:
        """Seconds without any pong after which a connection ends; keeps its ratio to the pings."""
        return self.ping_every(market) * PONG_SECONDS[market] / PING_SECONDS[market]

    def notice_seconds(self) -> float:
        """How long before its age ends a spot connection is told."""
        return min(NOTICE_SECONDS, self.max_age_seconds * NOTICE_SHARE)


class Window:
    """Counts what happened in the latest `seconds`."""

    def __init__(self, limit: int, seconds: float) -> None:
        self._limit = limit
        self._seconds = seconds
        self._times: deque[float] = deque()

    def take(self, now: float) -> bool:
        """Counts one more. False where it is beyond the limit (it counts all the same)."""
        while self._times and now - self._times[0] >= self._seconds:
            self._times.popleft()
        self._times.append(now)
        return len(self._times) <= self._limit


@dataclass(slots=True)
class Attempts:
    """Connection attempts by market and source address."""

    limit: int
    _windows: dict[tuple[str, str], Window] = field(default_factory=dict)

    def take(self, market: str, address: str, now: float) -> bool:
        """Counts one. False where it is refused."""
        window = self._windows.get((market, address))
        if window is None:
            window = self._windows[market, address] = Window(self.limit, ATTEMPTS_WINDOW_SECONDS)
        return window.take(now)
