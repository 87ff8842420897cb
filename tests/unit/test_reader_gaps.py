"""Runs of missed polls: one gap per run and symbol, before the next snapshot or after a while."""

from __future__ import annotations

from services.reader.gaps import GapRuns
from shared.messages import Book, Gap
from shared.venues.base import SECOND_NS

BTC, ETH = Book("binance", "future", "BTCUSDT"), Book("binance", "future", "ETHUSDT")
S = SECOND_NS


def runs() -> GapRuns:
    return GapRuns(60 * S)


def test_a_run_of_misses_is_one_gap_told_before_the_next_snapshot() -> None:
    found = runs()
    found.good(BTC, 5 * S)
    for second in (10, 20, 30):
        found.missed(BTC, "poll", second * S)
    assert found.before_snapshot(BTC) == Gap(cause="poll", since_ns=5 * S)
    found.good(BTC, 40 * S)
    assert found.before_snapshot(BTC) is None


def test_without_a_miss_there_is_no_gap() -> None:
    found = runs()
    found.good(BTC, 5 * S)
    found.missed(ETH, "poll", 6 * S)
    assert found.before_snapshot(BTC) is None


def test_a_gap_before_the_first_good_book_knows_no_since() -> None:
    found = runs()
    found.missed(BTC, "poll", 1 * S)
    assert found.before_snapshot(BTC) == Gap(cause="poll", since_ns=None)


def test_a_long_run_is_told_after_a_while_and_only_once() -> None:
    found = runs()
    found.good(BTC, 1 * S)
    found.missed(BTC, "poll", 10 * S)
    assert found.overdue(69 * S) == []
    assert found.overdue(70 * S) == [(BTC, Gap(cause="poll", since_ns=1 * S))]
    found.missed(BTC, "poll", 80 * S)
    assert found.overdue(200 * S) == []
    assert found.before_snapshot(BTC) is None
    found.good(BTC, 210 * S)
    found.missed(BTC, "poll", 220 * S)
    assert found.before_snapshot(BTC) == Gap(cause="poll", since_ns=210 * S)


def test_a_ban_names_the_run_it_falls_into_and_is_not_renamed_by_later_timeouts() -> None:
    found = runs()
    for cause in ("poll", "overflow", "ban", "poll"):
        found.missed(BTC, cause, 1 * S)
    assert found.before_snapshot(BTC) == Gap(cause="ban", since_ns=None)


def test_looking_at_the_gap_does_not_end_the_run() -> None:
    found = runs()
    found.missed(BTC, "poll", 1 * S)
    assert found.before_snapshot(BTC) is not None
    assert found.before_snapshot(BTC) is not None, "the snapshot found no room: the gap is still owed"


def test_at_the_end_every_run_not_told_is_told() -> None:
    found = runs()
    found.missed(BTC, "poll", 0)
    found.overdue(61 * S)
    found.missed(ETH, "ban", 61 * S)
    assert found.end(BTC) == []
    assert found.end(ETH) == [(ETH, Gap(cause="ban", since_ns=None))]
    assert found.end(ETH) == []
