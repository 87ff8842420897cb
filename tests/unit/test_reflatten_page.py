"""docs/reflatten.md: its query reads each row once, the wrong ones from the new lake; its commands exist as they stand."""

from __future__ import annotations

import re
from datetime import UTC, datetime

import duckdb
import pytest
from msgspec.structs import replace
from typer.testing import CliRunner

from cryptoflow.lake_cli import app
from cryptoflow.reflatten import reflatten
from cryptoflow.reflatten_range import Wanted
from shared.lake.store_local import LocalStore
from tests.raw_lakes import BEGIN_NS, HOUR_NS, RawLake, Source, raw_records
from tests.support import ROOT

PAGE = (ROOT / "docs" / "reflatten.md").read_text()


def minute(number: int) -> str:
    return f"{datetime.fromtimestamp(BEGIN_NS / 1e9 + 60 * number, UTC):%Y-%m-%d %H:%M:%S+00}"


def test_the_pages_query_takes_each_row_once_and_those_of_the_span_from_the_new_lake(tmp_path):
    wrong, records = LocalStore(tmp_path / "lake"), raw_records(0, 199)
    RawLake(wrong).flush_all(
        [replace(record, value=record.value.replace(b'"2"]', b'"2.5"]')) for record in records], 40
    )
    # Wrong from minute 50 on, as far as minute 130: the claims that hold these are made again.
    wanted = Wanted(("fobs",), start_ns=BEGIN_NS + 50 * HOUR_NS // 60, end_ns=BEGIN_NS + 130 * HOUR_NS // 60)
    reflatten(wrong, LocalStore(tmp_path / "lake-2"), Source({("fobs", 0): records}), wanted)
    query = re.search(r"```sql\n(.*?)```", PAGE, re.DOTALL)[1]
    query = query.replace("s3://order-books/", f"{tmp_path}/")
    query = query.replace("2026-11-20 00:00:00+00", minute(50)).replace("2026-11-25 10:00:00+00", minute(130))
    with duckdb.connect() as db:
        rows = db.execute(f"SELECT raw_offset, quantity FROM ({query}) WHERE side = 'bid'").fetchall()
        old = db.execute(f"SELECT raw_offset FROM read_parquet('{tmp_path}/lake/**/*.parquet') WHERE side = 'bid'")
        assert sorted(offset for offset, _ in rows) == sorted(offset for (offset,) in old.fetchall())
    assert {offset for offset, quantity in rows if quantity == 2.0} == {
        offset for offset, _ in rows if 50 <= offset < 130
    }


@pytest.mark.parametrize("line", re.findall(r"^cryptoflow lake (.*)$", PAGE, re.MULTILINE))
def test_the_pages_commands_are_taken(line, tmp_path, monkeypatch):
    """As far as the command line goes: the lake is an empty folder here."""
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, line.replace("s3://order-books/", "./").split())
    assert done.exit_code == 2
    assert "Usage" not in done.stderr, done.stderr


@pytest.mark.parametrize("option", sorted(set(re.findall(r"`(--[a-z-]+)", PAGE))))
def test_the_page_names_no_option_that_does_not_exist(option):
    helps = [CliRunner().invoke(app, [command, "--help"]).stdout for command in ("reflatten", "verify", "book")]
    assert any(option in text for text in helps)
