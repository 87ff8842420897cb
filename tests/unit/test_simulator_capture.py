"""Capture mode: recorded bodies verbatim, then the book that the venue's own rule gives, by event time."""

import json
from pathlib import Path

import pytest

from simulator.capture import CaptureMarket, captured_markets
from simulator.clock import EventClock
from simulator.markets import Refusal

CAPTURES = Path(__file__).parents[3] / "shared" / "captures"
FOLDERS = sorted(CAPTURES.glob("binance_*"))
needs_captures = pytest.mark.skipif(not FOLDERS, reason="recorded sessions are missing at ../shared/captures")


def frame(event):
    return json.dumps({"recv_ns": 1, "raw": json.dumps({"stream": "x", "data": event})})


def diff(**changes):
    event = {"e": "depthUpdate", "E": 2000, "T": 1990, "s": "AUSDT", "U": 5, "u": 9, "pu": 4, "b": [], "a": []}
    return event | changes


@pytest.fixture
def folder(tmp_path):
    """A session of one symbol: snapshot at id 100, one diff it holds already, two that follow, other frames between."""
    (tmp_path / "http").mkdir()
    body = '{"lastUpdateId":100,"E":1000,"T":999,"bids":[["1.10","5"],["1.00","7"]],"asks":[["1.20","3"]]}'
    recorded = {"url": "https://fapi.binance.com/fapi/v1/depth?symbol=AUSDT&limit=1000", "body": body, "recv_ns": 1}
    (tmp_path / "http" / "000.json").write_text(json.dumps(recorded))
    frames = [
        diff(E=900, U=90, u=100, pu=80, b=[["1.10", "99"]]),
        {"e": "bookTicker", "s": "AUSDT", "u": 101},
        diff(E=2000, U=99, u=110, pu=100, b=[["1.10", "0.000"], ["1.05", "2"]]),
        diff(E=3000, T=2990, U=111, u=120, pu=110, a=[["1.15", "1"], ["9.99", "0"]]),
    ]
    (tmp_path / "ws.jsonl").write_text("\n".join(map(frame, frames)) + "\n")
    return tmp_path


def poll(market, limit=1000):
    answer = market.answer("AUSDT", limit)
    market.served("AUSDT")
    return answer


def test_the_first_answer_is_the_recorded_body_and_the_later_ones_follow_the_events(folder):
    clock = EventClock(0, 0)
    market = CaptureMarket("future", clock, [folder])
    recorded = json.loads((folder / "http" / "000.json").read_text())["body"].encode()
    first = poll(market)
    assert (first.body, first.recorded) == (recorded, True)
    clock.step(1099)  # the session began at 900: one before the first diff
    assert poll(market).body == recorded
    clock.step(1)
    assert poll(market).body == (
        b'{"lastUpdateId":110,"E":2000,"T":1990,"bids":[["1.05","2"],["1.00","7"]],"asks":[["1.20","3"]]}'
    )
    clock.step(10**9)
    last = poll(market)
    assert last.body == (
        b'{"lastUpdateId":120,"E":3000,"T":2990,"bids":[["1.05","2"],["1.00","7"]],"asks":[["1.15","1"],["1.20","3"]]}'
    )
    assert (last.bids, last.asks, last.last_update_id, last.recorded) == (2, 2, 120, False)
    assert poll(market, 5).body == last.body
    assert json.loads(poll(market, 1).body)["bids"] == [["1.05", "2"]]


def test_the_clock_begins_at_the_first_request_not_at_the_start(folder):
    clock = EventClock(0, 0)
    market = CaptureMarket("future", clock, [folder])
    clock.step(10**9)
    assert poll(market).recorded
    assert poll(market).recorded


def test_a_recorded_body_that_reached_nobody_is_served_again(folder):
    clock = EventClock(0, 0)
    market = CaptureMarket("future", clock, [folder])
    market.answer("AUSDT", 1000)
    clock.step(10**9)
    assert market.answer("AUSDT", 1000).recorded


def test_on_hold_the_recorded_body_stays(folder):
    clock = EventClock(0, 0)
    market = CaptureMarket("future", clock, [folder], hold=True)
    poll(market)
    clock.step(10**9)
    assert poll(market).recorded


def test_a_symbol_that_was_not_recorded_is_unknown(folder):
    with pytest.raises(Refusal, match="Invalid symbol"):
        CaptureMarket("future", EventClock(0, 0), [folder]).answer("BUSDT", 5)


def test_an_instrument_list_is_made_up_where_none_was_recorded(folder):
    info = json.loads(CaptureMarket("future", EventClock(0, 0), [folder]).info(2400))
    (row,) = info["symbols"]
    assert (row["symbol"], row["baseAsset"], row["quoteAsset"], row["status"]) == ("AUSDT", "A", "USDT", "TRADING")
    assert row["filters"][0]["tickSize"] == "0.01"


def test_a_folder_that_is_no_capture_is_refused_in_words(tmp_path):
    with pytest.raises(ValueError, match="is not a capture"):
        captured_markets(tmp_path)


@needs_captures
@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_a_session_played_to_its_end_gives_the_book_that_was_expected(folder):
    expected = json.loads((folder / "expected.json").read_text())
    seen = set()
    for name in captured_markets(folder):
        clock = EventClock(0, 0)
        market = CaptureMarket(name, clock, [folder])
        for symbol in market.symbols():
            market.answer(symbol, 1000)
            market.served(symbol)
        clock.step(10**9)
        for symbol in market.symbols():
            answer = market.answer(symbol, 10**6)
            assert market.book(symbol).sha256() == expected[symbol]["final_book_sha256"]
            assert answer.last_update_id == expected[symbol]["final_u"]
            assert (answer.bids, answer.asks) == (expected[symbol]["final_bids"], expected[symbol]["final_asks"])
            seen.add(symbol)
    assert seen == set(expected)


@needs_captures
@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_recorded_bodies_are_served_byte_for_byte(folder):
    (name,) = captured_markets(folder)
    market = CaptureMarket(name, EventClock(0, 0), [folder])
    for file in (folder / "http").glob("*depth*.json"):
        recorded = json.loads(file.read_text())
        symbol = recorded["url"].split("symbol=")[1].split("&")[0]
        assert market.answer(symbol, 1000).body == recorded["body"].encode()
    for file in (folder / "http").glob("*exchangeInfo*.json"):
        assert market.info(1) == json.loads(file.read_text())["body"].encode()
