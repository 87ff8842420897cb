"""Dead letters: what is replayed, what is left, and what a person sees of them."""

from __future__ import annotations

import base64

import pytest

from cryptoflow.dead_letters_cli import DeadLetter
from shared.kafka import Record, TopicPartition
from shared.messages import DeadLetterHeaders

ORIGINAL = [("v", b"1"), ("symbol", "币".encode()), ("strange", b"\xff")]


def letter(*, value=b"{", error="bad_json: truncated", stage="flattener", src="raw-fobs/3/17", key=b"binance:spot:X"):
    headers = DeadLetterHeaders(error=error, stage=stage, src=src).encode(ORIGINAL)
    record = Record("dead-letters", 1, 5, 1_700_000_000_000, key, value, tuple(headers))
    return DeadLetter(record, *DeadLetterHeaders.split(record.headers))


def test_it_goes_back_to_the_partition_it_came_from():
    assert letter().destination == TopicPartition("raw-fobs", 3)
    assert letter().original == ORIGINAL


def test_an_empty_value_that_was_empty_goes_back():
    assert letter(value=b"", error="empty_body: the body is empty").destination is not None


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"stage": "reader", "src": "host:1:1"}, id="a frame of the reader"),
        pytest.param({"src": ""}, id="no source"),
        pytest.param({"src": "raw-fobs/x/1"}, id="a source that is none"),
        pytest.param({"value": b"", "error": "too_large: left in raw-fobs/3/17, 9 bytes: …"}, id="bytes left behind"),
    ],
)
def test_what_is_no_whole_raw_record_stays(changes):
    assert letter(**changes).destination is None


def test_json_holds_the_bytes_as_they_are():
    found = letter(value=b"\x00\xff", key=None).as_dict()
    assert base64.b64decode(found["value_base64"]) == b"\x00\xff"
    assert (found["reason"], found["key"], found["time"]) == ("bad_json", "", "2023-11-14T22:13:20+00:00")
    assert found["headers"] == {"v": "1", "symbol": "币", "strange": "\ufffd"}


def test_the_table_names_when_where_and_why():
    assert letter().as_row() == (
        "2023-11-14 22:13:20",
        "flattener",
        "raw-fobs/3/17",
        "binance:spot:X",
        "1",
        "bad_json: truncated",
    )
