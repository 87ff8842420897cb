"""N raw messages to one Arrow record batch: columns in bulk, no Python object per level.

Every message yields at least one row, in the order given: its levels, bids then asks as the venue ordered them; or one
row without side, price and quantity where it has no level; or one gap row, also for a message that is poison.
Crossed, unsorted and one-sided books are what the exchange said: kept, and counted. Pure; the caller publishes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeAlias

import pyarrow as pa

from services.flattener.columns import WORD, Shape
from services.flattener.message import Message, Snapshot, Update
from services.flattener.quality import Quality
from shared.errors import PoisonMessage
from shared.lake.schema import NORM_SCHEMAS
from shared.messages import Gap
from shared.venues.levels import LevelParser, Levels, Side

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from services.flattener.message import Content
    from shared.messages import Kind

_Columns: TypeAlias = "dict[str, pa.Array]"

_NO_SIDE = Side(0)
_TIME = NORM_SCHEMAS["fobs"].field("timestamp").type
# Threads per column cost more than they save on some thousand rows.
_IPC = pa.ipc.IpcWriteOptions(compression="lz4", use_threads=False)


@dataclass(frozen=True, slots=True)
class Flattened:
    """One record batch in the schema of the norm topic of its kind, and which of its messages are poison."""

    batch: pa.RecordBatch
    poison: list[tuple[Message, PoisonMessage]]
    quality: Quality


def flatten_fobs(messages: Sequence[Message], parser: LevelParser) -> Flattened:
    """The rows of messages of raw-fobs, whose order and raw offsets must be those of the topic."""
    return _flatten("fobs", _fobs_columns, messages, parser)


def flatten_fobd(messages: Sequence[Message], parser: LevelParser) -> Flattened:
    """The rows of messages of raw-fobd, likewise: updates (quantity 0 where a level is removed), anchors and gaps."""
    return _flatten("fobd", _fobd_columns, messages, parser)


def encode(batch: pa.RecordBatch) -> bytes:
    """The value of a norm record: one Arrow IPC stream, its body lz4."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema, options=_IPC) as writer:
        writer.write_batch(batch)
    return bytes(sink.getvalue())


def _flatten(
    kind: Kind,
    columns_of: Callable[[Sequence[Message], Levels], _Columns],
    messages: Sequence[Message],
    parser: LevelParser,
) -> Flattened:
    sides: list[Side] = []
    for message in messages:
        content = message.content
        sides += (content.bids, content.asks) if isinstance(content, Snapshot | Update) else (_NO_SIDE, _NO_SIDE)
    levels = parser.parse(sides)
    if levels.poison:
        # A good side beside a bad one goes too: half a message would pass for a whole one.
        return _flatten(kind, columns_of, _with_poison(messages, levels.poison), parser)
    columns, schema = columns_of(messages, levels), NORM_SCHEMAS[kind]
    batch = pa.RecordBatch.from_arrays([columns[name] for name in schema.names], schema=schema)
    poison = [(message, message.content) for message in messages if isinstance(message.content, PoisonMessage)]
    return Flattened(batch, poison, Quality.of(messages, levels))


def _with_poison(messages: Sequence[Message], poison: dict[int, PoisonMessage]) -> list[Message]:
    by_message = {index // 2: error for index, error in sorted(poison.items(), reverse=True)}
    return [replace(m, content=by_message[i]) if i in by_message else m for i, m in enumerate(messages)]


def _fobs_columns(messages: Sequence[Message], levels: Levels) -> _Columns:
    shape = Shape.ranked(levels.counts)
    books = [message.content if isinstance(message.content, Snapshot) else None for message in messages]
    return _common_columns(messages, levels, shape) | {
        "last_update_id": shape.integers(pa.int64(), [None if b is None else b.last_update_id for b in books]),
        "depth_limit": shape.usual(pa.int32(), [None if b is None else b.limit for b in books]),
        "level": shape.level,
    }


def _fobd_columns(messages: Sequence[Message], levels: Levels) -> _Columns:
    shape = Shape.of(levels.counts)
    told = [_type_and_ids(message.content) for message in messages]
    types, firsts, ids, previous, limits = zip(*told, strict=True) if told else [()] * 5
    return _common_columns(messages, levels, shape) | {
        "type": shape.usual(WORD, types),
        "first_update_id": shape.integers(pa.int64(), firsts),
        "update_id": shape.integers(pa.int64(), ids),
        "prev_update_id": shape.integers(pa.int64(), previous),
        "depth_limit": shape.usual(pa.int32(), limits),
        "conn": shape.words([message.conn for message in messages]),
    }


def _type_and_ids(content: Content) -> tuple[str, int | None, int | None, int | None, int | None]:
    """``type``, ``first_update_id``, ``update_id``, ``prev_update_id`` and ``depth_limit``."""
    if isinstance(content, Update):
        ids = content.ids
        return "update", ids.first_id, ids.last_id, ids.prev_id, None
    if isinstance(content, Snapshot):
        return "snapshot", None, content.last_update_id, None, content.limit
    if isinstance(content, Gap):
        return "gap", content.next_id, None, content.last_id, None
    return "gap", None, None, None, None


def _common_columns(messages: Sequence[Message], levels: Levels, shape: Shape) -> _Columns:
    """What both kinds have."""
    contents = [message.content for message in messages]
    timed = [content if isinstance(content, Snapshot | Update) else None for content in contents]
    return {
        "exchange": shape.usual(WORD, [message.book.exchange for message in messages]),
        "market": shape.usual(WORD, [message.book.market for message in messages]),
        "symbol": shape.words([message.book.symbol for message in messages]),
        "timestamp": shape.integers(_TIME, [message.recv_ns // 1000 for message in messages]),
        "recv_ns": shape.integers(pa.int64(), [message.recv_ns for message in messages]),
        "event_time": shape.integers(_TIME, [None if c is None else _us(c.event_ms) for c in timed]),
        "transaction_time": shape.integers(_TIME, [None if c is None else _us(c.transaction_ms) for c in timed]),
        "side": shape.side,
        "price": shape.floats(levels.prices),
        "quantity": shape.floats(levels.quantities),
        "gap_cause": shape.usual(WORD, [_cause(content) for content in contents]),
        "gap_since": shape.usual(_TIME, [_since_us(content) for content in contents]),
        "raw_partition": shape.usual(pa.int32(), [message.record.partition for message in messages]),
        "raw_offset": shape.integers(pa.int64(), [message.record.offset for message in messages]),
    }


def _us(milliseconds: int | None) -> int | None:
    return None if milliseconds is None else milliseconds * 1000


def _cause(content: object) -> str | None:
    if isinstance(content, Gap):
        return content.cause
    return "malformed" if isinstance(content, PoisonMessage) else None


def _since_us(content: object) -> int | None:
    return content.since_ns // 1000 if isinstance(content, Gap) and content.since_ns is not None else None
