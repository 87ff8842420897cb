"""Spark reads the tree as a plain hive tree, the same rows as pyarrow; its snippets in docs/reading-the-lake.md run.

PySpark is half a gigabyte, so only `make test-spark` installs it: without it these tests are skipped.
"""

from __future__ import annotations

import re
import shutil
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.dataset as ds
import pytest

from cryptoflow import lake
from shared.lake.schema import FILE_SCHEMAS
from shared.lake.store_local import LocalStore
from tests.lake_page import FOBS_COUNTS, add_deltas, add_instruments, add_rests, add_snapshots, snippet, snippets
from tests.lakes import BTC, CHINESE, HOUR_0
from tests.support import unavailable

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

if find_spec("pyspark") is None:
    pytest.skip("PySpark is missing: make test-spark", allow_module_level=True)

pytestmark = [
    pytest.mark.xdist_group("spark"),
    # Ours are read without pandas.
    pytest.mark.filterwarnings("ignore:PySpark does not yet fully support pandas:FutureWarning"),
]

SECOND = 1_000_000_000
INTEGERS = dict.fromkeys(("year", "month", "day", "hour"), "int")
SPARK_TYPES = {
    pa.timestamp("us", tz="UTC"): "timestamp",
    pa.int64(): "bigint",
    pa.int32(): "int",
    pa.float64(): "double",
    pa.string(): "string",
}


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    """A folder with the page's lake in it."""
    home = tmp_path_factory.mktemp("home")
    store = LocalStore(home / "lake")
    add_snapshots(store)
    add_rests(home / "lake")
    add_deltas(store)
    add_instruments(store)
    return home


@pytest.fixture(scope="module")
def spark(home) -> Iterator[Any]:
    """Spark on this machine, in that folder: the page's relative paths are the JVM's."""
    if shutil.which("java") is None:
        unavailable("Java 17 (for Spark)")
    from pyspark.sql import SparkSession  # noqa: PLC0415 - where it is installed

    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(home)
        patch.setenv("SPARK_LOCAL_IP", "127.0.0.1")
        session = (
            SparkSession.builder.master("local[2]")
            .config("spark.ui.enabled", "false")
            .config("spark.sql.shuffle.partitions", "2")
            .config("spark.sql.session.timeZone", "UTC")
            .getOrCreate()
        )
        yield session
        session.stop()


@pytest.mark.parametrize("kind", ["fobs", "fobd"])
def test_spark_finds_the_schema_and_the_keys(spark, kind):
    found = dict(spark.read.parquet(f"lake/{kind}").dtypes)
    ours = {field.name: SPARK_TYPES[field.type] for field in FILE_SCHEMAS[kind]}
    assert found == {**ours, "exchange": "string", "market": "string", "symbol": "string", **INTEGERS}


@pytest.mark.parametrize("kind", ["fobs", "fobd"])
def test_spark_reads_what_pyarrow_reads(spark, home, kind):
    names = ["market", *FILE_SCHEMAS[kind].names, "year", "month", "day", "hour"]
    by_spark = spark.read.parquet(f"lake/{kind}").select(*names).toArrow()
    by_pyarrow = ds.dataset(home / "lake" / kind, partitioning="hive").to_table(columns=names)
    assert by_pyarrow.num_rows
    assert by_spark.schema.field("timestamp").type == pa.timestamp("us", tz="UTC")
    assert in_order(by_spark) == in_order(by_pyarrow)


def test_two_kinds_are_not_one_table_to_spark(spark):
    from pyspark.errors import PySparkException  # noqa: PLC0415 - where it is installed

    with pytest.raises(PySparkException, match="CONFLICTING_DIRECTORY_STRUCTURES"):
        spark.read.parquet("lake")


def test_the_claims_beside_a_kind_are_no_rows_of_it(spark, home):
    shutil.copytree(home / "lake" / "fobs", home / "alone" / "fobs")
    shutil.copytree(home / "lake" / "_claims", home / "alone" / "_claims")
    assert spark.read.parquet("alone").count() == sum(FOBS_COUNTS.values())


@pytest.mark.parametrize("text", snippets("python spark"), ids=range(len(snippets("python spark"))))
def test_snippets_of_the_page_run(spark, text, capsys):
    exec(text, {})
    assert capsys.readouterr().out.strip()


def test_the_pages_way_back_to_symbols_that_are_not_ascii(spark):
    names: dict[str, Any] = {}
    exec(snippet("python spark", "ISO-8859-1"), names)
    counts = {row["name"]: row["count"] for row in names["fobs"].groupBy("name").count().collect()}
    assert counts == FOBS_COUNTS
    assert CHINESE.symbol not in {row["symbol"] for row in names["fobs"].select("symbol").distinct().collect()}


def test_the_page_reads_a_part_with_its_keys(spark):
    names: dict[str, Any] = {}
    exec(snippet("python spark", "basePath"), names)
    assert {row["symbol"] for row in names["fobs"].select("symbol").collect()} == {BTC.symbol}
    assert names["fobs"].count() == FOBS_COUNTS[BTC.symbol]


@pytest.mark.parametrize("gap_at", [None, HOUR_0 * 1000 + 20 * SECOND], ids=["whole", "gap"])
def test_the_recipe_of_the_page_gives_the_book_that_we_give(spark, tmp_path, gap_at):
    add_deltas(LocalStore(tmp_path / "lake"), gap_at)
    exec(snippet("python spark", "pathGlobFilter").replace("lake/fobd", f"{tmp_path}/lake/fobd"), {})
    recipe, changed = re.subn(r"FROM read_parquet\(.*\)", "FROM fobd", snippet("sql", "WITH rows"))
    assert changed == 1
    levels = [tuple(row) for row in spark.sql(recipe).collect()]
    book = lake.book(
        f"{tmp_path}/lake", exchange="binance", market="future", symbol="BTCUSDT", at="2026-09-21T14:00:30Z"
    )
    assert bool(book.gaps) == (gap_at is not None)
    ours = [("bid", *level) for level in zip(book.bids.price, book.bids.quantity, strict=True)]
    theirs = [("ask", *level) for level in zip(book.asks.price, book.asks.quantity, strict=True)]
    assert levels == [*theirs, *ours]


def in_order(table: pa.Table) -> list[dict[str, Any]]:
    def place(row: dict[str, Any]) -> tuple[Any, ...]:
        return row["raw_partition"], row["raw_offset"], row["side"] or "", row["price"] or 0.0

    return sorted(table.to_pylist(), key=place)
