"""Binance: paths, weights, budgets, and the name of everything an answer can be."""

from __future__ import annotations

import json
from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import PoisonMessage
from shared.venues import VENUES, venue
from shared.venues.base import MINUTE_NS, REASONS, SECOND_NS
from shared.venues.binance_answers import DEFAULT_BAN_NS, GEO_BLOCK_NS, LONGEST_BAN_NS, WAF_BAN_NS
from tests.support import CAPTURES, needs_captures

NOW = 1_700_000_010 * SECOND_NS
NEXT_MINUTE = (NOW // MINUTE_NS + 1) * MINUTE_NS
FUTURE, INVERSE, SPOT = (venue("binance", market) for market in ("future", "inverse", "spot"))
BOOK = b'{"lastUpdateId":7,"E":2,"T":1,"bids":[["1.0","2"]],"asks":[["3","4"]]}'


def error(code: int, text: str = "") -> bytes:
    return json.dumps({"code": code, "msg": text}).encode()


def banned_text(seconds: float) -> bytes:
    until_ms = NOW // 1_000_000 + int(seconds * 1000)
    return error(-1003, f"Way too many requests; IP(1.2.3.4) banned until {until_ms}. Please use the websocket.")


def judge(status: int, body: bytes, headers: dict[str, str] | None = None, symbol: str = "BTCUSDT", last=None):
    return FUTURE.classify(status, headers or {}, body, NOW, symbol=symbol, last_update_id=last)


@pytest.mark.parametrize(
    ("adapter", "path"), [(FUTURE, "/fapi/v1/depth"), (INVERSE, "/dapi/v1/depth"), (SPOT, "/api/v3/depth")]
)
@pytest.mark.parametrize("symbol", ["BTCUSDT", "BTCUSD_PERP", "币安人生USDT", "A&limit=5", "A B", "Ä/?#%"])
def test_the_request_names_the_symbol_whatever_its_letters(adapter, path, symbol) -> None:
    made = urlsplit(adapter.depth_path(symbol, 100))
    assert made.path == path
    assert parse_qs(made.query) == {"symbol": [symbol], "limit": ["100"]}
    assert adapter.depth_path(symbol, 100).isascii()


@pytest.mark.parametrize(
    ("adapter", "weights"),
    [
        pytest.param(FUTURE, {5: 2, 10: 2, 20: 2, 50: 2, 100: 5, 500: 10, 1000: 20}, id="future"),
        pytest.param(INVERSE, {5: 2, 10: 2, 20: 2, 50: 2, 100: 5, 500: 10, 1000: 20}, id="inverse"),
        pytest.param(SPOT, {1: 5, 100: 5, 101: 25, 500: 25, 501: 50, 1000: 50, 1001: 250, 5000: 250}, id="spot"),
    ],
)
def test_what_a_book_weighs(adapter, weights) -> None:
    assert {limit: adapter.depth_weight(limit) for limit in weights} == weights


@pytest.mark.parametrize(
    ("adapter", "limit"), [(FUTURE, 0), (FUTURE, 99), (FUTURE, 5000), (INVERSE, 1001), (SPOT, 0), (SPOT, 5001)]
)
def test_a_limit_the_venue_refuses_is_named(adapter, limit) -> None:
    assert str(limit) in adapter.check_limit(limit)
    with pytest.raises(ValueError, match="refused"):
        adapter.depth_weight(limit)


def test_both_futures_markets_share_one_budget_and_spot_has_its_own() -> None:
    assert FUTURE.shared_weight_group == INVERSE.shared_weight_group != SPOT.shared_weight_group
    assert (FUTURE.default_weight_limit, SPOT.default_weight_limit) == (2400, 6000)
    assert (FUTURE.instruments_weight, SPOT.instruments_weight) == (1, 20)
    assert set(VENUES) == {("binance", "future"), ("binance", "inverse"), ("binance", "spot")}


def exchange_info(*limits: tuple[str, str, int, int]) -> bytes:
    names = ("rateLimitType", "interval", "intervalNum", "limit")
    return json.dumps({"rateLimits": [dict(zip(names, limit, strict=True)) for limit in limits]}).encode()


@pytest.mark.parametrize(
    ("limits", "per_minute"),
    [
        pytest.param([("REQUEST_WEIGHT", "MINUTE", 1, 2400), ("ORDERS", "MINUTE", 1, 9)], 2400, id="as today"),
        pytest.param([("REQUEST_WEIGHT", "MINUTE", 5, 2400)], 480, id="per five minutes"),
        pytest.param([("REQUEST_WEIGHT", "SECOND", 10, 100)], 600, id="per ten seconds"),
        pytest.param(
            [("REQUEST_WEIGHT", "MINUTE", 1, 6000), ("REQUEST_WEIGHT", "HOUR", 1, 60_000)], 1000, id="the tightest"
        ),
    ],
)
def test_the_weight_limit_is_read_from_the_venue(limits, per_minute) -> None:
    assert FUTURE.weight_limit(exchange_info(*limits)) == per_minute


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"<html>", id="html"),
        pytest.param(b"{}", id="no rateLimits"),
        pytest.param(exchange_info(("ORDERS", "MINUTE", 1, 1)), id="no weight limit"),
        pytest.param(exchange_info(("REQUEST_WEIGHT", "MINUTE", 1, 0)), id="zero"),
        pytest.param(exchange_info(("REQUEST_WEIGHT", "MOON", 1, 5)), id="unknown interval"),
        pytest.param(error(-1003), id="error"),
    ],
)
def test_an_instrument_list_without_a_weight_limit_is_poison_not_a_guess(body) -> None:
    with pytest.raises(PoisonMessage):
        FUTURE.weight_limit(body)


