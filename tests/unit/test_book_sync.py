"""The order of one symbol: every update once, one gap per hole with what happened in it, none where nothing was lost."""

from __future__ import annotations

import pytest

from services.reader.book_sync import BEHIND_NS, HOLD_NS, UNDECIDED_NS
from shared.messages import Gap
from shared.venues.base import SECOND_NS
from shared.venues.sequence import ContiguousIds
from tests.book_syncs import BOOK, T0, Settings, Symbol, running

UNDECIDED = UNDECIDED_NS / SECOND_NS
BEHIND = BEHIND_NS / SECOND_NS
HOLD = HOLD_NS / SECOND_NS


def test_a_start_is_a_gap_that_knows_nothing_and_wants_an_anchor() -> None:
    symbol = Symbol(subscribed=False)
    assert symbol.gap() == Gap(cause="start")
    assert symbol.sync.wanted(symbol.now) == "gap"
    assert not symbol.sync.anchored


def test_a_started_symbol_tells_no_second_gap_whatever_happens_without_a_record() -> None:
    symbol = Symbol()
    symbol.sync.suspect("malformed")
    symbol.sync.saw_snapshot(500, symbol.now)
    symbol.lost().wait(UNDECIDED + 1).back().wait(100).lost("overflow").back().wait(100)
    assert symbol.told == ["gap start ?..?"]
    assert symbol.resubscribed == 0


def test_the_first_update_follows_whatever_was_before() -> None:
    assert Symbol().update(90, 100).told == ["gap start ?..?", "update 100"]


def test_updates_that_chain_are_published_as_they_came() -> None:
    symbol = running().wait(1).update(100, 107, 105)
    assert symbol.told == ["update 107"]
    record = symbol.records[-1]
    assert (record.book, record.type, record.value) == (BOOK, "update", b"107")
    assert (record.recv_ns, record.ip, record.link, record.last_id) == (symbol.now, "10.0.1.1", 1, 107)


def test_a_skipped_update_is_one_gap_before_the_next_and_an_anchor_is_wanted_at_once() -> None:
    symbol = running().wait(1)
    assert symbol.sync.wanted(symbol.now) is None
    symbol.wait(1).update(110, 115, 112)
    assert symbol.told == ["gap sequence 100..112", "update 115"]
    gap, record = symbol.gap(-2), symbol.records[-2]
    assert gap == Gap(cause="sequence", last_id=100, next_id=112, since_ns=T0)
    assert (record.recv_ns, record.link, record.ip) == (symbol.now, 1, "10.0.0.1")
    assert symbol.sync.wanted(symbol.now) == "gap"
    assert not symbol.sync.anchored
    assert symbol.chain(115, 118).told == ["update 118"]


def test_spot_chains_by_the_next_id() -> None:
    symbol = Symbol(ContiguousIds()).update(None, 10, 8).update(None, 12, 11).update(None, 15, 12).update(None, 20, 17)
    assert symbol.told == ["gap start ?..?", "update 10", "update 12", "update 15", "gap sequence 15..17", "update 20"]


def test_repeats_and_late_updates_are_dropped_and_counted() -> None:
    symbol = running().chain(100, 105, 108)
    symbol.update(105, 108).update(100, 105).update(90, 100).chain(108, 110)
    assert symbol.told == ["update 105", "update 108", "update 110"]
    assert symbol.sync.repeats == 3


def test_of_reordered_updates_the_early_one_shows_a_gap_and_the_late_one_is_dropped() -> None:
    symbol = running().update(103, 105).update(100, 103).chain(105, 108)
    assert symbol.told == ["gap sequence 100..104", "update 105", "update 108"]
    assert symbol.sync.repeats == 1


# --- lost connections -------------------------------------------------------------------------------------------------


def test_a_lost_connection_whose_stream_chains_lost_nothing() -> None:
    symbol = running().lost().wait(20).back().wait(2).update(100, 105).wait(UNDECIDED)
    assert symbol.told == ["update 105"]


def test_a_lost_connection_whose_stream_does_not_chain_is_one_gap() -> None:
    symbol = running().wait(1).lost().wait(20).back().update(105, 109)
    assert symbol.told == ["gap disconnect 100..106", "update 109"]
    assert symbol.gap(-2).since_ns == T0
    assert symbol.wait(UNDECIDED + 1).told == []


def test_a_repeat_after_a_lost_connection_decides_nothing() -> None:
    symbol = running().lost().back().update(90, 100).wait(1).update(105, 109)
    assert symbol.told == ["gap disconnect 100..106", "update 109"]


