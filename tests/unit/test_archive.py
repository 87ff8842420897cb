"""Raw records through packs and files into the archive, and out of it again: all of them, once, in their order."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from services.s3writer import file, files, raw
from services.s3writer.buffer import RECORD_OVERHEAD_BYTES
from services.s3writer.decode import rows
from shared.errors import FatalError
from shared.lake import archive, claims, layout, parquet
from shared.lake.claims import LostClaim
from shared.lake.schema import ARCHIVE_SCHEMA
from shared.lake.store_local import LocalStore
from tests.norm_records import BTC, ETH, HOUR_NS, NOON_NS
from tests.raw_records import LOG, buffered, flush, record, some

MIB = 1024 * 1024


@pytest.fixture
def store(tmp_path):
    return LocalStore(tmp_path / "lake")


def read(store, first=None, last=None):
    return list(archive.records(store, "fobd", "main", LOG.partition, first, last))


def built(records, **options):
    buffer = buffered(records)
    return files.build(LOG, buffer.first, buffer.last, buffer.records, "zstd", **options)


# --- packs ------------------------------------------------------------------------------------------------------------
def test_records_are_held_in_packs_that_weigh_less_once_they_are_full():
    records = some(raw.PACK_ROWS + 5)
    buffer = buffered(records)
    full, still_open = buffer.records
    assert buffer.size_bytes == full.size_bytes + still_open.size_bytes
    assert (full.src.first, full.src.last, full.rows) == (0, raw.PACK_ROWS - 1, raw.PACK_ROWS)
    assert (still_open.src.first, still_open.src.last, still_open.rows) == (raw.PACK_ROWS, raw.PACK_ROWS + 4, 5)
    assert full.size_bytes == len(full.value) + RECORD_OVERHEAD_BYTES
    assert full.size_bytes * 20 < full.value_bytes + full.rows * raw.ROW_OVERHEAD_BYTES
    assert still_open.size_bytes > 5 * raw.ROW_OVERHEAD_BYTES


@given(st.lists(st.sampled_from([1, 400_000, MIB, 3 * MIB]), min_size=1, max_size=9))
@settings(max_examples=25, deadline=None)
def test_a_buffer_weighs_what_its_packs_weigh_and_holds_every_record(sizes):
    buffer = buffered([record(number, value=b"x" * size) for number, size in enumerate(sizes)])
    assert buffer.size_bytes == sum(pack.size_bytes for pack in buffer.records)
    assert (buffer.rows, buffer.last) == (len(sizes), len(sizes) - 1)
    held = [rows(LOG.kind, pack.value, pack.src, "here") for pack in buffer.records]
    assert [offset for batch in held for offset in batch["raw_offset"].to_pylist()] == list(range(len(sizes)))
    assert max(pack.value_bytes for pack in buffer.records) <= 4 * MIB


def test_a_jump_in_the_offsets_is_a_hole_and_begins_a_pack():
    buffer = buffered([record(4), record(5), record(9), record(10)], done=1)
    assert [(pack.src.first, pack.src.last) for pack in buffer.records] == [(4, 5), (9, 10)]
    assert buffer.holes == ((2, 3), (6, 8))
    assert buffer.records[0].taken.above == 1
    assert buffer.records[-1].taken.done == 10


def test_a_pack_tells_the_times_of_its_first_and_last_record():
    (pack,) = buffered([record(0, recv_ns=NOON_NS + 9 * 10**9), record(1)]).records
    assert (pack.oldest_ms, pack.timestamp_ms) == (NOON_NS // 10**6 + 9003, NOON_NS // 10**6 + 1003)
    assert pack.newest_recv_ns == NOON_NS + 9 * 10**9


# --- files ------------------------------------------------------------------------------------------------------------
def test_each_book_and_hour_gets_its_records_in_order():
    late = record(12, BTC, recv_ns=NOON_NS + HOUR_NS)
    made = built([*some(12), late])
    found = [layout.parse_data_path(each.entry.path) for each in made.objects]
    assert [(path.book, path.hour) for path in found] == [
        (BTC, "2026-06-21T00Z"),
        (BTC, "2026-06-21T01Z"),
        (ETH, "2026-06-21T00Z"),
    ]
    assert {(path.kind, path.first, path.last) for path in found} == {("raw-fobd", 0, 12)}
    offsets = [parquet.decode(each.body, "raw-fobd").column("raw_offset").to_pylist() for each in made.objects]
    assert offsets == [[1, 3, 5, 7, 9, 11], [12], [0, 2, 4, 6, 8, 10]]
    assert (made.min_recv_ns, made.max_recv_ns) == (NOON_NS, NOON_NS + HOUR_NS)


@pytest.mark.parametrize("chunk_bytes", [10**9, 300, 1], ids=["at once", "in chunks", "file by file"])
@pytest.mark.parametrize("group_bytes", [10**9, 100], ids=["one row group", "many"])
def test_rows_and_digests_depend_on_the_records_alone(monkeypatch, chunk_bytes, group_bytes):
    odd = replace(record(40), headers=(("odd", b"\xff"), ("odd", b"")))
    records = [*some(40, limit=5), odd, *some(9, 41)]
    whole = built(records)
    monkeypatch.setattr(file, "GROUP_BYTES", group_bytes)
    monkeypatch.setattr(raw, "PACK_ROWS", 7)
    other = built(records, chunk_bytes=chunk_bytes)
    assert [made.entry for made in other.objects] == [made.entry for made in whole.objects]
    for made in other.objects:
        assert parquet.digest(parquet.decode(made.body, "raw-fobd")) == made.entry.digest
        assert parquet.digest_of(made.entry.rows, (column for _, column in parquet.columns(made.body, "raw-fobd"))) == (
            made.entry.digest
        )


def test_a_file_of_large_values_has_row_groups_that_fit_in_memory():
    (made,) = built([record(number, value=bytes([number]) * 5 * MIB) for number in range(7)]).objects
    metadata = pq.read_metadata(pa.BufferReader(made.body))
    assert [metadata.row_group(number).num_rows for number in range(metadata.num_row_groups)] == [2, 2, 2, 1]
    assert max(batch.nbytes for batch in parquet.slices(made.body, "raw-fobd")) < 6 * MIB


def test_the_columns_are_those_of_the_schema_to_a_plain_reader():
    body = built(some(3)).objects[0].body
    table = pq.read_table(pa.BufferReader(body))
    assert table.schema.equals(ARCHIVE_SCHEMA)
    assert table.column("value").to_pylist() == [b'{"e":"depthUpdate","u":1}']


# --- reading back -----------------------------------------------------------------------------------------------------
def test_all_records_come_back_in_the_order_of_their_offsets(store):
    records = some(30)
    flush(store, records[:13])
    flush(store, records[13:30])
    assert read(store) == records
    assert read(store, 5, 20) == records[5:21]
    assert read(store, 13, 13) == records[13:14]
    assert read(store, 99) == []
    assert archive.partitions(store, "fobd", "main") == [LOG.partition]
    assert archive.bounds(store, "fobd", "main", LOG.partition) == archive.Bounds(0, 29)


@given(st.lists(st.tuples(st.sampled_from([BTC, ETH]), st.integers(0, 3), st.integers(1, 3)), min_size=1, max_size=30))
@settings(max_examples=20, deadline=None)
def test_records_of_many_files_are_merged(tmp_path_factory, drawn):
    store = LocalStore(tmp_path_factory.mktemp("lake") / "lake")
    records, offset = [], 0
    for book, hour, step in drawn:
        records.append(record(offset, book, recv_ns=NOON_NS + hour * HOUR_NS, value=b"x" * offset))
        offset += step
    flush(store, records)
    assert read(store) == records


def test_a_lake_without_an_archive_has_none(store):
    assert read(store) == []
    assert archive.bounds(store, "fobd", "main", LOG.partition) is None
    assert archive.partitions(store, "fobd", "main") == []


def test_an_unfinished_last_claim_is_not_read(store):
    records = some(10)
    flush(store, records[:5])
    flush(store, records[5:], complete=False)
    assert read(store) == records[:5]
    assert archive.bounds(store, "fobd", "main", LOG.partition) == archive.Bounds(0, 4)


def test_a_missing_file_is_an_error_and_a_declared_loss_is_left_out(store):
    records = some(10)
    claim = flush(store, records[:5], complete=False)
    flush(store, records[5:])
    with pytest.raises(FatalError, match="is not there"):
        read(store)
    lost = LostClaim(
        kind=LOG.kind,
        stream=LOG.stream,
        partition=LOG.partition,
        first=0,
        last=4,
        promised=claim.files,
        missing=tuple(entry.path for entry in claim.files),
        kafka_first=5,
        writer="me",
    )
    store.create(layout.lost_path(LOG.kind, LOG.stream, LOG.partition, 0), claims.encode(lost))
    assert read(store) == records[5:]
    assert archive.bounds(store, "fobd", "main", LOG.partition) == archive.Bounds(0, 9, ((0, 4),))


def test_a_hole_is_told(store):
    flush(store, [record(3), record(8)], done=2)
    assert [each.offset for each in read(store)] == [3, 8]
    assert archive.bounds(store, "fobd", "main", LOG.partition) == archive.Bounds(3, 8, ((4, 7),))


def test_a_damaged_file_is_named(store, tmp_path):
    claim = flush(store, some(4))
    path = tmp_path / "lake" / claim.files[0].path
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(FatalError, match=r"symbol=BTCUSDT.*not readable as Parquet"):
        read(store)
