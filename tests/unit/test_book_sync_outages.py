"""Anchors and lost connections: what decides whether something was lost, and what befell updates that wait."""

from __future__ import annotations

import pytest

from services.reader.book_sync import BEHIND_NS, HOLD_NS, UNDECIDED_NS
from shared.messages import Gap
from shared.venues.base import SECOND_NS
from tests.book_syncs import HOUR, Symbol, asked, running

HOLD = HOLD_NS / SECOND_NS
UNDECIDED = UNDECIDED_NS / SECOND_NS
BEHIND = BEHIND_NS / SECOND_NS


def returned() -> Symbol:
    """Running at 100, the connection lost and back without an update, and the comparison asked for."""
    return running().lost().wait(1).back().wait(5).ask()


def test_an_anchor_at_the_latest_id_shows_that_nothing_was_lost() -> None:
    symbol = returned()
    assert symbol.answer(100) == "placed"
    assert symbol.wait(UNDECIDED).update(105, 110).told == ["anchor 100", "gap sequence 100..106", "update 110"]


def test_an_anchor_ahead_shows_what_was_lost_if_no_update_comes() -> None:
    symbol = returned()
    assert symbol.answer(105) == "waiting"
    assert symbol.wait(HOLD).told == ["gap disconnect 100..?", "anchor 105"]
    assert symbol.gap(-2) == Gap(cause="disconnect", last_id=100, since_ns=symbol.records[1].recv_ns)
    assert symbol.wait(UNDECIDED).chain(105, 110).told == ["update 110"]


def test_an_anchor_ahead_waits_for_what_comes_over_the_new_connection() -> None:
    symbol = returned()
    symbol.answer(105)
    assert symbol.wait(1).chain(100, 105, 110).told == ["update 105", "anchor 105", "update 110"]


def test_what_was_lost_behind_an_anchor_without_updates_is_told_before_the_next() -> None:
    symbol = Symbol().ask()
    symbol.answer(100)
    symbol.wait(HOLD).lost().wait(1).back().wait(5).ask().answer(105)
    assert symbol.wait(HOLD).told == ["gap start ?..?", "anchor 100", "gap disconnect 100..?", "anchor 105"]


def test_an_anchor_again_at_the_same_id_without_updates_shows_that_nothing_was_lost() -> None:
    symbol = Symbol().ask()
    symbol.answer(100)
    symbol.wait(HOLD).lost().wait(1).back().wait(5).ask()
    assert symbol.answer(100) == "placed"
    assert symbol.wait(UNDECIDED).chain(100, 105).told == ["gap start ?..?", "anchor 100", "anchor 100", "update 105"]


@pytest.mark.parametrize("anchor_id", [100, 105], ids=["at the latest id", "ahead"])
@pytest.mark.parametrize("back", [False, True], ids=["before it is back", "after it is back"])
def test_an_anchor_asked_for_before_the_connection_stood_decides_nothing(anchor_id, back) -> None:
    symbol = asked().wait(1).lost()
    if back:
        symbol.back()
    symbol.answer(anchor_id)
    assert symbol.wait(HOLD).told == []
    if not back:
        symbol.back()
    assert symbol.wait(1).sync.wanted(symbol.now), "another is fetched"
    assert symbol.update(107, 110).told == ["gap disconnect 100..108", "update 110"]


def test_an_anchor_asked_for_before_the_connection_stood_is_taken_if_an_update_shows_what_was_lost() -> None:
    symbol = asked().lost().back().update(104, 110)
    symbol.answer(106)
    assert symbol.told == ["gap disconnect 100..105", "anchor 106", "update 110"]


def test_an_anchor_at_the_latest_id_from_before_the_connection_stood_is_no_excuse_for_what_follows() -> None:
    symbol = asked().lost().back().update(107, 110)
    assert symbol.answer(100) == "placed"
    assert symbol.told == ["anchor 100", "gap disconnect 100..108", "update 110"]


