"""Capture mode: recorded bodies verbatim, then the book that the venue's own rule gives, by event time."""

import json
from pathlib import Path

import pytest

from simulator.capture import CaptureMarket
from simulator.capture_files import captured_markets
from simulator.clock import EventClock
from simulator.firehose import FirehoseMarket
from simulator.frame_truth import FrameTruth
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


class Kept:
    """A listener that keeps the ids it is given."""

    def __init__(self):
        self.got = []
        self.waiting = 0

    def deliver(self, event, _name):
        self.got.append(event)

    def buffered_bytes(self):
        return self.waiting

    @property
    def ids(self):
        return [event.last_id for event in self.got]


def listen(market, *symbols):
    kept = Kept()
    for symbol in symbols:
        market.watch(symbol, FrameTruth())
        market.feed.add(symbol, kept, "x")
    return kept


def test_frames_go_out_by_event_time_and_wait_for_the_snapshot_they_need(folder):
    clock = EventClock(0, 0)
    market = CaptureMarket("future", clock, [folder])
    kept = listen(market, "ausdt")
    market.advance()
    assert kept.ids == [100]  # the snapshot holds it
    clock.step(10**9)
    market.advance()
    assert kept.ids == [100]
    assert poll(market).recorded
    market.advance()
    assert kept.ids == [100, 110]  # the clock stood still at this one
    clock.step(999)
    market.advance()
    assert kept.ids == [100, 110]
    clock.step(1)
    market.advance()
    assert kept.ids == [100, 110, 120]
    assert market.progress() == {"frames": 3, "passed": 3, "ended": True, "not_served": []}


def test_a_frame_that_waits_holds_every_symbol_of_its_market_back(folder, tmp_path_factory):
    other = tmp_path_factory.mktemp("other")
    (other / "http").mkdir()
    body = '{"lastUpdateId":7,"E":5000,"T":1,"bids":[],"asks":[]}'
    recorded = {"url": "https://fapi.binance.com/fapi/v1/depth?symbol=BUSDT&limit=1000", "body": body}
    (other / "http" / "000.json").write_text(json.dumps(recorded))
    frames = [diff(s="BUSDT", E=at, U=at, u=at, pu=at - 1) for at in (5000, 5500, 6200, 7300)]
    (other / "ws.jsonl").write_text("\n".join(map(frame, frames)) + "\n")
    clock = EventClock(0, 0)
    market = CaptureMarket("future", clock, [folder, other])
    kept = listen(market, "ausdt", "busdt")
    market.answer("BUSDT", 1000)
    market.served("BUSDT")
    clock.step(10**9)
    market.advance()
    assert kept.ids == [100, 5000, 5500]  # up to 1100 ms after the beginning, where AUSDT waits
    poll(market)
    clock.step(10**9)
    market.advance()
    assert kept.ids == [100, 5000, 5500, 110, 6200, 120, 7300]


def test_an_answer_is_the_book_at_the_last_frame_that_went_out(folder):
    clock = EventClock(0, 0)
    market = CaptureMarket("future", clock, [folder])
    kept = listen(market, "ausdt")
    poll(market)
    for _ in range(4):
        clock.step(700)
        answered = json.loads(poll(market).body)["lastUpdateId"]
        assert answered == max(100, *kept.ids)
    assert answered == 120


def test_a_session_begins_with_its_first_subscription(folder):
    clock = EventClock(0, 0)
    market = CaptureMarket("future", clock, [folder])
    clock.step(10**9)
    market.advance()
    assert market.progress()["passed"] == 0
    listen(market, "nosuch")
    market.advance()
    assert market.progress()["passed"] == 0
    listen(market, "ausdt")
    market.advance()
    assert market.progress()["passed"] == 1


def test_a_session_can_wait_for_all_its_symbols(folder):
    clock = EventClock(0, 0)
    market = CaptureMarket("future", clock, [folder], await_all=True)
    poll(market)
    clock.step(10**9)
    market.advance()
    assert market.progress()["passed"] == 0
    kept = listen(market, "ausdt")
    clock.step(10**9)
    market.advance()
    assert kept.ids == [100, 110, 120]


def test_the_truth_of_a_late_subscriber_holds_what_went_by(folder, tmp_path):
    clock = EventClock(0, 0)
    market = CaptureMarket("future", clock, [folder])
    poll(market)
    clock.step(1100)
    market.advance()
    with (tmp_path / "frames.jsonl").open("wb") as file:
        truth = FrameTruth(file)
        market.watch("ausdt", truth)
        truth.flush()
    base, *events = [json.loads(text) for text in (tmp_path / "frames.jsonl").read_text().splitlines()]
    assert (base["last_id"], base["bids"], base["asks"]) == (100, [["1.10", "5"], ["1.00", "7"]], [["1.20", "3"]])
    assert [event["u"] for event in events] == [100, 110]


def test_a_recorded_market_lists_what_it_listed(folder):
    with pytest.raises(ValueError, match="recorded session"):
        CaptureMarket("future", EventClock(0, 0), [folder]).list_symbol("AUSDT", None, FrameTruth())


def test_the_firehose_keeps_its_rate_rewrites_ids_and_waits_for_its_listeners(folder):
    now = [0.0]
    market = FirehoseMarket("future", EventClock(0, 0), [folder], per_second=100, now=lambda: now[0])
    kept = listen(market, "ausdt")
    market.advance()
    assert (kept.ids, json.loads(market.answer("AUSDT", 5).body)["lastUpdateId"]) == ([], 80)
    for _ in range(7):
        now[0] += 0.0101
        market.advance()
    assert kept.ids == [100, 110, 120, 140, 150, 160, 180]  # a lap spans 80 to 120
    assert [(event.first_id, event.previous_id) for event in kept.got[3:5]] == [(130, 120), (139, 140)]
    assert kept.got[3].payload("x") == frame_text(diff(E=900, U=130, u=140, pu=120, b=[["1.10", "99"]]))
    answer = market.answer("AUSDT", 5)
    assert (answer.last_update_id, json.loads(answer.body)["lastUpdateId"]) == (180, 180)
    now[0] += 60
    market.advance()
    assert len(kept.got) == 7 + 10  # what is long past is not made up for
    kept.waiting = 10**9
    now[0] += 1
    market.advance()
    kept.waiting = 0
    market.advance()
    assert len(kept.got) == 7 + 10


def frame_text(event):
    return json.loads(frame(event))["raw"].encode()
