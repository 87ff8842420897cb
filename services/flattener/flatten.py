"""N raw messages to one Arrow record batch: columns in bulk, no Python object per level.

Every message yields at least one row, in the order given: its levels, bids then asks as the venue ordered them; or one
row without side, price, quantity and level where the book is empty; or one gap row, also for a message that is poison.
Crossed, unsorted and one-sided books are what the exchange said: kept, and counted. Pure; the caller publishes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from services.flattener.message import Message, Snapshot
from shared.errors import PoisonMessage
from shared.lake.schema import NORM_SCHEMAS
from shared.messages import Gap
from shared.venues.levels import LevelParser, Levels, Side

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

SCHEMA = NORM_SCHEMAS["fobs"]

_NO_SIDE = Side(0)
_SIDES = pa.array(["bid", "ask"])
_SIDE_OF_SEGMENT = np.array([0, 1, 0], np.int16)  # bids, asks, the one row of a message without levels
_IS_FILLER = np.array([False, False, True])
_WORD = SCHEMA.field("side").type
_TIME = SCHEMA.field("timestamp").type
# Threads per column cost more than they save on some thousand rows.
_IPC = pa.ipc.IpcWriteOptions(compression="lz4", use_threads=False)


@dataclass(frozen=True, slots=True)
class Quality:
    """How many books of a batch were out of the ordinary; levels of more than 15 significant digits."""

    levels: int = 0
    empty: int = 0
    one_sided: int = 0
    crossed: int = 0  # best bid at or above best ask
    unsorted: int = 0  # a side that is not best first
    repeated: int = 0  # a side that names a price twice in a row
    imprecise: int = 0


@dataclass(frozen=True, slots=True)
class Flattened:
    """One record batch in the schema of norm-fobs, and which of its messages are poison."""

    batch: pa.RecordBatch
    poison: list[tuple[Message, PoisonMessage]]
    quality: Quality


def flatten_fobs(messages: Sequence[Message], parser: LevelParser) -> Flattened:
    """The rows of `messages`, whose order and raw offsets must be those of the topic."""
    sides: list[Side] = []
    for message in messages:
        content = message.content
        sides += (content.bids, content.asks) if isinstance(content, Snapshot) else (_NO_SIDE, _NO_SIDE)
    levels = parser.parse(sides)
    if levels.poison:
        # A good side beside a bad one goes too: half a book would pass for a whole one.
        return flatten_fobs(_with_poison(messages, levels.poison), parser)
    batch = _columns(messages, levels)
    poison = [(message, message.content) for message in messages if isinstance(message.content, PoisonMessage)]
    return Flattened(batch, poison, _quality(messages, levels))


def encode(batch: pa.RecordBatch) -> bytes:
    """The value of a norm record: one Arrow IPC stream, its body lz4."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema, options=_IPC) as writer:
        writer.write_batch(batch)
    return bytes(sink.getvalue())


