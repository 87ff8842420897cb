"""Synthetic books: the venue's shapes, one story in snapshots and diffs, and nothing but the seed decides."""

import json
import re
from decimal import Decimal

import pytest

from simulator.book import Book
from simulator.clock import EventClock
from simulator.exchange import SyntheticMarket
from simulator.instruments import decimal_text, instruments
from simulator.markets import MARKET_NAMES, MARKETS, Refusal

START_MS = 1_767_225_600_000


def book(market, index=0, *, seed=1, start_ms=START_MS):
    return Book(instruments(market, 12)[index], seed=seed, slot=index, start_ms=start_ms)


def levels(body):
    value = json.loads(body)
    return value["bids"], value["asks"]


@pytest.mark.parametrize(
    ("market", "shape"),
    [
        ("future", rb'\{"lastUpdateId":\d+,"E":\d{13},"T":\d{13},"bids":\[.*\],"asks":\[.*\]\}'),
        (
            "inverse",
            rb'\{"lastUpdateId":\d+,"E":\d{13},"T":\d{13},"symbol":"BTCUSD_PERP","pair":"BTCUSD","bids":\[.*\],"asks":\[.*\]\}',
        ),
        ("spot", rb'\{"lastUpdateId":\d+,"bids":\[.*\],"asks":\[.*\]\}'),
    ],
)
def test_a_body_is_worded_as_its_market_words_it(market, shape):
    body = book(market).answer(1000).body
    assert re.fullmatch(shape, body)
    assert b" " not in body
    assert json.loads(body)


@pytest.mark.parametrize(
    ("market", "price", "quantity"),
    [
        ("future", r"\d+\.\d{2}", r"\d+\.\d{3}"),
        ("inverse", r"\d+\.\d{2}", r"\d+"),
        ("spot", r"\d+\.\d{8}", r"\d+\.\d{8}"),
    ],
)
def test_numbers_have_the_fixed_decimals_of_their_market(market, price, quantity):
    for side in levels(book(market).answer(1000).body):
        assert len(side) == 1000
        for text in side:
            assert re.fullmatch(price, text[0])
            assert re.fullmatch(quantity, text[1])


@pytest.mark.parametrize("market", MARKET_NAMES)
@pytest.mark.parametrize("index", [0, 3, 4, 5])
def test_a_book_stays_sorted_uncrossed_positive_and_near_its_size(market, index):
    made = book(market, index)
    for minute in range(1, 11):
        made.advance(START_MS + minute * 60_000)
        bids, asks = ([Decimal(price) for price, _ in side] for side in levels(made.answer(10**6).body))
        assert bids == sorted(set(bids), reverse=True)
        assert asks == sorted(set(asks))
        assert 0 < bids[-1] <= bids[0] < asks[0] <= bids[0] + 12 * Decimal(made.instrument.tick_size)
        assert abs(len(bids) - made.instrument.bids) <= 10
        assert abs(len(asks) - made.instrument.asks) <= 10
    assert all(Decimal(quantity) > 0 for side in levels(made.answer(10**6).body) for _, quantity in side)
    tick, lot = Decimal(made.instrument.tick_size), Decimal(made.instrument.lot_size)
    for price, quantity in levels(made.answer(10**6).body)[0]:
        assert Decimal(price) % tick == 0
        assert Decimal(quantity) % lot == 0


@pytest.mark.parametrize("market", MARKET_NAMES)
def test_diffs_applied_to_a_snapshot_give_the_later_snapshot(market):
    made = book(market)
    sides = made.bids, made.asks
    before = [{side.tick(depth): side.lots(side.tick(depth)) for depth in range(len(side))} for side in sides]
    diffs = made.advance(START_MS + 60_000)
    assert len(diffs) > 500
    for diff in diffs:
        for kept, changed in zip(before, (diff.bids, diff.asks), strict=True):
            kept.update(changed)
    after = [{side.tick(depth): side.lots(side.tick(depth)) for depth in range(len(side))} for side in sides]
    assert [{tick: lots for tick, lots in kept.items() if lots} for kept in before] == after
    assert diffs[-1].last_id == made.last_update_id == json.loads(made.answer(5).body)["lastUpdateId"]


