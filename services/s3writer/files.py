"""From taken norm records to the files of a flush: one per (book, hour of receive time), the same files every time.

Decoding happens here, not before: buffers hold values as they came, near their size on the wire. A flush of more than
`chunk_rows` is worked off in groups of books, each decoded on its own, so memory is bounded by the group. What a range
of records gives depends on nothing but the records: whoever finishes a claim makes the same rows and digests.
Synchronous and CPU-bound: run it in a thread; pyarrow, numpy and xxhash let go of the interpreter's lock. No I/O.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa

from services.s3writer.split import BOOK_NAMES, groups
from shared.lake import layout, parquet
from shared.lake.claim_log import DataObject
from shared.lake.claims import FileEntry
from shared.lake.schema import SCHEMA_VERSION

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from services.s3writer.buffer import Held
    from services.s3writer.split import Key
    from shared.lake.claim_log import ClaimLog

Made = tuple[DataObject, int, int]  # a file, the earliest and the latest receive time in it, ns
CHUNK_ROWS = 1_000_000  # about 100 MB decoded


@dataclass(frozen=True, slots=True)
class Built:
    """The files of a range, ready to be created, in the order of their paths; receive times in ns, None without rows."""

    objects: tuple[DataObject, ...]
    min_recv_ns: int | None
    max_recv_ns: int | None


def build(
    log: ClaimLog,
    first: int,
    last: int,
    records: Sequence[Held],
    compression: str,
    *,
    chunk_rows: int = CHUNK_ROWS,
) -> Built:
    """The files of norm offsets `first..last`. Raises `FatalError` naming the record that is damaged."""

    def made() -> Iterator[Made]:
        for key, table in tables(log, records, chunk_rows=chunk_rows):
            received = table.column("recv_ns").to_numpy()
            yield _object(log, key, (first, last), table, compression), int(received.min()), int(received.max())

    return built_of(made())


def built_of(made: Iterable[Made]) -> Built:
    """All files of a range."""
    in_order = sorted(made, key=lambda each: each[0].entry.path)
    earliest = min((each[1] for each in in_order), default=None)
    latest = max((each[2] for each in in_order), default=None)
    return Built(tuple(each[0] for each in in_order), earliest, latest)


def tables(log: ClaimLog, records: Sequence[Held], *, chunk_rows: int = CHUNK_ROWS) -> Iterator[tuple[Key, pa.Table]]:
    """The rows of each file, file by file in no order. Raises `FatalError` naming the record that is damaged."""
    for group in groups(log, records, chunk_rows):
        parts: dict[Key, list[pa.RecordBatch]] = {}
        for key, part in group:
            parts.setdefault(key, []).append(part)
        for key in list(parts):
            table = pa.Table.from_batches(parts.pop(key)).drop_columns(BOOK_NAMES)
            yield key, table.unify_dictionaries().combine_chunks()


def _object(log: ClaimLog, key: Key, ends: tuple[int, int], table: pa.Table, compression: str) -> DataObject:
    footer = footer_of(log, key, ends, table.num_rows, parquet.digest(table))
    return object_of(footer, key, parquet.encode(table, footer, compression))


def object_of(footer: parquet.Footer, key: Key, body: bytes) -> DataObject:
    """The file of this footer, ready to be created."""
    ends = footer.first, footer.last
    path = layout.data_path(footer.kind, *key, footer.stream, footer.partition, *ends)
    return DataObject(FileEntry(path=path, rows=footer.rows, digest=footer.digest), body)


def footer_of(log: ClaimLog, key: Key, ends: tuple[int, int], rows: int, digest: str) -> parquet.Footer:
    """What a file of the offsets `ends` says of itself."""
    (book, _), (first, last) = key, ends
    return parquet.Footer(
        kind=log.kind,
        exchange=book.exchange,
        market=book.market,
        symbol=book.symbol,
        stream=log.stream,
        topic=log.topic,
        partition=log.partition,
        first=first,
        last=last,
        rows=rows,
        schema_version=SCHEMA_VERSION,
        digest=digest,
    )
