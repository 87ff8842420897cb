from __future__ import annotations

import tempfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.lake import layout
from shared.lake.hours import Hours
from shared.lake.layout import HOUR_US
from shared.lake.store_local import LocalStore
from tests.lakes import BTC, CHINESE, HOUR_0


def put(store, number: int, book=BTC, stream="main", first=0) -> None:
    store.create(layout.data_path("fobd", book, HOUR_0 + number * HOUR_US, stream, 0, first, first + 9), b"x")


@settings(max_examples=60, deadline=None)
@given(st.sets(st.integers(-3000, 3000), max_size=8), st.integers(-3001, 3001))
def test_the_hours_around_an_hour_are_found(numbers, asked):
    with tempfile.TemporaryDirectory() as folder:
        store = LocalStore(folder)
        for number in numbers:
            put(store, number)
            put(store, number + 1, CHINESE)
        hours, at = Hours(store, "fobd", BTC), HOUR_0 + asked * HOUR_US
        before = max((number for number in numbers if number < asked), default=None)
        after = min((number for number in numbers if number > asked), default=None)
        assert hours.before(at) == (None if before is None else HOUR_0 + before * HOUR_US)
        assert hours.after(at) == (None if after is None else HOUR_0 + after * HOUR_US)


class Counting(LocalStore):
    calls = 0

    def list(self, prefix, start_after=None, limit=None):
        self.calls += 1
        return super().list(prefix, start_after, limit)


@pytest.mark.parametrize(("number", "most"), [(-1, 1), (-2, 3), (-10_000, 30)])
def test_the_hour_before_costs_few_listings(tmp_path, number, most):
    store = Counting(tmp_path)
    put(store, number)
    assert Hours(store, "fobd", BTC).before(HOUR_0) == HOUR_0 + number * HOUR_US
    assert store.calls <= most


def test_files_of_an_hour_are_in_the_order_of_their_offsets(tmp_path):
    store = LocalStore(tmp_path)
    for first in (20, 0, 10):
        put(store, 0, first=first)
        put(store, 0, stream="a", first=first + 5)
        put(store, 1, first=first)
    files = Hours(store, "fobd", BTC).files(HOUR_0)
    assert [(path.stream, path.first) for path in files] == [
        (stream, first) for base in (0, 10, 20) for stream, first in (("main", base), ("a", base + 5))
    ]


def test_the_first_hours_of_time_have_none_before(tmp_path):
    hours = Hours(LocalStore(tmp_path), "fobd", BTC)
    assert (hours.before(0), hours.before(HOUR_US), hours.files(-HOUR_US)) == (None, None, [])
