"""Taking norm records: each raw record's rows exactly once, whatever the flatteners sent twice, late or never.

State per (stream, raw partition): `done`, the highest raw offset accepted. From a record the rows with raw_offset >
`done` as it stood before the record are taken, then done = max(done, src.last). It is the same whether records come
from the buffer or are read again to finish a claim: one function of the records' order and nothing else.
Pure: no Kafka, no store, no clock. It never looks at a row; `rows_above` does, once a record is decoded.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from shared.errors import FatalError
from shared.lake.arrays import bits

if TYPE_CHECKING:
    import pyarrow as pa

    from shared.messages import SourceRange


@dataclass(frozen=True, slots=True)
class Taken:
    """What to take from one record: rows with raw_offset > `above`; none if `dropped`. And the state after it."""

    above: int
    dropped: bool
    hole: tuple[int, int] | None  # raw offsets, both included, that no record covered
    done: int
    newest_recv_ns: int | None


class Taker:
    """The state `done` of one line, and the newest receive time stored with it (None: nothing stored yet)."""

    def __init__(self, done: int = -1, newest_recv_ns: int | None = None) -> None:
        self.done = done
        self.newest_recv_ns = newest_recv_ns

    def take(
        self, src: SourceRange, *, lost: bool, newest_recv_ns: int | None, repeated_recv_ns: int | None = None
    ) -> Taken:
        """Accept one record, in the order of the norm topic.

        `newest_recv_ns` is of its rows; `repeated_recv_ns`, where it has rows on both sides of `done`, of those up to
        there. None: it has none.
        Raises `FatalError` where the raw topic was re-created under the same stream: rows that are repetition, and yet
        newer than everything they could repeat.
        """
        before = self.done
        dropped = src.last <= before
        known = self.newest_recv_ns
        if dropped:
            repeated_recv_ns = newest_recv_ns
        if known is not None and repeated_recv_ns is not None and repeated_recv_ns > known:
            raise FatalError(
                f"raw offsets {src.first}-{src.last} of {src.topic}/{src.partition} are stored up to {before} already,"
                f" but hold rows received later ({repeated_recv_ns} ns) than all stored ({known} ns):"
                " the raw topic was re-created: set a new stream"
            )
        hole = None
        if not dropped:
            if lost:
                hole = (before + 1, src.last)
            elif src.first > before + 1:
                hole = (before + 1, src.first - 1)
            self.done = src.last
            if newest_recv_ns is not None:
                self.newest_recv_ns = max(newest_recv_ns, known if known is not None else newest_recv_ns)
        return Taken(before, dropped, hole, self.done, self.newest_recv_ns)


def rows_above(batch: pa.RecordBatch, above: int) -> pa.RecordBatch:
    """The rows with raw_offset > `above`, without a copy. The batch is in the order of raw offsets."""
    offsets = bits(batch.column("raw_offset"))
    first = int(np.searchsorted(offsets, above, side="right"))
    return batch.slice(first) if first else batch


def merged(holes: list[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    """Adjacent holes as one. They come in rising order and never overlap."""
    result: list[tuple[int, int]] = []
    for first, last in holes:
        if result and result[-1][1] + 1 == first:
            result[-1] = (result[-1][0], last)
        else:
            result.append((first, last))
    return tuple(result)