def test_only_trading_symbols_count_in_either_spelling() -> None:
    body = json.dumps(
        {
            "symbols": [
                {"symbol": "A", "status": "TRADING"},
                {"symbol": "B", "status": "SETTLING"},
                {"symbol": "C", "contractStatus": "TRADING"},
                {"symbol": "D"},
            ]
        }
    ).encode()
    assert {item.symbol for item in INVERSE.instruments(body) if item.trading} == {"A", "C"}


@pytest.mark.parametrize(
    ("headers", "used"),
    [({"X-MBX-USED-WEIGHT-1M": "123"}, 123), ({"x-mbx-used-weight-1m": " 5 "}, 5), ({}, None)]
    + [({"X-MBX-USED-WEIGHT-1M": text}, None) for text in ("", "-1", "1.5", "٣", "x")],
)
def test_used_weight_is_the_header_or_unknown(headers, used) -> None:
    assert FUTURE.used_weight(headers) == used


# One row per fault of the venue's pages: status, body, headers, reason, action, until (relative to NOW), gap cause.
ANSWERS = {
    "429 with Retry-After": (429, error(-1003), {"Retry-After": "7"}, "rate_limited", "hold", 7 * SECOND_NS, "poll"),
    "429 no wait": (429, b"", {"Retry-After": "0"}, "rate_limited", "hold", SECOND_NS, "poll"),
    "429 without": (429, error(-1003, "Too many requests"), {}, "rate_limited", "hold", NEXT_MINUTE - NOW, "poll"),
    "429 nonsense wait": (429, b"", {"Retry-After": "soon"}, "rate_limited", "hold", NEXT_MINUTE - NOW, "poll"),
    "429 endless wait": (429, b"", {"Retry-After": "9" * 30}, "rate_limited", "hold", NEXT_MINUTE - NOW, "poll"),
    "429 html": (429, b"<html>", {}, "rate_limited", "hold", NEXT_MINUTE - NOW, "poll"),
    "429 that bans": (429, banned_text(300), {}, "banned", "stand_down", 300 * SECOND_NS, "ban"),
    "418 until": (418, banned_text(600), {}, "banned", "stand_down", 600 * SECOND_NS, "ban"),
    "418 Retry-After": (418, error(-1003), {"Retry-After": "90"}, "banned", "stand_down", 90 * SECOND_NS, "ban"),
    "418 both, text later": (
        418, banned_text(600), {"Retry-After": "60"}, "banned", "stand_down", 600 * SECOND_NS, "ban"
    ),
    "418 both, header later": (
        418, banned_text(60), {"Retry-After": "600"}, "banned", "stand_down", 600 * SECOND_NS, "ban"
    ),
    "418 bare": (418, b"", {}, "banned", "stand_down", DEFAULT_BAN_NS, "ban"),
    "418 until the past": (418, banned_text(-5), {}, "banned", "stand_down", DEFAULT_BAN_NS, "ban"),
    "418 until never": (418, banned_text(10**9), {}, "banned", "stand_down", DEFAULT_BAN_NS, "ban"),
    "403": (403, b"<html>403</html>", {}, "waf_blocked", "stand_down", WAF_BAN_NS, "ban"),
    "403 Retry-After": (403, b"", {"Retry-After": "9"}, "waf_blocked", "stand_down", 9 * SECOND_NS, "ban"),
    "451": (451, error(0, "restricted location"), {}, "geo_blocked", "stand_down", GEO_BLOCK_NS, "ban"),
    "408": (408, error(-1007), {}, "backend_timeout", "continue", None, "poll"),
    "500": (500, error(-1001), {}, "internal_error", "continue", None, "poll"),
    "503 unknown": (503, error(-1000, "Unknown error, please check"), {}, "unknown_error", "continue", None, "poll"),
    "503 unavailable": (503, error(-1016, "Service Unavailable."), {}, "unavailable", "continue", None, "poll"),
    "503 internal": (
        503, error(-1001, "Internal error; unable to process your request. Please try again."), {},
        "internal_error_retry", "continue", None, "poll",
    ),
    "503 html": (503, b"<html><h1>503</h1>", {}, "unavailable", "continue", None, "poll"),
    "503 overloaded": (503, error(-1008), {}, "overloaded", "continue", None, "poll"),
    "502": (502, b"<html>", {}, "unexpected_status", "continue", None, "poll"),
    "302": (302, b"", {}, "unexpected_status", "continue", None, "poll"),
    "400 invalid symbol": (400, error(-1121, "Invalid symbol."), {}, "invalid_symbol", "continue", None, "poll"),
    "400 other": (400, error(-1102), {}, "bad_request", "continue", None, "poll"),
    "400 too many": (400, error(-1003), {}, "rate_limited", "hold", NEXT_MINUTE - NOW, "poll"),
    "a book with status 500": (500, BOOK, {}, "internal_error", "continue", None, "poll"),
    "200 too many": (200, error(-1003), {}, "rate_limited", "hold", NEXT_MINUTE - NOW, "poll"),
    "200 banned": (200, banned_text(50), {}, "banned", "stand_down", 50 * SECOND_NS, "ban"),
    "200 invalid symbol": (200, error(-1121), {}, "invalid_symbol", "continue", None, "poll"),
    "200 error": (200, error(-1000), {}, "error_body", "continue", None, "poll"),
    "200 empty": (200, b"", {}, "empty_body", "continue", None, "poll"),
    "200 blank": (200, b" \n", {}, "empty_body", "continue", None, "poll"),
    "200 html": (200, b"\n <!DOCTYPE html>", {}, "html_body", "continue", None, "poll"),
    "200 cut": (200, BOOK[:-5], {}, "truncated_body", "continue", None, "poll"),
    "200 trailing": (200, BOOK + b"{}", {}, "bad_json", "continue", None, "poll"),
    "200 text": (200, b"ok", {}, "bad_json", "continue", None, "poll"),
    "200 nested too deep": (200, b'{"bids":' + b"[" * 100_000, {}, "bad_json", "continue", None, "poll"),
    "200 array": (200, b"[]", {}, "not_a_book", "continue", None, "poll"),
    "200 null": (200, b"null", {}, "not_a_book", "continue", None, "poll"),
    "200 other object": (200, b'{"serverTime":1}', {}, "not_a_book", "continue", None, "poll"),
    "200 no id": (200, b'{"bids":[],"asks":[]}', {}, "not_a_book", "continue", None, "poll"),
    "200 text id": (200, b'{"lastUpdateId":"7","bids":[],"asks":[]}', {}, "not_a_book", "continue", None, "poll"),
    "200 huge id": (
        200, b'{"lastUpdateId":18446744073709551615,"bids":[],"asks":[]}', {}, "not_a_book", "continue", None, "poll"
    ),
    "200 bids no array": (200, b'{"lastUpdateId":7,"bids":{},"asks":[]}', {}, "not_a_book", "continue", None, "poll"),
    "200 asks missing": (200, b'{"lastUpdateId":7,"bids":[]}', {}, "not_a_book", "continue", None, "poll"),
}  # fmt: skip


