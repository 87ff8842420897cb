from __future__ import annotations

import io
from dataclasses import replace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from shared.errors import FatalError
from shared.lake import parquet
from shared.lake.parquet import Footer
from shared.lake.schema import FILE_SCHEMAS
from tests.lakes import fobs_rows, gap_row

FOOTER = Footer(
    kind="fobs",
    exchange="binance",
    market="future",
    symbol="币安人生USDT",
    stream="main",
    topic="norm-fobs",
    partition=3,
    first=17,
    last=42,
    rows=40,
    schema_version=1,
    digest="",
)


@pytest.fixture
def rows() -> pa.Table:
    return fobs_rows(10)


@pytest.fixture
def footer(rows) -> Footer:
    return replace(FOOTER, digest=parquet.digest(rows))


@pytest.fixture
def body(rows, footer) -> bytes:
    return parquet.encode(rows, footer)


def test_rows_come_back_as_they_were(rows, body):
    assert parquet.decode(body, "fobs").equals(rows)


def test_all_that_a_gap_row_leaves_null_comes_back_null():
    gap = gap_row()
    body = parquet.encode(gap, replace(FOOTER, rows=1))
    assert parquet.decode(body, "fobs").equals(gap)


def test_dictionary_strings_come_back_plain_and_with_the_same_digest(rows, footer):
    for name in ("side", "gap_cause"):
        index = rows.column_names.index(name)
        column = rows.column(name).cast(pa.dictionary(pa.int16(), pa.string()))
        rows = rows.set_column(index, name, column)
    decoded = parquet.decode(parquet.encode(rows, footer), "fobs")
    assert decoded.schema.equals(FILE_SCHEMAS["fobs"])
    assert parquet.digest(decoded) == footer.digest


def test_equal_rows_are_equal_bytes(rows, footer, body):
    assert parquet.encode(rows, footer) == body


def test_rows_stay_in_their_order(footer):
    rows = fobs_rows(10).take(pa.array(list(range(39, -1, -1))))
    assert parquet.decode(parquet.encode(rows, footer), "fobs").equals(rows)


def test_the_footer_says_what_the_file_is(footer, body):
    assert parquet.read_footer(body) == footer
    metadata = pq.read_metadata(io.BytesIO(body)).metadata
    assert metadata[b"cryptoflow.symbol"].decode() == "币安人生USDT"
    assert metadata[b"cryptoflow.first"] == b"17"
    assert not any(b"pandas" in key for key in metadata)


def test_the_footer_is_read_from_the_end_of_a_file(footer, body):
    needed = int.from_bytes(body[-8:-4], "little") + 8
    assert needed < len(body)
    assert parquet.read_footer(body[-needed:]) == footer
    with pytest.raises(parquet.FooterBeyondTail) as caught:
        parquet.read_footer(body[-needed + 1 :])
    assert caught.value.needed_bytes == needed


def test_columns_are_compressed_and_have_statistics(body):
    metadata = pq.read_metadata(io.BytesIO(body))
    for number in range(metadata.num_columns):
        column = metadata.row_group(0).column(number)
        assert column.compression == "ZSTD"
        assert column.statistics is not None
        if column.path_in_schema == "price":
            assert (column.statistics.min, column.statistics.max) == (100.1, 103.1)


def test_only_encodings_that_every_engine_reads(body):
    metadata = pq.read_metadata(io.BytesIO(body))
    used = {code for number in range(metadata.num_columns) for code in metadata.row_group(0).column(number).encodings}
    assert used <= {"PLAIN", "RLE", "RLE_DICTIONARY"}


def test_times_are_utc_microseconds_for_readers_that_know_no_arrow(body):
    schema = pq.ParquetFile(io.BytesIO(body)).schema
    timestamp = schema.column(schema.names.index("timestamp"))
    assert "isAdjustedToUTC=true, timeUnit=microseconds" in str(timestamp.logical_type)
    assert b"ARROW:schema" not in pq.read_metadata(io.BytesIO(body)).metadata


def test_large_files_are_cut_into_row_groups(footer, monkeypatch):
    monkeypatch.setattr(parquet, "ROW_GROUP_ROWS", 16)
    body = parquet.encode(fobs_rows(10), footer)
    groups = pq.read_metadata(io.BytesIO(body))
    assert [groups.row_group(i).num_rows for i in range(groups.num_row_groups)] == [16, 16, 8]
    assert parquet.digest(parquet.decode(body, "fobs")) == footer.digest


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda rows: rows.slice(1), "40 rows was to be written from 39"),
        (lambda rows: rows.drop_columns("level"), "columns are"),
        (lambda rows: rows.rename_columns([*rows.column_names[:-1], "offset"]), "columns are"),
        (
            lambda rows: rows.set_column(9, "level", rows.column("level").cast(pa.int64())),
            "column level is int64; should be int32",
        ),
        (
            lambda rows: rows.set_column(13, "raw_offset", pa.nulls(40, pa.int64())),
            "column raw_offset has 40 nulls and may have none",
        ),
    ],
    ids=["rows", "missing column", "renamed column", "type", "null"],
)
def test_a_table_that_is_not_what_the_footer_says_is_not_written(rows, footer, spoil, message):
    with pytest.raises(FatalError, match=message):
        parquet.encode(spoil(rows), footer)


@pytest.mark.parametrize("cut", [0, 3, 100, -1, -4, -200], ids=lambda cut: f"[:{cut}]")
def test_half_a_file_is_refused(body, cut):
    with pytest.raises(FatalError):
        parquet.decode(body[:cut], "fobs")
    with pytest.raises(FatalError):
        parquet.read_footer(body[:cut])


def test_a_file_of_another_kind_is_refused(body):
    with pytest.raises(FatalError, match="columns are"):
        parquet.decode(body, "fobd")


def test_a_foreign_parquet_file_has_no_footer_of_ours():
    sink = io.BytesIO()
    pq.write_table(pa.table({"a": [1]}), sink)
    with pytest.raises(FatalError, match=r"no cryptoflow\.kind: not a file of this lake"):
        parquet.read_footer(sink.getvalue())


@pytest.mark.parametrize(
    ("name", "value"), [("rows", "39"), ("rows", "many"), ("kind", "trades")], ids=["count", "number", "kind"]
)
def test_a_footer_that_lies_is_refused(rows, footer, name, value):
    lie = rows.replace_schema_metadata(
        {f"cryptoflow.{field}": str(getattr(footer, field)) for field in Footer.__slots__}
        | {f"cryptoflow.{name}": value}
    )
    sink = io.BytesIO()
    pq.write_table(lie, sink)
    with pytest.raises(FatalError, match="footer"):
        parquet.read_footer(sink.getvalue())
