"""pandas, pyarrow, DuckDB and Polars read the tree as a plain hive tree; and docs/reading-the-lake.md tells the truth."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
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
from shared.lake import layout, report
from shared.lake.instruments import store_if_changed
from shared.lake.schema import FILE_SCHEMAS
from shared.lake.store_local import LocalStore
from shared.venues.instruments import Instrument
from tests.lakes import BTC, CHINESE, ETH, HOUR_0, HOUR_1, ODD, FobdRows, Line, fobd_line, gap_row
from tests.support import ROOT

if TYPE_CHECKING:
    from pathlib import Path

PAGE = ROOT / "docs" / "reading-the-lake.md"
SCHEMA = FILE_SCHEMAS["fobs"]
COUNTS = {BTC.symbol: 60, ETH.symbol: 20, CHINESE.symbol: 40, ODD.symbol: 20}
KEYS = {"exchange": pa.string(), "market": pa.string(), "symbol": pa.string()}
TIMES = ("year", "month", "day", "hour")
duck = duckdb.connect()  # a connection of its own: the module's is everybody's


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    """A folder with a lake in it, with all that lies beside the data in a lake that had crashes."""
    home = tmp_path_factory.mktemp("home")
    store = LocalStore(home / "lake")
    line = Line(store)
    line.flush((BTC, HOUR_0), (ETH, HOUR_0), (CHINESE, HOUR_0))
    line.flush((BTC, HOUR_0), (BTC, HOUR_1), (CHINESE, HOUR_1))
    Line(store, partition=1).flush((ODD, HOUR_1))
    (home / "lake" / layout.TEMPORARY_ROOT / "0123").write_bytes(b"half")
    (home / "lake" / layout.PROBE_ROOT).mkdir()
    (home / "lake" / layout.PROBE_ROOT / "4567").write_bytes(b"probe")
    return home


SECOND = 1_000_000_000
WHERE = {"exchange": "binance", "market": "future", "symbol": "BTCUSDT"}


def add_deltas(store: LocalStore, gap_at: int | None = None) -> None:
    """What the page's books are about: an anchor at 2 s, updates each second (repeats, one that straddles), a stop."""
    rows, line = FobdRows(), fobd_line(store)
    rows.update(2, 5, 1, [(100.0, 9.0)], [])
    rows.anchor(10, [(100.0 - n, 1.0 + n) for n in range(8)], [(101.0 + n, 2.0 + n) for n in range(3)], limit=8)
    rows.update(6, 9, 5, [(100.0, 7.0)], [(101.0, 7.0)])
    rows.update(8, 12, 9, [(100.0, 0.0), (99.5, 4.0), (50.0, 1.0)], [(200.0, 0.0)])
    rows.update(0, 0, 0)
    for number in range(12, 60):
        line.write((BTC, rows.take()))
        if rows.recv_ns == gap_at:
            rows.gap("disconnect", last=number)
        rows.update(
            number + 1, number + 1, number, [(90.0 + number % 7, number % 3)], [(101.0 + number % 5, number % 4)]
        )
    rows.gap("stop", since=rows.recv_ns)
    line.write((BTC, rows.take()))


@pytest.fixture(scope="module")
def page(home, tmp_path_factory) -> Path:
    """The same with deltas and instruments beside it: the lake of the page."""
    page = tmp_path_factory.mktemp("page")
    shutil.copytree(home / "lake", page / "lake")
    store = LocalStore(page / "lake")
    add_deltas(store)
    for status, hour in (("TRADING", HOUR_0), ("BREAK", HOUR_1)):
        store_if_changed(store, "binance", "future", [Instrument(symbol="BTCUSDT", status=status)], hour * 1000)
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
        assert rows.groupby("symbol", observed=True).size().to_dict() == COUNTS
    for field in SCHEMA:
        assert rows[field.name].dtype == pd.ArrowDtype(field.type), field
    plain = pd.read_parquet(fobs)
    assert len(plain) == sum(COUNTS.values())
    assert str(plain["timestamp"].dtype) == "datetime64[us, UTC]"
    assert (plain["price"].dtype, plain["recv_ns"].dtype, plain["level"].dtype) == ("float64", "int64", "int32")


def test_pyarrow_reads_the_tree(fobs, root):
    for place in (fobs, root):
        tree = ds.dataset(place, partitioning="hive")
        assert tree.count_rows() == sum(COUNTS.values())
        assert pq.read_table(place).num_rows == sum(COUNTS.values())
    assert tree.schema.names == [*SCHEMA.names, *KEYS, *TIMES]
    assert [tree.schema.field(field.name) for field in SCHEMA] == list(SCHEMA)
    assert {name: tree.schema.field(name).type for name in KEYS} == KEYS
    for symbol, count in COUNTS.items():
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
        assert dict(rows.aggregate("symbol, count(*)").fetchall()) == COUNTS


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
        assert dict(counts.iter_rows()) == COUNTS


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
    assert len(rows["pyarrow"]) == sum(COUNTS.values())
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

SNIPPETS = re.findall(r"^```(.+)\n((?:.*\n)*?)```$", PAGE.read_text(), re.MULTILINE)


def snippets(language: str) -> list[str]:
    return [text for info, text in SNIPPETS if info == language]


def run_python(text: str, folder: Path) -> str:
    ran = subprocess.run(
        [sys.executable, "-W", "error::FutureWarning", "-c", text],
        cwd=folder,
        env={"PYTHONPATH": str(ROOT), "PATH": "", "PYTHONIOENCODING": "utf-8"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def test_every_snippet_is_of_a_language_that_is_run_here():
    assert {info for info, _ in SNIPPETS} == {"python", "sql", "sh", "python untested"}
    assert len(snippets("python untested")) == 1


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
    (text,) = (text for text in snippets("sql") if "level <= 5" in text)
    levels = duck.sql(text).fetchall()
    assert [(side, level) for side, level, _, _ in levels] == [("ask", 1), ("ask", 2), ("bid", 1), ("bid", 2)]


@pytest.mark.parametrize("gap_at", [None, HOUR_0 * 1000 + 20 * SECOND], ids=["whole", "gap"])
@pytest.mark.parametrize("engine", ["DuckDB", "Polars"])
def test_the_recipe_of_the_page_gives_the_book_that_we_give(tmp_path, monkeypatch, engine, gap_at):
    add_deltas(LocalStore(tmp_path / "lake"), gap_at)
    monkeypatch.chdir(tmp_path)
    if engine == "DuckDB":
        (text,) = (text for text in snippets("sql") if "WITH rows" in text)
        levels = duck.sql(text).fetchall()
    else:
        (text,) = (text for text in snippets("python") if "scan_parquet" in text and "book" in text)
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
    (text,) = (text for text in snippets("sql") if "instruments" in text)
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