@pytest.mark.parametrize("name", ANSWERS)
def test_every_answer_has_its_name_its_action_and_its_cause(name) -> None:
    status, body, headers, reason, action, wait_ns, cause = ANSWERS[name]
    outcome = judge(status, body, headers)
    until_ns = None if wait_ns is None else NOW + wait_ns
    assert (outcome.reason, outcome.action, outcome.cause, outcome.ok) == (reason, action, cause, False)
    if until_ns is not None and "until" in str(body):
        assert abs(outcome.until_ns - until_ns) < SECOND_NS  # the text is in milliseconds
    else:
        assert outcome.until_ns == until_ns
    assert outcome.text


def test_retry_after_may_be_a_date() -> None:
    outcome = judge(429, b"", {"Retry-After": "Tue, 14 Nov 2023 22:13:50 GMT"})
    assert outcome.until_ns == 1_700_000_030 * SECOND_NS


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(BOOK, id="futures"),
        pytest.param(b'{"lastUpdateId":7,"bids":[],"asks":[]}', id="no levels, no times"),
        pytest.param(b'{"x":{"y":[1]},"asks":[],"lastUpdateId":7,"bids":[],"st":1}', id="unknown fields, other order"),
        pytest.param(b' {"lastUpdateId": 7, "bids": [ ], "asks": [ ]} ', id="spaces"),
    ],
)
def test_a_book_is_a_book(body) -> None:
    assert judge(200, body).last_update_id == 7
    assert judge(200, body).ok


