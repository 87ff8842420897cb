"""How often a source address may connect, and how often a connection may speak. Pure: the time is an argument, in ns.

A window slides: of the latest `limit` permits the oldest must be `window_ns` old before the next one. Venues count in
windows of their own, which nobody here knows; in a sliding one no window of theirs can hold more.
"""

from __future__ import annotations

from collections import deque


class Pace:
    """At most `limit` permits in any `window_ns`, and `apart_ns` between two of them."""

    def __init__(self, limit: int, window_ns: int, *, apart_ns: int = 0) -> None:
        self._window_ns = window_ns
        self._apart_ns = apart_ns
        self._latest: deque[int] = deque(maxlen=limit)

    def next_ns(self, now_ns: int) -> int:
        """When the next permit is to be had: now, or later."""
        times = [now_ns]
        if self._latest:
            times.append(self._latest[-1] + self._apart_ns)
        if len(self._latest) == self._latest.maxlen:
            times.append(self._latest[0] + self._window_ns)
        return max(times)

    def take(self, now_ns: int) -> bool:
        """A permit, if there is one now."""
        if self.next_ns(now_ns) > now_ns:
            return False
        self._latest.append(now_ns)
        return True
