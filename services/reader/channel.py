"""The bounded queue between what is received and the producer.

Its bound is in bytes and holds until Kafka has acknowledged them, so it is the bound of the reader's memory. A snapshot
is refused when there is no room; a gap record never is: a run of missed polls ends only with a snapshot that found room,
so the gaps in the queue are at most the snapshots in it plus a few for each symbol. Never drops, never blocks a poller.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from shared.messages import Book, RecordType

RECORD_OVERHEAD_BYTES = 512
"""Headers, key and the objects around one record, roughly."""


@dataclass(frozen=True, slots=True, eq=False)
class RawRecord:
    """What is to be published: the venue's bytes verbatim, or a gap as JSON."""

    book: Book
    type: RecordType
    value: bytes
    recv_ns: int
    ip: str | None = None
    sent_ns: int | None = None
    limit: int | None = None

    @property
    def size_bytes(self) -> int:
        """What it counts for in the queue."""
        return len(self.value) + RECORD_OVERHEAD_BYTES


class Channel:
    """A queue of `RawRecord` for one consumer. Bytes are held from `offer` or `put_gap` until `settle`."""

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self._queue: deque[RawRecord] = deque()
        self._held_bytes = 0
        self._changed = asyncio.Event()
        self._closed = False

    @property
    def held_bytes(self) -> int:
        """Bytes taken in and not yet settled."""
        return self._held_bytes

    @property
    def waiting_records(self) -> int:
        """Records not yet handed to the producer."""
        return len(self._queue)

    @property
    def closed(self) -> bool:
        """No more records will come."""
        return self._closed

    def has_room(self, size_bytes: int) -> bool:
        """Whether a snapshot of this size would be taken. A single one always is, whatever its size."""
        return self._held_bytes == 0 or self._held_bytes + size_bytes <= self.limit_bytes

    def offer(self, record: RawRecord, *, after: RawRecord | None = None) -> bool:
        """Take a snapshot if there is room, right `after` a gap record if one is due.

        False = neither was taken, and the loss of the snapshot must be told by a gap.
        """
        if not self.has_room(record.size_bytes):
            return False
        if after is not None:
            self.put_gap(after)
        self._append(record)
        return True

    def put_gap(self, record: RawRecord) -> None:
        """Take a gap record, room or not."""
        self._append(record)

    def hold(self, record: RawRecord) -> None:
        """Count a record that goes past the queue, until `settle`: the consumer's own gaps."""
        self._held_bytes += record.size_bytes

    def take(self) -> RawRecord | None:
        """The oldest record, or None if there is none now. Its bytes stay held until `settle`."""
        return self._queue.popleft() if self._queue else None

    def settle(self, record: RawRecord) -> None:
        """The record is acknowledged, or given up and told by a gap: its room is free."""
        self._held_bytes -= record.size_bytes

    def close(self) -> None:
        """No more records will come; what is queued can still be taken."""
        self._closed = True
        self._changed.set()

    def nudge(self) -> None:
        """Wake the consumer although nothing was put."""
        self._changed.set()

    async def wait(self) -> None:
        """Until something was put, the channel was closed, or someone nudged."""
        await self._changed.wait()
        self._changed.clear()

    def _append(self, record: RawRecord) -> None:
        self._queue.append(record)
        self._held_bytes += record.size_bytes
        self._changed.set()
