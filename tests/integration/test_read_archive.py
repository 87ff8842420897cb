"""docs/raw-archive.md tells the truth, and the archive is a plain hive tree to every reader."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

import duckdb
import pandas as pd
import polars as pl
import pyarrow.dataset as ds
import pytest
import yaml
from msgspec import structs

from shared.lake.schema import ARCHIVE_SCHEMA, FILE_SCHEMAS
from shared.lake.store_local import LocalStore
from tests.lake_page import add_deltas, run_python
from tests.lakes import BTC, HOUR_0
from tests.raw_records import LOG, flush, record
from tests.support import ROOT

if TYPE_CHECKING:
    from pathlib import Path

PAGE = (ROOT / "docs" / "raw-archive.md").read_text()
SNIPPETS = re.findall(r"^```(.+)\n((?:.*\n)*?)```$", PAGE, re.MULTILINE)
VALUES = [b'{"u":%d}' % offset for offset in range(40)]


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    """A lake of updates and their archive; one of the records cannot be read."""
    home = tmp_path_factory.mktemp("home")
    store = LocalStore(home / "lake")
    add_deltas(store)
    log = replace(LOG, partition=0)
    records = [
        record(offset, BTC, value=value, log=log, recv_ns=HOUR_0 * 1000 + offset) for offset, value in enumerate(VALUES)
    ]
    records[-1] = structs.replace(records[-1], headers=(("v", b"2"),))
    flush(store, records, log=log)
    return home


def snippet(part: str) -> str:
    (text,) = (text for language, text in SNIPPETS if language == "python" and part in text)
    return text


def test_every_snippet_is_run():
    assert sorted(language for language, _ in SNIPPETS) == ["python", "python", "yaml"]
    (setting,) = (text for language, text in SNIPPETS if language == "yaml")
    assert yaml.safe_load(setting) == {"storage": {"s3": {"archive_raw": True}}}


def test_a_row_leads_to_the_bytes_it_came_from(home):
    printed = run_python(snippet("JOIN"), home)
    for offset in range(3):
        assert f'{{"u":{offset}}}' in printed
    assert "snapshot" in printed


def test_values_are_read_in_slices(home):
    assert int(run_python(snippet("to_batches"), home)) == sum(map(len, VALUES))


def test_the_columns_are_those_of_the_page():
    table = PAGE.partition("| column | |")[2].partition("\n\n")[0]
    told = [
        name
        for line in table.splitlines()
        for name in re.findall(r"`(\w+)`", line.split("|")[1] if "|" in line else "")
    ]
    assert set(told) == set(ARCHIVE_SCHEMA.names)


def test_every_reader_reads_the_tree(home):
    place = str(home / "lake" / "raw-fobd")
    assert list(ds.dataset(place, partitioning="hive").schema)[: len(ARCHIVE_SCHEMA)] == list(ARCHIVE_SCHEMA)
    plain = pd.read_parquet(place).sort_values("raw_offset")
    assert plain["value"].tolist() == VALUES
    rows = duckdb.connect().sql(f"FROM read_parquet('{place}/**/*.parquet') ORDER BY raw_offset")
    assert [row[0] for row in rows.select("value").fetchall()] == VALUES
    assert rows.select("symbol, type").fetchall()[-1] == ("BTCUSDT", "unknown")
    lazy = pl.scan_parquet(place, hive_partitioning=True).sort("raw_offset").collect()
    assert lazy["value"].to_list() == VALUES
    assert lazy["headers"].to_list()[-1] == [{"name": "v", "value": b"2"}]


def test_reading_the_rows_does_not_see_it(home):
    assert ds.dataset(str(home / "lake" / "fobd"), partitioning="hive").schema.names[: len(FILE_SCHEMAS["fobd"])] == (
        FILE_SCHEMAS["fobd"].names
    )
