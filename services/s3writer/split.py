"""Which rows of buffered records go to which file, and which files are made together so that memory stays bounded.

Records are decoded here, one at a time. Pure: it depends on the records alone, and on nothing of the files.
"""

from __future__ import annotations

from collections import defaultdict
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from services.s3writer.decode import rows
from services.s3writer.part import BOOK_NAMES, joined, part_of
from services.s3writer.take import rows_above
from shared.lake import layout
from shared.lake.arrays import bits
from shared.messages import Book

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence

    from numpy.typing import NDArray

    from services.s3writer.buffer import Held
    from services.s3writer.part import Part
    from shared.lake.claim_log import ClaimLog

Key = tuple[Book, int]  # a file of a flush: book, start of the hour in microseconds
_book = lru_cache(maxsize=16_384)(Book)  # asked for once per file and window


def groups(
    log: ClaimLog, records: Sequence[Held], chunk_bytes: float, window_bytes: float
) -> Iterator[Iterator[tuple[Key, Part]]]:
    """Groups of files to make together: the rows of each, in their order, with the book's columns.

    A group weighs at most `chunk_bytes`, by the `row_weight` of its records, unless it is a single file. Records are taken
    apart together until they weigh `window_bytes`: the more, the fewer parts.
    Raises `FatalError` naming the record that is damaged.
    """
    for keys, group in _groups(log, records, chunk_bytes):
        windows = _windows(log, group, window_bytes)
        yield (piece for window in windows for piece in _split(window, keys))


def _groups(
    log: ClaimLog, records: Sequence[Held], chunk_bytes: float
) -> Iterator[tuple[Collection[Key] | None, Sequence[Held]]]:
    """Files to make together, and the records that hold them; None = all files of these records."""
    if sum(record.rows * record.row_weight for record in records) <= chunk_bytes:
        yield None, records
        return
    weight_of: defaultdict[Key, float] = defaultdict(float)
    records_of: dict[Key, list[int]] = {}
    for number, record in enumerate(records):
        for part in _decoded(log, record, keys_only=True):
            codes, key_of = _codes(part)
            present, numbers = np.unique(codes, return_inverse=True)
            for code, count in zip(present.tolist(), np.bincount(numbers, part.counts).tolist(), strict=True):
                weight_of[key_of(code)] += count * record.row_weight
                records_of.setdefault(key_of(code), []).append(number)
    keys: set[Key] = set()
    size = 0.0
    for key, weight in weight_of.items():  # in the order of first appearance: neighbours share records
        if keys and size + weight > chunk_bytes:
            yield keys, _holding(keys, records, records_of)
            keys, size = set(), 0.0
        keys.add(key)
        size += weight
    yield keys, _holding(keys, records, records_of)


def _holding(keys: set[Key], records: Sequence[Held], records_of: dict[Key, list[int]]) -> list[Held]:
    return [records[number] for number in sorted({number for key in keys for number in records_of[key]})]


def _windows(log: ClaimLog, records: Sequence[Held], window_bytes: float) -> Iterator[Part]:
    """The rows of the records, some records at a time."""
    parts: list[Part] = []
    size = 0.0
    for record in records:
        parts += _decoded(log, record)
        size += record.rows * record.row_weight
        if parts and size >= window_bytes:
            yield joined(parts)
            parts, size = [], 0.0
    if parts:
        yield joined(parts)


def _decoded(log: ClaimLog, record: Held, *, keys_only: bool = False) -> list[Part]:
    """The rows that are taken from a record, if any; `keys_only`: only the columns that say which file they go to."""
    if not record.rows or record.taken.dropped:
        return []
    where = f"{log.topic}/{log.partition}@{record.offset}"
    batch = rows_above(rows(log.kind, record.value, record.src, where, keys_only=keys_only), record.taken.above)
    return [part_of(log.kind, batch)] if batch.num_rows else []


def _split(part: Part, keys: Collection[Key] | None) -> Iterator[tuple[Key, Part]]:
    """The rows of each file, in their order; only of `keys`, and then without holding on to the rows of the others."""
    codes, key_of = _codes(part)
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
        part, codes = part.taken(order), codes[order]
        starts = _starts(codes)
    for start, piece in zip(starts, part.pieces(starts), strict=True):
        yield files[int(codes[start])], piece


def _starts(codes: NDArray[np.integer]) -> list[int]:
    """Where runs of equal codes begin."""
    return [0, *(np.flatnonzero(codes[1:] != codes[:-1]) + 1).tolist()]


def _codes(part: Part) -> tuple[NDArray[np.integer], Callable[[int], Key]]:
    """For each message an integer that differs where its file differs, and what file an integer stands for."""
    columns = [part.messages.column(name) for name in BOOK_NAMES]
    names = [column.dictionary.to_pylist() for column in columns]
    hours = bits(part.messages.column("timestamp")) // layout.HOUR_US
    low, high = int(hours.min()), int(hours.max())
    codes = np.zeros(len(hours), np.int64)
    for column, found in zip(columns, names, strict=True):
        codes = codes * len(found) + bits(column)
    codes = codes * (high - low + 1) + (hours - low)
    exchanges, markets, symbols = names

    def key_of(code: int) -> Key:
        code, hour = divmod(code, high - low + 1)
        code, symbol = divmod(code, len(symbols))
        exchange, market = divmod(code, len(markets))
        return _book(exchanges[exchange], markets[market], symbols[symbol]), (low + hour) * layout.HOUR_US

    return codes, key_of
