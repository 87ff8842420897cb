"""pandas, pyarrow, DuckDB and Polars read the tree as a plain hive tree; and docs/reading-the-lake.md tells the truth."""

from __future__ import annotations

import json
import re
import shutil
from datetime import UTC, datetime
from typing import TYPE_CHECKING, get_args

import duckdb
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from cryptoflow import lake
from cryptoflow.lake_cli import app
from shared.lake import report
from shared.lake.schema import FILE_SCHEMAS
from shared.lake.store_local import LocalStore
from tests.lake_page import (
    FOBS_COUNTS,
    PAGE,
    SNIPPETS,
    add_deltas,
    add_instruments,
    add_rests,
    add_snapshots,
    run_python,
    snippet,
    snippets,
)
from tests.lakes import BTC, HOUR_0, HOUR_1, Line, gap_row

if TYPE_CHECKING:
    from pathlib import Path

SCHEMA = FILE_SCHEMAS["fobs"]
KEYS = {"exchange": pa.string(), "market": pa.string(), "symbol": pa.string()}
TIMES = ("year", "month", "day", "hour")
duck = duckdb.connect()  # a connection of its own: the module's is everybody's


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    """A folder with a lake in it, with all that lies beside the data in a lake that had crashes."""
    home = tmp_path_factory.mktemp("home")
    add_snapshots(LocalStore(home / "lake"))
    add_rests(home / "lake")
    return home


SECOND = 1_000_000_000
WHERE = {"exchange": "binance", "market": "future", "symbol": "BTCUSDT"}


@pytest.fixture(scope="module")
def page(home, tmp_path_factory) -> Path:
    """The same with deltas and instruments beside it: the lake of the page."""
    page = tmp_path_factory.mktemp("page")
    shutil.copytree(home / "lake", page / "lake")
    store = LocalStore(page / "lake")
    add_deltas(store)
    add_instruments(store)
    return page


@pytest.fixture
def fobs(home) -> str:
    return str(home / "lake" / "fobs")


@pytest.fixture
def root(home) -> str:
    return str(home / "lake")


def test_pandas_reads_the_tree(fobs, root):
    for place in (fobs, root):
        rows = pd.read_parquet(place, dtype_backend="pyarrow")
        assert rows.groupby("symbol", observed=True).size().to_dict() == FOBS_COUNTS
    for field in SCHEMA:
        assert rows[field.name].dtype == pd.ArrowDtype(field.type), field
    plain = pd.read_parquet(fobs)
    assert len(plain) == sum(FOBS_COUNTS.values())
    assert str(plain["timestamp"].dtype) == "datetime64[us, UTC]"
    assert (plain["price"].dtype, plain["recv_ns"].dtype, plain["level"].dtype) == ("float64", "int64", "int32")


def test_pyarrow_reads_the_tree(fobs, root):
    for place in (fobs, root):
        tree = ds.dataset(place, partitioning="hive")
        assert tree.count_rows() == sum(FOBS_COUNTS.values())
        assert pq.read_table(place).num_rows == sum(FOBS_COUNTS.values())
    assert tree.schema.names == [*SCHEMA.names, *KEYS, *TIMES]
    assert [tree.schema.field(field.name) for field in SCHEMA] == list(SCHEMA)
    assert {name: tree.schema.field(name).type for name in KEYS} == KEYS
    for symbol, count in FOBS_COUNTS.items():
        assert tree.count_rows(filter=ds.field("symbol") == symbol) == count


DUCKDB_TYPES = {
    pa.timestamp("us", tz="UTC"): "TIMESTAMP WITH TIME ZONE",
    pa.int64(): "BIGINT",
    pa.int32(): "INTEGER",
    pa.float64(): "DOUBLE",
    pa.string(): "VARCHAR",
}


