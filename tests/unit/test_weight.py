"""The weight scheduler: never above the budget in a clock minute, nobody starves, bans and holds are kept."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.reader.weight import ANCHOR, LENT, POLL, URGENT, Ticket, WeightScheduler
from shared.venues.base import MINUTE_NS, SECOND_NS

T0 = 1_000 * MINUTE_NS
FOREVER = T0 + 10**9 * MINUTE_NS


def ticket(what: str, weight: int = 20, served_ns: int = 0, expires_ns: int = FOREVER, priority: int = POLL) -> Ticket:
    return Ticket(what, weight, served_ns, expires_ns, priority)


def granted(scheduler: WeightScheduler, now_ns: int, connections: int = 1000) -> list[str]:
    return [one.what for one in scheduler.take(now_ns, connections)]


def test_the_share_of_the_limit_is_spent_in_a_minute_and_the_rest_waits_for_the_next() -> None:
    scheduler = WeightScheduler(100, 0.5)
    for name in "abcd":
        scheduler.submit(ticket(name))
    assert granted(scheduler, T0) == ["a", "b"]
    assert granted(scheduler, T0 + 59 * SECOND_NS) == []
    assert scheduler.wake_ns(T0, 10) == T0 + MINUTE_NS


def test_a_request_in_flight_across_a_minute_counts_in_both() -> None:
    scheduler = WeightScheduler(100, 0.5)
    first = ticket("a")
    scheduler.submit(first)
    scheduler.take(T0 + 59 * SECOND_NS, 1)
    assert scheduler.used(T0 + MINUTE_NS) == 20
    scheduler.finish(first, T0 + MINUTE_NS, None)
    assert scheduler.used(T0 + 2 * MINUTE_NS) == 0


def test_the_venues_count_is_believed_when_higher_and_never_when_lower() -> None:
    scheduler = WeightScheduler(100, 1.0)
    tickets = [ticket(name) for name in "ab"]
    for one in tickets:
        scheduler.submit(one)
    scheduler.take(T0, 10)
    scheduler.finish(tickets[0], T0, 90)
    assert scheduler.used(T0) == 90
    scheduler.finish(tickets[1], T0, 5)
    assert scheduler.used(T0) == 90


def test_what_others_spend_is_the_venues_count_beyond_our_own() -> None:
    scheduler = WeightScheduler(100, 1.0)
    mine = ticket("a")
    scheduler.submit(mine)
    scheduler.take(T0, 1)
    scheduler.finish(mine, T0, 90)
    assert (scheduler.used(T0), scheduler.own(T0)) == (90, 20)
    assert scheduler.own(T0 + MINUTE_NS) == 0


def test_the_venues_count_of_the_minute_before_is_not_held_against_this_one() -> None:
    scheduler = WeightScheduler(100, 1.0)
    late = ticket("a")
    scheduler.submit(late)
    scheduler.take(T0 + 59 * SECOND_NS, 1)
    scheduler.finish(late, T0 + MINUTE_NS, 95)
    assert scheduler.used(T0 + MINUTE_NS) == 20


def test_the_tightest_learned_limit_replaces_the_documented_one() -> None:
    scheduler = WeightScheduler(2400, 0.5)
    assert scheduler.budget == 1200
    scheduler.learn("future", 6000)
    assert scheduler.budget == 3000
    scheduler.learn("inverse", 1000)
    assert scheduler.budget == 500


def test_urgent_requests_go_before_polls_and_the_longest_unserved_first() -> None:
    scheduler = WeightScheduler(1000, 1.0)
    scheduler.submit(ticket("poll served lately", served_ns=T0 + 2))
    scheduler.submit(ticket("poll served long ago", served_ns=T0 + 1))
    scheduler.submit(ticket("anchor", served_ns=T0 + 3, priority=URGENT))
    assert granted(scheduler, T0 + 5) == ["anchor", "poll served long ago", "poll served lately"]


def test_a_heavy_request_is_not_overtaken_by_light_ones() -> None:
    scheduler = WeightScheduler(100, 1.0)
    first = ticket("first", 90, T0)
    scheduler.submit(first)
    scheduler.submit(ticket("heavy", 50, T0 + 1))
    scheduler.submit(ticket("light", 1, T0 + 2))
    assert granted(scheduler, T0 + 3) == ["first"]
    scheduler.finish(first, T0 + 4, None)
    assert granted(scheduler, T0 + MINUTE_NS) == ["heavy", "light"]


def test_free_connections_bound_what_is_granted() -> None:
    scheduler = WeightScheduler(1000, 1.0)
    for name in "abc":
        scheduler.submit(ticket(name))
    assert granted(scheduler, T0, connections=2) == ["a", "b"]
    assert granted(scheduler, T0, connections=0) == []


@pytest.mark.parametrize(
    ("prepare", "connections", "reason"),
    [
        pytest.param(lambda s: s.stand_down(FOREVER), 1, "standing_down", id="banned"),
        pytest.param(lambda s: s.hold(FOREVER), 1, "held", id="told to wait"),
        pytest.param(lambda s: s.learn("m", 10), 1, "no_weight", id="heavier than the budget"),
        pytest.param(lambda _: None, 0, "no_connection", id="all connections busy"),
    ],
)
def test_who_waits_past_its_time_gives_up_and_the_reason_is_named(prepare, connections, reason) -> None:
    scheduler = WeightScheduler(100, 1.0)
    prepare(scheduler)
    scheduler.submit(ticket("a", expires_ns=T0 + SECOND_NS))
    given_up = scheduler.expire(T0 + SECOND_NS, connections)
    assert [(one.what, why) for one, why in given_up] == [("a", reason)]
    assert granted(scheduler, FOREVER + MINUTE_NS) == []


def test_a_ban_is_not_shortened_by_a_later_shorter_one_and_ends() -> None:
    scheduler = WeightScheduler(100, 1.0)
    scheduler.stand_down(T0 + 100 * SECOND_NS)
    scheduler.stand_down(T0 + 10 * SECOND_NS)
    scheduler.submit(ticket("a"))
    assert granted(scheduler, T0 + 99 * SECOND_NS) == []
    assert scheduler.is_standing_down(T0 + 99 * SECOND_NS)
    assert granted(scheduler, T0 + 100 * SECOND_NS) == ["a"]


def test_a_clock_set_back_by_hours_does_not_stop_the_scheduler() -> None:
    scheduler = WeightScheduler(20, 1.0)
    first = ticket("a")
    scheduler.submit(first)
    scheduler.take(T0, 1)
    scheduler.finish(first, T0, None)
    back = T0 - 600 * MINUTE_NS
    scheduler.submit(ticket("b"))
    assert granted(scheduler, back) == []
    assert granted(scheduler, back + MINUTE_NS) == ["b"]


events = st.lists(
    st.one_of(
        st.tuples(st.just("wait"), st.integers(0, 90 * SECOND_NS)),
        st.tuples(st.just("submit"), st.integers(1, 60)),
        st.tuples(st.just("finish"), st.integers(0, 10)),
        st.tuples(st.just("used"), st.integers(0, 300)),
        st.tuples(st.just("take"), st.integers(0, 5)),
        st.tuples(st.just("hold"), st.integers(0, 120 * SECOND_NS)),
        st.tuples(st.just("learn"), st.integers(20, 200)),
    ),
    max_size=80,
)


@given(events, st.sampled_from([0.3, 0.8, 1.0]))
def test_no_minute_is_granted_more_than_its_budget_whatever_happens(happenings, share) -> None:
    """Each request is counted in every minute from its grant to its end: wherever the venue counts it, it fits."""
    scheduler: WeightScheduler[int] = WeightScheduler(100, share)
    now_ns, flying, spent = T0 + 30 * SECOND_NS, [], {}
    for kind, value in happenings:
        if kind == "wait":
            now_ns += value
        elif kind == "submit":
            scheduler.submit(Ticket(0, value, 0, now_ns + 5 * MINUTE_NS))
        elif kind in {"finish", "used"} and flying:
            scheduler.finish(flying.pop(value % len(flying)), now_ns, value if kind == "used" else None)
        elif kind == "hold":
            scheduler.hold(now_ns + value)
        elif kind == "learn":
            scheduler.learn("m", value)
        elif kind == "take":
            budget = scheduler.budget
            minute = now_ns // MINUTE_NS
            carried = sum(one.weight for one in flying if one.minute < minute)
            taken = scheduler.take(now_ns, value)
            assert len(taken) <= value
            scheduler.expire(now_ns, value)
            if taken:
                spent[minute] = spent.get(minute, 0) + sum(one.weight for one in taken)
                assert spent[minute] + carried <= budget
            flying += taken


@given(st.lists(st.integers(1, 80), min_size=1, max_size=40), st.integers(1, 4))
def test_everyone_that_fits_the_budget_is_granted_in_the_end(weights, connections) -> None:
    scheduler: WeightScheduler[int] = WeightScheduler(100, 0.8)
    for number, weight in enumerate(weights):
        scheduler.submit(Ticket(number, weight, 0, FOREVER))
    now_ns, order = T0 + MINUTE_NS, []
    while (wake_ns := scheduler.wake_ns(now_ns, connections)) is not None and wake_ns < FOREVER:
        now_ns = max(now_ns, wake_ns)
        for one in scheduler.take(now_ns, connections):
            order.append(one.what)
            scheduler.finish(one, now_ns, None)
    assert order == list(range(len(weights)))
    assert now_ns <= T0 + (len(weights) + 2) * MINUTE_NS


@given(st.integers(2, 12), st.integers(5, 60), st.integers(1, 7))
def test_where_the_plan_is_too_dense_all_are_served_less_often_and_none_never(symbols, interval_s, affordable) -> None:
    scheduler: WeightScheduler[int] = WeightScheduler(affordable * 20, 1.0)
    served = dict.fromkeys(range(symbols), 0)
    last = dict.fromkeys(range(symbols), 0)
    waiting: set[int] = set()
    minutes = 30
    for second in range(minutes * 60):
        now_ns = T0 + second * SECOND_NS
        for one, _ in scheduler.expire(now_ns, 10):
            waiting.discard(one.what)
        for symbol in range(symbols):
            if second % interval_s == symbol * interval_s // symbols and symbol not in waiting:
                waiting.add(symbol)
                scheduler.submit(Ticket(symbol, 20, last[symbol], now_ns + interval_s * SECOND_NS))
        for one in scheduler.take(now_ns, 10):
            waiting.discard(one.what)
            served[one.what] += 1
            last[one.what] = now_ns
            scheduler.finish(one, now_ns, None)
    fair = min(minutes * affordable / symbols, minutes * 60 / interval_s)
    assert min(served.values()) >= fair / 2 - 1


def test_work_of_another_address_goes_last() -> None:
    scheduler = WeightScheduler(100, 1.0)
    for name, priority in (("lent", POLL + LENT), ("own", POLL), ("lent, after a gap", ANCHOR)):
        scheduler.submit(ticket(name, priority=priority))
    assert granted(scheduler, T0) == ["lent, after a gap", "own", "lent"]


@pytest.mark.parametrize(
    ("second", "planned", "spare"),
    [
        pytest.param(0, {}, 100, id="nothing planned: all of it"),
        pytest.param(0, {"future": 60}, 40, id="a whole minute of polls is kept"),
        pytest.param(45, {"future": 60}, 85, id="what is left of the minute"),
        pytest.param(30, {"future": 60, "inverse": 40}, 50, id="of all markets of the group"),
        pytest.param(0, {"future": 160}, 0, id="planned above the budget"),
    ],
)
def test_others_are_lent_what_the_own_polls_leave_of_the_minute(second, planned, spare) -> None:
    scheduler = WeightScheduler(100, 1.0)
    for market, weight in planned.items():
        scheduler.plan(market, weight)
    now_ns = T0 + second * SECOND_NS
    assert scheduler.spare(now_ns) == spare
    for number in range(11):
        scheduler.submit(ticket(str(number), weight=10, priority=POLL + LENT))
    assert len(granted(scheduler, now_ns)) == spare // 10
    scheduler.submit(ticket("own", weight=10))
    assert granted(scheduler, now_ns) == (["own"] if planned else []), "it is not in the way of the own"


def test_what_waits_for_another_address_is_promised_and_a_refused_address_has_nothing_to_spare() -> None:
    scheduler = WeightScheduler(100, 1.0)
    scheduler.submit(ticket("lent", weight=30, priority=POLL + LENT))
    scheduler.submit(ticket("own", weight=30))
    assert scheduler.spare(T0) == 70, "the own one is in the plan"
    scheduler.hold(T0 + SECOND_NS)
    assert scheduler.spare(T0) == 0
    scheduler.stand_down(T0 + 2 * SECOND_NS)
    assert [scheduler.spare(T0 + second * SECOND_NS) for second in (1, 2)] == [0, 70]