def test_after_thirty_seconds_without_anything_the_gap_goes_out_and_the_next_update_tells_no_second() -> None:
    symbol = running().lost().wait(UNDECIDED - 0.1)
    assert symbol.told == []
    assert symbol.wait(0.1).told == ["gap disconnect 100..?"]
    assert symbol.wait(UNDECIDED).back().update(105, 109).told == ["update 109"]
    assert symbol.chain(109, 110).wait(UNDECIDED).told == ["update 110"]


def test_a_connection_lost_again_counts_from_the_first_time() -> None:
    symbol = running().lost().wait(20).back().wait(1).lost().wait(9)
    assert symbol.told == ["gap disconnect 100..?"]


def test_a_symbol_without_updates_is_compared_soon_after_its_connection_came_back() -> None:
    symbol = running().lost().wait(1).back()
    assert symbol.wait(4.9).sync.wanted(symbol.now) is None
    assert symbol.wait(0.2).sync.wanted(symbol.now) == "check"


def test_a_hand_over_costs_nothing_where_the_streams_overlap() -> None:
    symbol = running().chain(100, 105)
    symbol.link = 2
    symbol.update(90, 100).chain(100, 105, 108).back()
    assert symbol.told == ["update 105", "update 108"]
    assert symbol.records[-1].link == 2
    assert symbol.sync.repeats == 2


def test_updates_of_the_other_connection_decide_before_its_subscription_is_known() -> None:
    symbol = running().lost()
    symbol.link = 2
    symbol.chain(100, 105).back().wait(UNDECIDED + 1)
    assert symbol.told == ["update 105"]


# --- causes -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("happened", "told"),
    [
        pytest.param((), "sequence", id="nothing known"),
        pytest.param(("malformed",), "malformed", id="a frame that could not be read"),
        pytest.param(("malformed", "disconnect"), "disconnect", id="disconnect over malformed"),
        pytest.param(("disconnect", "malformed"), "disconnect", id="malformed under disconnect"),
        pytest.param(("disconnect", "overflow"), "overflow", id="overflow over disconnect"),
        pytest.param(("overflow", "disconnect", "malformed"), "overflow", id="overflow stays"),
        pytest.param(("stale", "disconnect"), "stale", id="stale over disconnect"),
        pytest.param(("produce", "stale"), "produce", id="produce over stale"),
    ],
)
def test_a_gap_tells_the_heaviest_of_what_happened_in_it(happened, told) -> None:
    symbol = running()
    for cause in happened:
        symbol.sync.suspect(cause)
    assert symbol.update(105, 109).told == [f"gap {told} 100..106", "update 109"]


@pytest.mark.parametrize("lost", [False, True], ids=["suspected", "lost"])
def test_what_an_update_that_chains_has_cleared_is_no_cause_of_a_later_gap(lost) -> None:
    symbol = running()
    if lost:
        symbol.lost("overflow").back()
    else:
        symbol.sync.suspect("malformed")
    assert symbol.chain(100, 105).update(107, 109).told == ["update 105", "gap sequence 105..108", "update 109"]


def test_a_gap_uses_its_cause_up() -> None:
    symbol = running()
    symbol.sync.suspect("malformed")
    symbol.update(105, 109).update(111, 112)
    assert symbol.told == ["gap malformed 100..106", "update 109", "gap sequence 109..112", "update 112"]


def test_an_overflow_without_an_update_is_told_as_such() -> None:
    assert running().lost("overflow").wait(UNDECIDED).told == ["gap overflow 100..?"]


# --- the end ----------------------------------------------------------------------------------------------------------


def test_a_stop_releases_what_waits_and_is_a_gap() -> None:
    symbol = running().wait(3600).ask().update(100, 105)
    assert symbol.told == []
    symbol.sync.stop(symbol.now)
    assert symbol.told == ["update 105", "gap stop 105..?"]
    assert symbol.sync.stopped
    assert symbol.sync.wanted(symbol.now + 10**15) is None


def test_a_stop_in_an_outage_is_one_gap() -> None:
    symbol = running().lost()
    symbol.sync.stop(symbol.now)
    assert symbol.told == ["gap stop 100..?"]


# --- the stale and the silent -----------------------------------------------------------------------------------------


def test_a_symbol_whose_snapshots_move_while_its_stream_is_silent_is_stale() -> None:
    symbol = running()
    symbol.sync.saw_snapshot(105, symbol.now)
    assert symbol.wait(BEHIND - 0.1).told == []
    symbol.sync.saw_snapshot(110, symbol.now)  # the first that moved counts
    assert symbol.wait(0.1).told == ["gap stale 100..?"]
    assert symbol.resubscribed == 1
    assert symbol.sync.wanted(symbol.now) == "gap"
    assert symbol.update(110, 112).told == ["update 112"]