@pytest.mark.parametrize("options", ["", ", hive_partitioning = true"], ids=["no option", "hive"])
def test_duckdb_reads_the_tree(fobs, root, options):
    for place in (fobs, root):
        rows = duck.sql(f"FROM read_parquet('{place}/**/*.parquet'{options})")
        types = dict(zip(rows.columns, map(str, rows.types), strict=True))
        assert {field.name: types[field.name] for field in SCHEMA} == {f.name: DUCKDB_TYPES[f.type] for f in SCHEMA}
        assert {name: types[name] for name in KEYS} == dict.fromkeys(KEYS, "VARCHAR")
        assert set(types) == {*SCHEMA.names, *KEYS, *TIMES}
        assert dict(rows.aggregate("symbol, count(*)").fetchall()) == FOBS_COUNTS


POLARS_TYPES = {
    pa.timestamp("us", tz="UTC"): pl.Datetime("us", "UTC"),
    pa.int64(): pl.Int64(),
    pa.int32(): pl.Int32(),
    pa.float64(): pl.Float64(),
    pa.string(): pl.String(),
}


def test_polars_reads_the_tree(fobs, root):
    for place in (fobs, f"{root}/**/*.parquet"):
        rows = pl.scan_parquet(place, hive_partitioning=True)
        schema = rows.collect_schema()
        assert schema.names() == [*SCHEMA.names, *KEYS, *TIMES]
        assert [schema[field.name] for field in SCHEMA] == [POLARS_TYPES[field.type] for field in SCHEMA]
        counts = rows.group_by("symbol").len().collect()
        assert dict(counts.iter_rows()) == FOBS_COUNTS


def test_all_read_the_same_values(fobs):
    columns = ["symbol", *SCHEMA.names]
    query = f"SELECT {', '.join(columns)} FROM '{fobs}/**/*.parquet'"
    by_pandas = pd.read_parquet(fobs, dtype_backend="pyarrow")[columns].astype({"symbol": str})
    read = {
        "pyarrow": ds.dataset(fobs, partitioning="hive").to_table(columns=columns),
        "polars": pl.scan_parquet(fobs, hive_partitioning=True).select(columns).collect().to_arrow(),
        "duckdb": duck.sql(query).to_arrow_table(),
        "pandas": pa.Table.from_pandas(by_pandas, preserve_index=False),
    }
    rows = {
        name: sorted(table.to_pylist(), key=lambda row: (row["symbol"], row["raw_offset"], row["level"], row["side"]))
        for name, table in read.items()
    }
    assert len(rows["pyarrow"]) == sum(FOBS_COUNTS.values())
    assert rows["polars"] == rows["pyarrow"]
    assert rows["duckdb"] == rows["pyarrow"]
    assert rows["pandas"] == rows["pyarrow"]


def test_path_keys_are_the_hour_of_receipt(fobs):
    rows = pl.read_parquet(fobs, hive_partitioning=True)
    told = rows.select(*TIMES).rows()
    real = [(t.year, t.month, t.day, t.hour) for t in rows["timestamp"].to_list()]
    assert told == real
    assert {datetime.fromtimestamp(hour / 1e6, UTC).hour for hour in (HOUR_0, HOUR_1)} == set(rows["hour"].to_list())


def test_a_gap_row_reads_as_nulls_everywhere(tmp_path):
    store = LocalStore(tmp_path / "lake")
    line = Line(store)
    entry, body = line.file(gap_row(raw_offset=3), BTC, HOUR_0, 0, 9)
    store.create(entry.path, body)
    fobs = str(tmp_path / "lake" / "fobs")
    nulls = ["price", "side", "level", "last_update_id", "event_time"]
    (row,) = pl.read_parquet(fobs).to_dicts()
    assert (row["gap_cause"], [row[name] for name in nulls]) == ("poll", [None] * 5)
    assert duck.sql(f"SELECT gap_cause, {', '.join(nulls)} FROM '{fobs}/**/*.parquet'").fetchall() == [
        ("poll", *[None] * 5)
    ]
    assert pd.read_parquet(fobs, dtype_backend="pyarrow")[nulls].isna().all(axis=None)