@pytest.mark.parametrize("market", ["future", "inverse"])
def test_futures_ids_are_sparse_and_chain_by_pu(market):
    made = book(market)
    last = made.last_update_id
    for diff in made.advance(START_MS + 30_000):
        assert diff.previous_id == last < diff.first_id <= diff.last_id
        assert diff.transaction_ms < diff.event_ms
        last = diff.last_id
    assert last < 2**53


def test_spot_ids_are_contiguous():
    made = book("spot")
    last = made.last_update_id
    for diff in made.advance(START_MS + 30_000):
        assert diff.first_id == last + 1 <= diff.last_id
        last = diff.last_id


def test_ids_of_two_symbols_of_a_futures_market_never_meet():
    ids = [{diff.last_id for diff in book("future", index).advance(START_MS + 30_000)} for index in range(4)]
    assert sum(map(len, ids)) == len(set().union(*ids))


def test_how_often_a_book_is_looked_at_changes_nothing():
    once, often = book("future"), book("future")
    once.advance(START_MS + 20_000)
    for now_ms in range(START_MS, START_MS + 20_001, 37):
        often.advance(now_ms)
        often.answer(20)
    often.advance(START_MS + 20_000)
    assert once.answer(1000) == often.answer(1000)


def test_the_seed_decides_and_nothing_else():
    first = SyntheticMarket("future", EventClock(START_MS, 0), seed=7, symbols=5)
    again = SyntheticMarket("future", EventClock(START_MS, 0), seed=7, symbols=30)
    other = SyntheticMarket("future", EventClock(START_MS, 0), seed=8, symbols=5)
    for market in (first, again, other):
        market.clock.step(5_000)
    again.answer("ETHUSDT", 5)
    assert first.answer("BTCUSDT", 1000) == again.answer("BTCUSDT", 1000)
    assert first.answer("BTCUSDT", 1000).sha256 != other.answer("BTCUSDT", 1000).sha256


def test_a_known_book_is_what_it_was_in_every_release_and_python():
    made = book("future")
    assert made.answer(5).body == KNOWN_BODY
    made.advance(START_MS + 10_000)
    assert made.answer(1000).sha256 == KNOWN_SHA256_10_S_LATER


KNOWN_BODY = (
    b'{"lastUpdateId":1809639014400000,"E":1767225600000,"T":1767225600000,'
    b'"bids":[["63943.90","0.002"],["63943.80","0.025"],["63943.70","0.101"],["63943.60","0.603"],["63943.50","0.237"]],'
    b'"asks":[["63944.00","0.028"],["63944.10","0.008"],["63944.20","0.041"],["63944.30","0.034"],["63944.40","0.052"]]}'
)
KNOWN_SHA256_10_S_LATER = "fe69567908a315c7e01c24f46bf7628b94b29f4f01f2fe2a416ab0ce2d81ce1a"


def test_a_rendered_body_is_kept_until_the_book_changes():
    made = book("future")
    first = made.answer(100)
    assert made.answer(100) is first
    assert made.advance(START_MS) == []
    assert made.answer(100) is first
    made.advance(START_MS + 1000)
    assert made.answer(100) is not first
    assert made.answer(100).last_update_id > first.last_update_id


@pytest.mark.parametrize("market", MARKET_NAMES)
def test_a_market_lists_tens_of_symbols_with_thin_and_deep_books(market):
    listed = [item for item in instruments(market, 40) if item.status == "TRADING"]
    assert len(listed) == len({item.symbol for item in listed}) == 40
    assert sum(item.bids > 1000 and item.asks > 1000 for item in listed) >= 10
    assert any((item.bids, item.asks) == (400, 612) for item in listed)
    assert any(not item.symbol.isascii() for item in listed)


