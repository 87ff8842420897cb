"""Headers that are alike but for time and number are decoded once; each record is read as if they were its own."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from services.flattener.message import read
from shared.errors import PoisonMessage, UnknownVersion
from shared.messages import RawHeaders, RawHeadersOf
from tests.unit.test_flatten import RECV_NS
from tests.unit.test_flatten_updates import frame, record

FRAME = frame()
PLAIN = record(FRAME)
TOLD = RawHeaders.decode(PLAIN.headers)
WIRE = tuple(RawHeadersOf(TOLD).encode(TOLD.recv_ns, TOLD.seq))
NAMES = st.sampled_from([*(name for name, _ in WIRE), "sent_ns", "limit", "unheard_of"])
VALUES = st.sampled_from([
    b"", b"0", b"007", b"-1", b"1.5", b" 1", b"1_0", b"\xff", "٣".encode(), b"1" * 18, b"%d" % (2**63 - 1),
    b"%d" % 2**63, b"9" * 19, b"9" * 5000, b"1", b"2", b"gap", b"snapshot", b"update", b"binance", b"inverse",
]) | st.binary(max_size=4)  # fmt: skip
CHANGES = st.lists(
    st.tuples(st.integers(0, len(WIRE)), st.integers(0, 2), st.lists(st.tuples(NAMES, VALUES), max_size=2))
)


def outcome(headers) -> tuple:
    """What the record says of itself, or why it cannot be read."""
    try:
        message = read("fobd", record(FRAME, pairs=headers))
    except UnknownVersion as error:
        return (str(error),)
    content = message.content
    told = (content.reason, str(content)) if isinstance(content, PoisonMessage) else content
    return message.book, message.recv_ns, message.conn, message.rows, told


@given(CHANGES)
@example([(len(WIRE) - 2, 2, [("seq", b"5"), ("recv_ns", b"6")])])
def test_any_headers_say_what_they_say_with_one_behind_them_that_nobody_knows(changes):
    headers = list(WIRE)
    for at, removed, inserted in changes:
        headers[at : at + removed] = inserted
    assert outcome(headers) == outcome([*headers, ("unheard_of", b"")])


def test_time_and_number_are_each_records_own():
    found = [read("fobd", record(FRAME, pairs=(*WIRE[:-2], *last))) for last in (
        (("recv_ns", b"%d" % (RECV_NS + 1)), ("seq", b"2")),
        (("recv_ns", b"%d" % (RECV_NS + 2)), ("seq", b"3")),
    )]  # fmt: skip
    assert [message.recv_ns for message in found] == [RECV_NS + 1, RECV_NS + 2]
    assert {message.conn for message in found} == {TOLD.conn}


@pytest.mark.parametrize("last", [b"x", b"", b"%d" % 2**63])
def test_a_number_that_is_none_is_found_where_the_others_are_known(last):
    assert outcome(WIRE)[-1] == read("fobd", PLAIN).content
    assert outcome((*WIRE[:-1], ("seq", last)))[-1][0] == "bad_headers"


@pytest.mark.parametrize("name", ["recv_ns", "seq", "conn"])
def test_headers_in_another_order_say_the_same(name):
    moved = next(pair for pair in WIRE if pair[0] == name)
    assert outcome([*(pair for pair in WIRE if pair != moved), moved]) == outcome(WIRE)
