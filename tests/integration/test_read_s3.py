"""pyarrow, Polars, pandas and DuckDB read the tree from a real S3 store, as docs/reading-the-lake.md says."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from cryptoflow import lake
from shared.lake.store import open_url
from tests.lake_page import FOBS_COUNTS, add_snapshots, run_python, snippet

if TYPE_CHECKING:
    from tests.containers import S3

pytestmark = [pytest.mark.docker, pytest.mark.xdist_group("reading from s3")]

URL = "s3://lake/prod"  # the page's
AS_DICT = {
    "pyarrow": "{row['symbol']: row['count_all'] for row in counts.to_pylist()}",
    "polars": "dict(counts.iter_rows())",
    "pandas": "{symbol: int(count) for symbol, count in counts.items()}",
    "duckdb": "dict(counts.fetchall())",
}


@pytest.fixture(scope="module")
def bucket(_s3_server: S3) -> S3:
    """The store, with the page's lake in it."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in _s3_server.environ.items():
            patch.setenv(name, value)
        add_snapshots(open_url(URL))
    return _s3_server


@pytest.mark.parametrize("engine", AS_DICT)
def test_the_pages_snippet_reads_every_symbol_from_the_bucket(bucket, tmp_path, engine):
    text = snippet("python s3", f"import {engine}")
    printed = run_python(f"{text}\nimport json; print(json.dumps({AS_DICT[engine]}))", tmp_path, bucket.environ)
    assert json.loads(printed.splitlines()[-1]) == FOBS_COUNTS


def test_the_lake_in_the_bucket_verifies(bucket, monkeypatch):
    for name, value in bucket.environ.items():
        monkeypatch.setenv(name, value)
    assert lake.verify(URL).ok
