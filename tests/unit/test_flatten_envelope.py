"""Lifting the levels out of a book's JSON: never more lenient than decoding all of it, never another value."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.errors import PoisonMessage
from shared.venues import venue
from shared.venues.envelope import lift_arrays
from shared.venues.levels import LevelParser, scan

PARSER = LevelParser()
BODY = b'{"lastUpdateId":7,"E":3,"T":2,"bids":[["1.5","2"],["1.4","3"]],"asks":[["1.6","4"]]}'
PIECES = [
    b"",
    b"[",
    b"]",
    b"{",
    b"}",
    b'"',
    b",",
    b":",
    b"0",
    b"1",
    b"-",
    b" ",
    b"\\",
    b"null",
    b'"bids":',
    b'"asks":[]',
    b'"x":1,',
]


def lifted(payload: bytes):
    return lift_arrays(payload, b'"bids":', b'"asks":')


def read(payload: bytes):
    """The book as the flattener reads it; None if it is poison."""
    try:
        book = venue("binance", "future").parse_snapshot(payload)
        levels = PARSER.parse([scan(book.bids), scan(book.asks)])
    except PoisonMessage:
        return None
    if levels.poison:
        return None
    values = list(zip(levels.prices.tolist(), levels.quantities.tolist(), strict=True))
    bids = levels.counts[0]
    return book.last_update_id, book.event_ms, book.transaction_ms, values[:bids], values[bids:]


def read_plainly(payload: bytes):
    """The same by `json`, for what it takes."""
    found = json.loads(payload)
    sides = [[(float(price), float(quantity)) for price, quantity in found[name]] for name in ("bids", "asks")]
    return found["lastUpdateId"], found.get("E"), found.get("T"), *sides


def test_the_arrays_of_a_usual_book_are_lifted():
    rest, bids, asks = lifted(BODY)
    assert json.loads(rest) == {"lastUpdateId": 7, "E": 3, "T": 2, "bids": None, "asks": None}
    assert (bids, asks) == (b'[["1.5","2"],["1.4","3"]]', b'[["1.6","4"]]')


@pytest.mark.parametrize(
    "payload",
    [
        pytest.param(b'{"lastUpdateId":7,"asks":[["1.6","4"]],"bids":[["1.5","2"]]}', id="asks first"),
        pytest.param(b'{"lastUpdateId":7,"bids":[["1.5","2"]],"E":3,"asks":[]}', id="a field between"),
        pytest.param(b'{"lastUpdateId":7,"bids":[["1.5","2"]],"x":[1],"asks":[]}', id="an array between"),
        pytest.param(b'{"bids":[],"asks":[["1.6","4"]],"lastUpdateId":7}', id="a field behind"),
        pytest.param(b'{"bids":[],"asks":[["1.6","4"]],"lastUpdateId":7,"y":[1]}', id="an array behind"),
        pytest.param(b'{ "lastUpdateId" : 7, "bids" : [ ], "asks" : [ ] }', id="spaces"),
        pytest.param(BODY + b"\n", id="a line end"),
        pytest.param(b'{"x":{"bids":[],"asks":[]},"lastUpdateId":7,"bids":[["1","2"]],"asks":[]}', id="a book inside"),
        pytest.param(b'{"lastUpdateId":7,"bids":[["9","9"]],"bids":[["1","2"]],"asks":[]}', id="bids twice"),
        pytest.param(b'{"x":"\\"bids\\":[[","lastUpdateId":7,"bids":[["1","2"]],"asks":[]}', id="bids in a string"),
    ],
)
def test_other_orders_and_spaces_are_read_as_well(payload):
    assert read(payload) == read_plainly(payload)


def test_a_book_that_is_not_at_the_top_is_none():
    assert read(b'{"x":{"lastUpdateId":7,"bids":[],"asks":[]}}') is None


@given(st.integers(0, len(BODY)), st.integers(0, 4), st.sampled_from(PIECES))
@settings(max_examples=600)
def test_a_book_changed_anywhere_is_read_as_json_reads_it_or_refused(at, removed, inserted):
    payload = BODY[:at] + inserted + BODY[at + removed :]
    found = read(payload)
    if found is not None:
        assert found == read_plainly(payload)
