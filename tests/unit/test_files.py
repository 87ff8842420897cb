"""The files of a flush: one per book and hour, the right rows in their order, the same every time."""

import tracemalloc
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.s3writer import files
from services.s3writer.decode import contents, rows
from services.s3writer.files import build
from services.s3writer.flush import take
from services.s3writer.take import Taker
from shared.errors import FatalError, UnknownVersion
from shared.kafka import Record
from shared.lake import layout, parquet
from shared.lake.schema import FILE_SCHEMAS, NORM_SCHEMAS
from shared.messages import Book, SourceRange
from tests import norm_records
from tests.claim_logs import LOG
from tests.norm_records import BTC, ETH, HOUR_NS, NOON_NS


def record(offset, batch, first, last, **headers):
    return Record(
        topic="norm-fobs",
        partition=0,
        offset=offset,
        timestamp_ms=0,
        key=None,
        value=norm_records.value(batch),
        headers=tuple(norm_records.headers(first, last, **headers)),
    )


def two_books(count=12, per_record=3, levels=2, step_ns=1_000_000_000):
    """Batches of messages of two books in turn, and their records."""
    batches = [
        norm_records.rows(
            [(raw, BTC if raw % 2 else ETH, NOON_NS + raw * step_ns) for raw in range(first, first + per_record)],
            levels=levels,
        )
        for first in range(0, count, per_record)
    ]
    records = [
        record(offset, batch, offset * per_record, offset * per_record + per_record - 1)
        for offset, batch in enumerate(batches)
    ]
    return batches, records


def taken(records, done=-1):
    taker = Taker(done)
    return [take(LOG, each, taker) for each in records]


def built(records, *, done=-1, **options):
    last = records[-1].offset
    return build(LOG, 0, last, taken(records, done), compression="zstd", **options)


def read(made):
    return parquet.decode(made.body, "fobs")


def test_each_book_gets_its_rows_in_order():
    batches, records = two_books()
    objects = built(records).objects
    assert [layout.parse_data_path(made.entry.path).book for made in objects] == [BTC, ETH]
    for made, book in zip(objects, (BTC, ETH), strict=True):
        assert read(made).equals(norm_records.file_rows(batches, book))


def test_a_message_after_the_full_hour_is_in_the_next_hours_file():
    batch = norm_records.rows([(0, BTC, NOON_NS + HOUR_NS - 1), (1, BTC, NOON_NS + HOUR_NS), (2, BTC, NOON_NS + 5)])
    made = built([record(0, batch, 0, 2)]).objects
    assert [layout.parse_data_path(each.entry.path).hour_start_us for each in made] == [
        NOON_NS // 1000,
        (NOON_NS + HOUR_NS) // 1000,
    ]
    assert [read(each).column("raw_offset").unique().to_pylist() for each in made] == [[0, 2], [1]]


def test_a_flush_in_chunks_gives_the_same_files_with_fewer_rows_in_memory():
    _, records = two_books(count=60, per_record=5)
    whole, chunked = built(records), built(records, chunk_bytes=3_000)
    assert whole == chunked


