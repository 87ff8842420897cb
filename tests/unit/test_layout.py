from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.lake import layout
from shared.lake.kinds import LAKE_KINDS
from shared.lake.layout import HOUR_US, DataPath
from shared.messages import INT64_MAX, Book

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
LAST_US = (datetime(2262, 12, 31, 23, 59, 59, tzinfo=UTC) - EPOCH) // timedelta(microseconds=1)
BOOK = Book("binance", "future", "BTCUSDT")
HOUR = (datetime(2026, 11, 23, 16, tzinfo=UTC) - EPOCH) // timedelta(microseconds=1)
PATH = (
    "fobs/exchange=binance/market=future/symbol=BTCUSDT/year=2026/month=11/day=23/hour=16/"
    "fobs-main-00003-00000000000000000017-00000000000000000042.parquet"
)

values = st.text(st.characters(exclude_categories=["Cs"]), min_size=1)
streams = st.from_regex(r"[a-z0-9_]+", fullmatch=True)
offsets = st.integers(0, INT64_MAX)
instants = st.integers(0, LAST_US)


def test_a_data_path_is_as_the_design_writes_it():
    assert layout.data_path("fobs", BOOK, HOUR, "main", 3, 17, 42) == PATH


def test_the_archive_lies_beside_the_rows():
    path = layout.data_path("raw-fobs", BOOK, HOUR, "main", 3, 17, 42)
    assert path == PATH.replace("fobs", "raw-fobs")
    assert not path.startswith(layout.book_prefix("fobs", BOOK))
    assert layout.claims_prefix("raw-fobs", "main", 3) == "_claims/v1/raw-fobs/main/00003/"


def test_a_data_path_says_what_it_was_made_of():
    assert layout.parse_data_path(PATH) == DataPath("fobs", BOOK, HOUR, "main", 3, 17, 42)


@given(
    st.sampled_from(LAKE_KINDS),
    st.builds(Book, values, values, values),
    instants,
    streams,
    st.tuples(st.integers(0, 99_999), offsets, offsets),
)
def test_any_book_hour_and_range_round_trip_in_ascii(kind, book, instant, stream, place):
    hour = layout.hour_of(instant)
    partition, *ends = place
    path = layout.data_path(kind, book, hour, stream, partition, min(ends), max(ends))
    assert path.isascii()
    assert " " not in path
    assert path.count("/") == 8  # no value adds a folder
    assert layout.parse_data_path(path) == DataPath(kind, book, hour, stream, partition, min(ends), max(ends))


@given(instants)
def test_the_hour_is_the_one_of_the_calendar(instant):
    moment = EPOCH + timedelta(microseconds=instant)
    start = moment.replace(minute=0, second=0, microsecond=0)
    assert layout.hour_of(instant) == (start - EPOCH) // timedelta(microseconds=1)
    path = layout.data_path("fobd", BOOK, layout.hour_of(instant), "main", 0, 0, 0)
    keys = f"/year={start:%Y}/month={start:%m}/day={start:%d}/hour={start:%H}/"
    assert keys in path


@pytest.mark.parametrize(
    ("instant", "expected"),
    [(0, 0), (HOUR_US - 1, 0), (HOUR_US, HOUR_US), (HOUR + 1, HOUR)],
    ids=["epoch", "last microsecond", "first microsecond", "inside"],
)
def test_an_hour_begins_at_its_first_microsecond(instant, expected):
    assert layout.hour_of(instant) == expected


@pytest.mark.parametrize(
    ("symbol", "escaped"),
    [
        ("币安人生USDT", "symbol=%E5%B8%81%E5%AE%89%E4%BA%BA%E7%94%9FUSDT/"),
        ("BTC/USD", "symbol=BTC%2FUSD/"),
        ("a=b", "symbol=a%3Db/"),
        ("50%", "symbol=50%25/"),
        ("A B", "symbol=A%20B/"),
        ("..", "symbol=../"),
    ],
    ids=["non-ASCII", "slash", "equals", "percent", "space", "dots"],
)
def test_values_are_escaped_as_in_a_uri(symbol, escaped):
    book = Book("x", "y", symbol)
    path = layout.data_path("fobs", book, HOUR, "main", 0, 0, 0)
    assert escaped in path
    parsed = layout.parse_data_path(path)
    assert parsed is not None
    assert parsed.book == book


