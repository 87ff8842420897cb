"""pandas, pyarrow, DuckDB and Polars read the updates as a plain hive tree, and all read the same of it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import duckdb
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.dataset as ds
import pytest

from services.s3writer.files import build
from services.s3writer.flush import take
from services.s3writer.take import Taker
from shared.kafka import Record
from shared.lake.schema import FILE_SCHEMAS
from shared.lake.store_local import LocalStore
from shared.messages import Book
from tests import norm_records
from tests.claim_logs import LOG
from tests.norm_records import BTC, HOUR_NS, NOON_NS

if TYPE_CHECKING:
    from pathlib import Path

CHINESE = Book("binance", "future", "币安人生USDT")
SPOT = Book("binance", "spot", "BTCUSDT")
BOOKS = (BTC, CHINESE, SPOT)
MESSAGES, LEVELS = 30, 2
SCHEMA = FILE_SCHEMAS["fobd"]
COLUMNS = ["market", "symbol", *SCHEMA.names]
duck = duckdb.connect()  # a connection of its own: the module's is everybody's


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    """A lake of two flushes, files as the s3writer makes them: updates, anchors and a gap, over two hours."""
    home = tmp_path_factory.mktemp("updates")
    store = LocalStore(home / "lake")
    log, taker = replace(LOG, kind="fobd", topic="norm-fobd"), Taker()
    for number in range(2):
        first = number * (MESSAGES + 1)
        messages = [(raw, BOOKS[raw % len(BOOKS)], _time(raw)) for raw in range(first, first + MESSAGES)]
        gap = norm_records.gap(first + MESSAGES, BTC, _time(first + MESSAGES))
        batch = norm_records.joined([norm_records.rows(messages, kind="fobd", levels=LEVELS), gap])
        headers = norm_records.headers(first, first + MESSAGES, topic="raw-fobd")
        record = Record("norm-fobd", 0, number, 0, None, norm_records.value(batch), tuple(headers))
        built = build(log, number, number, [take(log, record, taker)], compression="zstd")
        for made in built.objects:
            assert store.create(made.entry.path, made.body)
    return home


def _time(raw: int) -> int:
    return NOON_NS + raw * HOUR_NS // 50


@pytest.fixture
def fobd(home) -> str:
    return str(home / "lake" / "fobd")


def rows_of(fobd: str) -> dict[str, list[dict]]:
    """All rows, the same order everywhere, by engine."""
    by_pandas = pd.read_parquet(fobd, dtype_backend="pyarrow")[COLUMNS].astype({"market": str, "symbol": str})
    read = {
        "pyarrow": ds.dataset(fobd, partitioning="hive").to_table(columns=COLUMNS),
        "polars": pl.scan_parquet(fobd, hive_partitioning=True).select(COLUMNS).collect().to_arrow(),
        "duckdb": duck.sql(f"SELECT {', '.join(COLUMNS)} FROM '{fobd}/**/*.parquet'").to_arrow_table(),
        "pandas": pa.Table.from_pandas(by_pandas, preserve_index=False),
    }

    def order(row: dict) -> tuple:
        return row["raw_offset"], row["side"] or "", row["price"] or 0.0

    return {name: sorted(table.to_pylist(), key=order) for name, table in read.items()}


@pytest.mark.parametrize("engine", ["polars", "duckdb", "pandas"])
def test_an_engine_reads_what_pyarrow_reads(fobd, engine):
    rows = rows_of(fobd)
    assert len(rows["pyarrow"]) == 2 * (MESSAGES * 2 * LEVELS + 1)
    assert rows[engine] == rows["pyarrow"]


def test_the_types_are_those_of_the_schema(fobd):
    assert ds.dataset(fobd, partitioning="hive").schema.field("type").type == pa.string()
    whole = pd.read_parquet(fobd, dtype_backend="pyarrow")
    assert {field.name: whole[field.name].dtype for field in SCHEMA} == {
        field.name: pd.ArrowDtype(field.type) for field in SCHEMA
    }
    plain = pd.read_parquet(fobd)
    assert (plain["price"].dtype, str(plain["timestamp"].dtype)) == ("float64", "datetime64[us, UTC]")
    found = dict(duck.sql(f"SELECT column_name, column_type FROM (DESCRIBE FROM '{fobd}/**/*.parquet')").fetchall())
    assert (found["type"], found["update_id"], found["prev_update_id"]) == ("VARCHAR", "BIGINT", "BIGINT")
    assert pl.scan_parquet(fobd).collect_schema()["prev_update_id"] == pl.Int64()


def test_one_books_updates_are_read_by_its_path_alone_in_their_order(fobd):
    query = f"SELECT * FROM '{fobd}/**/*.parquet' WHERE market = 'spot' ORDER BY raw_offset"
    rows = duck.sql(query).to_arrow_table()
    assert set(rows.column("symbol").to_pylist()) == {SPOT.symbol}
    updates = rows.filter(pa.compute.equal(rows.column("type"), "update"))
    ids = list(dict.fromkeys(updates.column("update_id").to_pylist()))
    assert ids == sorted(ids)
    assert 0.0 in updates.column("quantity").to_pylist()


def test_a_gap_reads_as_its_ids_and_nulls(fobd):
    (first, _) = pl.scan_parquet(fobd).filter(pl.col("type") == "gap").sort("raw_offset").collect().to_dicts()
    assert (first["gap_cause"], first["prev_update_id"], first["first_update_id"]) == (
        "disconnect", 10**12 + MESSAGES * 10 - 20, 10**12 + MESSAGES * 10,
    )  # fmt: skip
    assert [first[name] for name in ("side", "price", "quantity", "update_id", "depth_limit")] == [None] * 5
