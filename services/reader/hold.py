"""What waits while the anchor of a symbol is on its way: its updates, and between them what befell its connection.

In the order in which it came, as the chain of ids is judged in that order: a connection lost behind an update that waits
says nothing about what lies before it. Pure; knows no rule and no clock.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from shared.venues.sequence import UpdateIds


class HeldUpdate(NamedTuple):
    """An update as it was received. `link`: the number of its websocket; `ip`: from where that was opened."""

    ids: UpdateIds
    payload: bytes
    recv_ns: int
    link: int
    ip: str | None


class Hold:
    """Of one symbol, until `until_ns`."""

    def __init__(self, until_ns: int) -> None:
        self.until_ns = until_ns
        self.size_bytes = 0
        self._queue: deque[HeldUpdate | Callable[[], None]] = deque()
        self._last_id: int | None = None

    @property
    def last_id(self) -> int | None:
        """The final id of the latest update that waits; None if none does."""
        return self._last_id

    @property
    def first(self) -> HeldUpdate | None:
        """The update that waits in front; None if none does, or something that happened stands before it."""
        return self._queue[0] if self._queue and isinstance(self._queue[0], HeldUpdate) else None

    def add(self, update: HeldUpdate) -> None:
        """An update came."""
        self._queue.append(update)
        self._last_id = update.ids.last_id
        self.size_bytes += len(update.payload)

    def add_event(self, event: Callable[[], None]) -> None:
        """Something happened that says nothing about the updates that wait: to be done behind them."""
        self._queue.append(event)

    def pop(self, through_id: int | None = None) -> Iterator[HeldUpdate | Callable[[], None]]:
        """Takes out what waits, up to the first update above `through_id`; None = all."""
        while self._queue:
            front = self._queue[0]
            if through_id is not None and isinstance(front, HeldUpdate) and front.ids.last_id > through_id:
                return
            yield self._queue.popleft()