def _with_poison(messages: Sequence[Message], poison: dict[int, PoisonMessage]) -> list[Message]:
    by_message = {index // 2: error for index, error in sorted(poison.items(), reverse=True)}
    return [replace(m, content=by_message[i]) if i in by_message else m for i, m in enumerate(messages)]


def _columns(messages: Sequence[Message], levels: Levels) -> pa.RecordBatch:
    segments = np.zeros((len(messages), 3), np.int64)
    segments[:, :2] = np.array(levels.counts, np.int64).reshape(-1, 2)
    segments[:, 2] = segments[:, 0] + segments[:, 1] == 0
    rows = _Rows(segments.sum(axis=1))
    flat = segments.ravel()
    filler = np.repeat(np.tile(_IS_FILLER, len(messages)), flat) if segments[:, 2].any() else None
    side = np.repeat(np.tile(_SIDE_OF_SEGMENT, len(messages)), flat)
    level = np.arange(1, rows.total + 1, dtype=np.int32) - np.repeat((np.cumsum(flat) - flat).astype(np.int32), flat)
    contents = [message.content for message in messages]
    snapshots = [content if isinstance(content, Snapshot) else None for content in contents]
    recv_ns = np.array([message.recv_ns for message in messages], np.int64)
    columns = [
        rows.words([message.book.exchange for message in messages]),
        rows.words([message.book.market for message in messages]),
        rows.words([message.book.symbol for message in messages]),
        _array(_TIME, np.repeat(recv_ns // 1000, rows.counts)),
        _array(pa.int64(), np.repeat(recv_ns, rows.counts)),
        rows.integers([None if s is None or s.event_ms is None else s.event_ms * 1000 for s in snapshots], _TIME),
        rows.integers(
            [None if s is None or s.transaction_ms is None else s.transaction_ms * 1000 for s in snapshots], _TIME
        ),
        rows.integers([None if s is None else s.last_update_id for s in snapshots], pa.int64()),
        rows.integers([None if s is None else s.limit for s in snapshots], pa.int32()),
        pa.DictionaryArray.from_arrays(_array(pa.int16(), side, filler), _SIDES, safe=False),
        _array(pa.float64(), _spread(levels.prices, filler), filler),
        _array(pa.float64(), _spread(levels.quantities, filler), filler),
        _array(pa.int32(), level, filler),
        rows.words([_cause(content) for content in contents]),
        rows.integers([_since_us(content) for content in contents], _TIME),
        rows.integers([message.record.partition for message in messages], pa.int32()),
        rows.integers([message.record.offset for message in messages], pa.int64()),
    ]
    return pa.RecordBatch.from_arrays(columns, schema=SCHEMA)


class _Rows:
    """Spreads what is known per message over the message's rows."""

    def __init__(self, counts: NDArray[np.int64]) -> None:
        self.counts = counts
        self.total = int(counts.sum())

    def integers(self, values: Sequence[int | None], type_: pa.DataType) -> pa.Array:
        """A column of whole numbers; `type_` is an integer, or a timestamp in the same unit as `values`."""
        is_null = _nulls(values)
        if is_null is not None and is_null.all():
            return pa.nulls(self.total, type_)
        dtype = np.int32 if type_ == pa.int32() else np.int64
        return self._repeat(type_, np.array([value or 0 for value in values], dtype), is_null)

    def words(self, values: Sequence[str | None]) -> pa.DictionaryArray:
        """A dictionary column."""
        is_null = _nulls(values)
        if is_null is not None and is_null.all():
            return pa.nulls(self.total, _WORD)
        code_of: dict[str | None, int] = {word: code for code, word in enumerate(dict.fromkeys(filter(None, values)))}
        codes = np.array([code_of.get(value, 0) for value in values], np.int16)
        words = pa.array(list(code_of), pa.string())
        return pa.DictionaryArray.from_arrays(self._repeat(pa.int16(), codes, is_null), words, safe=False)

    def _repeat(self, type_: pa.DataType, values: NDArray[Any], is_null: NDArray[np.bool_] | None) -> pa.Array:
        return _array(
            type_, np.repeat(values, self.counts), None if is_null is None else np.repeat(is_null, self.counts)
        )


def _nulls(values: Sequence[Any]) -> NDArray[np.bool_] | None:
    return np.array([value is None for value in values]) if None in values else None


def _array(type_: pa.DataType, values: NDArray[Any], is_null: NDArray[np.bool_] | None = None) -> pa.Array:
    """The column over the memory of `values`: pa.array() looks for pandas first, a fifth of the whole flatten."""
    validity = None if is_null is None else pa.py_buffer(np.packbits(~is_null, bitorder="little"))
    return pa.Array.from_buffers(type_, len(values), [validity, pa.py_buffer(values)])


def _spread(values: NDArray[np.float64], filler: NDArray[np.bool_] | None) -> NDArray[np.float64]:
    if filler is None:
        return values
    spread = np.zeros(len(filler))
    spread[~filler] = values
    return spread


def _cause(content: object) -> str | None:
    if isinstance(content, Gap):
        return content.cause
    return "malformed" if isinstance(content, PoisonMessage) else None


def _since_us(content: object) -> int | None:
    return content.since_ns // 1000 if isinstance(content, Gap) and content.since_ns is not None else None


def _quality(messages: Sequence[Message], levels: Levels) -> Quality:
    empty = one_sided = crossed = unsorted = repeated = 0
    end = 0
    pairs = zip(levels.counts[0::2], levels.counts[1::2], strict=True)
    for message, (bid_count, ask_count) in zip(messages, pairs, strict=True):
        start, end = end, end + bid_count + ask_count
        if not isinstance(message.content, Snapshot):
            continue
        bids, asks = levels.prices[start : start + bid_count], levels.prices[start + bid_count : end]
        if not (bid_count and ask_count):
            empty += not bid_count and not ask_count
            one_sided += bool(bid_count or ask_count)
        for best_first in (bids[::-1], asks):
            if not (best_first[1:] > best_first[:-1]).all():
                unsorted += bool((best_first[1:] < best_first[:-1]).any())
                repeated += bool((best_first[1:] == best_first[:-1]).any())
        crossed += bool(bid_count and ask_count and bids.max() >= asks.min())
    return Quality(len(levels.prices), empty, one_sided, crossed, unsorted, repeated, levels.imprecise)


def total_rows(messages: Iterable[Message]) -> int:
    """How many rows `messages` become at most; fewer only where one turns out to be poison."""
    return sum(message.rows for message in messages)
