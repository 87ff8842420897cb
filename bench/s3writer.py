"""The s3writer's work on one core: values of norm records in, closed and fsynced Parquet files in a local folder out.

Beside it, in the same run and interleaved, what pyarrow alone does with the same rows as finished tables: write_table to
files, zstd, no digest, no splitting, no decoding, no fsync, no claim. Medians of CPU time, so that other work on the machine
counts as little as can be; what was written is read back and compared with what went in, each way, once.
`chunked`: the same flush under a memory bound of a quarter of its weight, as the largest flushes are.
Snapshots are of 1000 levels a side; deltas are small updates of 20 books in turn, whose rows have to be brought together.

    python -m bench.s3writer [--json] [--messages 400] [--updates 20000] [--repeats 5]
"""

from __future__ import annotations

import argparse
import gc
import json
import shutil
import statistics
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from bench.payloads import Payloads, generated_updates
from services.flattener.flatten import flatten_fobd
from services.flattener.message import read
from services.s3writer.files import CHUNK_BYTES, build
from services.s3writer.flush import take
from services.s3writer.take import Taker
from shared.kafka import Record
from shared.lake import claim_log, claims, parquet
from shared.lake.claim_log import ClaimLog, Create, CreateAll, Own
from shared.lake.schema import FILE_SCHEMAS, NORM_SCHEMAS, SCHEMA_VERSION
from shared.lake.store_local import LocalStore
from shared.messages import NormHeaders, SourceRange
from shared.service import GC_OBJECTS
from shared.venues.levels import LevelParser

if TYPE_CHECKING:
    from collections.abc import Callable

    from services.s3writer.buffer import NormRecord
    from shared.messages import Kind

LEVELS = 1000
SYMBOLS = 10
MESSAGES_PER_RECORD = 4  # 8,000 rows: the most of 2,000 that fit into processor.batch_size = 8,192
START_NS = 1_790_000_000_000_000_000 // 3_600_000_000_000 * 3_600_000_000_000
UPDATE_SYMBOLS = 20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="one line of JSON instead of text")
    parser.add_argument("--messages", type=int, default=400, help="snapshots of 1000 levels a side (default 400)")
    parser.add_argument("--updates", type=int, default=20_000, help="updates of 20 books (default 20000)")
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    firsts = range(0, arguments.messages, MESSAGES_PER_RECORD)
    snapshots = [_snapshots(first, min(first + MESSAGES_PER_RECORD, arguments.messages)) for first in firsts]
    found = {
        "snapshots": measure("fobs", snapshots, arguments.repeats),
        "deltas": measure("fobd", _updates(arguments.updates), arguments.repeats),
    }
    if arguments.json:
        print(json.dumps(found))
        return
    for part, figures in found.items():
        print(part)
        for name, value in figures.items():
            print(f"  {name:32} {value:>14,}")


