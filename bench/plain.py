"""The plain way to flatten, to be measured beside ours: `json`, a dict per level, pyarrow's own conversion of rows."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from shared.lake.schema import NORM_SCHEMAS
from shared.messages import RawHeaders

if TYPE_CHECKING:
    from collections.abc import Sequence

    from shared.kafka import Record
    from shared.messages import Kind

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def flatten_plainly(kind: Kind, records: Sequence[Record]) -> pa.RecordBatch:
    """The same rows as `services.flattener`, for books and updates that are in order."""
    rows: list[dict[str, Any]] = []
    for record in records:
        headers = RawHeaders.decode(record.headers)
        said = json.loads(record.value)
        said = said.get("data", said)
        shared = {
            "exchange": headers.exchange,
            "market": headers.market,
            "symbol": headers.symbol,
            "timestamp": EPOCH + timedelta(microseconds=headers.recv_ns // 1000),
            "recv_ns": headers.recv_ns,
            "event_time": _time(said.get("E")),
            "transaction_time": _time(said.get("T")),
            "raw_partition": record.partition,
            "raw_offset": record.offset,
        }
        if kind == "fobs":
            bids, asks = said["bids"], said["asks"]
            shared |= {"last_update_id": said["lastUpdateId"], "depth_limit": headers.limit}
        else:
            bids, asks = said["b"], said["a"]
            ids = {"first_update_id": said["U"], "update_id": said["u"], "prev_update_id": said.get("pu")}
            shared |= {"type": "update", "conn": headers.conn} | ids
        for side, levels in (("bid", bids), ("ask", asks)):
            for level, (price, quantity) in enumerate(levels, 1):
                row = shared | {"side": side, "price": float(price), "quantity": float(quantity)}
                rows.append(row | {"level": level} if kind == "fobs" else row)
    return pa.RecordBatch.from_pylist(rows, schema=NORM_SCHEMAS[kind])


def _time(milliseconds: int | None) -> datetime | None:
    return None if milliseconds is None else EPOCH + timedelta(milliseconds=milliseconds)
