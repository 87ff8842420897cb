"""N raw messages to one Arrow record batch: columns in bulk, no Python object per level.

Every message yields at least one row, in the order given: its levels, bids then asks as the venue ordered them; or one
row without side, price, quantity and level where the book is empty; or one gap row, also for a message that is poison.
Crossed, unsorted and one-sided books are what the exchange said: kept, and counted. Pure; the caller publishes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import pyarrow as pa

from services.flattener.columns import WORD, Shape
from services.flattener.message import Message, Snapshot
from shared.errors import PoisonMessage
from shared.lake.schema import NORM_SCHEMAS
from shared.messages import Gap
from shared.venues.levels import LevelParser, Levels, Side

if TYPE_CHECKING:
    from collections.abc import Sequence

SCHEMA = NORM_SCHEMAS["fobs"]

_NO_SIDE = Side(0)
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
    shape = Shape.of(levels.counts)
    contents = [message.content for message in messages]
    snapshots = [content if isinstance(content, Snapshot) else None for content in contents]
    columns = [
        shape.usual(WORD, [message.book.exchange for message in messages]),
        shape.usual(WORD, [message.book.market for message in messages]),
        shape.words([message.book.symbol for message in messages]),
        shape.integers(_TIME, [message.recv_ns // 1000 for message in messages]),
        shape.integers(pa.int64(), [message.recv_ns for message in messages]),
        shape.integers(_TIME, [None if s is None else _us(s.event_ms) for s in snapshots]),
        shape.integers(_TIME, [None if s is None else _us(s.transaction_ms) for s in snapshots]),
        shape.integers(pa.int64(), [None if s is None else s.last_update_id for s in snapshots]),
        shape.usual(pa.int32(), [None if s is None else s.limit for s in snapshots]),
        shape.side,
        shape.floats(levels.prices),
        shape.floats(levels.quantities),
        shape.level,
        shape.usual(WORD, [_cause(content) for content in contents]),
        shape.usual(_TIME, [_since_us(content) for content in contents]),
        shape.usual(pa.int32(), [message.record.partition for message in messages]),
        shape.integers(pa.int64(), [message.record.offset for message in messages]),
    ]
    return pa.RecordBatch.from_arrays(columns, schema=SCHEMA)


def _us(milliseconds: int | None) -> int | None:
    return None if milliseconds is None else milliseconds * 1000


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
