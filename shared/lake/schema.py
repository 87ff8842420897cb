"""The columns of the lake, and of the norm topics, which carry the same plus the book as dictionary columns.

`FILE_SCHEMAS[kind]` is what a Parquet file holds; exchange, market and symbol are path keys there, never columns
(columns of the same name in file and path break pandas, ``pq.read_table(root)`` and Athena).
The archive of raw records has columns of its own, `ARCHIVE_SCHEMA`: `shared.lake.archive` says what stands in them.
A change of any column is a new `SCHEMA_VERSION`; one file holds one version.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa

from shared.messages import KINDS

if TYPE_CHECKING:
    from shared.lake.kinds import LakeKind
    from shared.messages import Kind

SCHEMA_VERSION = 1

_TIME = pa.timestamp("us", tz="UTC")  # every engine reads microseconds; recv_ns keeps the nanoseconds
_BOOK = pa.dictionary(pa.int16(), pa.string())


def _required(name: str, type_: pa.DataType) -> pa.Field:
    return pa.field(name, type_, nullable=False)


_LEVEL = [pa.field("side", pa.string()), pa.field("price", pa.float64()), pa.field("quantity", pa.float64())]
_GAP = [pa.field("gap_cause", pa.string()), pa.field("gap_since", _TIME)]
_LINEAGE = [_required("raw_partition", pa.int32()), _required("raw_offset", pa.int64())]
_RECEIVED = [_required("timestamp", _TIME), _required("recv_ns", pa.int64())]
_VENUE_TIMES = [pa.field("event_time", _TIME), pa.field("transaction_time", _TIME)]

_HEADER = pa.struct([_required("name", pa.string()), _required("value", pa.binary())])

ARCHIVE_SCHEMA = pa.schema(
    [
        *_RECEIVED,  # Kafka's time where the headers tell none
        _required("kafka_timestamp_ms", pa.int64()),
        _required("type", pa.string()),  # snapshot, update, gap; unknown where the headers tell none
        pa.field("limit", pa.int32()),
        pa.field("conn", pa.string()),
        pa.field("seq", pa.int64()),
        pa.field("sent_ns", pa.int64()),
        pa.field("ip", pa.string()),
        pa.field("key", pa.binary()),
        _required("value", pa.binary()),
        pa.field("headers", pa.list_(pa.field("element", _HEADER))),  # only where the other columns do not tell them
        *_LINEAGE,
    ]
)

FILE_SCHEMAS: dict[LakeKind, pa.Schema] = {
    "raw-fobs": ARCHIVE_SCHEMA,
    "raw-fobd": ARCHIVE_SCHEMA,
    "fobs": pa.schema(
        [
            *_RECEIVED,
            *_VENUE_TIMES,
            pa.field("last_update_id", pa.int64()),
            pa.field("depth_limit", pa.int32()),
            *_LEVEL,
            pa.field("level", pa.int32()),  # 1 = best
            *_GAP,
            *_LINEAGE,
        ]
    ),
    "fobd": pa.schema(
        [
            *_RECEIVED,
            *_VENUE_TIMES,
            _required("type", pa.string()),  # update, snapshot (an anchor) or gap
            pa.field("first_update_id", pa.int64()),
            pa.field("update_id", pa.int64()),
            pa.field("prev_update_id", pa.int64()),
            pa.field("depth_limit", pa.int32()),
            *_LEVEL,  # quantity 0 = level removed
            *_GAP,
            pa.field("conn", pa.string()),
            *_LINEAGE,
        ]
    ),
}

BOOK_FIELDS = [_required("exchange", _BOOK), _required("market", _BOOK), _required("symbol", _BOOK)]


def _norm(schema: pa.Schema) -> pa.Schema:
    """The same columns with strings as dictionaries (small on the wire, quick to split by), plus the book."""
    columns = [
        pa.field(f.name, pa.dictionary(pa.int16(), pa.string()), nullable=f.nullable) if f.type == pa.string() else f
        for f in schema
    ]
    return pa.schema([*BOOK_FIELDS, *columns])


NORM_SCHEMAS: dict[Kind, pa.Schema] = {kind: _norm(FILE_SCHEMAS[kind]) for kind in KINDS}
PACK_SCHEMA = _norm(ARCHIVE_SCHEMA)  # of raw records as the s3writer buffers them
