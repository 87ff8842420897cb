"""The pure parts of the simulator's streams: names, frames, control messages, counters, and who gets which event."""

import json

import pytest

from simulator.clock import EventClock
from simulator.depth_event import Event
from simulator.exchange import SyntheticMarket
from simulator.feed import Feed
from simulator.frame_truth import FrameTruth
from simulator.stream_control import ControlError, read_request
from simulator.stream_limits import Attempts, StreamLimits, Window
from simulator.websocket_frames import CLOSE, close_frame, frame

START_MS = 1_767_225_600_000


class Kept:
    """A listener that keeps what it is given."""

    def __init__(self, waiting=0):
        self.got = []
        self.waiting = waiting

    def deliver(self, event, name):
        self.got.append((event.symbol, event.last_id, name))

    def buffered_bytes(self):
        return self.waiting


def event(symbol="BTCUSDT", last_id=9, **changes):
    return Event(symbol, last_id - 1, last_id, last_id - 5, 1000, b'{"e":"depthUpdate"}', **changes)


@pytest.mark.parametrize("market", ["future", "inverse"])
@pytest.mark.parametrize("cadence", ["", "@0ms", "@100ms", "@250ms", "@500ms"])
def test_futures_have_five_cadences(market, cadence):
    assert Feed(market).depth_symbol(f"btcusdt@depth{cadence}") == "btcusdt"


@pytest.mark.parametrize(
    ("cadence", "symbol"), [("", "btcusdt"), ("@100ms", "btcusdt"), ("@1000ms", "btcusdt"), ("@0ms", None)]
)
def test_spot_has_three(cadence, symbol):
    assert Feed("spot").depth_symbol(f"btcusdt@depth{cadence}") == symbol


@pytest.mark.parametrize(
    "name", ["", "btcusdt", "@depth", "BTCUSDT@depth", "btcusdt@depth5", "btcusdt@trade", "btcusdt@depth@1s"]
)
def test_other_names_are_no_depth_stream(name):
    assert Feed("future").depth_symbol(name) is None


def test_an_event_goes_to_those_who_listen_to_its_symbol_under_each_of_their_names():
    feed, one, two = Feed("future"), Kept(), Kept()
    seen = []
    feed.observers.append(lambda event: seen.append(event.last_id))
    feed.add("btcusdt", one, "btcusdt@depth")
    feed.add("btcusdt", one, "btcusdt@depth@100ms")
    feed.add("btcusdt", two, "btcusdt@depth")
    feed.add("ethusdt", two, "ethusdt@depth")
    feed.publish(event(last_id=9))
    feed.remove(one, "btcusdt@depth")
    feed.remove(two)
    feed.publish(event(last_id=20))
    feed.publish(event("ETHUSDT", 21))
    assert one.got == [
        ("BTCUSDT", 9, "btcusdt@depth"),
        ("BTCUSDT", 9, "btcusdt@depth@100ms"),
        ("BTCUSDT", 20, "btcusdt@depth@100ms"),
    ]
    assert two.got == [("BTCUSDT", 9, "btcusdt@depth")]
    assert (seen, feed.events) == ([9, 20, 21], 3)
    assert (feed.listened("BTCUSDT"), feed.listened("ETHUSDT")) == (True, False)


def test_a_feed_is_backed_up_when_one_of_its_listeners_is():
    feed = Feed("spot")
    feed.add("btcusdt", Kept(waiting=10), "btcusdt@depth")
    feed.add("btcusdt", Kept(waiting=100), "btcusdt@depth")
    assert feed.backed_up(99)
    assert not feed.backed_up(100)


def test_a_symbol_is_mute_for_so_long():
    now = [5.0]
    feed = Feed("spot", lambda: now[0])
    feed.mute("BTCUSDT", 2)
    assert (feed.muted("BTCUSDT"), feed.muted("ETHUSDT")) == (True, False)
    now[0] = 7.0
    assert not feed.muted("BTCUSDT")


def test_an_event_is_framed_once_for_a_name():
    made = event()
    assert made.payload("x@depth") == b'{"stream":"x@depth","data":{"e":"depthUpdate"}}'
    assert made.payload(None) == b'{"e":"depthUpdate"}'
    assert made.frame("x@depth") is made.frame("x@depth")
    assert made.frame("x@depth") != made.frame(None)


def test_a_recorded_event_keeps_its_wrapper_whatever_was_asked_for():
    made = event(head=b'{"stream": "x@depth@0ms","data":', tail=b" }")
    assert made.payload("x@depth") == b'{"stream": "x@depth@0ms","data":{"e":"depthUpdate"} }'