@pytest.mark.parametrize("chunk_bytes", [10**9, 7_000, 1], ids=["at once", "in chunks", "file by file"])
def test_updates_of_many_books_in_turn_come_apart_whole_and_in_order(chunk_bytes):
    books = [Book("binance", market, f"S{i}") for i in range(10) for market in ("future", "spot")]
    step_ns = 9 * 60 * 1_000_000_000  # some records reach over a full hour
    batches = []
    for first in range(0, 120, 30):
        messages = [(raw, books[raw % len(books)], NOON_NS + raw * step_ns // 10) for raw in range(first, first + 29)]
        gap = norm_records.gap(first + 29, books[0], NOON_NS + (first + 29) * step_ns // 10)
        batches.append(norm_records.joined([norm_records.rows(messages, kind="fobd"), gap]))
    records = [record(number, batch, number * 30, number * 30 + 29) for number, batch in enumerate(batches)]
    log = replace(LOG, kind="fobd", topic="norm-fobd")
    taker = Taker()
    taken_ = [take(log, each, taker) for each in records]
    objects = build(log, 0, len(records) - 1, taken_, compression="zstd", chunk_bytes=chunk_bytes).objects
    found = {book: [] for book in books}
    for made in objects:  # in the order of their paths: hour after hour
        data = layout.parse_data_path(made.entry.path)
        table = parquet.decode(made.body, "fobd")
        assert set(np.array(table.column("recv_ns")) // HOUR_NS) == {data.hour_start_us * 1000 // HOUR_NS}
        found[data.book].append(table)
    for book in books:
        whole = pa.Table.from_batches(batches).filter(
            [(market, symbol) == (book.market, book.symbol) for market, symbol in _names(batches)]
        )
        expected = whole.drop_columns(["exchange", "market", "symbol"]).cast(FILE_SCHEMAS["fobd"])
        assert pa.concat_tables(found[book]).to_pylist() == expected.to_pylist()


def _names(batches):
    return [
        pair
        for batch in batches
        for pair in zip(batch.column("market").to_pylist(), batch.column("symbol").to_pylist(), strict=True)
    ]


def test_rows_taken_before_are_left_out():
    _, records = two_books()
    objects = built(records, done=4).objects
    kept = {book: [raw for raw in range(5, 12) if (raw % 2 == 1) == (book == BTC)] for book in (BTC, ETH)}
    for made, book in zip(objects, (BTC, ETH), strict=True):
        assert read(made).column("raw_offset").unique().to_pylist() == kept[book]


def test_repeated_records_give_nothing():
    _, records = two_books()
    objects = built([*records, *records]).objects
    assert sum(made.entry.rows for made in objects) == 12 * 4


def test_records_without_rows_give_no_file():
    nothing = built([record(0, norm_records.rows([]), 0, 9, lost=True)])
    assert (nothing.objects, nothing.min_recv_ns, nothing.max_recv_ns) == ((), None, None)


def test_the_claims_facts_are_those_of_the_rows():
    _, records = two_books()
    made = built(records)
    assert (made.min_recv_ns, made.max_recv_ns) == (NOON_NS, NOON_NS + 11_000_000_000)
    for each in made.objects:
        footer = parquet.read_footer(each.body)
        assert (footer.digest, footer.rows, footer.first, footer.last) == (each.entry.digest, each.entry.rows, 0, 3)
        assert each.entry.digest == parquet.digest(read(each))


def test_dictionaries_that_differ_between_records_do_not_change_the_rows():
    batches = [norm_records.rows([(raw, book, NOON_NS)]) for raw, book in enumerate([BTC, ETH, ETH, BTC])]
    records = [record(raw, batch, raw, raw) for raw, batch in enumerate(batches)]
    for made, book in zip(built(records).objects, (BTC, ETH), strict=True):
        assert read(made).equals(norm_records.file_rows(batches, book))


def test_a_file_of_many_row_groups_is_never_in_memory_as_a_table(monkeypatch):
    monkeypatch.setattr(parquet, "ROW_GROUP_ROWS", 2_000)
    monkeypatch.setattr(files, "WINDOW_BYTES", 0)

    def peak_bytes(count):
        batches = [norm_records.rows([(raw, BTC, NOON_NS + raw)], levels=500) for raw in range(count)]
        kept = taken([record(raw, batch, raw, raw) for raw, batch in enumerate(batches)])
        usual, pool = pa.default_memory_pool(), pa.proxy_memory_pool(pa.default_memory_pool())
        pa.set_memory_pool(pool)
        tracemalloc.start()  # numpy's, and the file's own bytes
        try:
            build(LOG, 0, count - 1, kept, compression="zstd")
            return pool.max_memory() + tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
            pa.set_memory_pool(usual)

    rows_more = 60 * 1_000
    row_bytes = norm_records.file_rows([norm_records.rows([(0, BTC, NOON_NS)])], BTC).nbytes / 4
    assert (peak_bytes(80) - peak_bytes(20)) / rows_more < row_bytes / 2


FOBD = replace(LOG, kind="fobd", topic="norm-fobd")
MAYBE_ID = st.none() | st.integers(1, 2)
WORDS = st.none() | st.sampled_from(["", "a", "bc"])
ROWS = st.fixed_dictionaries(
    {
        "symbol": st.sampled_from(["BTCUSDT", "ETHUSDT"]),
        "recv_ns": st.sampled_from([NOON_NS, NOON_NS + 1, NOON_NS + HOUR_NS]),
        "event_time": MAYBE_ID,
        "type": st.sampled_from(["update", "gap"]),
        "update_id": MAYBE_ID,
        "depth_limit": MAYBE_ID,
        "side": st.none() | st.sampled_from(["bid", "ask"]),
        "price": st.none() | st.sampled_from([0.0, -0.0, 1.5, float("nan")]),
        "quantity": st.none() | st.floats(),
        "gap_cause": WORDS,
        "conn": WORDS,
        "step": st.integers(0, 1),
    }
)
# What rows share, they share by chance or because one is as often the whole of a message.
RECORDS = st.lists(st.lists(st.tuples(ROWS, st.integers(1, 4)), min_size=1, max_size=6), min_size=1, max_size=5)


def _any_batches(drawn):
    offset = 0
    for messages in drawn:
        rows_ = []
        for row, times in messages:
            offset += row["step"]
            rest = {name: value for name, value in row.items() if name != "step"}
            book = {"exchange": "binance", "market": "future", "raw_partition": 0, "raw_offset": offset}
            rows_ += [rest | book | {"timestamp": row["recv_ns"] // 1000}] * times
        yield pa.RecordBatch.from_pylist(rows_, schema=NORM_SCHEMAS["fobd"])
        offset += 1


@given(RECORDS, st.integers(1, 30), st.sampled_from([0, 100, 10**9]), st.sampled_from([1, 200, 10**9]))
@settings(max_examples=200, deadline=None)
def test_any_rows_become_the_files_that_filtering_them_one_by_one_would_make(drawn, group_rows, window, chunk):
    batches = list(_any_batches(drawn))
    records = [
        record(number, batch, batch["raw_offset"][0].as_py(), batch["raw_offset"][-1].as_py())
        for number, batch in enumerate(batches)
    ]
    taker = Taker()
    taken_ = [take(FOBD, each, taker) for each in records]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parquet, "ROW_GROUP_ROWS", group_rows)
        patch.setattr(files, "WINDOW_BYTES", window)
        made = build(FOBD, 0, len(records) - 1, taken_, compression="zstd", chunk_bytes=chunk)
    whole = pa.Table.from_batches(batches)
    names, hours = whole["symbol"].to_pylist(), [each // HOUR_NS for each in whole["recv_ns"].to_pylist()]
    assert len(made.objects) == len(set(zip(names, hours, strict=True)))
    for each in made.objects:
        path = layout.parse_data_path(each.entry.path)
        key = path.book.symbol, path.hour_start_us * 1000 // HOUR_NS
        mine = whole.filter([found == key for found in zip(names, hours, strict=True)])
        expected = mine.drop_columns(["exchange", "market", "symbol"]).cast(FILE_SCHEMAS["fobd"])
        assert (each.entry.rows, each.entry.digest) == (expected.num_rows, parquet.digest(expected))
        assert parquet.digest(parquet.decode(each.body, "fobd")) == each.entry.digest
        metadata = pq.read_metadata(pa.BufferReader(each.body))
        groups = [metadata.row_group(number).num_rows for number in range(metadata.num_row_groups)]
        assert groups[:-1] == [group_rows] * (len(groups) - 1)
        assert 0 < groups[-1] <= group_rows


def test_deltas_are_written_by_the_same_way():
    batch = norm_records.rows([(raw, BTC if raw % 3 else ETH, NOON_NS) for raw in range(30)], kind="fobd")
    log = type(LOG)(kind="fobd", stream="main", partition=0, topic="norm-fobd", cluster_id="cluster")
    taker = Taker()
    one = take(log, record(0, batch, 0, 29), taker)
    made = build(log, 0, 0, [one], compression="zstd").objects
    for each, book in zip(made, (BTC, ETH), strict=True):
        assert parquet.decode(each.body, "fobd").equals(norm_records.file_rows([batch], book, "fobd"))


GOOD = norm_records.value(norm_records.rows([(0, BTC, NOON_NS)]))
OTHER_SCHEMA = norm_records.value(pa.RecordBatch.from_pydict({"recv_ns": [1], "price": [1.0]}))


@pytest.mark.parametrize(
    "value",
    [b"", b"\0", b"not Arrow", GOOD[:100], GOOD[: len(GOOD) // 2], OTHER_SCHEMA, b"\xff" * 200],
    ids=["empty", "zero", "text", "cut in the schema", "cut in the batch", "another schema", "noise"],
)
def test_a_value_that_cannot_be_decoded_is_fatal_and_its_offset_named(value):
    with pytest.raises(FatalError, match="norm-fobs/0@7"):
        contents("fobs", value, "norm-fobs/0@7")


def test_a_value_that_is_of_another_schema_only_in_its_other_columns_is_fatal_at_the_flush():
    batch = norm_records.rows([(0, BTC, NOON_NS)]).drop_columns(["price"])
    with pytest.raises(FatalError, match="norm-fobs/0@7 is not in the schema of norm-fobs"):
        rows("fobs", norm_records.value(batch), SourceRange("raw-fobs", 0, 0, 0), "norm-fobs/0@7")


@pytest.mark.parametrize(("first", "last"), [(1, 2), (0, 1)], ids=["before", "after"])
def test_rows_of_other_raw_offsets_than_the_header_says_are_fatal(first, last):
    value = norm_records.value(norm_records.rows([(raw, BTC, NOON_NS) for raw in range(3)]))
    with pytest.raises(FatalError, match="other raw offsets"):
        rows("fobs", value, SourceRange("raw-fobs", 0, first, last), "norm-fobs/0@7")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"stream": "old"}, "is of stream 'old', not 'main'"),
        ({"partition": 3}, "raw and norm partitions must have equal numbers"),
    ],
    ids=["stream", "partition"],
)
def test_a_record_of_another_line_is_fatal_in_words(change, words):
    with pytest.raises(FatalError, match=words):
        take(LOG, record(0, norm_records.rows([]), 0, 0, **change), Taker())


def test_a_record_without_its_headers_is_fatal_and_its_offset_named():
    bare = Record(topic="norm-fobs", partition=0, offset=7, timestamp_ms=0, key=None, value=GOOD, headers=())
    with pytest.raises(FatalError, match="norm-fobs/0@7: header 'v' is missing"):
        take(LOG, bare, Taker())


def test_a_record_of_an_unknown_version_asks_for_an_upgrade():
    new = Record(
        topic="norm-fobs", partition=0, offset=7, timestamp_ms=0, key=None, value=b"new", headers=(("v", b"2"),)
    )
    with pytest.raises(UnknownVersion, match="upgrade"):
        take(LOG, new, Taker())
