"""Binance's streams: their names, the control messages that ask for them, and what every frame is."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import PoisonMessage
from shared.venues import VENUES, venue
from shared.venues.base import Closing, Reply, Update, UpdateEnvelope
from shared.venues.sequence import UpdateIds

FUTURE, INVERSE, SPOT = (venue("binance", market) for market in ("future", "inverse", "spot"))
EVENT = {
    "e": "depthUpdate", "E": 1_721_347_020_123, "T": 1_721_347_020_117, "s": "BTCUSDT",
    "U": 101, "u": 105, "pu": 98, "b": [["63943.90", "0.012"], ["63943.80", "0"]], "a": [["63944.00", "1.500"]],
}  # fmt: skip
IDS = UpdateIds(101, 105, 98)


def event(**changes: object) -> dict[str, object]:
    """A depth update; `...` removes a field."""
    return {name: value for name, value in {**EVENT, **changes}.items() if value is not ...}


def encoded(frame: object) -> bytes:
    return json.dumps(frame, separators=(",", ":"), ensure_ascii=False).encode()


def wrapped(data: object, stream: str = "btcusdt@depth@100ms") -> bytes:
    return encoded({"stream": stream, "data": data})


# --- streams ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("adapter", "symbol", "interval_ms", "name"),
    [
        (FUTURE, "BTCUSDT", 100, "btcusdt@depth@100ms"),
        (FUTURE, "BTCUSDT", 250, "btcusdt@depth"),
        (FUTURE, "BTCUSDT", 500, "btcusdt@depth@500ms"),
        (FUTURE, "BTCUSDT", 0, "btcusdt@depth@0ms"),
        (FUTURE, "币安人生USDT", 100, "币安人生usdt@depth@100ms"),
        (INVERSE, "BTCUSD_PERP", 100, "btcusd_perp@depth@100ms"),
        (INVERSE, "BTCUSD_210625", 250, "btcusd_210625@depth"),
        (SPOT, "ETHBTC", 100, "ethbtc@depth@100ms"),
        (SPOT, "ETHBTC", 1000, "ethbtc@depth"),
    ],
)
def test_stream_names_are_in_lower_case_and_say_what_is_not_the_plain_interval(
    adapter, symbol, interval_ms, name
) -> None:
    assert adapter.stream_name(symbol, interval_ms) == name
    assert adapter.check_interval(interval_ms) is None


@pytest.mark.parametrize(
    ("adapter", "interval_ms", "known"),
    [(FUTURE, 1000, "0, 100, 250, 500"), (INVERSE, 99, "0, 100, 250, 500"), (SPOT, 0, "100, 1000"), (SPOT, 250, "100")],
)
def test_an_interval_that_no_stream_has_is_refused_with_those_there_are(adapter, interval_ms, known) -> None:
    said = adapter.check_interval(interval_ms)
    assert f"interval_ms {interval_ms} is no stream of binance {adapter.market}" in said
    assert known in said


@pytest.mark.parametrize("adapter", VENUES.values(), ids=lambda adapter: adapter.market)
def test_the_limits_of_a_connection_are_those_of_the_documentation(adapter) -> None:
    assert adapter.stream_path == "/stream"
    assert (adapter.max_streams, adapter.max_age_seconds, adapter.connects_per_five_minutes) == (1024, 86400, 300)
    assert adapter.messages_per_second == (5 if adapter is SPOT else 10)


@pytest.mark.parametrize("method", ["SUBSCRIBE", "UNSUBSCRIBE"])
def test_control_messages_name_the_streams_and_carry_the_id_of_their_answer(method) -> None:
    make = FUTURE.subscribe if method == "SUBSCRIBE" else FUTURE.unsubscribe
    names = ["btcusdt@depth@100ms", "币安人生usdt@depth@100ms"]
    assert json.loads(make(names, 7)) == {"method": method, "params": names, "id": 7}


# --- frames -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("frame", "update"),
    [
        pytest.param(wrapped(EVENT), Update("BTCUSDT", IDS), id="wrapped"),
        pytest.param(encoded(EVENT), Update("BTCUSDT", IDS), id="bare"),
        pytest.param(wrapped(event(pu=..., T=...)), Update("BTCUSDT", UpdateIds(101, 105)), id="of spot"),
        pytest.param(wrapped(event(ps="BTCUSD", st=1)), Update("BTCUSDT", IDS), id="with the fields of 2026"),
        pytest.param(wrapped(event(what={"s": "X", "u": []})), Update("BTCUSDT", IDS), id="with unknown fields"),
        pytest.param(wrapped(dict(reversed(EVENT.items()))), Update("BTCUSDT", IDS), id="fields in another order"),
        pytest.param(
            encoded({"data": EVENT, "stream": "btcusdt@depth"}), Update("BTCUSDT", IDS), id="the wrapper as well"
        ),
        pytest.param(wrapped(event(b=[], a=[])), Update("BTCUSDT", IDS), id="without levels"),
        pytest.param(wrapped(event(s="币安人生USDT")), Update("币安人生USDT", IDS), id="a symbol of any letters"),
        pytest.param(wrapped(event(U=105)), Update("BTCUSDT", UpdateIds(105, 105, 98)), id="of one change"),
        pytest.param(wrapped(event(u=2**63 - 1)), Update("BTCUSDT", UpdateIds(101, 2**63 - 1, 98)), id="largest id"),
        pytest.param(json.dumps({"data": EVENT}, indent=1).encode(), Update("BTCUSDT", IDS), id="spaces"),
        # the depth event of exchanges.md §1.6
        pytest.param(
            b'{"stream":"btcusdt@depth@100ms","data":{"e":"depthUpdate","E":3,"T":2,"s":"BTCUSDT","ps":"BTCUSDT",'
            b'"U":157,"u":160,"pu":149,"b":[["0.0024","10"]],"a":[["0.0026","100"]],"st":1}}',
            Update("BTCUSDT", UpdateIds(157, 160, 149)),
            id="as documented",
        ),
    ],
)
def test_a_depth_update_is_read_with_its_symbol_and_ids(frame, update) -> None:
    assert FUTURE.read_frame(frame) == update
    parsed = FUTURE.parse_update(frame)
    assert (parsed.symbol, parsed.ids) == update


@pytest.mark.parametrize(
    ("frame", "reply"),
    [
        pytest.param({"result": None, "id": 7}, Reply(7, None), id="success"),
        pytest.param({"id": 7, "result": None}, Reply(7, None), id="in another order"),
        pytest.param({"result": ["btcusdt@depth"], "id": 3}, Reply(3, None), id="a list of subscriptions"),
        pytest.param(
            {"error": {"code": 2, "msg": "Invalid request: no"}, "id": 7},
            Reply(7, "2: Invalid request: no"),
            id="error",
        ),
        pytest.param({"error": {"code": 3, "msg": "Invalid JSON"}}, Reply(None, "3: Invalid JSON"), id="without an id"),
        pytest.param({"code": 0, "msg": "Unknown property", "id": 7}, Reply(7, "0: Unknown property"), id="flat error"),
        pytest.param({"code": 2, "msg": "Invalid"}, Reply(None, "2: Invalid"), id="flat error without an id"),
    ],
)
def test_an_answer_is_read_with_its_id_and_what_was_said_against_it(frame, reply) -> None:
    assert SPOT.read_frame(encoded(frame)) == reply


@pytest.mark.parametrize("bare", [False, True], ids=["wrapped", "bare"])
def test_the_notice_before_a_connection_is_closed_is_known(bare) -> None:
    notice = {"e": "serverShutdown", "E": 1_721_347_020_123}
    assert SPOT.read_frame(encoded(notice) if bare else wrapped(notice, "")) == Closing()


@pytest.mark.parametrize(
    ("frame", "reason"),
    [
        pytest.param(b"", "truncated_frame", id="empty"),
        pytest.param(wrapped(EVENT)[:-1], "truncated_frame", id="truncated"),
        pytest.param(wrapped(EVENT)[:60], "truncated_frame", id="truncated in a name"),
        pytest.param(wrapped(EVENT).replace(b'"0.012"]', b'"0.012"'), "bad_json", id="broken in its levels"),
        pytest.param(wrapped(EVENT) + b"x", "bad_json", id="trailing bytes"),
        pytest.param(b"<html>busy</html>", "bad_json", id="HTML"),
        pytest.param(b'{"e":"depthUpdate","s":"\xff"}', "bad_json", id="not UTF-8"),
        pytest.param(b'{"data":{"b":' + b"[" * 100_000, "bad_json", id="nested without end"),
        pytest.param(b"[]", "bad_frame", id="an array"),
        pytest.param(b"7", "bad_frame", id="a number"),
        pytest.param(wrapped([EVENT]), "bad_frame", id="data an array"),
        pytest.param(wrapped(event(e="trade")), "unknown_event", id="another event"),
        pytest.param(wrapped(event(e="depthupdate")), "unknown_event", id="an event in other letters"),
        pytest.param(wrapped(event(e=...)), "unknown_frame", id="no event"),
        pytest.param(encoded({"stream": "btcusdt@depth"}), "unknown_frame", id="a wrapper without data"),
        pytest.param(encoded({"stream": "btcusdt@depth", "data": None}), "unknown_frame", id="data null"),
        pytest.param(b"{}", "unknown_frame", id="nothing"),
        pytest.param(b'{"id":7}', "unknown_frame", id="an id alone"),
        pytest.param(b'{"result":null}', "unknown_frame", id="a result without an id"),
        pytest.param(wrapped(event(s=...)), "no_symbol", id="no symbol"),
        pytest.param(wrapped(event(s="")), "no_symbol", id="symbol empty"),
        pytest.param(wrapped(event(s=None)), "no_symbol", id="symbol null"),
        pytest.param(wrapped(event(s=7)), "bad_frame", id="symbol a number"),
        pytest.param(wrapped(event(U=...)), "bad_ids", id="no U"),
        pytest.param(wrapped(event(u=...)), "bad_ids", id="no u"),
        pytest.param(wrapped(event(U=106)), "bad_ids", id="ids that fall"),
        pytest.param(wrapped(event(U=-1)), "bad_frame", id="a negative id"),
        pytest.param(wrapped(event(u=2**63)), "bad_frame", id="an id beyond 63 bits"),
        pytest.param(wrapped(event(u="105")), "bad_frame", id="an id a text"),
        pytest.param(wrapped(event(u=105.5)), "bad_frame", id="an id with a fraction"),
        pytest.param(wrapped(event(pu=-1)), "bad_frame", id="a negative pu"),
        pytest.param(wrapped(event(E="now")), "bad_frame", id="time a text"),
    ],
)
def test_a_frame_that_is_nothing_known_is_poison_with_a_bounded_reason(frame, reason) -> None:
    for adapter in VENUES.values():
        with pytest.raises(PoisonMessage) as caught:
            adapter.read_frame(frame)
        assert caught.value.reason == reason
        assert len(str(caught.value)) < 1000, "what is shown of a frame is bounded"


def test_an_unknown_event_of_any_length_is_shown_shortened() -> None:
    with pytest.raises(PoisonMessage) as caught:
        FUTURE.read_frame(wrapped(event(e="x" * 100_000)))
    assert len(str(caught.value)) < 1000


# --- envelopes --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bare", [False, True], ids=["wrapped", "bare"])
def test_the_envelope_of_an_update_has_its_levels_as_they_were_sent(bare) -> None:
    bids, asks = b'[["63943.90","0.012"],["63943.80","0"]]', b'[["63944.00","1.500"]]'
    payload = encoded(EVENT) if bare else wrapped(EVENT)
    assert FUTURE.parse_update(payload) == UpdateEnvelope("BTCUSDT", IDS, EVENT["E"], EVENT["T"], bids, asks)


def test_of_spot_the_envelope_has_no_transaction_time_and_no_previous_id() -> None:
    envelope = SPOT.parse_update(wrapped(event(T=..., pu=...)))
    assert (envelope.transaction_ms, envelope.ids.prev_id) == (None, None)
    assert envelope.event_ms == EVENT["E"]


@pytest.mark.parametrize(
    ("frame", "reason"),
    [
        pytest.param(encoded({"result": None, "id": 1}), "not_an_update", id="an answer"),
        pytest.param(wrapped({"e": "serverShutdown"}), "not_an_update", id="a notice"),
        pytest.param(wrapped(event(b=...)), "not_an_update", id="no bids"),
        pytest.param(wrapped(event(a=None)), "not_an_update", id="asks null"),
        pytest.param(wrapped(event(a={})), "not_an_update", id="asks an object"),
        pytest.param(wrapped(event(b="1")), "not_an_update", id="bids a text"),
        pytest.param(wrapped(event(s="")), "no_symbol", id="no symbol"),
        pytest.param(wrapped(event(u=100)), "bad_ids", id="ids that fall"),
        pytest.param(b"<html>", "bad_json", id="HTML"),
    ],
)
def test_an_envelope_is_of_an_update_with_two_sides_or_poison(frame, reason) -> None:
    with pytest.raises(PoisonMessage) as caught:
        FUTURE.parse_update(frame)
    assert caught.value.reason == reason


@given(
    st.binary(max_size=200)
    | st.recursive(
        st.none() | st.integers() | st.text(),
        lambda inner: (
            st.lists(inner)
            | st.dictionaries(st.sampled_from(["e", "s", "U", "u", "b", "data", "id", "result", "error"]), inner)
        ),
    ).map(lambda value: json.dumps(value).encode())
)
def test_whatever_comes_is_a_frame_or_poison(payload) -> None:
    for read in (SPOT.read_frame, SPOT.parse_update):
        try:
            read(payload)
        except PoisonMessage as poison:
            assert poison.reason.isidentifier()  # noqa: PT017 - either is right


def test_the_shortened_frame_stays_readable() -> None:
    with pytest.raises(PoisonMessage, match="btcusdt@trade"):
        FUTURE.read_frame(encoded({"stream": "btcusdt@trade", "data": {"e": "trade", "s": "BTCUSDT"}}))
