"""Raw records on their way into the archive: taken as they are, held in packs, made into files.

Every record is taken, whatever it holds: an archive does not judge. Its source is itself: the raw offsets that a record
covers are its own one, so a jump in the offsets is a hole as everywhere.
A pack is to raw records what a norm record is to rows: some that came one after the other, in one compressed Arrow batch,
far less than they weigh one by one. Files are written row group by row group: neither a flush nor a file need be in
memory at once, decoded.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import pyarrow as pa

from services.s3writer.buffer import RECORD_OVERHEAD_BYTES
from services.s3writer.files import built_of, footer_of, object_of
from services.s3writer.split import BOOK_NAMES, groups
from services.s3writer.take import Taken
from shared.lake import parquet
from shared.lake.digest import Payload, digest_of
from shared.lake.raw_row import row_of
from shared.lake.schema import ARCHIVE_SCHEMA, PACK_SCHEMA
from shared.messages import RAW_VERSION, SourceRange

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from services.s3writer.buffer import Held
    from services.s3writer.files import Built, Made
    from services.s3writer.split import Key
    from services.s3writer.take import Taker
    from shared.kafka import Record
    from shared.lake.claim_log import ClaimLog, DataObject
    from shared.lake.raw_row import RawRow

PACK_BYTES = 1024 * 1024  # of values; more would not be smaller
PACK_ROWS = 1024
ROW_OVERHEAD_BYTES = 1_000  # what a record costs beside its value while its pack is open
GROUP_BYTES = 8 * 1024 * 1024  # of values, in a row group of a file
CHUNK_BYTES = 128 * 1024 * 1024  # of values, in the files that are made together


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


def build(
    log: ClaimLog,
    first: int,
    last: int,
    records: Sequence[Held],
    compression: str,
    *,
    chunk_bytes: int = CHUNK_BYTES,
) -> Built:
    """The files of raw offsets `first..last`: one per (book, hour of receive time)."""

    def made() -> Iterator[Made]:
        for group in groups(log, records, chunk_bytes):
            files: dict[Key, _File] = {}
            for key, part in group:
                if key not in files:
                    files[key] = _File(log, compression)
                files[key].add(part)
            for key in list(files):
                file = files.pop(key)
                yield file.end(key, (first, last)), file.min_recv_ns, file.max_recv_ns

    return built_of(made())


class _File:
    """One file in the making. Of the rows that are written it keeps all columns but the values, for the digest."""

    def __init__(self, log: ClaimLog, compression: str) -> None:
        self._log = log
        self._writer = parquet.FileWriter(log.kind, compression)
        self._pending: list[pa.RecordBatch] = []
        self._pending_bytes = 0
        self._rows = 0
        self._values = Payload()
        self._others: dict[str, list[pa.Array]] = {name: [] for name in ARCHIVE_SCHEMA.names if name != "value"}
        self.min_recv_ns = 2**63
        self.max_recv_ns = 0

    def add(self, part: pa.RecordBatch) -> None:
        """The next rows, with the book's columns."""
        self._pending.append(part)
        self._pending_bytes += part.column("value").nbytes
        if self._pending_bytes >= GROUP_BYTES:
            self._write()

    def end(self, key: Key, ends: tuple[int, int]) -> DataObject:
        """The file, ready to be created."""
        self._write()
        columns = [
            self._values if field.name == "value" else pa.chunked_array(self._others[field.name])
            for field in ARCHIVE_SCHEMA
        ]
        footer = footer_of(self._log, key, ends, self._rows, digest_of(self._rows, columns))
        return object_of(footer, key, self._writer.end(footer))

    def _write(self) -> None:
        if not self._pending:
            return
        table = pa.Table.from_batches(self._pending).drop_columns(BOOK_NAMES).unify_dictionaries().combine_chunks()
        self._pending, self._pending_bytes = [], 0
        for name in self._others:
            self._others[name] += table.column(name).chunks
        for values in table.column("value").chunks:
            self._values.add(values)
        received = table.column("recv_ns").to_numpy()
        self.min_recv_ns = min(self.min_recv_ns, int(received.min()))
        self.max_recv_ns = max(self.max_recv_ns, int(received.max()))
        self._rows += table.num_rows
        self._writer.write(table)


def _encoded(rows: Sequence[RawRow]) -> bytes:
    columns = [pa.array(values, field.type) for field, values in zip(PACK_SCHEMA, zip(*rows, strict=True), strict=True)]
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, PACK_SCHEMA, options=_PACKED) as writer:
        writer.write_batch(pa.RecordBatch.from_arrays(columns, schema=PACK_SCHEMA))
    return cast("bytes", sink.getvalue().to_pybytes())


_PACKED = pa.ipc.IpcWriteOptions(compression=pa.Codec("zstd", compression_level=1), use_threads=False)