@pytest.mark.parametrize(
    "path",
    [
        "",
        PATH + ".tmp",
        "/" + PATH,
        "lake/" + PATH,
        PATH.replace("fobs-main", "fobd-main"),
        PATH.replace("fobs", "trades"),
        PATH.replace("fobs/", "raw-fobs/"),
        PATH.replace("fobs", "raw-fobs-"),
        PATH.replace("main", "Main"),
        PATH.replace("-00003-", "-3-"),
        PATH.replace("month=11", "month=13"),
        PATH.replace("day=23", "day=31"),
        PATH.replace("hour=16", "hour=24"),
        PATH.replace("00017-", "00043-"),
        PATH.replace("BTCUSDT", "BTC USDT"),
        PATH.replace("BTCUSDT", "%42TCUSDT"),
        PATH.replace("BTCUSDT", "%e5%b8%81"),
        PATH.replace("BTCUSDT", "%FF"),
        PATH.replace("symbol=BTCUSDT", "symbol="),
        PATH.replace("0042.parquet", "\u0660\u066042.parquet"),
        PATH.replace("00000000000000000042", "99999999999999999999"),
        PATH + "\n",
    ],
)
def test_a_name_that_this_module_would_not_write_is_no_data_path(path):
    assert layout.parse_data_path(path) is None


@pytest.mark.parametrize(
    "change",
    [
        {"book": Book("binance", "future", "")},
        {"hour_start_us": HOUR + 1},
        {"hour_start_us": -HOUR_US},
        {"stream": "Main"},
        {"stream": ""},
        {"partition": 100_000},
        {"partition": -1},
        {"first": -1},
        {"last": 16},
        {"last": 2**63},
    ],
    ids=lambda change: f"{change}",
)
def test_what_no_name_can_hold_is_refused(change):
    parts = {
        "kind": "fobs",
        "book": BOOK,
        "hour_start_us": HOUR,
        "stream": "main",
        "partition": 3,
        "first": 17,
        "last": 42,
        **change,
    }
    with pytest.raises(ValueError):
        layout.data_path(**parts)


def test_the_claim_log_has_the_names_of_the_design():
    assert layout.claims_prefix("fobs", "main", 3) == "_claims/v1/fobs/main/00003/"
    assert layout.origin_path("fobs", "main", 3) == "_claims/v1/fobs/main/00003/origin.json"
    assert layout.claim_path("fobs", "main", 3, 17) == "_claims/v1/fobs/main/00003/00000000000000000017.json"
    assert layout.lost_path("fobs", "main", 3, 17) == "_claims/v1/fobs/main/00003/00000000000000000017.lost.json"


@given(st.sampled_from(LAKE_KINDS), streams, st.integers(0, 99_999), st.integers(0, INT64_MAX))
def test_names_of_the_claim_log_round_trip(kind, stream, partition, first):
    where = kind, stream, partition
    assert layout.parse_claim_path(layout.origin_path(*where)) == layout.ClaimPath(*where, "origin")
    assert layout.parse_claim_path(layout.claim_path(*where, first)) == layout.ClaimPath(*where, "claim", first)
    assert layout.parse_claim_path(layout.lost_path(*where, first)) == layout.ClaimPath(*where, "lost", first)
    assert layout.parse_claim_path(layout.claim_path(*where, first) + "x") is None


@given(st.lists(offsets, min_size=2, unique=True))
def test_names_of_claims_sort_as_their_offsets_and_the_origin_comes_last(firsts):
    names = [layout.claim_path("fobs", "main", 0, first) for first in sorted(firsts)]
    assert sorted(names) == names
    assert max([*names, layout.origin_path("fobs", "main", 0)]) == layout.origin_path("fobs", "main", 0)
    assert names[0] < layout.lost_path("fobs", "main", 0, min(firsts)) < names[1]


@pytest.mark.parametrize(
    "path",
    [
        "_claims/v1/fobs/main/00003/17.json",
        "_claims/v2/fobs/main/00003/00000000000000000017.json",
        "_claims/v1/fobs/main/00003/origin.lost.json",
        "_claims/v1/fobs/main/00003/99999999999999999999.json",
        "_claims/v1/trades/main/00003/origin.json",
        "_claims/v1/fobs/main/00003/x/origin.json",
    ],
)
def test_other_names_are_no_claim_path(path):
    assert layout.parse_claim_path(path) is None
