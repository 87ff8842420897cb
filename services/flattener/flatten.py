"""N raw messages to one Arrow record batch: columns in bulk, no Python object per level.

Every message yields at least one row, in the order given: its levels, bids then asks as the venue ordered them; or one
row without side, price and quantity where it has no level; or one gap row, also for a message that is poison.
Crossed, unsorted and one-sided books are what the exchange said: kept, and counted. Pure; the caller publishes.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

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

    from services.flattener.columns import Integers
    from shared.messages import Kind, RecordType

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


class _Told(NamedTuple):
    """What messages say, a column each."""

    exchange: Sequence[str]
    market: Sequence[str]
    symbol: Sequence[str]
    recv_ns: Sequence[int]
    conn: Sequence[str | None]
    partition: Sequence[int]
    offset: Sequence[int]
    type: Sequence[RecordType]
    first_id: Sequence[int | None]
    last_id: Sequence[int | None]
    prev_id: Sequence[int | None]
    limit: Sequence[int | None]
    event_ms: Sequence[int | None]
    transaction_ms: Sequence[int | None]
    gap_cause: Sequence[str | None]
    gap_since_us: Sequence[int | None]
    bids: Sequence[Side]
    asks: Sequence[Side]


def _flatten(
    kind: Kind,
    columns_of: Callable[[_Told, Levels], _Columns],
    messages: Sequence[Message],
    parser: LevelParser,
) -> Flattened:
    # One pass over the messages, for all columns: a pass for each costs as much as the reading of their numbers.
    told = _Told(*zip(*map(_tell, messages), strict=True)) if messages else _Told(*[()] * len(_Told._fields))
    levels = parser.parse(list(chain.from_iterable(zip(told.bids, told.asks, strict=True))))
    if levels.poison:
        # A good side beside a bad one goes too: half a message would pass for a whole one.
        return _flatten(kind, columns_of, _with_poison(messages, levels.poison), parser)
    columns, schema = columns_of(told, levels), NORM_SCHEMAS[kind]
    batch = pa.RecordBatch.from_arrays([columns[name] for name in schema.names], schema=schema)
    poison = [(message, message.content) for message in messages if isinstance(message.content, PoisonMessage)]
    return Flattened(batch, poison, Quality.of(told.type, levels))


def _with_poison(messages: Sequence[Message], poison: dict[int, PoisonMessage]) -> list[Message]:
    by_message = {index // 2: error for index, error in sorted(poison.items(), reverse=True)}
    return [m.spoilt(by_message[i]) if i in by_message else m for i, m in enumerate(messages)]


def _tell(message: Message) -> tuple[object, ...]:
    """A row of `_Told`."""
    book, record, content = message.book, message.record, message.content
    if isinstance(content, Update):  # most messages are, and a tuple made of others takes twice as long
        ids = content.ids
        return (
            book.exchange, book.market, book.symbol, message.recv_ns, message.conn, record.partition, record.offset,
            "update", ids.first_id, ids.last_id, ids.prev_id, None, content.event_ms, content.transaction_ms,
            None, None, content.bids, content.asks,
        )  # fmt: skip
    return (
        book.exchange, book.market, book.symbol, message.recv_ns, message.conn, record.partition, record.offset,
        *_tell_other(content),
    )  # fmt: skip


def _tell_other(content: Snapshot | Gap | PoisonMessage) -> tuple[object, ...]:
    """From `type` on."""
    if isinstance(content, Snapshot):
        return (
            "snapshot", None, content.last_update_id, None, content.limit, content.event_ms, content.transaction_ms,
            None, None, content.bids, content.asks,
        )  # fmt: skip
    if isinstance(content, Gap):
        between = content.next_id, None, content.last_id
        since_us = None if content.since_ns is None else content.since_ns // 1000
        return "gap", *between, None, None, None, content.cause, since_us, _NO_SIDE, _NO_SIDE
    return "gap", None, None, None, None, None, None, "malformed", None, _NO_SIDE, _NO_SIDE


def _fobs_columns(told: _Told, levels: Levels) -> _Columns:
    shape = Shape.ranked(levels.counts)
    return _common_columns(told, levels, shape) | {
        "last_update_id": shape.integers(pa.int64(), told.last_id),
        "depth_limit": shape.usual(pa.int32(), told.limit),
        "level": shape.level,
    }


def _fobd_columns(told: _Told, levels: Levels) -> _Columns:
    shape = Shape.of(levels.counts)
    return _common_columns(told, levels, shape) | {
        "type": shape.usual(WORD, told.type),
        "first_update_id": shape.integers(pa.int64(), told.first_id),
        "update_id": shape.integers(pa.int64(), told.last_id),
        "prev_update_id": shape.integers(pa.int64(), told.prev_id),
        "depth_limit": shape.usual(pa.int32(), told.limit),
        "conn": shape.usual(WORD, told.conn),
    }


def _common_columns(told: _Told, levels: Levels, shape: Shape) -> _Columns:
    """What both kinds have."""
    return {
        "exchange": shape.usual(WORD, told.exchange),
        "market": shape.usual(WORD, told.market),
        "symbol": shape.words(told.symbol),
        "timestamp": shape.integers(_TIME, told.recv_ns, _us_of_ns),
        "recv_ns": shape.integers(pa.int64(), told.recv_ns),
        "event_time": shape.integers(_TIME, told.event_ms, _us_of_ms),
        "transaction_time": shape.integers(_TIME, told.transaction_ms, _us_of_ms),
        "side": shape.side,
        "price": shape.floats(levels.prices),
        "quantity": shape.floats(levels.quantities),
        "gap_cause": shape.usual(WORD, told.gap_cause),
        "gap_since": shape.usual(_TIME, told.gap_since_us),
        "raw_partition": shape.usual(pa.int32(), told.partition),
        "raw_offset": shape.integers(pa.int64(), told.offset),
    }


def _us_of_ns(nanoseconds: Integers) -> Integers:
    return nanoseconds // 1000


def _us_of_ms(milliseconds: Integers) -> Integers:
    return milliseconds * 1000
