from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.lake.instant import instant_ns, instant_text

NS = 1_790_000_000_000_000_000
EAST = timezone(timedelta(hours=2))


@pytest.mark.parametrize(
    ("value", "ns"),
    [
        ("2026-09-21T14:13:20Z", NS),
        ("2026-09-21T16:13:20+02:00", NS),
        ("2026-09-21 14:13:20.5Z", NS + 500_000_000),
        ("2026-09-21T14:13:20.123456789Z", NS + 123_456_789),
        ("2026-09-21T16:13:20,000000001+02:00", NS + 1),
        ("2026-09-21T14:13Z", NS - 20_000_000_000),
        ("1790000000000", NS),
        ("1790000000000001", NS + 1000),
        ("1790000000000000001", NS + 1),
        (" 1790000000000 ", NS),
        (NS, NS),
        (5, 5),
        (datetime(2026, 9, 21, 14, 13, 20, 7, tzinfo=UTC), NS + 7000),
        (datetime(2026, 9, 21, 16, 13, 20, tzinfo=EAST), NS),
    ],
    ids=str,
)
def test_an_instant_is_read_to_the_nanosecond(value, ns):
    assert instant_ns(value) == ns


@pytest.mark.parametrize(
    ("value", "why"),
    [
        ("2026-09-21T14:13:20", "names no zone"),
        ("2026-09-21", "names no zone"),
        ("2026-09-21T14:13:20.123456789", "names no zone"),
        (datetime(2026, 9, 21), "names no zone"),  # noqa: DTZ001
        ("1790000000", "has 10 digits"),
        ("17900000000000", "has 14 digits"),
        ("yesterday", "is no instant"),
        ("", "is no instant"),
        ("2026-13-21T14:13:20Z", "is no instant"),
        ("2026-09-21T14:13:20.1234567890Z", "finer than nanoseconds"),
        ("1960-01-01T00:00:00Z", "between 1970 and 2262"),
        ("2300-01-01T00:00:00Z", "between 1970 and 2262"),
        (-1, "between 1970 and 2262"),
    ],
    ids=str,
)
def test_what_is_no_instant_is_refused_in_words(value, why):
    with pytest.raises(ValueError, match=why):
        instant_ns(value)


@pytest.mark.parametrize(
    ("ns", "text"),
    [
        (NS, "2026-09-21T14:13:20Z"),
        (NS + 120_000_000, "2026-09-21T14:13:20.120Z"),
        (NS + 1_000, "2026-09-21T14:13:20.000001Z"),
        (NS + 1, "2026-09-21T14:13:20.000000001Z"),
    ],
)
def test_text_has_the_digits_it_needs(ns, text):
    assert instant_text(ns) == text


@given(st.integers(0, 2**63 - 1))
def test_text_is_read_back(ns):
    assert instant_ns(instant_text(ns)) == ns
