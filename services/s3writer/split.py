"""Which rows of buffered records go to which file, and which files are made together so that memory stays bounded.

Records are decoded here, one at a time. Pure: it depends on the records alone, and on nothing of the files.
"""

from __future__ import annotations

from collections import defaultdict
from functools import lru_cache
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from services.s3writer.decode import rows
from services.s3writer.take import rows_above
from shared.lake import layout
from shared.lake.schema import BOOK_FIELDS
from shared.messages import Book

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence

    from numpy.typing import NDArray

    from services.s3writer.buffer import Held
    from shared.lake.claim_log import ClaimLog

Key = tuple[Book, int]  # a file of a flush: book, start of the hour in microseconds
BOOK_NAMES = [field.name for field in BOOK_FIELDS]
_book = lru_cache(maxsize=16_384)(Book)  # asked for once per file and record


def groups(log: ClaimLog, records: Sequence[Held], chunk: float) -> Iterator[Iterator[tuple[Key, pa.RecordBatch]]]:
    """Groups of files to make together: the rows of each, in their order, with the book's columns.

    A group weighs at most `chunk`, by the `row_weight` of its records, unless it is a single file.
    Raises `FatalError` naming the record that is damaged.
    """
    for keys, group in _groups(log, records, chunk):
        yield (part for record in group for part in _split(_decoded(log, record), keys))


def _groups(
    log: ClaimLog, records: Sequence[Held], chunk: float
) -> Iterator[tuple[Collection[Key] | None, Sequence[Held]]]:
    """Files to make together, and the records that hold them; None = all files of these records."""
    if sum(record.rows * record.row_weight for record in records) <= chunk:
        yield None, records
        return
    weight_of: defaultdict[Key, float] = defaultdict(float)
    records_of: dict[Key, list[int]] = {}
    for number, record in enumerate(records):
        for key, part in _split(_decoded(log, record, keys_only=True)):
            weight_of[key] += part.num_rows * record.row_weight
            records_of.setdefault(key, []).append(number)
    keys: set[Key] = set()
    size = 0.0
    for key, weight in weight_of.items():  # in the order of first appearance: neighbours share records
        if keys and size + weight > chunk:
            yield keys, _holding(keys, records, records_of)
            keys, size = set(), 0.0
        keys.add(key)
        size += weight
    yield keys, _holding(keys, records, records_of)


def _holding(keys: set[Key], records: Sequence[Held], records_of: dict[Key, list[int]]) -> list[Held]:
    return [records[number] for number in sorted({number for key in keys for number in records_of[key]})]


def _decoded(log: ClaimLog, record: Held, *, keys_only: bool = False) -> pa.RecordBatch | None:
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
    columns = [batch.column(name) for name in BOOK_NAMES]
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
