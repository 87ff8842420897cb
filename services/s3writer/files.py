"""From taken norm records to the files of a flush: one per (book, hour of receive time), the same files every time.

Decoding happens here, not before: buffers hold values as they came, near their size on the wire. A flush of more than
`chunk_rows` is worked off in groups of books, each decoded on its own, so memory is bounded by the group. What a range
of records gives depends on nothing but the records: whoever finishes a claim makes the same rows and digests.
Synchronous and CPU-bound: run it in a thread; pyarrow, numpy and xxhash let go of the interpreter's lock. No I/O.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from services.s3writer.decode import rows
from services.s3writer.take import rows_above
from shared.lake import layout, parquet
from shared.lake.claim_log import DataObject
from shared.lake.claims import FileEntry
from shared.lake.schema import BOOK_FIELDS, SCHEMA_VERSION
from shared.messages import Book

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence

    from numpy.typing import NDArray

    from services.s3writer.buffer import NormRecord
    from shared.lake.claim_log import ClaimLog

CHUNK_ROWS = 1_000_000  # about 100 MB decoded

Key = tuple[Book, int]  # a file of a flush: book, start of the hour in microseconds
_BOOK_NAMES = [field.name for field in BOOK_FIELDS]
_book = lru_cache(maxsize=16_384)(Book)  # asked for once per file and record


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
    records: Sequence[NormRecord],
    *,
    compression: str,
    chunk_rows: int = CHUNK_ROWS,
) -> Built:
    """The files of norm offsets `first..last`. Raises `FatalError` naming the record that is damaged."""
    objects: list[DataObject] = []
    earliest: list[int] = []
    latest: list[int] = []
    for key, table in tables(log, records, chunk_rows=chunk_rows):
        received = table.column("recv_ns").to_numpy()
        earliest.append(int(received.min()))
        latest.append(int(received.max()))
        objects.append(_object(log, key, (first, last), table, compression))
    objects.sort(key=lambda made: made.entry.path)
    return Built(tuple(objects), min(earliest, default=None), max(latest, default=None))


def tables(
    log: ClaimLog, records: Sequence[NormRecord], *, chunk_rows: int = CHUNK_ROWS
) -> Iterator[tuple[Key, pa.Table]]:
    """The rows of each file, file by file in no order. Raises `FatalError` naming the record that is damaged."""
    for keys, group in _groups(log, records, chunk_rows):
        parts: dict[Key, list[pa.RecordBatch]] = {}
        for record in group:
            for key, part in _split(_decoded(log, record), keys):
                parts.setdefault(key, []).append(part)
        for key in list(parts):
            table = pa.Table.from_batches(parts.pop(key)).drop_columns(_BOOK_NAMES)
            yield key, table.unify_dictionaries().combine_chunks()


def _object(log: ClaimLog, key: Key, ends: tuple[int, int], table: pa.Table, compression: str) -> DataObject:
    (book, hour_start_us), (first, last) = key, ends
    path = layout.data_path(log.kind, book, hour_start_us, log.stream, log.partition, first, last)
    entry = FileEntry(path=path, rows=table.num_rows, digest=parquet.digest(table))
    footer = parquet.Footer(
        kind=log.kind,
        exchange=book.exchange,
        market=book.market,
        symbol=book.symbol,
        stream=log.stream,
        topic=log.topic,
        partition=log.partition,
        first=first,
        last=last,
        rows=entry.rows,
        schema_version=SCHEMA_VERSION,
        digest=entry.digest,
    )
    return DataObject(entry, parquet.encode(table, footer, compression))


def _groups(
    log: ClaimLog, records: Sequence[NormRecord], chunk_rows: int
) -> Iterator[tuple[Collection[Key] | None, Sequence[NormRecord]]]:
    """Files to make together, and the records that hold them; None = all files of these records."""
    if sum(record.rows for record in records) <= chunk_rows:
        yield None, records
        return
    rows_of: Counter[Key] = Counter()
    records_of: dict[Key, list[int]] = {}
    for number, record in enumerate(records):
        for key, part in _split(_decoded(log, record, keys_only=True)):
            rows_of[key] += part.num_rows
            records_of.setdefault(key, []).append(number)
    keys: set[Key] = set()
    size = 0
    for key, count in rows_of.items():  # in the order of first appearance: neighbours share records
        if keys and size + count > chunk_rows:
            yield keys, _holding(keys, records, records_of)
            keys, size = set(), 0
        keys.add(key)
        size += count
    yield keys, _holding(keys, records, records_of)


def _holding(keys: set[Key], records: Sequence[NormRecord], records_of: dict[Key, list[int]]) -> list[NormRecord]:
    return [records[number] for number in sorted({number for key in keys for number in records_of[key]})]


def _decoded(log: ClaimLog, record: NormRecord, *, keys_only: bool = False) -> pa.RecordBatch | None:
    """The rows that are taken from a record, if any; `keys_only`: only the columns that say which file they go to."""
    if not record.rows or record.taken.dropped:
        return None
    where = f"{log.topic}/{log.partition}@{record.offset}"
    return rows_above(rows(log.kind, record.value, record.src, where, keys_only=keys_only), record.taken.above)


def _split(batch: pa.RecordBatch | None, keys: Collection[Key] | None = None) -> Iterator[tuple[Key, pa.RecordBatch]]:
    """The rows of each file, in their order; only of `keys`, and then without holding on to the rows of the others."""
    if batch is None or not batch.num_rows:
        return
    codes, key_of = _codes(batch)
    starts = _starts(codes)
    present = np.unique(codes[starts])
    files = {code: key_of(code) for code in present.tolist()}
    if keys is not None:
        files = {code: key for code, key in files.items() if key in keys}
    if not files:
        return
    if len(files) < len(present) or len(present) < len(starts):  # bring together what is wanted of each file
        order = np.argsort(codes, kind="stable")
        if len(files) < len(present):
            order = order[np.isin(codes[order], list(files))]
        batch, codes = batch.take(pa.array(order)), codes[order]
        starts = _starts(codes)
    for start, end in pairwise([*starts, batch.num_rows]):
        yield files[int(codes[start])], batch.slice(start, end - start)


def _starts(codes: NDArray[np.integer]) -> list[int]:
    """Where runs of equal codes begin."""
    return [0, *(np.flatnonzero(codes[1:] != codes[:-1]) + 1).tolist()]


def _codes(batch: pa.RecordBatch) -> tuple[NDArray[np.integer], Callable[[int], Key]]:
    """For each row an integer that differs where its file differs, and what file an integer stands for."""
    columns = [batch.column(name) for name in _BOOK_NAMES]
    names = [column.dictionary.to_pylist() for column in columns]
    times = batch.column("timestamp").view(pa.int64()).to_numpy()
    low, high = int(times.min()) // layout.HOUR_US, int(times.max()) // layout.HOUR_US
    parts = [(column.indices.to_numpy(), len(found)) for column, found in zip(columns, names, strict=True)]
    parts.append((times // layout.HOUR_US - low if low < high else times[:0], high - low + 1))
    varying = [(values, size) for values, size in parts if size > 1]  # a stream has few exchanges and markets
    if len(varying) == 1:
        codes = varying[0][0]
    else:
        codes = np.zeros(batch.num_rows, np.int64)
        for values, size in varying:
            codes = codes * size + values

    exchanges, markets, symbols = names

    def key_of(code: int) -> Key:
        code, hour = divmod(code, high - low + 1)
        code, symbol = divmod(code, len(symbols))
        exchange, market = divmod(code, len(markets))
        return _book(exchanges[exchange], markets[market], symbols[symbol]), (low + hour) * layout.HOUR_US

    return codes, key_of