@pytest.mark.parametrize("market", ["future", "inverse", "spot"])
def test_whoever_moves_a_book_its_events_go_out_in_order_and_once(market):
    source, kept = SyntheticMarket(market, EventClock(START_MS, 0), seed=3, symbols=2), Kept()
    symbol = source.symbols()[0]
    source.watch(symbol.lower(), FrameTruth())
    source.feed.add(symbol.lower(), kept, "x")
    for _ in range(3):
        source.clock.step(1000)
        answered = json.loads(source.answer(symbol, 5).body)["lastUpdateId"]
        assert kept.got[-1][1] == answered
        source.advance()
        assert kept.got[-1][1] == answered
    ids = [last_id for _, last_id, _ in kept.got]
    assert ids == sorted(set(ids))
    assert len(ids) > 25


def test_events_of_a_symbol_nobody_ever_asked_for_are_not_made():
    source = SyntheticMarket("future", EventClock(START_MS, 0), seed=3, symbols=2)
    source.answer("BTCUSDT", 5)
    source.clock.step(1000)
    source.advance()
    assert source.feed.events == 0


def test_a_market_lists_no_more_symbols_than_have_ids():
    source = SyntheticMarket("spot", EventClock(START_MS, 0), seed=3, symbols=1022)
    source.list_symbol("AUSDT", "TRADING", FrameTruth())
    with pytest.raises(ValueError, match="as many symbols as it can"):
        source.list_symbol("BUSDT", "TRADING", FrameTruth())


@pytest.mark.parametrize(
    ("size", "head"),
    [(0, "8100"), (125, "817d"), (126, "817e007e"), (65535, "817effff"), (65536, "817f0000000000010000")],
)
def test_a_frame_says_its_length_in_the_shortest_form(size, head):
    made = frame(b"x" * size)
    assert (made[: len(head) // 2].hex(), made[len(head) // 2 :]) == (head, b"x" * size)


def test_a_close_frame_holds_code_and_reason_within_a_control_frame():
    assert close_frame(1008, "no") == bytes([CLOSE, 4]) + b"\x03\xf0no"
    assert close_frame(1008, "x" * 500)[1] == 125


@pytest.mark.parametrize("request_id", [0, 7, "a", None])
def test_a_request_is_read_with_its_id(request_id):
    text = json.dumps({"method": "SUBSCRIBE", "params": ["a@depth", "b@depth"], "id": request_id})
    request = read_request(text)
    assert (request.method, request.names, request.request_id) == ("SUBSCRIBE", ["a@depth", "b@depth"], request_id)


@pytest.mark.parametrize("request_id", ["-1", "true", "1.5", "[]"])
def test_an_id_that_is_none_is_refused(request_id):
    with pytest.raises(ControlError, match="unsigned integer"):
        read_request(f'{{"method":"LIST_SUBSCRIPTIONS","id":{request_id}}}')


def test_bytes_that_are_no_text_are_refused():
    with pytest.raises(ControlError):
        read_request(b"\xff\xfe")


def test_a_window_counts_the_latest_second():
    window = Window(2, 1.0)
    assert [window.take(at) for at in (0.0, 0.5, 0.9, 1.0, 1.6, 2.7)] == [True, True, False, False, False, True]


def test_attempts_are_counted_by_market_and_address_and_refused_ones_too():
    attempts = Attempts(1)
    takes = [
        ("future", "a", 0),
        ("future", "a", 1),
        ("future", "b", 1),
        ("spot", "a", 1),
        ("future", "a", 300),
        ("future", "a", 601),
    ]
    assert [attempts.take(*take) for take in takes] == [True, False, True, True, False, True]


def test_the_venues_limits_hold_unless_told():
    limits = StreamLimits()
    assert [limits.messages(market) for market in ("future", "inverse", "spot")] == [10, 10, 5]
    assert [(limits.ping_every(m), limits.pong_within(m)) for m in ("future", "spot")] == [(180, 600), (20, 60)]
    assert (limits.max_age_seconds, limits.max_streams, limits.connects_per_five_minutes) == (86400, 1024, 300)


def test_shorter_pings_shorten_the_patience_alike():
    limits = StreamLimits(ping_seconds=3, messages_per_second=99, max_age_seconds=10)
    assert [round(limits.pong_within(m)) for m in ("future", "spot")] == [10, 9]
    assert (limits.messages("spot"), limits.notice_seconds()) == (99, 2)
