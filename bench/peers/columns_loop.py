"""A loop as one writes it by hand who knows the libraries: aiokafka on uvloop, orjson, the texts of all levels in one list
that Arrow casts, everything else repeated by numpy; no Python object a level but its texts.

    columns_loop.py BOOTSTRAP TOPIC GROUP KIND MESSAGES LEVELS FOLDER
"""

from __future__ import annotations

from itertools import chain
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import uvloop
from consume import batches
from raw import said, shared
from task import Task, told

FILE_ROWS = 1_000_000


class Columns:
    """What is not yet written."""

    def __init__(self) -> None:
        self._common: list[dict[str, Any]] = []
        self._counts: list[tuple[int, int]] = []
        self._texts: list[str] = []

    def add(self, common: dict[str, Any], bids: list[list[str]], asks: list[list[str]]) -> None:
        self._common.append(common)
        self._counts.append((len(bids), len(asks)))
        self._texts.extend(chain.from_iterable(bids))
        self._texts.extend(chain.from_iterable(asks))

    @property
    def rows(self) -> int:
        return len(self._texts) // 2

    def table(self, kind: str) -> pa.Table:
        counts = np.array(self._counts).reshape(-1)
        numbers = pa.array(self._texts, pa.string()).cast(pa.float64()).to_numpy().reshape(-1, 2)
        message = np.repeat(np.arange(len(self._common)), counts.reshape(-1, 2).sum(axis=1))
        common = pa.Table.from_pylist(self._common).take(pa.array(message))
        sides = pa.DictionaryArray.from_arrays(
            np.repeat(np.arange(len(counts), dtype=np.int8) % 2, counts), ["bid", "ask"]
        )
        found = common.append_column("side", sides)
        found = found.append_column("price", pa.array(numbers[:, 0])).append_column("quantity", pa.array(numbers[:, 1]))
        if kind == "fobs":
            starts = np.repeat(counts.cumsum() - counts, counts)
            found = found.append_column("level", pa.array((np.arange(len(starts)) - starts + 1).astype(np.int32)))
        return found


async def store(task: Task) -> None:
    columns, files = Columns(), 0
    async for consumer, records in batches(task):
        for record in records:
            inner, bids, asks = said(task.kind, orjson.loads(record.value))
            where = {"raw_partition": record.partition, "raw_offset": record.offset}
            columns.add(shared(task.kind, inner, record.headers) | where, bids, asks)
        if columns.rows >= FILE_ROWS:
            pq.write_table(columns.table(task.kind), task.folder / f"{files:06}.parquet", compression="zstd")
            columns, files = Columns(), files + 1
            await consumer.commit()
    if columns.rows:
        pq.write_table(columns.table(task.kind), task.folder / f"{files:06}.parquet", compression="zstd")


if __name__ == "__main__":
    uvloop.run(store(told()))
