"""The bounded queue between what is received and the producer of one topic.

Its bound is in bytes and holds until Kafka has acknowledged them, so it is the bound of the reader's memory. A snapshot
is refused when there is no room. A gap record never is: a run of missed polls ends only with a snapshot that found room,
a lost connection only with a diff, so the gaps in the queue are at most the records in it plus a few for each symbol.
Updates and anchors are always taken: who receives them stops reading while the queue is full (`services.reader.pressure`),
so it is overrun by the frames at hand and no more. Never drops, never blocks who puts.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Literal

import msgspec

if TYPE_CHECKING:
    from collections.abc import Sequence

    from shared.messages import Book, RecordType

RECORD_OVERHEAD_BYTES = 512
"""Headers, key and the objects around one record, roughly."""


class RawRecord(msgspec.Struct, frozen=True, eq=False, gc=False):
    """What is to be published: the venue's bytes verbatim, or a gap as JSON; or, with `error`, a dead letter.

    One is made of every frame, and thousands wait: a struct that Python's collector need not look at costs least.
    """

    book: Book
    type: RecordType | Literal["dead"]
    value: bytes
    recv_ns: int
    ip: str | None = None
    sent_ns: int | None = None
    limit: int | None = None
    link: int | None = None  # the websocket it came over, or among whose frames it stands
    last_id: int | None = None  # of an update or an anchor
    error: str | None = None  # of a dead letter: why

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
        self._settled = asyncio.Event()
        self._closed = False

    @property
    def full(self) -> bool:
        """Whether who receives should stop to."""
        return self._held_bytes >= self.limit_bytes

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
            self.put(after)
        self.put(record)
        return True

    def put(self, record: RawRecord) -> None:
        """Take a record, room or not."""
        self._queue.append(record)
        self._held_bytes += record.size_bytes
        self._changed.set()

    def hold(self, record: RawRecord) -> None:
        """Count a record that goes past the queue, until `settle`: the consumer's own gaps."""
        self._held_bytes += record.size_bytes

    def take(self, max_bytes: int) -> list[RawRecord]:
        """The oldest records, as many as fit `max_bytes` and at least one; none if there is none now.

        Their bytes stay held until `settle`.
        """
        taken: list[RawRecord] = []
        size = 0
        queue = self._queue
        while queue:
            size += queue[0].size_bytes
            if taken and size > max_bytes:
                break
            taken.append(queue.popleft())
        return taken

    def settle(self, records: Sequence[RawRecord]) -> None:
        """The records are acknowledged, or given up and told by a gap: their room is free."""
        self._held_bytes -= sum([len(record.value) for record in records]) + RECORD_OVERHEAD_BYTES * len(records)
        self._settled.set()

    async def drained(self, below_bytes: float) -> None:
        """Until less than `below_bytes` are held."""
        while self._held_bytes >= below_bytes:
            self._settled.clear()
            await self._settled.wait()

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