def test_an_anchor_from_before_a_stale_subscription_was_renewed_hides_no_loss() -> None:
    symbol = running().wait(HOUR)
    symbol.sync.saw_snapshot(105, symbol.now)
    symbol.wait(BEHIND - 1).ask().wait(2)
    assert symbol.told == ["gap stale 100..?"]
    symbol.answer(105)
    assert symbol.wait(HOLD).update(107, 110).told == ["update 110"]


def test_an_update_shows_that_the_connection_stands_before_its_subscription_is_known() -> None:
    symbol = Symbol(subscribed=False).chain(90, 100).anchored(100)
    assert symbol.told == ["gap start ?..?", "update 100", "anchor 100"]


def test_a_first_anchor_from_before_the_connection_stood_hides_no_loss() -> None:
    symbol = Symbol().ask().wait(1).lost().wait(1).back()
    symbol.answer(105)
    assert symbol.wait(HOLD).update(107, 110).told == ["gap start ?..?", "update 110"]


def test_a_first_anchor_that_waited_and_is_not_followed_is_fetched_again() -> None:
    symbol = Symbol().ask()
    symbol.answer(105)
    symbol.lost().wait(1).back().update(108, 110)
    assert symbol.told == ["gap start ?..?", "update 110"]
    assert symbol.wait(1).sync.wanted(symbol.now) == "gap"


# --- while updates wait -----------------------------------------------------------------------------------------------


def test_a_connection_lost_while_updates_wait_is_the_cause_of_the_gap_behind_them() -> None:
    symbol = asked().chain(100, 105).lost().wait(HOLD).back().update(107, 110)
    assert symbol.told == ["update 105", "gap disconnect 105..108", "update 110"]


def test_a_connection_lost_while_updates_wait_is_not_the_cause_of_a_gap_before_them() -> None:
    symbol = asked().update(103, 105).lost().back().update(107, 110).fail()
    assert symbol.told == ["gap sequence 100..104", "update 105", "gap disconnect 105..108", "update 110"]


def test_a_connection_lost_while_the_first_updates_wait_is_not_forgotten() -> None:
    symbol = Symbol().ask().chain(90, 100).lost().wait(UNDECIDED)
    assert symbol.told == ["gap start ?..?", "update 100", "gap disconnect 100..?"]


def test_a_frame_that_could_not_be_read_is_the_cause_behind_the_updates_that_wait() -> None:
    symbol = asked().chain(100, 105)
    symbol.sync.suspect("malformed")
    symbol.update(107, 110).fail()
    assert symbol.told == ["update 105", "gap malformed 105..108", "update 110"]


def test_a_quiet_symbol_is_compared_soon_although_updates_waited_when_its_connection_was_lost() -> None:
    symbol = asked().chain(100, 105).lost().wait(1).back().fail()
    assert symbol.sync.wanted(symbol.now + 6 * SECOND_NS)
    symbol.wait(6).ask()
    assert symbol.answer(105) == "placed"
    assert symbol.wait(UNDECIDED).told == ["update 105", "anchor 105"]


def test_no_gap_goes_out_while_updates_wait_that_may_chain() -> None:
    symbol = running().wait(HOUR).lost().back().wait(UNDECIDED - 0.5).ask().chain(100, 105)
    assert symbol.wait(1).told == []
    assert symbol.wait(HOLD).told == ["update 105"]


def test_a_symbol_is_not_stale_while_updates_wait() -> None:
    symbol = running().wait(HOUR)
    symbol.sync.saw_snapshot(105, symbol.now)
    symbol.wait(BEHIND - 0.5).ask().chain(100, 105)
    assert symbol.wait(HOLD + 1).told == ["update 105"]


def test_a_snapshot_is_compared_with_the_updates_that_wait() -> None:
    symbol = asked().chain(100, 105)
    symbol.sync.saw_snapshot(105, symbol.now)
    assert symbol.fail().wait(BEHIND + 1).told == ["update 105"]
