"""The websocket that is about to take over: what it received waits until the symbols' streams have come to it.

Memory stays small: what the primary has brought as well is dropped at once. Pure but for the link it names.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, NamedTuple

from shared.venues.base import SECOND_NS

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from services.reader.book_sync import BookSync
    from services.reader.connection import Link
    from shared.venues.sequence import SequenceRule, UpdateIds

SETTLE_NS = SECOND_NS
"""A symbol silent on a fresh standby for so long has nothing on its way that only the old connection carries."""
OVERLAP_NS = 10 * SECOND_NS
"""Waited for the overlap of every symbol; then the cut-over comes all the same, and the chains tell."""
STANDBY_BYTES = 16 * 1024 * 1024


class Waiting(NamedTuple):
    """An update that waits."""

    ids: UpdateIds
    payload: bytes
    recv_ns: int


class _Queue:
    """What waits of one symbol. `overlaps`: it holds, or held, what follows what the primary brought."""

    def __init__(self) -> None:
        self.updates: deque[Waiting] = deque()
        self.overlaps = False


class Standby:
    """One of them. `overlaps` counts what both connections brought; `spoiled`: a frame was no update."""

    def __init__(self, link: Link, rule: SequenceRule) -> None:
        self.link = link
        self.overlaps = 0
        self.spoiled = False
        self._rule = rule
        self._queues: dict[str, _Queue] = {}
        self._held_bytes = 0
        self._complete_ns: int | None = None

    def add(self, sync: BookSync, update: Waiting) -> None:
        """It received an update of this symbol."""
        queue = self._queues.setdefault(sync.book.symbol, _Queue())
        queue.updates.append(update)
        self._held_bytes += len(update.payload)
        self._prune(sync, queue)

    def ready(self, syncs: Collection[BookSync], now_ns: int) -> bool:
        """Whether it can take over at no cost, or has waited for that as long as it may."""
        if not self.link.complete:
            return False
        if self._complete_ns is None:
            self._complete_ns = now_ns
        waited_ns = now_ns - self._complete_ns
        if self._held_bytes > STANDBY_BYTES or waited_ns > OVERLAP_NS:
            return True
        for sync in syncs:
            queue = self._queues.get(sync.book.symbol)
            if queue is not None:
                self._prune(sync, queue)
            if not (queue.overlaps if queue is not None else waited_ns >= SETTLE_NS):
                return False
        return True

    def take(self, sync: BookSync) -> Iterator[Waiting]:
        """What waits of a symbol and is not published yet, in order."""
        queue = self._queues.pop(sync.book.symbol, None)
        if queue is not None:
            self._prune(sync, queue)
            yield from queue.updates

    def _prune(self, sync: BookSync, queue: _Queue) -> None:
        reached, updates = sync.stream_id, queue.updates
        if reached is None:
            queue.overlaps = bool(updates)
            return
        while updates and updates[0].ids.last_id <= reached:
            self._held_bytes -= len(updates.popleft().payload)
            self.overlaps += 1
            queue.overlaps = True
        if updates and not queue.overlaps:
            queue.overlaps = self._rule.after_update(reached, updates[0].ids) == "next"