@pytest.mark.parametrize("market", MARKET_NAMES)
def test_exchange_info_names_ticks_lots_status_and_the_enforced_limit(market):
    source = SyntheticMarket(market, EventClock(START_MS, 0), seed=1, symbols=9)
    info = json.loads(source.info(1234))
    weight = [limit for limit in info["rateLimits"] if limit["rateLimitType"] == "REQUEST_WEIGHT"]
    assert weight == [{"rateLimitType": "REQUEST_WEIGHT", "interval": "MINUTE", "intervalNum": 1, "limit": 1234}]
    status = "contractStatus" if market == "inverse" else "status"
    assert [row["symbol"] for row in info["symbols"] if row[status] == "TRADING"] == source.symbols()
    filters = {entry["filterType"]: entry for entry in info["symbols"][0]["filters"]}
    assert Decimal(filters["PRICE_FILTER"]["tickSize"]) > 0
    assert Decimal(filters["LOT_SIZE"]["stepSize"]) > 0


def test_a_symbol_that_does_not_trade_has_an_empty_book_that_never_moves():
    source = SyntheticMarket("spot", EventClock(START_MS, 0), seed=1, symbols=2)
    before = source.answer("BCCUSDT", 100)
    source.clock.step(60_000)
    assert source.answer("BCCUSDT", 100) is before
    assert levels(before.body) == ([], [])


@pytest.mark.parametrize("market", ["future", "inverse"])
@pytest.mark.parametrize("text", ["0", "1", "7", "999", "1001", "5000"])
def test_futures_refuse_a_limit_off_their_list(market, text):
    with pytest.raises(Refusal) as refused:
        MARKETS[market].check_limit(text)
    assert (refused.value.status, refused.value.code) == (400, -4021)


@pytest.mark.parametrize("market", MARKET_NAMES)
@pytest.mark.parametrize("text", ["-5", "5.0", "abc", "\u0665", "9" * 21])
def test_a_limit_that_is_no_number_is_refused(market, text):
    with pytest.raises(Refusal) as refused:
        MARKETS[market].check_limit(text)
    assert (refused.value.status, refused.value.code) == (400, -1100)


@pytest.mark.parametrize(
    ("text", "limit"), [(None, 100), ("", 100), ("1", 1), ("777", 777), ("5000", 5000), ("9000", 5000)]
)
def test_spot_takes_any_limit_and_caps_it(text, limit):
    assert MARKETS["spot"].check_limit(text) == limit


@pytest.mark.parametrize(
    ("market", "weights"),
    [
        ("future", {5: 2, 10: 2, 20: 2, 50: 2, 100: 5, 500: 10, 1000: 20}),
        ("inverse", {5: 2, 10: 2, 20: 2, 50: 2, 100: 5, 500: 10, 1000: 20}),
        ("spot", {1: 5, 100: 5, 101: 25, 500: 25, 501: 50, 1000: 50, 1001: 250, 5000: 250}),
    ],
)
def test_a_request_weighs_what_the_venue_says(market, weights):
    assert {limit: MARKETS[market].depth_weight(limit) for limit in weights} == weights


@pytest.mark.parametrize(
    ("units", "decimals", "text"), [(123, 2, "1.23"), (5, 3, "0.005"), (70, 0, "70"), (100_000_000, 8, "1.00000000")]
)
def test_decimals_are_fixed(units, decimals, text):
    assert decimal_text(units, decimals) == text


def test_a_stepped_clock_stands_still_and_a_running_one_multiplies():
    real = [0.0]
    clock = EventClock(START_MS, 0, monotonic=lambda: real[0])
    real[0] = 100.0
    assert clock.now_ms() == START_MS
    assert clock.step(250) == START_MS + 250
    clock.run(10)
    real[0] = 101.5
    assert clock.now_ms() == START_MS + 250 + 15_000
    clock.run(0)
    real[0] = 200.0
    assert clock.now_ms() == START_MS + 250 + 15_000
