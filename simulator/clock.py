"""The event clock: the time that books live by. It runs at a multiple of real time, or only when it is stepped."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class EventClock:
    """Milliseconds since the epoch from `start_ms` on, at `speed` times real time; 0 = only `step` moves it."""

    def __init__(self, start_ms: int, speed: float, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._base_ms = float(start_ms)
        self._since = monotonic()
        self._speed = speed

    @property
    def speed(self) -> float:
        """Event milliseconds per real millisecond."""
        return self._speed

    def now_ms(self) -> int:
        """The event time now."""
        return int(self._now())

    def step(self, milliseconds: float) -> int:
        """Moves on by so much at once. Returns the new time."""
        self._base_ms += milliseconds
        return self.now_ms()

    def run(self, speed: float) -> None:
        """Goes on from here at another speed."""
        self._base_ms = self._now()
        self._since = self._monotonic()
        self._speed = speed

    def _now(self) -> float:
        return self._base_ms + (self._monotonic() - self._since) * 1000 * self._speed
