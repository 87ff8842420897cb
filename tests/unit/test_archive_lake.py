"""The archive beside the rows: proven like them, and nothing to whom asks for rows."""

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from cryptoflow import lake
from shared.lake import layout, parquet
from shared.lake.store_local import LocalStore
from shared.lake.verify import verify
from shared.lake.watermark import watermark
from tests.lakes import HOUR_0, Line
from tests.norm_records import BTC, HOUR_NS
from tests.raw_records import LOG, flush, record, some


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "lake"


@pytest.fixture
def store(folder):
    return LocalStore(folder)


def found(store, **how):
    return {(problem.what, problem.path) for problem in verify(store, **how).problems}


def rewritten(folder, path, change):
    """Another file in a file's place, whose footer keeps what it said."""
    body = (folder / path).read_bytes()
    said = parquet.read_footer(body)
    rows = change(parquet.decode(body, "raw-fobd"))
    fields = {name: getattr(said, name) for name in said.__slots__} | {"rows": rows.num_rows}
    (folder / path).write_bytes(parquet.encode(rows, parquet.Footer(**fields)))


def with_column(rows, name, values):
    at = rows.schema.get_field_index(name)
    return rows.set_column(at, rows.schema.field(at), pa.chunked_array([pa.array(values, rows.schema.field(at).type)]))


# --- proven -----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("how", [{}, {"fast": True}, {"strict": True}], ids=["full", "fast", "strict"])
def test_an_archive_is_proven_beside_the_rows(store, how):
    Line(store).flush((BTC, HOUR_0))
    flush(store, some(12))
    flush(store, some(8, first=12))
    report = verify(store, **how)
    assert report.verdict == "complete"
    assert {str(line.line): (line.first, line.last, line.done, line.rows) for line in report.lines} == {
        "fobs/main/0": (0, 9, 4, 20),
        "raw-fobd/main/3": (0, 19, 19, 20),
    }


def test_an_archive_that_was_switched_on_later_begins_there_and_lacks_nothing(store):
    flush(store, some(12, first=5000))
    report = verify(store, strict=True)
    assert (report.verdict, report.lines[0].first, report.lines[0].done) == ("complete", 5000, 5011)


def test_what_kafka_no_longer_had_is_a_declared_loss(store):
    flush(store, [record(4), record(9)])
    report = verify(store, strict=True)
    assert report.verdict == "lossy"
    assert [(loss.what, loss.first, loss.last) for loss in report.losses] == [("source-hole", 5, 8)]


DAMAGE = {
    "a byte of a value": (
        "digest-wrong",
        lambda rows: with_column(rows, "value", [b"{}", *rows.column("value").to_pylist()[1:]]),
    ),
    "verbatim headers that were none": (
        "digest-wrong",
        lambda rows: with_column(rows, "headers", [[], *[None] * (rows.num_rows - 1)]),
    ),
    "a row less": ("rows-wrong", lambda rows: rows.slice(1)),
    "an offset of another claim": (
        "rows-misplaced",
        lambda rows: with_column(rows, "raw_offset", pc.add(rows.column("raw_offset"), 50).to_pylist()),
    ),
    "rows in another order": ("rows-misplaced", lambda rows: rows.take(list(range(rows.num_rows))[::-1])),
    "another partition": (
        "rows-misplaced",
        lambda rows: with_column(rows, "raw_partition", [4] * rows.num_rows),
    ),
}


@pytest.mark.parametrize(("what", "change"), DAMAGE.values(), ids=DAMAGE)
def test_damage_in_a_file_is_found(store, folder, what, change):
    path = flush(store, some(12)).files[0].path
    rewritten(folder, path, change)
    assert (what, path) in found(store)


def test_a_record_that_lies_in_another_hour_is_found(store, folder):
    path = flush(store, [record(0), record(1)]).files[0].path
    later = path.replace("hour=00", "hour=01")
    (folder / later).parent.mkdir(parents=True)
    (folder / path).rename(folder / later)
    assert found(store, strict=True) == {("file-missing", path), ("foreign-object", later)}


def test_a_missing_and_a_foreign_file_are_found(store, folder):
    first = flush(store, some(12))
    flush(store, some(12, first=12))
    (folder / first.files[0].path).unlink()
    foreign = layout.data_path("raw-fobs", BTC, HOUR_0, "main", 0, 0, 1)
    (folder / foreign).parent.mkdir(parents=True)
    (folder / foreign).write_bytes(b"what is this")
    assert found(store) == {("file-missing", first.files[0].path), ("foreign-object", foreign)}


def test_a_claim_that_leaves_a_record_out_is_found(store):
    flush(store, some(6))
    flush(store, some(6, first=7), done=6)
    claim = layout.claim_path(LOG.kind, LOG.stream, LOG.partition, 7)
    assert found(store) == {("hole", claim), ("done-broken", claim)}


# --- passed over ------------------------------------------------------------------------------------------------------
def test_who_asks_for_rows_does_not_see_the_archive(store, folder):
    Line(store).flush((BTC, HOUR_0))
    before = watermark(store).as_dict()
    flush(store, [record(4), record(9, recv_ns=HOUR_0 * 1000 + 30 * HOUR_NS)])
    assert watermark(store).as_dict() == before
    assert lake.gaps(store.url) == []
    assert {path.parts[len(folder.parts)] for path in folder.glob("fobs/**/*.parquet")} == {"fobs"}
    assert {path.parts[len(folder.parts)] for path in folder.glob("fob*/**/*.parquet")} == {"fobs"}
