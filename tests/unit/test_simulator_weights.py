"""Request accounting by a clock of the test's own: minutes, addresses, budgets, 429 and escalating bans."""

import pytest

from simulator.weights import BAN_SECONDS, Weights

NOON_MS = 1_767_268_800_000  # a whole minute
FUTURES, SPOT = "binance-futures", "binance-spot"


def ledger(**changes):
    return Weights({FUTURES: 100, SPOT: 200}, **{"ban_after": 2} | changes)


def statuses(weights, count, *, weight=50, group=FUTURES, address="10.0.0.1", now_ms=NOON_MS):
    refusals = [weights.charge(group, address, weight, now_ms)[1] for _ in range(count)]
    return [200 if refusal is None else refusal.status for refusal in refusals]


def test_used_weight_adds_up_and_the_request_that_reaches_the_limit_still_passes():
    weights = ledger()
    assert weights.charge(FUTURES, "a", 60, NOON_MS) == (60, None)
    assert weights.charge(FUTURES, "a", 40, NOON_MS) == (100, None)
    used, refusal = weights.charge(FUTURES, "a", 1, NOON_MS)
    assert used == 101
    assert refusal is not None
    assert (refusal.status, refusal.code) == (429, -1003)


def test_weight_starts_anew_with_the_clock_minute_and_not_sooner():
    weights = ledger()
    assert statuses(weights, 3, now_ms=NOON_MS + 59_000) == [200, 200, 429]
    assert statuses(weights, 1, now_ms=NOON_MS + 59_999) == [429]
    assert weights.charge(FUTURES, "10.0.0.1", 7, NOON_MS + 60_000) == (7, None)


@pytest.mark.parametrize(("offset_ms", "seconds"), [(0, 60), (1, 60), (30_000, 30), (59_001, 1), (59_999, 1)])
def test_a_429_says_how_many_seconds_the_minute_has_left(offset_ms, seconds):
    weights = ledger()
    _, refusal = weights.charge(FUTURES, "a", 101, NOON_MS + offset_ms)
    assert refusal is not None
    assert refusal.retry_after_seconds == seconds
    assert refusal.text == (
        "Too many requests; current limit of IP(a) is 100 requests per minute. "
        "Please use the websocket for live updates to avoid polling the API."
    )


def test_addresses_and_budgets_are_counted_apart():
    weights = ledger()
    assert statuses(weights, 3, address="10.0.0.1") == [200, 200, 429]
    assert statuses(weights, 2, address="10.0.0.2") == [200, 200]
    assert statuses(weights, 4, address="10.0.0.1", group=SPOT) == [200] * 4


def test_going_on_after_429_brings_a_ban_that_holds_beyond_the_minute_and_ends_on_time():
    weights = ledger()
    assert statuses(weights, 5) == [200, 200, 429, 429, 418]
    until_ms = NOON_MS + BAN_SECONDS[0] * 1000
    _, refusal = weights.charge(FUTURES, "10.0.0.1", 1, NOON_MS + 61_000)
    assert refusal is not None
    assert (refusal.status, refusal.code, refusal.retry_after_seconds) == (418, -1003, BAN_SECONDS[0] - 61)
    assert refusal.text == (
        f"Way too many requests; IP(10.0.0.1) banned until {until_ms}. "
        "Please use the websocket for live updates to avoid bans."
    )
    assert statuses(weights, 1, now_ms=until_ms - 1) == [418]
    assert statuses(weights, 1, now_ms=until_ms) == [200]


def test_bans_grow_with_every_repetition_up_to_three_days():
    weights = ledger()
    now_ms, bans = NOON_MS, []
    for _ in range(9):
        assert statuses(weights, 5, now_ms=now_ms)[-1] == 418
        until_ms = weights.report()[0]["banned_until_ms"]
        bans.append((until_ms - now_ms) // 1000)
        now_ms = until_ms // 60_000 * 60_000 + 60_000
    assert bans == [*BAN_SECONDS, 259_200, 259_200]
    assert bans[0] == 120


def test_bans_can_be_scaled_down_for_tests():
    weights = ledger(ban_scale=0.01)
    statuses(weights, 5)
    assert weights.report()[0]["banned_until_ms"] == NOON_MS + 1200


def test_a_ban_of_one_budget_leaves_the_other_alone():
    weights = ledger()
    weights.ban(FUTURES, "a", 60, NOON_MS)
    assert statuses(weights, 1, address="a") == [418]
    assert statuses(weights, 1, address="a", group=SPOT) == [200]


def test_the_report_keeps_peaks_and_totals_over_minutes_and_a_pardon_forgets_all():
    weights = ledger()
    statuses(weights, 2)
    statuses(weights, 1, now_ms=NOON_MS + 60_000)
    (row,) = weights.report()
    assert (row["used"], row["peak"], row["total"], row["limit"]) == (50, 100, 150, 100)
    weights.pardon()
    assert weights.report() == []
