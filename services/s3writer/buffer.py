"""What is buffered, and when it is flushed. Norm values are kept as received, compressed: memory is their size on the wire.

Pure: the clock is an argument, nothing is decoded, no task, no lock. Any trigger is exact, because a claim records
where it cut; they differ only in when.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Protocol

from services.s3writer.take import merged

if TYPE_CHECKING:
    from collections.abc import Iterable

    from services.s3writer.take import Taken
    from shared.messages import SourceRange

Trigger = Literal["interval", "rows", "bytes", "schema", "shutdown"]
TRIGGERS: tuple[Trigger, ...] = ("interval", "rows", "bytes", "schema", "shutdown")

HOUR_SECONDS = 3600.0
RECORD_OVERHEAD_BYTES = 1_000  # what an object costs beside its value
FLUSH_SHARE = 0.75  # of the budget: from here on the largest open buffer is flushed; at the whole, fetching stops


class Held(Protocol):
    """What a buffer holds: a record as taken, or some that came one after the other, in one."""

    @property
    def offset(self) -> int:
        """Of the last record."""

    @property
    def timestamp_ms(self) -> int:
        """Kafka's, of the last record."""

    @property
    def oldest_ms(self) -> int:
        """Kafka's timestamp of the first record."""

    @property
    def src(self) -> SourceRange:
        """The raw offsets covered."""

    @property
    def dead(self) -> int:
        """Raw records among them that are dead letters."""

    @property
    def version(self) -> int:
        """Of the topic's records."""

    @property
    def rows(self) -> int:
        """Before taking."""

    @property
    def newest_recv_ns(self) -> int | None:
        """Of these rows; None where there are none."""

    @property
    def taken(self) -> Taken:
        """What is taken of it, and the state after it."""

    @property
    def size_bytes(self) -> int:
        """What it weighs in the budget."""

    @property
    def value(self) -> bytes:
        """The rows as one compressed Arrow batch."""

    @property
    def row_weight(self) -> float:
        """Bytes of one of the rows while its file is made, about."""

    def absorbs(self, record: Held) -> bool:
        """Take the next record in, if it belongs here."""


@dataclass(frozen=True, slots=True)
class NormRecord:
    """One record of a norm topic, as taken. `src` are the raw offsets it covers; `value` is compressed Arrow."""

    offset: int
    timestamp_ms: int
    value: bytes
    src: SourceRange
    dead: int
    version: int
    rows: int  # before taking
    newest_recv_ns: int | None  # of these rows; None where there are none
    taken: Taken

    @property
    def size_bytes(self) -> int:
        """What it weighs in the budget."""
        return len(self.value) + RECORD_OVERHEAD_BYTES

    @property
    def oldest_ms(self) -> int:
        """Of the only one."""
        return self.timestamp_ms

    @property
    def row_weight(self) -> float:
        """Bytes, about: price, quantity, side and level; all else is held once a message."""
        return 24

    def absorbs(self, record: Held) -> bool:  # noqa: ARG002  # as `Held` has it
        """It stays alone: it holds many messages already."""
        return False


@dataclass(slots=True)
class Buffer:
    """The records of one partition since its last flush, from offset `first` on."""

    first: int
    opened_at: float = 0.0  # when the first record came, seconds since the epoch
    records: list[Held] = field(default_factory=list)
    size_bytes: int = 0
    rows: int = 0

    def add(self, record: Held, now: float) -> None:
        """Append one record. `now` in seconds since the epoch."""
        last = self.records[-1] if self.records else None
        before = last.size_bytes if last is not None else 0
        if last is not None and last.absorbs(record):
            self.size_bytes += last.size_bytes - before
        else:
            self.opened_at = now if last is None else self.opened_at
            self.records.append(record)
            self.size_bytes += record.size_bytes
        self.rows += 0 if record.taken.dropped else record.rows

    def fits(self, version: int) -> bool:
        """Whether a record of this version may join: one file holds one schema."""
        return not self.records or self.records[-1].version == version

    @property
    def last(self) -> int:
        """The offset of the last record. Not to be asked of an empty buffer."""
        return self.records[-1].offset

    @property
    def holes(self) -> tuple[tuple[int, int], ...]:
        """Raw offsets that no record covered."""
        return merged([record.taken.hole for record in self.records if record.taken.hole])

    @property
    def dead(self) -> int:
        """Raw records of the range that are dead letters."""
        return sum(record.dead for record in self.records if not record.taken.dropped)


@dataclass(frozen=True, slots=True)
class Limits:
    """When a buffer is full. `max_rows` is of one partition; the bytes of all are `Budget`'s."""

    interval_seconds: float
    max_rows: int

    def due(self, buffer: Buffer, now: float) -> Trigger | None:
        """Why this buffer is to be flushed now, if it is."""
        if not buffer.records:
            return None
        if buffer.rows >= self.max_rows:
            return "rows"
        # A clock that was set back would keep a buffer open for as long: flush it instead.
        if now >= window_end(buffer.opened_at, self.interval_seconds) or now < buffer.opened_at:
            return "interval"
        return None


def window_end(at: float, interval_seconds: float) -> float:
    """The end of the flush window that holds this instant, seconds since the epoch.

    Windows are multiples of the interval from the full hour on; the last one ends with the hour, whatever its length.
    """
    hour = at // HOUR_SECONDS * HOUR_SECONDS
    window = int((at - hour) // interval_seconds)
    return min(hour + (window + 1) * interval_seconds, hour + HOUR_SECONDS)


@dataclass(frozen=True, slots=True)
class Budget:
    """The bytes of all buffers together, those being flushed included."""

    max_bytes: int

    def full(self, held_bytes: int) -> bool:
        """Whether fetching has to stop."""
        return held_bytes >= self.max_bytes

    def largest(self, open_buffers: Iterable[Buffer]) -> Buffer | None:
        """The buffer to flush for room, once those that no flush has taken yet hold `FLUSH_SHARE` of the budget.

        What is being flushed does not count: its room comes back by itself, and small buffers would pay for it.
        """
        buffers = list(open_buffers)
        if sum(buffer.size_bytes for buffer in buffers) < self.max_bytes * FLUSH_SHARE:
            return None
        return max(buffers, key=lambda buffer: buffer.size_bytes, default=None)
