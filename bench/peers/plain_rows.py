"""The plain way: aiokafka, `json`, a dict a level, pyarrow's own conversion of rows.

plain_rows.py BOOTSTRAP TOPIC GROUP KIND MESSAGES LEVELS FOLDER
"""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq
from consume import batches
from raw import said, shared
from task import Task, told

if TYPE_CHECKING:
    from pathlib import Path

FILE_ROWS = 200_000  # a dict a level: more would only cost memory


async def store(task: Task) -> None:
    rows: list[dict[str, object]] = []
    written = 0
    async for consumer, records in batches(task):
        for record in records:
            inner, bids, asks = said(task.kind, json.loads(record.value))
            common = shared(task.kind, inner, record.headers)
            common |= {"raw_partition": record.partition, "raw_offset": record.offset}
            for side, levels in (("bid", bids), ("ask", asks)):
                for level, (price, quantity) in enumerate(levels, 1):
                    row = common | {"side": side, "price": float(price), "quantity": float(quantity)}
                    rows.append(row | {"level": level} if task.kind == "fobs" else row)
        if len(rows) >= FILE_ROWS:
            written += _write(rows, task.folder / f"{written:012}.parquet")
            await consumer.commit()
    if rows:
        _write(rows, task.folder / f"{written:012}.parquet")


def _write(rows: list[dict[str, object]], path: Path) -> int:
    pq.write_table(pa.Table.from_pylist(rows), path, compression="zstd")
    count = len(rows)
    rows.clear()
    return count


if __name__ == "__main__":
    asyncio.run(store(told()))