# The page -----------------------------------------------------------------------------------------------------------


def test_every_snippet_is_of_a_language_that_is_run_here():
    """`python spark` by test_read_spark.py, `python s3` by test_read_s3.py."""
    run = {"python", "sql", "sh", "python spark", "python s3"}
    assert {info for info, _ in SNIPPETS} == {*run, "python untested", "sql untested"}


@pytest.mark.parametrize("text", snippets("python"), ids=range(len(snippets("python"))))
def test_python_of_the_page_runs(page, text):
    assert run_python(text, page).strip()


@pytest.mark.parametrize("text", snippets("sql"), ids=range(len(snippets("sql"))))
def test_sql_of_the_page_runs(page, text, monkeypatch):
    monkeypatch.chdir(page)
    rows = duck.sql(text).to_arrow_table()
    assert rows.num_rows or "gap_cause IS NOT NULL" in text


def test_the_latest_book_of_the_page_is_the_latest(page, monkeypatch):
    monkeypatch.chdir(page)
    text = snippet("sql", "level <= 5")
    levels = duck.sql(text).fetchall()
    assert [(side, level) for side, level, _, _ in levels] == [("ask", 1), ("ask", 2), ("bid", 1), ("bid", 2)]


@pytest.mark.parametrize("gap_at", [None, HOUR_0 * 1000 + 20 * SECOND], ids=["whole", "gap"])
@pytest.mark.parametrize("engine", ["DuckDB", "Polars"])
def test_the_recipe_of_the_page_gives_the_book_that_we_give(tmp_path, monkeypatch, engine, gap_at):
    add_deltas(LocalStore(tmp_path / "lake"), gap_at)
    monkeypatch.chdir(tmp_path)
    if engine == "DuckDB":
        text = snippet("sql", "WITH rows")
        levels = duck.sql(text).fetchall()
    else:
        text = snippet("python", "book = (\n")
        levels = [
            tuple(row)
            for row in json.loads(
                run_python(text + "\nimport json; print(json.dumps(book.rows()))", tmp_path).splitlines()[-1]
            )
        ]
    book = lake.book("lake", **WHERE, at="2026-09-21T14:00:30Z")
    assert bool(book.gaps) == (gap_at is not None)
    assert book.updates == (26 if gap_at is None else 16)
    ours = [("bid", *level) for level in zip(book.bids.price, book.bids.quantity, strict=True)]
    theirs = [("ask", *level) for level in zip(book.asks.price, book.asks.quantity, strict=True)]
    assert levels == [*theirs, *ours]


def test_the_instruments_of_the_page_are_those_that_were_valid(page, monkeypatch):
    monkeypatch.chdir(page)
    text = snippet("sql", "instruments")
    for query, status in ((text, "TRADING"), (text.replace("14:00:30", "15:00:00"), "BREAK")):
        assert [row["status"] for row in duck.sql(query).to_arrow_table().to_pylist()] == [status]


@pytest.mark.parametrize("text", snippets("sh"), ids=range(len(snippets("sh"))))
def test_commands_of_the_page_run(page, text, monkeypatch):
    monkeypatch.chdir(page)
    program, group, *arguments = text.split()
    assert (program, group) == ("cryptoflow", "lake")
    assert CliRunner().invoke(app, arguments).exit_code == 0


def test_every_word_of_the_report_is_on_the_page():
    page = PAGE.read_text()
    tables = page[page.index("| exit code |") : page.index("A loss concerns")]
    firsts = {word for line in tables.splitlines() for word in re.findall(r"`([a-z-]+)`", line.rpartition("|")[0])}
    words = {*get_args(report.ProblemWord), *get_args(report.LossWord), *get_args(report.Verdict)}
    assert words == firsts