def test_a_body_that_names_another_symbol_is_foreign() -> None:
    body = b'{"lastUpdateId":7,"symbol":"ETHUSD_PERP","pair":"ETHUSD","bids":[],"asks":[]}'
    assert INVERSE.classify(200, {}, body, NOW, symbol="BTCUSD_PERP").reason == "foreign_symbol"
    assert INVERSE.classify(200, {}, body, NOW, symbol="ETHUSD_PERP").ok


@pytest.mark.parametrize(("last", "reason"), [(None, "ok"), (6, "ok"), (7, "ok"), (8, "went_backwards")])
def test_an_id_never_falls_and_may_stand_still(last, reason) -> None:
    assert judge(200, BOOK, last=last).reason == reason


@given(st.integers(100, 599), st.binary(max_size=60), st.dictionaries(st.sampled_from(["Retry-After"]), st.text()))
def test_whatever_comes_has_a_known_name_and_an_end_within_the_longest_ban(status, body, headers) -> None:
    outcome = judge(status, body, headers)
    assert outcome.reason in REASONS
    assert (outcome.until_ns is not None) == (outcome.action != "continue")
    if outcome.until_ns is not None:
        assert NOW < outcome.until_ns <= NOW + LONGEST_BAN_NS


def test_the_envelope_holds_the_level_arrays_as_they_stand_in_the_payload() -> None:
    body = b'{"lastUpdateId":7,"E":2,"T":1,"bids":[ ["1.0" ,"2"] ],"asks":[]}'
    found = FUTURE.parse_snapshot(body)
    assert (found.last_update_id, found.event_ms, found.transaction_ms) == (7, 2, 1)
    assert (found.bids, found.asks) == (b'[ ["1.0" ,"2"] ]', b"[]")


@pytest.mark.parametrize("name", [name for name, row in ANSWERS.items() if row[0] == 200])
def test_what_is_no_book_is_poison_with_a_bounded_reason(name) -> None:
    with pytest.raises(PoisonMessage) as caught:
        FUTURE.parse_snapshot(ANSWERS[name][1])
    assert caught.value.reason in {"empty_body", "html_body", "error_body", "truncated_body", "bad_json", "not_a_book"}


captured = sorted(CAPTURES.glob("binance_*/http/*.json"))


@needs_captures
@pytest.mark.parametrize("path", captured, ids=lambda path: f"{path.parts[-3]}-{path.stem}")
def test_every_captured_answer_is_understood(path) -> None:
    request = json.loads(path.read_bytes())
    host = urlsplit(request["url"]).hostname
    adapter = {"fapi.binance.com": FUTURE, "dapi.binance.com": INVERSE, "api.binance.com": SPOT}[host]
    body = request["body"].encode()
    if "exchangeInfo" in path.name:
        assert adapter.weight_limit(body) in {1200, 2400}
        assert any(item.trading for item in adapter.instruments(body))
        return
    symbol = parse_qs(urlsplit(request["url"]).query)["symbol"][0]
    outcome = adapter.classify(200, {}, body, NOW, symbol=symbol)
    found = adapter.parse_snapshot(body)
    whole = json.loads(body)
    assert outcome.ok
    assert found.last_update_id == outcome.last_update_id == whole["lastUpdateId"]
    assert (found.event_ms, found.transaction_ms) == (whole.get("E"), whole.get("T"))
    assert (json.loads(found.bids), json.loads(found.asks)) == (whole["bids"], whole["asks"])
