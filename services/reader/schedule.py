"""When each symbol is polled: at wall-clock multiples of the interval, plus its own place within the interval.

The places are spread evenly, so that the venue and the budget see a steady flow and not a burst at each multiple. Two
readers with the same symbols poll at the same instants, whenever they were started. Pure: the time is an argument (ns
since the epoch). Never catches up: a slot that has passed is counted, not made up for.
"""

from __future__ import annotations

from dataclasses import dataclass
from heapq import heapify, heapreplace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

MILLISECOND_NS = 1_000_000


@dataclass(frozen=True, slots=True)
class Due:
    """A symbol whose time has come. `skipped` slots before this one passed unseen: the loop was late."""

    symbol: str
    due_ns: int
    expires_ns: int
    skipped: int


class PollSchedule:
    """The slots of the symbols of one market on one source address."""

    def __init__(self, symbols: Sequence[str], interval_ms: int, now_ns: int) -> None:
        self._interval_ns = interval_ms * MILLISECOND_NS
        ordered = sorted(symbols)
        self._place_ns = {symbol: i * self._interval_ns // len(ordered) for i, symbol in enumerate(ordered)}
        self._next: list[tuple[int, str]] = []
        self._align(now_ns)

    @property
    def next_ns(self) -> int | None:
        """When the next symbol is due; None without symbols."""
        return self._next[0][0] if self._next else None

    def due(self, now_ns: int) -> list[Due]:
        """The symbols whose slot has come since the last call, each once: the latest slot counts, others are skipped."""
        if self._next and self._next[0][0] > now_ns + self._interval_ns:
            self._align(now_ns)  # the clock was set back
        found = []
        while self._next and self._next[0][0] <= now_ns:
            first_ns, symbol = self._next[0]
            skipped = (now_ns - first_ns) // self._interval_ns
            due_ns = first_ns + skipped * self._interval_ns
            heapreplace(self._next, (due_ns + self._interval_ns, symbol))
            found.append(Due(symbol, due_ns, due_ns + self._interval_ns, skipped))
        return found

    def _align(self, now_ns: int) -> None:
        self._next = [(self._slot_from(place_ns, now_ns), symbol) for symbol, place_ns in self._place_ns.items()]
        heapify(self._next)

    def _slot_from(self, place_ns: int, now_ns: int) -> int:
        """The first slot of this place that is not before now."""
        return -(-(now_ns - place_ns) // self._interval_ns) * self._interval_ns + place_ns
