"""The poll schedule: aligned to the wall clock, staggered, never catching up."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from services.reader.schedule import MILLISECOND_NS, PollSchedule

SECOND_MS = 1000
T0 = 1_700_000_000_000 * MILLISECOND_NS  # a multiple of 10 s


def ms(milliseconds: float) -> int:
    return T0 + int(milliseconds * MILLISECOND_NS)


def due(schedule: PollSchedule, now_ns: int) -> list[tuple[str, float, int]]:
    return [(one.symbol, (one.due_ns - T0) / MILLISECOND_NS, one.skipped) for one in schedule.due(now_ns)]


def test_symbols_are_spread_evenly_over_the_interval_from_its_wall_clock_multiple() -> None:
    schedule = PollSchedule(["C", "A", "B", "D"], 10 * SECOND_MS, ms(0))
    assert due(schedule, ms(9_999)) == [("A", 0, 0), ("B", 2500, 0), ("C", 5000, 0), ("D", 7500, 0)]


def test_two_readers_started_at_different_times_poll_at_the_same_instants() -> None:
    early, late = (PollSchedule(["A", "B", "C"], 10 * SECOND_MS, ms(start)) for start in (0, 7_213))
    early.due(ms(9_999))
    late.due(ms(9_999))
    assert due(early, ms(19_999)) == due(late, ms(19_999))


def test_the_first_slot_is_not_before_the_start() -> None:
    schedule = PollSchedule(["A", "B"], 10 * SECOND_MS, ms(1))
    assert schedule.next_ns == ms(5_000)
    assert due(schedule, ms(4_999)) == []


def test_a_slot_expires_when_the_next_one_of_its_symbol_begins() -> None:
    schedule = PollSchedule(["A"], 10 * SECOND_MS, ms(0))
    [one] = schedule.due(ms(3))
    assert one.expires_ns == ms(10_000)


def test_slots_that_passed_unseen_are_counted_and_not_made_up_for() -> None:
    schedule = PollSchedule(["A", "B"], 10 * SECOND_MS, ms(0))
    assert due(schedule, ms(34_000)) == [("A", 30_000, 3), ("B", 25_000, 2)]
    assert due(schedule, ms(34_999)) == []
    assert due(schedule, ms(35_000)) == [("B", 35_000, 0)]


def test_a_clock_set_back_by_hours_does_not_silence_the_schedule() -> None:
    schedule = PollSchedule(["A"], 10 * SECOND_MS, ms(0))
    schedule.due(ms(0))
    back_ms = -3_600 * SECOND_MS
    assert due(schedule, ms(back_ms)) == [("A", back_ms, 0)]
    assert due(schedule, ms(back_ms + 10 * SECOND_MS)) == [("A", back_ms + 10 * SECOND_MS, 0)]


def test_a_schedule_without_symbols_is_never_due() -> None:
    schedule = PollSchedule([], 1000, ms(0))
    assert schedule.next_ns is None
    assert schedule.due(ms(10**6)) == []


@given(
    st.integers(1, 40),
    st.sampled_from([100, 250, 1000, 7_000, 60_000, 86_400_000]),
    st.integers(0, 10**13),
    st.lists(st.integers(0, 200_000), min_size=1, max_size=60),
)
def test_every_slot_since_the_start_is_due_or_skipped_exactly_once(count, interval_ms, start_ms, steps) -> None:
    symbols = [f"S{number:02}" for number in range(count)]
    now_ns = start_ms * MILLISECOND_NS
    schedule = PollSchedule(symbols, interval_ms, now_ns)
    started_ns, seen = now_ns, dict.fromkeys(symbols, 0)
    for step in steps:
        now_ns += step * MILLISECOND_NS
        for one in schedule.due(now_ns):
            seen[one.symbol] += 1 + one.skipped
            assert one.due_ns <= now_ns < one.expires_ns
    interval_ns = interval_ms * MILLISECOND_NS
    for index, symbol in enumerate(symbols):
        place_ns = index * interval_ns // count
        slots = (now_ns - place_ns) // interval_ns - (started_ns - 1 - place_ns) // interval_ns
        assert seen[symbol] == slots
