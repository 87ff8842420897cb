"""Anchors in the stream of one symbol: valid at their place, fetched again where they cannot be, never holding it up."""

from __future__ import annotations

import pytest

from services.reader.anchor_due import FIRST_RETRY_NS, LONGEST_RETRY_NS
from services.reader.book_sync import BEHIND_NS, HOLD_BYTES, HOLD_NS
from shared.venues.base import SECOND_NS
from shared.venues.sequence import ContiguousIds
from tests.book_syncs import HOUR, LIMIT, Settings, Symbol, asked, running

HOLD = HOLD_NS / SECOND_NS
BEHIND = BEHIND_NS / SECOND_NS


# --- the place among the updates --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("anchor_id", "told"),
    [
        pytest.param(100, ["anchor 100", "update 105", "update 110", "update 115"], id="before all"),
        pytest.param(105, ["update 105", "anchor 105", "update 110", "update 115"], id="at an update"),
        pytest.param(107, ["update 105", "anchor 107", "update 110", "update 115"], id="within an update"),
        pytest.param(115, ["update 105", "update 110", "update 115", "anchor 115"], id="at the latest"),
    ],
)
def test_what_waited_is_published_around_the_anchor_by_its_id(anchor_id, told) -> None:
    symbol = asked().chain(100, 105, 110, 115)
    assert symbol.told == []
    assert symbol.answer(anchor_id) == "placed"
    assert symbol.told == told
    assert symbol.chain(115, 120).told == ["update 120"]


def test_an_anchor_between_two_updates_of_sparse_ids_loses_nothing() -> None:
    symbol = asked().chain(100, 105).update(105, 110, 109)
    assert symbol.answer(107) == "placed"
    assert symbol.told == ["update 105", "anchor 107", "update 110"]


def test_an_anchor_is_published_as_it_was_received() -> None:
    symbol = asked()
    sent = symbol.now
    symbol.wait(0.5).answer(100)
    record = symbol.records[-1]
    assert (record.type, record.value, record.last_id) == ("snapshot", b'{"lastUpdateId":100}', 100)
    assert (record.sent_ns, record.recv_ns, record.limit) == (sent, symbol.now, LIMIT)
    assert (record.ip, record.link) == ("10.0.0.9", 1), "the address it was asked from"


def test_the_first_anchor_lies_behind_the_updates_it_holds() -> None:
    symbol = Symbol().chain(90, 100).ask().chain(100, 105, 110)
    assert not symbol.sync.anchored
    assert symbol.answer(105) == "placed"
    assert symbol.told == ["gap start ?..?", "update 100", "update 105", "anchor 105", "update 110"]
    assert symbol.sync.anchored


def test_of_spot_the_first_update_behind_an_anchor_begins_with_the_next_id() -> None:
    symbol = Symbol(ContiguousIds()).ask().update(None, 105, 101).update(None, 110, 106)
    assert symbol.answer(105) == "placed"
    assert symbol.told == ["gap start ?..?", "update 105", "anchor 105", "update 110"]


def test_updates_wait_no_longer_than_from_the_request_to_its_answer() -> None:
    symbol = running().chain(100, 105).wait(HOUR)
    assert symbol.told == ["update 105"]
    symbol.ask().chain(105, 110)
    assert symbol.sync.stream_id == 110
    assert symbol.told == []
    symbol.answer(110)
    assert symbol.chain(110, 115).told == ["update 110", "anchor 110", "update 115"]


# --- older than what was published ------------------------------------------------------------------------------------


def test_an_anchor_behind_what_was_published_is_stale_and_fetched_again() -> None:
    symbol = running().chain(100, 105).wait(HOUR).ask().chain(105, 110)
    assert symbol.answer(104) == "stale"
    assert symbol.told == ["update 105", "update 110"]
    assert symbol.sync.wanted(symbol.now) is None
    symbol.wait(FIRST_RETRY_NS / SECOND_NS).ask()
    assert symbol.answer(110) == "placed"
    assert symbol.told == ["anchor 110"]


