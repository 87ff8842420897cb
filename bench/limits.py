"""What the machine allows on the same bytes and rows, measured in the benchmark's own process: parse, write, copy.

CPU seconds of one run each. Nobody can be faster than these and do the work: a parser that does nothing with what it
parsed, pyarrow's writer with the finished rows of the lake in one table, a copy of the bytes.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import simdjson

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

PARSE, WRITE, COPY = "simdjson, parse only", "pyarrow, write the rows (zstd)", "copy of the bytes"
COPIES = 20  # one is too short to be measured


def measure(values: Sequence[bytes], lake: Path, folder: Path) -> dict[str, float]:
    """CPU seconds of each, on the raw values and on the rows that they became in `lake`."""
    parser = simdjson.Parser()
    joined = np.frombuffer(b"".join(values), np.uint8)
    target = np.empty_like(joined)
    files = [pq.ParquetFile(path).read() for path in sorted(lake.rglob("*.parquet")) if "_claims" not in path.parts]
    rows = pa.concat_tables([table.replace_schema_metadata(None) for table in files]).combine_chunks()

    def parse() -> None:
        for value in values:
            document = parser.parse(value)
            del document

    def copy() -> None:
        for _ in range(COPIES):
            np.copyto(target, joined)

    def write() -> None:
        pq.write_table(rows, folder / "limit.parquet", compression="zstd")

    pa.set_cpu_count(1)
    copy()  # its pages are there from now on
    return {PARSE: _timed(parse), WRITE: _timed(write), COPY: _timed(copy) / COPIES}


def _timed(work: Callable[[], None]) -> float:
    began = time.process_time()
    work()
    return time.process_time() - began