@pytest.mark.parametrize("reached", [105, 108])
def test_a_stream_that_reaches_the_snapshot_is_not_stale(reached) -> None:
    symbol = running()
    symbol.sync.saw_snapshot(105, symbol.now)
    assert symbol.wait(5).update(100, reached).wait(BEHIND + 1).told == [f"update {reached}"]


@pytest.mark.parametrize("why", ["not subscribed", "no newer", "connection lost", "reached what it saw only in part"])
def test_only_a_newer_snapshot_beside_a_standing_subscription_makes_stale(why) -> None:
    symbol = running()
    symbol.live = why != "not subscribed"
    if why == "connection lost":
        symbol.lost().back()
    symbol.sync.saw_snapshot(100 if why == "no newer" else 105, symbol.now)
    if why == "reached what it saw only in part":
        assert symbol.wait(5).update(100, 103).wait(BEHIND - 5).told == ["update 103", "gap stale 103..?"]
    else:
        assert symbol.wait(BEHIND + 1).told == []


def test_after_a_stale_gap_nothing_is_published_a_second_time() -> None:
    symbol = running().chain(100, 105)
    symbol.sync.saw_snapshot(108, symbol.now)
    assert symbol.wait(BEHIND).told == ["update 105", "gap stale 105..?"]
    symbol.link = 2  # what a standby held
    assert symbol.chain(90, 100, 105, 108).told == ["update 108"]
    assert symbol.sync.repeats == 2


def test_on_another_connection_ids_may_begin_anew() -> None:
    symbol = running()
    symbol.sync.saw_snapshot(108, symbol.now)
    symbol.wait(BEHIND).lost().wait(1).back()
    assert symbol.chain(1, 5, 8).told == ["gap stale 100..?", "update 5", "update 8"]


def test_after_a_gap_of_an_outage_ids_may_begin_anew() -> None:
    symbol = running().update(110, 115).lost().back().wait(UNDECIDED)
    assert symbol.told == ["gap sequence 100..111", "update 115", "gap disconnect 115..?"]
    assert symbol.chain(1, 5, 8).told == ["update 5", "update 8"]


def test_a_snapshot_seen_before_the_connection_was_lost_makes_nothing_stale() -> None:
    symbol = running()
    symbol.sync.saw_snapshot(105, symbol.now)
    assert symbol.lost().back().wait(BEHIND + 1).told == []


def test_a_symbol_is_told_to_be_silent_since_its_latest_update_or_subscription() -> None:
    symbol = running().wait(5)
    assert symbol.sync.silent_ns(symbol.now) == 5 * SECOND_NS
    assert symbol.chain(100, 105).wait(1).sync.silent_ns(symbol.now) == SECOND_NS
    assert symbol.lost().wait(3).back().wait(2).sync.silent_ns(symbol.now) == 2 * SECOND_NS


def test_a_silent_symbol_is_compared_after_twice_as_long_each_time() -> None:
    symbol, asked = Symbol(settings=Settings(anchor_interval=100_000, check_after=10)).update(90, 100).anchored(100), []
    while symbol.seconds < 400:
        symbol.wait(0.1)
        if symbol.sync.wanted(symbol.now) == "check":
            asked.append(round(symbol.seconds))
            symbol.anchored(100)
    assert asked == [10, 30, 70, 150, 310]
    symbol.chain(100, 105).wait(9.9)
    assert symbol.sync.wanted(symbol.now) is None
    assert symbol.wait(0.1).sync.wanted(symbol.now) == "check"


def test_a_symbol_silent_for_days_costs_no_more_than_one_anchor_per_interval_and_one_comparison() -> None:
    symbol, asked = Symbol(settings=Settings(anchor_interval=300, check_after=10)).update(90, 100).anchored(100), 0
    symbol.wait(3000)  # the interval is reached: from here on it is as dense as it gets
    end = symbol.seconds + 3000
    while symbol.seconds < end:
        if symbol.sync.wanted(symbol.now):
            asked += 1
            symbol.anchored(100)
        symbol.wait(1)
    assert 9 <= asked <= 21


def test_a_subscription_that_never_brings_anything_is_found_by_its_anchors() -> None:
    symbol = Symbol(settings=Settings(check_after=10)).ask()
    assert symbol.answer(100) == "waiting"
    assert symbol.wait(HOLD).told == ["gap start ?..?", "anchor 100"]
    symbol.wait(10).ask().answer(105)
    assert symbol.wait(HOLD).told == ["anchor 105"]
    assert symbol.wait(BEHIND).told == ["gap stale 105..?"]
    assert symbol.resubscribed == 1
