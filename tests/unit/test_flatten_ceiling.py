"""The ceiling: a few dead letters are life, many of them are a reason to stop, said in words."""

from __future__ import annotations

import pytest

from services.flattener.ceiling import WINDOW_RECORDS, Ceiling
from shared.errors import FatalError


def test_dead_letters_up_to_the_ceiling_are_let_through():
    ceiling = Ceiling(0.05)
    for _ in range(200):
        ceiling.count(100, ["bad_json"] * 5)


def test_more_than_the_ceiling_stops_and_says_why():
    ceiling = Ceiling(0.05)
    ceiling.count(WINDOW_RECORDS, ["bad_json"] * 30)
    with pytest.raises(FatalError) as stopped:
        ceiling.count(1000, ["bad_json"] * 40 + ["not_a_number"] * 20)
    for words in ("60 of the latest 1000 raw records", "bad_json 40", "not_a_number 20", "0.05", "dead-letters list"):
        assert words in str(stopped.value)


def test_a_share_of_a_few_records_is_no_share():
    ceiling = Ceiling(0.05)
    for _ in range(WINDOW_RECORDS - 1):
        ceiling.count(1, ["bad_json"])
    with pytest.raises(FatalError):
        ceiling.count(1, ["bad_json"])


def test_old_records_are_forgotten():
    ceiling = Ceiling(0.05)
    ceiling.count(1000, ["bad_json"] * 50)
    ceiling.count(1000, [])
    ceiling.count(1000, ["bad_json"] * 50)


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_the_ends_of_the_scale(share):
    ceiling = Ceiling(share)
    ceiling.count(1000, [])
    if share:
        ceiling.count(1000, ["bad_json"] * 1000)
    else:
        with pytest.raises(FatalError):
            ceiling.count(1000, ["bad_json"])
