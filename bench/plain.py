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

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def flatten_plainly(records: Sequence[Record]) -> pa.RecordBatch:
    """The same rows as `services.flattener`, for books that are in order."""
    rows: list[dict[str, Any]] = []
    for record in records:
        headers = RawHeaders.decode(record.headers)
        book = json.loads(record.value)
        shared = {
            "exchange": headers.exchange,
            "market": headers.market,
            "symbol": headers.symbol,
            "timestamp": EPOCH + timedelta(microseconds=headers.recv_ns // 1000),
            "recv_ns": headers.recv_ns,
            "event_time": _time(book.get("E")),
            "transaction_time": _time(book.get("T")),
            "last_update_id": book["lastUpdateId"],
            "depth_limit": headers.limit,
            "raw_partition": record.partition,
            "raw_offset": record.offset,
        }
        for side, name in (("bid", "bids"), ("ask", "asks")):
            for level, (price, quantity) in enumerate(book[name], 1):
                rows.append(shared | {"side": side, "price": float(price), "quantity": float(quantity), "level": level})
    return pa.RecordBatch.from_pylist(rows, schema=NORM_SCHEMAS["fobs"])


def _time(milliseconds: int | None) -> datetime | None:
    return None if milliseconds is None else EPOCH + timedelta(milliseconds=milliseconds)
