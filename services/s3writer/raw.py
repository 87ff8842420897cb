"""Raw records on their way into the archive: taken as they are, held in packs.

Every record is taken, whatever it holds: an archive does not judge. Its source is itself: the raw offsets that a record
covers are its own one, so a jump in the offsets is a hole as everywhere.
A pack is to raw records what a norm record is to rows: some that came one after the other, in one compressed Arrow batch,
far less than they weigh one by one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import pyarrow as pa

from services.s3writer.buffer import RECORD_OVERHEAD_BYTES
from services.s3writer.take import Taken
from shared.lake.raw_row import row_of
from shared.lake.schema import PACK_SCHEMA
from shared.messages import RAW_VERSION, SourceRange

if TYPE_CHECKING:
    from collections.abc import Sequence

    from services.s3writer.buffer import Held
    from services.s3writer.take import Taker
    from shared.kafka import Record
    from shared.lake.claim_log import ClaimLog
    from shared.lake.raw_row import RawRow

PACK_BYTES = 1024 * 1024  # of values; more would not be smaller
PACK_ROWS = 1024
ROW_OVERHEAD_BYTES = 1_000  # what a record costs beside its value while its pack is open


class Pack:
    """Raw records `src`, one after the other. Open until it is full; then all that is left of them is `value`."""

    dead = 0
    version = RAW_VERSION

    def __init__(self, record: Record, row: RawRow, taken: Taken) -> None:
        self.rows = 1
        self.offset = record.offset
        self.oldest_ms = self.timestamp_ms = record.timestamp_ms
        self.newest_recv_ns = row.recv_ns
        self.value_bytes = len(row.value)
        self._first = record.topic, record.partition, record.offset
        self._taken = taken
        self._last = taken
        self.open_rows = [row]  # none once it is full
        self._value = b""
        self._close_if_full()

    @property
    def src(self) -> SourceRange:
        """The raw offsets it holds."""
        return SourceRange(*self._first, self.offset)

    @property
    def taken(self) -> Taken:
        """As the first record was taken, and the state after the last one."""
        first, last = self._taken, self._last
        return Taken(first.above, first.dropped, first.hole, last.done, last.newest_recv_ns)

    @property
    def value(self) -> bytes:
        """All of it as one compressed Arrow batch."""
        return self._value or _encoded(self.open_rows)

    @property
    def size_bytes(self) -> int:
        """What it weighs in the budget."""
        if self._value:
            return len(self._value) + RECORD_OVERHEAD_BYTES
        return self.value_bytes + self.rows * ROW_OVERHEAD_BYTES

    @property
    def row_weight(self) -> float:
        """Bytes of a value, on average."""
        return self.value_bytes / self.rows

    def absorbs(self, record: Held) -> bool:
        """Take in the next record, unless this is full or something lies between them."""
        if not isinstance(record, Pack) or not (self.open_rows and record.open_rows):
            return False
        taken = record.taken
        if taken.hole or taken.dropped or self._taken.dropped:
            return False
        self.rows += record.rows
        self.offset, self.timestamp_ms = record.offset, record.timestamp_ms
        self.newest_recv_ns = max(self.newest_recv_ns, record.newest_recv_ns)
        self.value_bytes += record.value_bytes
        self._last = taken
        self.open_rows += record.open_rows
        self._close_if_full()
        return True

    def _close_if_full(self) -> None:
        if self.value_bytes >= PACK_BYTES or self.rows >= PACK_ROWS:
            self._value, self.open_rows = _encoded(self.open_rows), []


def take(log: ClaimLog, record: Record, taker: Taker) -> Pack:
    """A raw record accepted by the taker, as a pack of one."""
    row = row_of(record, log.stream)
    src = SourceRange(record.topic, record.partition, record.offset, record.offset)
    return Pack(record, row, taker.take(src, lost=False, newest_recv_ns=row.recv_ns))


def _encoded(rows: Sequence[RawRow]) -> bytes:
    columns = [pa.array(values, field.type) for field, values in zip(PACK_SCHEMA, zip(*rows, strict=True), strict=True)]
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, PACK_SCHEMA, options=_PACKED) as writer:
        writer.write_batch(pa.RecordBatch.from_arrays(columns, schema=PACK_SCHEMA))
    return cast("bytes", sink.getvalue().to_pybytes())


_PACKED = pa.ipc.IpcWriteOptions(compression=pa.Codec("zstd", compression_level=1), use_threads=False)
