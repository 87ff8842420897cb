"""The wire contract, pinned byte by byte: whoever changes one of these changes what every stored record means."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared import messages
from shared.errors import PoisonMessage, UnknownVersion
from shared.messages import (
    GAP_CAUSES,
    KINDS,
    NORM_VERSION,
    RAW_VERSION,
    RECORD_TYPES,
    Book,
    DeadLetterHeaders,
    Gap,
    NormHeaders,
    RawHeaders,
    SourceRange,
)

SNAPSHOT = RawHeaders(
    stream="main",
    exchange="binance",
    market="future",
    symbol="币安人生USDT",
    type="snapshot",
    recv_ns=1790000000123456789,
    conn="host:1790000000000000000:3",
    seq=41,
    sent_ns=1790000000100000000,
    limit=1000,
    ip="192.0.2.7",
)
SNAPSHOT_WIRE = [
    ("v", b"1"),
    ("stream", b"main"),
    ("exchange", b"binance"),
    ("market", b"future"),
    ("symbol", b"\xe5\xb8\x81\xe5\xae\x89\xe4\xba\xba\xe7\x94\x9fUSDT"),
    ("type", b"snapshot"),
    ("recv_ns", b"1790000000123456789"),
    ("conn", b"host:1790000000000000000:3"),
    ("seq", b"41"),
    ("sent_ns", b"1790000000100000000"),
    ("limit", b"1000"),
    ("ip", b"192.0.2.7"),
]
UPDATE = RawHeaders(
    stream="s2", exchange="okx", market="inverse", symbol="BTC-USD-SWAP", type="update", recv_ns=0, conn="h:1:1", seq=0
)
UPDATE_WIRE = [
    ("v", b"1"),
    ("stream", b"s2"),
    ("exchange", b"okx"),
    ("market", b"inverse"),
    ("symbol", b"BTC-USD-SWAP"),
    ("type", b"update"),
    ("recv_ns", b"0"),
    ("conn", b"h:1:1"),
    ("seq", b"0"),
]
NORM = NormHeaders(stream="main", src=SourceRange("raw-fobs", 3, 10, 19), dead=2)
NORM_WIRE = [("v", b"1"), ("stream", b"main"), ("src", b"raw-fobs/3/10-19"), ("dead", b"2")]
LOST = NormHeaders(stream="main", src=SourceRange("raw-fobs", 3, 20, 29), lost=True)
LOST_WIRE = [("v", b"1"), ("stream", b"main"), ("src", b"raw-fobs/3/20-29"), ("dead", b"0"), ("lost", b"1")]


def without(pairs, name):
    return [pair for pair in pairs if pair[0] != name]


def replaced(pairs, name, value):
    return [(key, value if key == name else old) for key, old in pairs]


def test_the_closed_sets_of_words():
    assert (RAW_VERSION, NORM_VERSION) == (1, 1)
    assert KINDS == ("fobs", "fobd")
    assert RECORD_TYPES == ("snapshot", "update", "gap")
    assert GAP_CAUSES == (
        "start",
        "stop",
        "sequence",
        "disconnect",
        "stale",
        "overflow",
        "produce",
        "malformed",
        "poll",
        "ban",
    )


@pytest.mark.parametrize(
    ("headers", "wire"), [(SNAPSHOT, SNAPSHOT_WIRE), (UPDATE, UPDATE_WIRE)], ids=["rest snapshot", "websocket update"]
)
def test_raw_headers(headers, wire):
    assert headers.encode() == wire
    assert RawHeaders.decode(wire) == headers


@pytest.mark.parametrize("kind", RECORD_TYPES)
def test_every_record_type_has_its_own_word(kind):
    wire = replaced(UPDATE_WIRE, "type", kind.encode())
    assert RawHeaders.decode(wire).type == kind
    assert RawHeaders.decode(wire).encode() == wire


@pytest.mark.parametrize(("headers", "wire"), [(NORM, NORM_WIRE), (LOST, LOST_WIRE)], ids=["batch", "lost range"])
def test_norm_headers(headers, wire):
    assert headers.encode() == wire
    assert NormHeaders.decode(wire) == headers


@pytest.mark.parametrize(
    ("gap", "wire"),
    [
        (Gap(cause="start"), b'{"cause":"start","last_id":null,"next_id":null,"since_ns":null}'),
        (
            Gap(cause="sequence", last_id=5, next_id=9, since_ns=1790000000123456789),
            b'{"cause":"sequence","last_id":5,"next_id":9,"since_ns":1790000000123456789}',
        ),
    ],
    ids=["nothing known", "all known"],
)
def test_gap_values(gap, wire):
    assert gap.encode() == wire
    assert Gap.decode(wire) == gap


@pytest.mark.parametrize("cause", GAP_CAUSES)
def test_every_gap_cause_goes_there_and_back(cause):
    wire = b'{"cause":"%b","last_id":null,"next_id":null,"since_ns":null}' % cause.encode()
    assert Gap(cause=cause).encode() == wire
    assert Gap.decode(wire).cause == cause


@pytest.mark.parametrize(
    "value",
    [b"", b"{}", b"null", b"[]", b'{"cause":"rain"}', b'{"cause":"stop","last_id":"5"}', b'{"cause":"stop"', b"\xff"],
)
def test_what_is_not_a_gap_is_poison(value):
    with pytest.raises(PoisonMessage) as poison:
        Gap.decode(value)
    assert poison.value.reason == "bad_gap"


def test_a_gap_of_a_later_release_may_know_more():
    assert Gap.decode(b'{"cause":"ban","until_ns":7}') == Gap(cause="ban")


@pytest.mark.parametrize(
    ("book", "key"),
    [
        (Book("binance", "spot", "BTCUSDT"), b"binance:spot:BTCUSDT"),
        (Book("binance", "future", "币安人生USDT"), "binance:future:币安人生USDT".encode()),
        (Book("x", "spot", "A:B"), b"x:spot:A:B"),
    ],
    ids=["ascii", "not ascii", "a colon in the symbol"],
)
def test_the_key_of_a_book(book, key):
    assert book.key == key
    assert Book.from_key(key) == book
    assert str(book).encode() == key
    assert SNAPSHOT.book.key == "binance:future:币安人生USDT".encode()


@pytest.mark.parametrize("key", [b"", b"binance", b"binance:spot", b"binance:spot:\xff"])
def test_what_is_not_a_key_is_poison(key):
    with pytest.raises(PoisonMessage) as poison:
        Book.from_key(key)
    assert poison.value.reason == "bad_key"


def test_source_ranges():
    assert str(SourceRange("raw-fobs", 0, 0, 0)) == "raw-fobs/0/0-0"
    assert SourceRange.parse("raw-fobs/12/9007199254740993-9007199254740999") == SourceRange(
        "raw-fobs", 12, 9007199254740993, 9007199254740999
    )


@pytest.mark.parametrize("text", ["", "raw/0/1", "raw/0/1-", "raw/0/-1-2", "raw/x/1-2", "a/b/0/1-2", "raw/0/1-2 "])
def test_what_is_not_a_source_range_is_poison(text):
    with pytest.raises(PoisonMessage, match="not topic/partition/first-last"):
        SourceRange.parse(text)


@pytest.mark.parametrize("name", ["stream", "exchange", "market", "symbol", "type", "recv_ns", "conn", "seq", "v"])
def test_a_raw_record_without_a_header_it_must_have_is_poison(name):
    with pytest.raises(PoisonMessage, match=f"header '{name}' is missing") as poison:
        RawHeaders.decode(without(SNAPSHOT_WIRE, name))
    assert poison.value.reason == "bad_headers"


@pytest.mark.parametrize("name", ["sent_ns", "limit", "ip"])
def test_a_raw_record_may_lack_what_only_rest_knows(name):
    assert getattr(RawHeaders.decode(without(SNAPSHOT_WIRE, name)), name) is None


@pytest.mark.parametrize("name", ["recv_ns", "seq", "sent_ns", "limit"])
@pytest.mark.parametrize("value", [b"", b"-1", b"1.5", b"x", b" 1", "\u0661".encode(), str(2**63).encode(), b"\xff"])
def test_a_number_that_is_none_is_poison_and_named(name, value):
    with pytest.raises(PoisonMessage, match=f"header '{name}' is"):
        RawHeaders.decode(replaced(SNAPSHOT_WIRE, name, value))


def test_a_record_type_nobody_knows_is_poison():
    with pytest.raises(PoisonMessage, match="'type' is 'trade', not one of snapshot, update, gap"):
        RawHeaders.decode(replaced(SNAPSHOT_WIRE, "type", b"trade"))


@pytest.mark.parametrize("name", ["stream", "src", "dead", "v"])
def test_a_norm_record_without_a_header_is_poison(name):
    with pytest.raises(PoisonMessage, match=f"header '{name}' is missing"):
        NormHeaders.decode(without(NORM_WIRE, name))


@pytest.mark.parametrize("version", [b"0", b"2", b"99"])
@pytest.mark.parametrize(
    ("side", "decode", "wire"), [("raw", RawHeaders, SNAPSHOT_WIRE), ("norm", NormHeaders, NORM_WIRE)]
)
def test_another_version_is_never_guessed(version, side, decode, wire):
    with pytest.raises(
        UnknownVersion, match=f"a {side} record of version {version.decode()}; this release knows 1: upgrade"
    ):
        decode.decode(replaced(wire, "v", version))


def test_the_version_is_looked_at_before_anything_else():
    with pytest.raises(UnknownVersion):
        RawHeaders.decode([("v", b"2")])
    with pytest.raises(UnknownVersion):
        NormHeaders.decode([("v", b"2"), ("src", b"another form")])


def test_headers_nobody_knows_are_passed_over():
    more = [("trace", b"\xff"), ("empty", b"")]
    assert RawHeaders.decode([*more, *SNAPSHOT_WIRE]) == SNAPSHOT
    assert NormHeaders.decode([*NORM_WIRE, *more]) == NORM


def test_a_dead_letter_keeps_its_headers_and_adds_three():
    wire = DeadLetterHeaders(error="bad_json: line 1", stage="flattener", src="raw-fobs/3/41").encode(SNAPSHOT_WIRE)
    assert wire == [
        *SNAPSHOT_WIRE,
        ("error", b"bad_json: line 1"),
        ("stage", b"flattener"),
        ("src", b"raw-fobs/3/41"),
    ]
    assert DeadLetterHeaders.split(wire) == (
        DeadLetterHeaders(error="bad_json: line 1", stage="flattener", src="raw-fobs/3/41"),
        SNAPSHOT_WIRE,
    )


def test_a_dead_letter_without_original_headers():
    wire = DeadLetterHeaders(error="no_symbol: x", stage="reader", src="h:1:1").encode([])
    assert wire == [("error", b"no_symbol: x"), ("stage", b"reader"), ("src", b"h:1:1")]
    assert DeadLetterHeaders.split(wire)[1] == []


texts = st.text(min_size=1, max_size=20)
numbers = st.integers(0, 2**63 - 1)


@given(
    st.builds(
        RawHeaders,
        stream=st.from_regex(r"[a-z0-9_]+", fullmatch=True),
        exchange=texts,
        market=texts,
        symbol=texts,
        type=st.sampled_from(RECORD_TYPES),
        recv_ns=numbers,
        conn=texts,
        seq=numbers,
        sent_ns=st.none() | numbers,
        limit=st.none() | numbers,
        ip=st.none() | texts,
    )
)
def test_any_raw_headers_survive_the_wire(headers):
    assert RawHeaders.decode(headers.encode()) == headers


@given(numbers, numbers, numbers, numbers, st.booleans())
def test_any_norm_headers_survive_the_wire(partition, first, last, dead, lost):
    headers = NormHeaders(stream="main", src=SourceRange("raw-fobd", partition, first, last), dead=dead, lost=lost)
    assert NormHeaders.decode(headers.encode()) == headers


@given(st.sampled_from(GAP_CAUSES), st.none() | numbers, st.none() | numbers, st.none() | numbers)
def test_any_gap_survives_the_wire_and_is_plain_json(cause, last_id, next_id, since_ns):
    gap = Gap(cause=cause, last_id=last_id, next_id=next_id, since_ns=since_ns)
    assert Gap.decode(gap.encode()) == gap
    assert msgspec.json.decode(gap.encode()) == {
        "cause": cause,
        "last_id": last_id,
        "next_id": next_id,
        "since_ns": since_ns,
    }


@given(
    st.sampled_from([name for name, _ in SNAPSHOT_WIRE]),
    st.binary(max_size=4) | st.sampled_from([b"update", b"9" * 19, b"9" * 5000, b"007", b"1_0", b"+1", b"\xd9\xa1"]),
)
def test_one_header_changed_in_any_way_is_read_as_header_by_header(name, value):
    wire = replaced(SNAPSHOT_WIRE, name, value)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(messages, "_plain_raw", lambda _: None)
        expected = _outcome(wire)
    assert _outcome(wire) == expected


def _outcome(wire):
    try:
        return RawHeaders.decode(wire)
    except (PoisonMessage, UnknownVersion) as error:
        return type(error), str(error)