def test_a_first_anchor_that_the_first_updates_do_not_follow_is_stale() -> None:
    symbol = Symbol().ask().chain(110, 115)
    assert symbol.answer(105) == "stale"
    assert symbol.told == ["gap start ?..?", "update 115"]
    symbol.wait(1).ask()
    assert symbol.answer(115) == "placed"


def test_an_anchor_older_than_an_anchor_is_stale() -> None:
    symbol = Symbol().ask()
    symbol.answer(100)
    symbol.wait(HOLD).wait(HOUR).ask()
    assert symbol.answer(99) == "stale"


def test_what_fails_is_tried_again_ever_later_and_up_to_a_minute() -> None:
    symbol, pauses = Symbol(), []
    for _ in range(10):
        failed = symbol.now
        symbol.ask().fail()
        while not symbol.sync.wanted(symbol.now):
            symbol.wait(0.1)
        pauses.append((symbol.now - failed) / SECOND_NS)
    assert pauses == [0.5, 1, 2, 4, 8, 16, 32, 60, 60, 60]
    assert LONGEST_RETRY_NS == 60 * SECOND_NS
    assert symbol.sync.wanted(symbol.now) == "gap"


def test_the_backoff_is_jittered_down_to_half() -> None:
    symbol = Symbol(settings=Settings(random=0.0)).ask().fail()
    assert symbol.sync.wanted(symbol.now + FIRST_RETRY_NS // 2 - 1) is None
    assert symbol.sync.wanted(symbol.now + FIRST_RETRY_NS // 2) == "gap"


@pytest.mark.parametrize("how", ["an anchor", "a gap"])
def test_backoff_begins_anew_after(how) -> None:
    symbol = running().update(110, 115)
    for _ in range(5):
        symbol.ask().fail().wait(60)
    if how == "an anchor":
        symbol.anchored(115).wait(HOUR)
    else:
        symbol.update(120, 125)
    symbol.ask().fail()
    assert symbol.wait(0.5).sync.wanted(symbol.now)


# --- never held hostage -----------------------------------------------------------------------------------------------


def test_updates_go_out_when_the_request_fails() -> None:
    symbol = asked().chain(100, 105).fail()
    assert symbol.told == ["update 105"]
    assert symbol.chain(105, 110).told == ["update 110"]


def test_updates_go_out_after_a_while_without_an_answer() -> None:
    symbol = asked().chain(100, 105).wait(HOLD - 0.1)
    assert symbol.told == []
    assert symbol.wait(0.1).chain(105, 110).told == ["update 105", "update 110"]


def test_updates_go_out_when_too_many_bytes_wait() -> None:
    symbol = asked().update(100, 105, size=HOLD_BYTES)
    assert symbol.told == []
    assert symbol.update(105, 110, size=1).told == ["update 105", "update 110"]
    assert symbol.answer(104) == "stale"
    symbol.wait(1).ask().update(110, 115, size=HOLD_BYTES)
    assert symbol.told == [], "what was released counts no more"


@pytest.mark.parametrize(("anchor_id", "placed"), [(104, "stale"), (105, "placed"), (106, "waiting")])
def test_a_late_answer_is_judged_by_what_went_out_meanwhile(anchor_id, placed) -> None:
    symbol = asked().chain(100, 105).wait(HOLD)
    assert symbol.answer(anchor_id) == placed


def test_a_repeat_that_waits_does_not_make_the_stream_look_behind() -> None:
    symbol = Symbol().chain(90, 100, 105).ask().chain(90, 100)
    symbol.sync.saw_snapshot(105, symbol.now)
    symbol.answer(105)
    assert symbol.wait(2 * BEHIND).told[-1] == "anchor 105", "no gap"


def test_no_second_anchor_is_asked_for_while_one_is_on_its_way_or_waits() -> None:
    symbol = asked()
    symbol.sync.want_anchor("gap", symbol.now)
    assert symbol.sync.wanted(symbol.now) is None
    assert symbol.answer(105) == "waiting"
    assert symbol.sync.wanted(symbol.now) is None


# --- ahead of the stream ----------------------------------------------------------------------------------------------


def test_an_anchor_ahead_waits_for_the_updates_up_to_its_id() -> None:
    symbol = asked().chain(100, 103)
    assert symbol.answer(107) == "waiting"
    symbol.wait(1).chain(103, 105)
    assert symbol.told == []
    assert symbol.wait(1).chain(105, 110).told == ["update 103", "update 105", "anchor 107", "update 110"]


def test_an_anchor_ahead_of_a_quiet_stream_goes_out_after_as_long() -> None:
    symbol = asked()
    assert symbol.wait(2).answer(105) == "waiting"
    assert symbol.wait(HOLD - 0.1).told == []
    assert symbol.wait(0.1).told == ["anchor 105"]
    assert symbol.chain(100, 105, 110).told == ["update 105", "update 110"], "late, but not lost"


def test_what_an_anchor_that_went_out_showed_must_come_or_the_symbol_is_stale() -> None:
    symbol = asked()
    symbol.answer(105)
    assert symbol.wait(HOLD + BEHIND - 0.1).told == ["anchor 105"]
    assert symbol.wait(0.1).told == ["gap stale 105..?"]


def test_a_hole_found_only_behind_an_anchor_that_went_out_is_a_gap() -> None:
    symbol = asked()
    symbol.answer(105)
    assert symbol.wait(HOLD).update(103, 110).told == ["anchor 105", "gap sequence 105..104", "update 110"]


def test_nothing_published_before_the_first_anchor_needs_an_update_to_chain_to() -> None:
    symbol = Symbol().ask()
    symbol.answer(105)
    assert symbol.wait(HOLD).update(100, 108, 103).told == ["gap start ?..?", "anchor 105", "update 108"]
    assert symbol.sync.stream_id == 108


@pytest.mark.parametrize(("rule", "prev", "first"), [(None, 107, 108), (ContiguousIds(), None, 107)])
def test_a_first_update_that_does_not_follow_the_anchor_is_a_gap(rule, prev, first) -> None:
    symbol = Symbol(rule).ask()
    symbol.answer(105)
    symbol.wait(HOLD).update(prev, 110, first)
    assert symbol.told == ["gap start ?..?", "anchor 105", f"gap sequence 105..{first}", "update 110"]


# --- holes around an anchor -------------------------------------------------------------------------------------------


def test_a_hole_before_the_anchor_is_told_before_it() -> None:
    symbol = asked().update(104, 110, 107)
    received = symbol.now
    symbol.wait(1)
    assert symbol.answer(106) == "placed"
    assert symbol.told == ["gap sequence 100..107", "anchor 106", "update 110"]
    assert symbol.records[-3].recv_ns == received
    assert symbol.sync.anchored
    assert symbol.sync.wanted(symbol.now) is None, "the anchor stands behind the gap"


def test_a_hole_behind_the_anchor_is_told_behind_it() -> None:
    symbol = asked().update(107, 110)
    assert symbol.answer(105) == "placed"
    assert symbol.told == ["anchor 105", "gap sequence 105..108", "update 110"]
    assert symbol.sync.wanted(symbol.now) == "gap"


def test_a_hole_among_the_updates_before_the_anchor_is_told_where_it_is() -> None:
    symbol = asked().update(103, 105).chain(105, 110)
    symbol.answer(105)
    assert symbol.told == ["gap sequence 100..104", "update 105", "anchor 105", "update 110"]
    assert symbol.sync.wanted(symbol.now) is None


def test_a_hole_between_two_anchors_without_an_update_is_told() -> None:
    symbol = Symbol().ask()
    symbol.answer(100)
    symbol.wait(HOLD).wait(HOUR).ask().update(103, 110, 107)
    assert symbol.answer(106) == "placed"
    assert symbol.told == ["gap start ?..?", "anchor 100", "gap sequence 100..107", "anchor 106", "update 110"]


def test_a_hole_before_the_second_of_two_anchors_is_found_by_the_update_behind_it() -> None:
    symbol = Symbol().ask()
    symbol.answer(100)
    symbol.wait(HOLD).wait(HOUR).ask().answer(105)
    symbol.wait(HOLD).update(103, 110, 107)
    assert symbol.told == ["gap start ?..?", "anchor 100", "anchor 105", "gap sequence 105..107", "update 110"]


# --- when one is due --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("random", "due"), [(0.0, 0.9 * HOUR), (1.0, HOUR)])
def test_the_next_anchor_is_due_after_an_interval_spread_over_its_last_tenth(random, due) -> None:
    symbol = Symbol(settings=Settings(check_after=2 * HOUR, random=random)).chain(90, 100).anchored(100)
    after = symbol.now + int(due * SECOND_NS)
    assert symbol.sync.wanted(after - 1) is None
    assert symbol.sync.wanted(after) == "interval"


def test_a_gap_published_by_another_wants_an_anchor_and_breaks_no_chain() -> None:
    symbol = running()
    symbol.sync.told_elsewhere(symbol.now)
    assert symbol.sync.wanted(symbol.now) == "gap"
    assert not symbol.sync.anchored
    assert symbol.chain(100, 105).anchored(105).update(107, 110).told == [
        "update 105", "anchor 105", "gap sequence 105..108", "update 110",
    ]  # fmt: skip


def test_a_gap_published_by_another_does_not_hide_the_loss_behind_an_anchor_without_updates() -> None:
    symbol = Symbol().ask()
    symbol.answer(100)
    symbol.wait(HOLD).sync.told_elsewhere(symbol.now)
    symbol.lost().back().update(107, 110)
    assert symbol.told == ["gap start ?..?", "anchor 100", "gap disconnect 100..108", "update 110"]


def test_a_comparison_puts_off_neither_a_gaps_anchor_nor_one_that_is_due() -> None:
    symbol = running()
    symbol.sync.want_anchor("check", symbol.now)
    assert symbol.sync.wanted(symbol.now) == "check"
    symbol.update(110, 115)
    symbol.sync.want_anchor("check", symbol.now)
    assert symbol.sync.wanted(symbol.now) == "gap"


@pytest.mark.parametrize("why", ["check", "interval"])
def test_nothing_puts_off_or_renames_a_gaps_anchor_that_is_tried_again(why) -> None:
    symbol = running().update(110, 115).ask().fail()
    symbol.sync.want_anchor(why, symbol.now)
    assert symbol.sync.wanted(symbol.now) is None
    assert symbol.wait(0.5).sync.wanted(symbol.now) == "gap"


def test_a_gap_behind_an_anchor_is_since_the_anchor() -> None:
    symbol = asked().wait(1)
    symbol.answer(100)
    anchored = symbol.now
    assert symbol.wait(1).update(107, 110).told == ["anchor 100", "gap sequence 100..108", "update 110"]
    assert symbol.gap(-2).since_ns == anchored


def test_an_anchor_that_waits_at_the_end_goes_out() -> None:
    symbol = asked().chain(100, 103)
    symbol.answer(107)
    symbol.sync.stop(symbol.now)
    assert symbol.told == ["update 103", "anchor 107", "gap stop 107..?"]


def test_updates_that_waited_are_published_with_the_addresses_they_came_to() -> None:
    symbol = asked().chain(100, 105).lost().back().chain(105, 110)
    assert symbol.wait(HOLD).told == ["update 105", "update 110"]
    assert [(record.link, record.ip) for record in symbol.records[-2:]] == [(1, "10.0.1.1"), (2, "10.0.1.2")]