def measure(kind: Kind, batches: list[pa.RecordBatch], repeats: int) -> dict[str, Any]:
    """Rows/s of both ways on the same rows, and their ratio."""
    log = ClaimLog(kind=kind, stream="bench", partition=0, topic=f"norm-{kind}", cluster_id="bench")
    records = [_record(kind, offset, batch) for offset, batch in enumerate(batches)]
    tables = _tables(kind, batches)
    rows = sum(table.num_rows for table in tables)
    weight = round(sum(each.rows * each.row_weight for each in _taken(log, records)))
    pa.set_cpu_count(1)
    gc.freeze()
    gc.set_threshold(GC_OBJECTS)  # as the services do
    with tempfile.TemporaryDirectory(prefix="bench-s3writer-") as folder:
        ours: list[float] = []
        theirs: list[float] = []
        digesting: list[float] = []
        chunked: list[float] = []
        for repeat in range(repeats + 1):  # the first one warms up, and is checked
            lake, plain = Path(folder, "lake"), Path(folder, "plain")
            seconds = _timed(_flush, log, records, lake), _timed(_write, tables, plain)
            if repeat:
                ours.append(seconds[0])
                theirs.append(seconds[1])
                digesting.append(_timed(_digest, tables))
                chunked.append(_timed(_flush, log, records, Path(folder, "chunked"), weight // 4))
                shutil.rmtree(Path(folder, "chunked"))
            else:
                _check(tables, lake, plain)
                sizes = [sum(file.stat().st_size for file in root.rglob("*.parquet")) for root in (lake, plain)]
            shutil.rmtree(lake)
            shutil.rmtree(plain)
    mine, pyarrows = statistics.median(ours), statistics.median(theirs)
    return {
        "rows": rows,
        "repeats": repeats,
        "rows_per_second_per_core": round(rows / mine),
        "chunked_rows_per_second_per_core": round(rows / statistics.median(chunked)),
        "pyarrow_write_rows_per_second": round(rows / pyarrows),
        "ratio_to_pyarrow_write": round(pyarrows / mine, 3),
        "digest_share": round(statistics.median(digesting) / mine, 3),
        "bytes_per_row_in": round(sum(len(record.value) for record in records) / rows, 2),
        "bytes_per_row_out": round(sizes[0] / rows, 2),
        "pyarrow_bytes_per_row": round(sizes[1] / rows, 2),
    }


def _flush(log: ClaimLog, records: list[Record], folder: Path, chunk_bytes: int = CHUNK_BYTES) -> None:
    """Everything between the fetch and the commit: take, buffer, decode, split, digest, encode, claim, create."""
    store, taken = LocalStore(folder), _taken(log, records)
    built = build(log, 0, records[-1].offset, taken, compression="zstd", chunk_bytes=chunk_bytes)
    claim = claims.Claim(
        kind=log.kind,
        stream=log.stream,
        partition=0,
        first=0,
        last=records[-1].offset,
        schema_version=SCHEMA_VERSION,
        topic=log.topic,
        files=tuple(made.entry for made in built.objects),
        done_before=-1,
        done_after=taken[-1].taken.done,
        writer="bench",
        last_timestamp_ms=0,
        last_src=str(taken[-1].src),
    )
    steps = log.flush(claim, built.objects)
    answer: object = None
    while True:
        try:
            answer = _answer(store, steps.send(answer))
        except StopIteration:
            return


def _taken(log: ClaimLog, records: list[Record]) -> list[NormRecord]:
    taker = Taker()
    return [take(log, record, taker) for record in records]


def _answer(store: LocalStore, request: claim_log.Request) -> object:
    match request:
        case Own():
            return None
        case Create(path, body):
            return store.create(path, body)
        case CreateAll(objects):
            return tuple(store.create(made.entry.path, made.body) for made in objects)
    raise AssertionError(request)


def _write(tables: list[pa.Table], folder: Path) -> None:
    folder.mkdir()
    for number, table in enumerate(tables):
        pq.write_table(table, folder / f"{number}.parquet", compression="zstd")


def _check(tables: list[pa.Table], lake: Path, plain: Path) -> None:
    """Both ways wrote these rows, in this order. Raises `AssertionError`."""
    for root in (lake, plain):
        files = sorted(root.rglob("*.parquet"), key=lambda path: (len(path.name), str(path)))
        assert len(files) == len(tables)
        for table, file in zip(tables, files, strict=True):
            assert pq.ParquetFile(file).read().replace_schema_metadata(None).equals(table), file


def _tables(kind: Kind, batches: list[pa.RecordBatch]) -> list[pa.Table]:
    """One finished table per symbol, in the order of symbols."""
    whole = pa.Table.from_batches(batches).unify_dictionaries()
    symbols = whole.column("symbol").cast(pa.string())
    return [
        whole.filter(pa.compute.equal(symbols, symbol))
        .drop_columns(["exchange", "market", "symbol"])
        .cast(FILE_SCHEMAS[kind])
        .combine_chunks()
        for symbol in sorted(set(symbols.to_pylist()))
    ]


def _record(kind: Kind, offset: int, batch: pa.RecordBatch) -> Record:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema, options=pa.ipc.IpcWriteOptions(compression="lz4")) as writer:
        writer.write_batch(batch)
    offsets = batch.column("raw_offset")
    src = SourceRange(f"raw-{kind}", 0, offsets[0].as_py(), offsets[-1].as_py())
    headers = tuple(NormHeaders(stream="bench", src=src).encode())
    return Record(f"norm-{kind}", 0, offset, 0, None, sink.getvalue().to_pybytes(), headers)


def _snapshots(first: int, end: int) -> pa.RecordBatch:
    """Messages first..end-1: books of tick-spaced prices with some ticks left out, and log-normal quantities."""
    per, count = 2 * LEVELS, (end - first) * 2 * LEVELS
    offsets = np.repeat(np.arange(first, end), per)
    random = np.random.default_rng(first)
    received = START_NS + offsets * 100_000_000
    steps = random.integers(1, 3, (end - first, 2, LEVELS)).cumsum(axis=2) * np.array([-1, 1])[None, :, None]
    middle = 500_000 + (offsets[::per] % SYMBOLS) * 30_000 + random.integers(-50, 50, end - first)
    values = {
        "exchange": np.repeat("binance", count),
        "market": np.repeat("future", count),
        "symbol": np.array([f"SYM{symbol}USDT" for symbol in range(SYMBOLS)])[offsets % SYMBOLS],
        "timestamp": received // 1000,
        "recv_ns": received,
        "event_time": received // 1_000_000 * 1000,
        "transaction_time": received // 1_000_000 * 1000 - 3000,
        "last_update_id": 5_000_000_000_000 + offsets * 977,
        "depth_limit": np.full(count, LEVELS),
        "side": np.tile(np.repeat(["bid", "ask"], LEVELS), end - first),
        "price": (steps + middle[:, None, None]).reshape(-1) / 10,
        "quantity": np.round(random.lognormal(0, 1.5, count), 3),
        "level": np.tile(np.arange(1, LEVELS + 1), 2 * (end - first)),
        "raw_partition": np.zeros(count, np.int32),
        "raw_offset": offsets,
    }
    schema = NORM_SCHEMAS["fobs"]
    return pa.RecordBatch.from_arrays(
        [_column(field, values.get(field.name), count) for field in schema], schema=schema
    )


def _updates(count: int) -> list[pa.RecordBatch]:
    """What the flattener makes of generated updates, a record after the other."""
    parser = LevelParser()
    raw = Payloads("fobd", "generated", generated_updates(count, UPDATE_SYMBOLS)).batches()
    return [flatten_fobd([read("fobd", record) for record in records], parser).batch for records in raw]


def _column(field: pa.Field, values: Any, count: int) -> pa.Array:
    if values is None:
        return pa.nulls(count, field.type)
    if pa.types.is_dictionary(field.type):
        return pa.array(values, pa.string()).dictionary_encode().cast(field.type)
    return pa.array(values).cast(field.type)


def _digest(tables: list[pa.Table]) -> None:
    for table in tables:
        parquet.digest(table)


def _timed(work: Callable[..., object], *arguments: object) -> float:
    began = time.process_time()
    work(*arguments)
    return time.process_time() - began


if __name__ == "__main__":
    main()
