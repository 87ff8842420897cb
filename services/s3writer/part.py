"""Rows on their way into a file, with what is the same throughout a message held once.

A message of a book has some dozen to some thousand rows, which differ in side, price, quantity and level alone. Held so they
weigh a fifth of what they weigh as a table, and most of what is done to the other columns is done once a message.
It is found by looking, not taken on trust: a message is here what rows one after the other agree in all of `_SHARED`.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from shared.lake.arrays import bits, picked, repeated, valid
from shared.lake.kinds import LAKE_KINDS, is_rows
from shared.lake.schema import BOOK_FIELDS, FILE_SCHEMAS

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from numpy.typing import NDArray

    from shared.lake.kinds import LakeKind

BOOK_NAMES = [field.name for field in BOOK_FIELDS]
_OF_A_LEVEL = frozenset({"side", "price", "quantity", "level"})
_SHARED: dict[LakeKind, frozenset[str]] = {
    kind: frozenset([*BOOK_NAMES, *FILE_SCHEMAS[kind].names]) - _OF_A_LEVEL
    if is_rows(kind)
    else frozenset([*BOOK_NAMES, "timestamp", "recv_ns"])  # a raw record is one row: what says where it goes
    for kind in LAKE_KINDS
}


@dataclass(frozen=True, slots=True)
class Part:
    """Rows in their order: a row of `messages` stands for as many as `counts` says, and `rows` has the other columns."""

    messages: pa.RecordBatch
    counts: NDArray[np.int64]
    rows: pa.RecordBatch

    @property
    def num_rows(self) -> int:
        """Of the whole."""
        return int(self.rows.num_rows)

    @property
    def value_bytes(self) -> int:
        """Of raw records."""
        return int(self.rows.column("value").nbytes) if "value" in self.rows.schema.names else 0

    def without(self, names: Collection[str]) -> Part:
        """All but these columns of `rows`."""
        return Part(self.messages, self.counts, self.rows.drop_columns(list(names)))

    def table(self, names: Sequence[str]) -> pa.Table:
        """These columns, in full."""
        ours = set(self.rows.schema.names)
        columns = [
            self.rows.column(name) if name in ours else repeated(self.messages.column(name), self.counts)
            for name in names
        ]
        return pa.table(columns, list(names))

    def taken(self, order: NDArray[np.int64]) -> Part:
        """Its messages of these numbers, in this order."""
        counts = self.counts[order]
        begins = (np.cumsum(self.counts) - self.counts)[order]
        rows = np.repeat(begins - (np.cumsum(counts) - counts), counts)
        rows += np.arange(len(rows))
        return Part(_picked(self.messages, order), counts, _picked(self.rows, rows))

    def pieces(self, starts: Sequence[int]) -> Iterator[Part]:
        """The parts that begin with these messages, the first of which is 0. No copies."""
        ends = np.cumsum(self.counts)
        row = 0
        for begin, end in pairwise([*starts, len(self.counts)]):
            count = int(ends[end - 1]) - row
            yield Part(self.messages.slice(begin, end - begin), self.counts[begin:end], self.rows.slice(row, count))
            row += count

    def cut(self, rows: int) -> tuple[Part, Part]:
        """The first `rows` rows, of those it has, and the others. Both know of the message that lies in both."""
        ends = np.cumsum(self.counts)
        number = int(np.searchsorted(ends, rows))
        here, there = self.counts[: number + 1].copy(), self.counts[number:].copy()
        there[0] = ends[number] - rows
        here[-1] -= there[0]
        return (
            Part(self.messages.slice(0, number + 1), here, self.rows.slice(0, rows)),
            Part(self.messages.slice(number), there, self.rows.slice(rows)),
        )


def part_of(kind: LakeKind, batch: pa.RecordBatch) -> Part:
    """The rows of a batch in the columns of the wire, or some of these. It has to have rows."""
    shared = [name for name in batch.schema.names if name in _SHARED[kind]]
    messages, rows = batch.select(shared), batch.select([name for name in batch.schema.names if name not in shared])
    changes = np.zeros(batch.num_rows, np.bool_)
    changes[0] = True
    for column in messages.columns:
        if column.null_count < len(column):
            _mark_changes(column, changes[1:])
    starts = np.flatnonzero(changes)
    counts = np.diff(starts, append=batch.num_rows)
    return Part(_picked(messages, starts), counts, rows)


def joined(parts: Sequence[Part]) -> Part:
    """All rows one after the other."""
    if len(parts) == 1:
        return parts[0]
    counts = np.concatenate([part.counts for part in parts])
    return Part(_joined([part.messages for part in parts]), counts, _joined([part.rows for part in parts]))


def _picked(batch: pa.RecordBatch, order: NDArray[np.int64]) -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays([picked(column, order) for column in batch.columns], schema=batch.schema)


def _joined(batches: Sequence[pa.RecordBatch]) -> pa.RecordBatch:
    return pa.Table.from_batches(batches).unify_dictionaries().combine_chunks().to_batches()[0]


def _mark_changes(column: pa.Array, changes: NDArray[np.bool_]) -> None:
    values = bits(column)
    differ = values[1:] != values[:-1]
    if column.null_count:
        there = valid(column)
        differ &= (there[1:] & there[:-1]).view(np.bool_)
        differ |= there[1:] != there[:-1]
    changes |= differ
