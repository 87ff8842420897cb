"""A pace: never more permits in any window than its limit, never two closer than it says, and none withheld."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.reader.pace import Pace
from shared.venues.base import SECOND_NS

S = SECOND_NS
T0 = 1_700_000_000 * S


def test_permits_are_to_be_had_at_once_up_to_the_limit_and_then_as_the_window_slides() -> None:
    pace = Pace(3, 10 * S)
    assert [pace.take(T0 + second * S) for second in (0, 1, 2, 3)] == [True, True, True, False]
    assert pace.next_ns(T0 + 3 * S) == T0 + 10 * S
    assert not pace.take(T0 + 10 * S - 1)
    assert pace.take(T0 + 10 * S)
    assert pace.next_ns(T0 + 10 * S) == T0 + 11 * S


def test_an_unused_pace_gives_now() -> None:
    assert Pace(1, S).next_ns(T0) == T0


def test_two_permits_are_apart() -> None:
    pace = Pace(100, 10 * S, apart_ns=S)
    assert pace.take(T0)
    assert pace.next_ns(T0) == T0 + S
    assert not pace.take(T0 + S - 1)
    assert pace.take(T0 + S)


def test_a_refusal_costs_nothing() -> None:
    pace = Pace(1, S)
    assert pace.take(T0)
    assert not any(pace.take(T0 + S - 1) for _ in range(10))
    assert pace.take(T0 + S)


@given(
    st.integers(1, 5),
    st.integers(1, 20),
    st.integers(0, 3),
    st.lists(st.integers(0, 9), min_size=1, max_size=60),
)
def test_no_window_holds_more_than_the_limit_and_no_permit_is_withheld(limit, window, apart, waits) -> None:
    pace, taken, now = Pace(limit, window, apart_ns=apart), [], T0
    for wait in waits:
        now += wait
        recent = [at for at in taken if at > now - window]
        allowed = len(recent) < limit and (not taken or now - taken[-1] >= apart)
        assert (pace.next_ns(now) == now) == allowed
        assert pace.take(now) == allowed
        taken += [now] * allowed


@pytest.mark.parametrize("limit", [1, 7])
def test_who_waits_until_the_next_permit_gets_it(limit) -> None:
    pace, now = Pace(limit, 10 * S, apart_ns=S), T0
    for _ in range(30):
        now = pace.next_ns(now)
        assert pace.take(now)
    assert now - T0 == (29 // limit * 10 + 29 % limit) * S
