"""Books rebuilt from hand-made lakes of deltas."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from cryptoflow import lake
from shared.errors import FatalError, UnknownVersion
from shared.lake import data_file, parquet
from shared.lake.gap import BROKEN_CHAIN, STREAM_ENDED
from shared.lake.layout import HOUR_US
from shared.lake.store_local import LocalStore
from shared.messages import Book
from tests.lakes import BTC, CHINESE, HOUR_0, HOUR_1, FobdRows, fobd_line

SECOND = 1_000_000_000
T0 = HOUR_0 * 1000
SPOT = Book("binance", "spot", "BTCUSDT")
BIDS = [(100.0, 1.0), (99.0, 2.0), (98.0, 3.0)]
ASKS = [(101.0, 4.0), (102.0, 5.0)]


@pytest.fixture
def store(tmp_path) -> LocalStore:
    return LocalStore(tmp_path / "lake")


@pytest.fixture
def book_of(store):
    """The book of a lake with these rows (of one flush), or with what was stored before, at an instant."""

    def book(at, rows=None, *, key=BTC, **options):
        if rows is not None:
            fobd_line(store).write((key, rows.table()))
        return lake.book(store.url, exchange=key.exchange, market=key.market, symbol=key.symbol, at=at, **options)

    return book


def sides(book):
    return [list(zip(side.price.tolist(), side.quantity.tolist(), strict=True)) for side in (book.bids, book.asks)]


def test_an_anchor_alone_is_the_book(book_of):
    rows = FobdRows()
    offset = rows.anchor(10, BIDS, ASKS, at=T0 + SECOND)
    book = book_of(T0 + 3 * SECOND, rows)
    assert sides(book) == [BIDS, ASKS]
    assert book.anchor == lake.Anchor(recv_ns=T0 + SECOND, update_id=10, depth_limit=1000, raw_offset=offset)
    assert (book.update_id, book.updates, book.age_seconds, book.gaps) == (10, 0, 2.0, ())
    assert (book.key, book.stream, book.raw_partition, book.at_ns) == (BTC, "main", 0, T0 + 3 * SECOND)


def test_updates_set_add_and_remove_levels_until_the_instant(book_of):
    rows = FobdRows()
    rows.anchor(10, BIDS, ASKS)
    rows.update(8, 12, 9, bids=[(100.0, 0.0), (99.5, 7.0)])
    rows.update(15, 16, 12, bids=[(99.5, 8.0)], asks=[(101.0, 0.5)])
    rows.update(17, 20, 16, bids=[(1.0, 1.0)])
    book = book_of(T0 + 3 * SECOND, rows)
    assert sides(book) == [[(99.5, 8.0), (99.0, 2.0), (98.0, 3.0)], [(101.0, 0.5), (102.0, 5.0)]]
    assert (book.update_id, book.updates, book.age_seconds, book.gaps) == (16, 2, 0.0, ())
    assert (book_of(T0 + 3 * SECOND - 1).update_id, book_of(T0 + 4 * SECOND).update_id) == (12, 20)


def test_the_last_of_two_writes_of_one_price_in_one_message_counts(book_of):
    rows = FobdRows()
    rows.anchor(10, BIDS, ASKS)
    rows.update(11, 12, 10, asks=[(101.0, 9.0), (101.0, 0.0), (103.0, 0.0), (103.0, 1.0)])
    assert sides(book_of(T0 + 9 * SECOND, rows))[1] == [(102.0, 5.0), (103.0, 1.0)]


def test_a_zero_for_a_level_that_is_not_there_removes_nothing(book_of):
    rows = FobdRows()
    rows.anchor(10, BIDS, ASKS)
    rows.update(11, 12, 10, bids=[(97.0, 0.0)], asks=[(500.0, 0.0)])
    book = book_of(T0 + 9 * SECOND, rows)
    assert sides(book) == [BIDS, ASKS]
    assert book.updates == 1


def test_an_update_that_straddles_the_anchor_is_applied(book_of):
    rows = FobdRows()
    rows.update(5, 8, 4)
    rows.anchor(10, BIDS, ASKS)
    rows.update(9, 11, 8, bids=[(100.0, 5.0)])
    rows.update(13, 14, 11, asks=[(101.0, 6.0)])
    book = book_of(T0 + 9 * SECOND, rows)
    assert (book.update_id, book.updates, book.gaps) == (14, 2, ())
    assert (book.bids.quantity[0], book.asks.quantity[0]) == (5.0, 6.0)


def test_updates_up_to_the_anchors_id_are_in_it_and_skipped(book_of):
    rows = FobdRows()
    rows.anchor(10, BIDS, ASKS)
    rows.update(5, 8, 4, bids=[(100.0, 55.0)])
    rows.update(9, 10, 8, bids=[(100.0, 66.0)])
    rows.update(12, 14, 10, asks=[(101.0, 6.0)])
    book = book_of(T0 + 9 * SECOND, rows)
    assert (book.update_id, book.updates, book.gaps) == (14, 1, ())
    assert (book.bids.quantity[0], book.asks.quantity[0]) == (1.0, 6.0)


def test_spot_chains_by_contiguous_ids(book_of):
    rows = FobdRows()
    rows.anchor(10, BIDS, ASKS)
    rows.update(9, 11, None, bids=[(100.0, 5.0)])
    rows.update(12, 14, None, bids=[(100.0, 6.0)])
    rows.update(16, 17, None, bids=[(100.0, 7.0)])
    assert book_of(T0 + 3 * SECOND, rows, key=SPOT).bids.quantity[0] == 6.0
    (gap,) = book_of(T0 + 4 * SECOND, key=SPOT).gaps
    assert (gap.cause, gap.last_id, gap.next_id) == (BROKEN_CHAIN, 14, 16)


def test_the_same_ids_do_not_chain_on_futures(book_of):
    rows = FobdRows()
    rows.anchor(10, BIDS, ASKS)
    rows.update(9, 11, 7, bids=[(100.0, 5.0)])
    rows.update(12, 14, 10, bids=[(100.0, 6.0)])
    (gap,) = book_of(T0 + 4 * SECOND, rows).gaps
    assert (gap.cause, gap.last_id, gap.next_id) == (BROKEN_CHAIN, 11, 12)


# Gaps ---------------------------------------------------------------------------------------------------------------


def test_a_gap_row_ends_the_book_until_the_next_anchor(book_of):
    rows = FobdRows()
    rows.anchor(10, BIDS, ASKS)
    rows.update(11, 12, 10, bids=[(100.0, 5.0)])
    offset = rows.gap("disconnect", last=12, following=20, since=T0 + 2 * SECOND)
    rows.update(20, 21, 19, bids=[(100.0, 6.0)])
    rows.anchor(25, BIDS, ASKS)
    book = book_of(T0 + 4 * SECOND, rows)
    assert (book.update_id, book.bids.quantity[0], book.age_seconds) == (12, 5.0, 2.0)
    (gap,) = book.gaps
    assert (gap.cause, gap.last_id, gap.next_id, gap.raw_offset) == ("disconnect", 12, 20, offset)
    assert (gap.since_ns, gap.until_ns) == (T0 + 2 * SECOND, T0 + 3 * SECOND)
    assert (gap.stream, gap.raw_partition, gap.book) == ("main", 0, BTC)
    after = book_of(T0 + 5 * SECOND)
    assert (after.update_id, after.gaps) == (25, ())


def test_a_broken_chain_without_a_gap_row_is_told(book_of):
    rows = FobdRows()
    rows.anchor(10, BIDS, ASKS)
    rows.update(11, 12, 10)
    offset = rows.update(15, 16, 14, bids=[(100.0, 6.0)])
    rows.update(17, 18, 16, bids=[(100.0, 7.0)])
    book = book_of(T0 + 9 * SECOND, rows)
    assert book.bids.quantity[0] == 1.0
    (gap,) = book.gaps
    assert (gap.cause, gap.last_id, gap.next_id, gap.raw_offset) == (BROKEN_CHAIN, 12, 15, offset)
    assert (gap.since_ns, gap.until_ns) == (T0 + 2 * SECOND, T0 + 3 * SECOND)


def test_every_gap_until_the_next_anchor_is_told(book_of):
    rows = FobdRows()
    rows.anchor(10, BIDS, ASKS)
    rows.gap("disconnect")
    rows.gap("overflow")
    rows.anchor(20, BIDS, ASKS, at=T0 + 60 * SECOND)
    rows.gap("stop", at=T0 + 5 * SECOND)  # by a clock that went back; behind an anchor, it ends another book
    assert [gap.cause for gap in book_of(T0 + 59 * SECOND, rows).gaps] == ["disconnect", "overflow"]


@pytest.mark.parametrize(
    ("since", "told"),
    [(None, True), (2 * SECOND, True), (5 * SECOND, False), (9 * SECOND, False)],
    ids=["unknown", "before", "then", "after"],
)
def test_an_instant_in_a_hole_that_is_told_later_is_in_a_gap(book_of, since, told):
    rows = FobdRows()
    rows.anchor(10, BIDS, ASKS)
    rows.update(11, 12, 10)
    rows.gap("start", since=None if since is None else T0 + since, at=T0 + 30 * SECOND)
    assert bool(book_of(T0 + 5 * SECOND, rows).gaps) == told


def test_what_a_stop_opens_begins_with_it(book_of):
    rows = FobdRows()
    rows.anchor(10, BIDS, ASKS)
    rows.gap("stop", since=T0 + SECOND, at=T0 + 30 * SECOND)
    assert book_of(T0 + 29 * SECOND, rows).gaps == ()
    (gap,) = book_of(T0 + 30 * SECOND).gaps
    assert (gap.since_ns, gap.until_ns) == (T0 + 30 * SECOND, None)


def test_an_instant_before_an_update_that_does_not_chain_is_in_a_gap(book_of):
    rows = FobdRows()
    rows.anchor(10, BIDS, ASKS)
    rows.update(15, 16, 14, at=T0 + 30 * SECOND)
    assert [gap.cause for gap in book_of(T0 + 5 * SECOND, rows).gaps] == [BROKEN_CHAIN]


def test_a_hole_over_hours_holds_the_instants_in_it(store, book_of):
    line, rows = fobd_line(store), FobdRows()
    rows.anchor(10, BIDS, ASKS)
    rows.update(11, 12, 10)
    line.write((BTC, rows.take()))
    rows.gap("start", at=T0 + 30 * 3600 * SECOND)
    rows.anchor(90, BIDS, ASKS)
    line.write((BTC, rows.take()))
    assert [gap.cause for gap in book_of(T0 + 12 * 3600 * SECOND).gaps] == ["start"]


def test_the_end_of_the_data_is_no_gap(book_of):
    rows = FobdRows()
    rows.anchor(10, BIDS, ASKS)
    book = book_of(T0 + 90 * 3600 * SECOND, rows)
    assert (book.gaps, book.age_seconds) == ((), 90 * 3600 - 1.0)


@pytest.mark.parametrize("id_", ["anchor", "update"])
def test_what_has_no_id_chains_to_nothing(book_of, id_):
    rows = FobdRows()
    rows.anchor(None if id_ == "anchor" else 10, BIDS, ASKS)
    rows.update(*((11, 12, 10) if id_ == "anchor" else (None, None, None)))
    assert [gap.cause for gap in book_of(T0 + 9 * SECOND, rows).gaps] == [BROKEN_CHAIN]


# Anchors ------------------------------------------------------------------------------------------------------------


def test_updates_that_waited_for_an_anchor_lie_behind_it_and_were_received_before(book_of):
    rows = FobdRows()
    rows.anchor(10, BIDS, ASKS)  # 1 s
    rows.update(11, 12, 10, bids=[(100.0, 2.0)])  # 2 s
    rows.anchor(14, [(100.0, 9.0)], ASKS, at=T0 + 5 * SECOND)
    rows.update(13, 14, 12, bids=[(100.0, 3.0)], at=T0 + 3 * SECOND)
    rows.update(15, 16, 14, bids=[(100.0, 4.0)], at=T0 + 4 * SECOND)
    rows.update(17, 18, 16, bids=[(100.0, 5.0)], at=T0 + 6 * SECOND)
    best = {second: book_of(T0 + second * SECOND, rows if second == 2 else None) for second in range(2, 7)}
    assert {second: book.bids.quantity[0] for second, book in best.items()} == {2: 2, 3: 3, 4: 4, 5: 4, 6: 5}
    assert {second: book.anchor.update_id for second, book in best.items()} == {2: 10, 3: 10, 4: 10, 5: 14, 6: 14}
    assert not any(book.gaps for book in best.values())


def test_updates_that_waited_over_the_hour_lie_in_another_folder(store, book_of):
    line, rows, hour = fobd_line(store), FobdRows(), HOUR_1 * 1000
    rows.anchor(10, BIDS, ASKS)
    line.write((BTC, rows.take()))
    rows.update(11, 12, 10, at=hour - 3 * SECOND)
    rows.anchor(14, BIDS, ASKS, at=hour + SECOND)
    rows.update(13, 16, 12, bids=[(100.0, 4.0)], at=hour - SECOND)
    rows.update(17, 18, 16, at=hour + 2 * SECOND)
    line.write((BTC, rows.take()))
    book = book_of(hour + 2 * SECOND)
    assert (book.anchor.update_id, book.update_id, book.updates, book.gaps) == (14, 18, 2, ())
    assert book.bids.quantity[0] == 4.0
    assert book_of(hour - SECOND).update_id == 16


def test_where_receive_times_cross_the_chain_is_not_cut_in_the_middle(book_of):
    rows = FobdRows()
    rows.anchor(10, BIDS, ASKS)
    rows.update(11, 12, 10, at=T0 + 11 * SECOND)
    rows.update(13, 14, 12, at=T0 + 10 * SECOND)  # by another connection
    rows.update(15, 16, 14, at=T0 + 12 * SECOND)
    book = book_of(T0 + 10 * SECOND, rows)
    assert (book.update_id, book.gaps) == (10, ())
    assert book_of(T0 + 11 * SECOND).update_id == 14


def test_two_anchors_of_one_id_are_one_book(book_of):
    rows = FobdRows()
    rows.anchor(10, BIDS, ASKS)
    rows.anchor(10, BIDS, ASKS)
    rows.update(9, 12, 8, bids=[(100.0, 0.0)])
    book = book_of(T0 + 9 * SECOND, rows)
    assert sides(book) == [BIDS[1:], ASKS]
    assert (book.anchor.raw_offset, book.gaps) == (1, ())


@pytest.mark.parametrize(("bids", "asks"), [(BIDS, []), ([], ASKS), ([], [])], ids=["bids", "asks", "neither"])
def test_one_sided_and_empty_anchors_are_books(book_of, bids, asks):
    rows = FobdRows()
    rows.anchor(10, bids, asks)
    rows.update(11, 12, 10, asks=[(105.0, 1.0)], at=T0 + 5 * SECOND)
    assert sides(book_of(T0 + 2 * SECOND, rows)) == [bids, asks]
    book = book_of(T0 + 9 * SECOND)
    assert sides(book) == [bids, [*asks, (105.0, 1.0)]]
    assert (book.bids.whole, book.asks.whole) == (True, True)
    assert not book.asks.beyond_anchor.any()


def test_an_update_without_levels_moves_the_id(book_of):
    rows = FobdRows()
    rows.anchor(10, BIDS, ASKS)
    rows.update(11, 12, 10)
    book = book_of(T0 + 9 * SECOND, rows)
    assert (sides(book), book.update_id, book.updates) == ([BIDS, ASKS], 12, 1)


def test_beyond_a_full_side_only_what_changed_is_known(book_of):
    rows = FobdRows()
    rows.anchor(10, BIDS, ASKS, limit=3)
    rows.update(11, 12, 10, bids=[(90.0, 1.0), (98.5, 1.0)], asks=[(110.0, 1.0)])
    book = book_of(T0 + 9 * SECOND, rows)
    assert book.bids.price.tolist() == [100.0, 99.0, 98.5, 98.0, 90.0]
    assert book.bids.beyond_anchor.tolist() == [False, False, False, False, True]
    assert (book.bids.whole, book.bids.known_to) == (False, 98.0)
    assert (book.asks.whole, book.asks.known_to) == (True, 102.0)
    assert not book.asks.beyond_anchor.any()


def test_an_ask_beyond_a_full_side_is_marked_as_well(book_of):
    rows = FobdRows()
    rows.anchor(10, BIDS, ASKS, limit=2)
    rows.update(11, 12, 10, asks=[(110.0, 1.0), (101.5, 1.0)])
    assert book_of(T0 + 9 * SECOND, rows).asks.beyond_anchor.tolist() == [False, False, False, True]


def test_without_a_depth_limit_nothing_is_called_whole(book_of):
    rows = FobdRows()
    rows.anchor(10, [], ASKS, limit=None)
    rows.update(11, 12, 10, bids=[(90.0, 1.0)], asks=[(110.0, 1.0)])
    book = book_of(T0 + 9 * SECOND, rows)
    assert (book.bids.whole, book.bids.known_to, book.bids.beyond_anchor.tolist()) == (False, None, [True])
    assert (book.asks.whole, book.asks.known_to) == (False, 102.0)


def test_before_the_first_anchor_there_is_no_book(book_of):
    rows = FobdRows()
    rows.gap("start")
    rows.update(5, 6, 4, bids=[(1.0, 1.0)])
    rows.anchor(10, BIDS, ASKS)
    with pytest.raises(
        lake.NoAnchor, match=r"no anchor of binance:future:BTCUSDT.*its first fobd is of 2026-09-21T14Z"
    ):
        book_of(T0 + 2 * SECOND, rows)
    assert book_of(T0 + 3 * SECOND).update_id == 10


def test_a_symbol_that_is_not_there_has_no_book(book_of, store):
    fobd_line(store).write((CHINESE, _anchored().table()))
    with pytest.raises(lake.NoAnchor, match="no fobd of this symbol at all"):
        book_of(T0 + 2 * SECOND)
    assert book_of(T0 + 2 * SECOND, key=CHINESE).update_id == 10


# Files, hours, streams ----------------------------------------------------------------------------------------------


def _anchored(**fields) -> FobdRows:
    rows = FobdRows(**fields)
    rows.anchor(10, BIDS, ASKS)
    return rows


@pytest.mark.parametrize("hours", [1, 2, 3, 9, 25, 800])
def test_the_nearest_anchor_may_lie_hours_back(store, book_of, hours):
    line, rows = fobd_line(store), _anchored()
    line.write((BTC, rows.take()))
    rows.update(11, 12, 10, at=T0 + hours * 3600 * SECOND)
    line.write((BTC, rows.take()))
    for later in (0, 1, 70):
        book = book_of(T0 + (hours + later) * 3600 * SECOND)
        assert (book.anchor.recv_ns, book.update_id, book.gaps) == (T0 + SECOND, 12, ())
    assert book_of(T0 + hours * 3600 * SECOND - 1).update_id == 10


def test_updates_are_read_from_all_files_between(store, book_of):
    line, rows = fobd_line(store), _anchored()
    for number in range(12):
        rows.update(11 + number, 11 + number, 10 + number, asks=[(200.0 + number, 1.0)])
        rows.recv_ns += 900 * SECOND  # four an hour
        line.write((BTC, rows.take()), (CHINESE, _anchored(raw_offset=rows.raw_offset).table()))
    book = book_of(rows.recv_ns)
    assert (book.updates, book.update_id, len(book.asks), book.gaps) == (12, 22, 14, ())


def test_only_files_from_the_anchor_on_are_read(store, book_of, monkeypatch):
    line, rows = fobd_line(store), FobdRows()
    for number in range(4):
        rows.anchor(10 + number, BIDS, ASKS)
        line.write((BTC, rows.take()))
        rows.update(20 + number, 20 + number, 10 + number)
        line.write((BTC, rows.take()))
    read = []
    opened = data_file.open_file
    monkeypatch.setattr("shared.lake.history.open_file", lambda store, path: read.append(path) or opened(store, path))
    assert book_of(T0 + 4 * SECOND).update_id == 21
    assert [path for claim in line.claims for path in [claim.files[0].path] if path in read] == [
        claim.files[0].path for claim in line.claims[2:]
    ]


def test_a_message_split_between_row_groups_is_whole(store, book_of, monkeypatch):
    monkeypatch.setattr(parquet, "ROW_GROUP_ROWS", 3)
    line, rows = fobd_line(store), FobdRows()
    for number in range(5):
        rows.anchor(2 * number, [(100.0 - n, 1.0 + number) for n in range(7)], ASKS)
        rows.update(2 * number + 1, 2 * number + 2, 2 * number, asks=[(101.0 + n, 9.0) for n in range(5)])
    line.write((BTC, rows.table()))
    for number in range(5):
        book = book_of(T0 + (2 * number + 2) * SECOND)
        assert (len(book.bids), len(book.asks), book.update_id, book.gaps) == (7, 5, 2 * number + 2, ())
        assert set(book.bids.quantity) == {1.0 + number}


def test_of_two_streams_the_one_with_the_newest_anchor_is_taken(store, book_of):
    old, new = _anchored(), _anchored(recv_ns=T0 + 50 * SECOND, partition=3)
    fobd_line(store).write((BTC, old.table()))
    fobd_line(store, stream="second", partition=3).write((BTC, new.table()))
    assert (book_of(T0 + 60 * SECOND).stream, book_of(T0 + 60 * SECOND).raw_partition) == ("second", 3)
    assert book_of(T0 + 60 * SECOND, stream="main").anchor.recv_ns == T0 + SECOND
    assert book_of(T0 + 20 * SECOND, stream="main").stream == "main"
    with pytest.raises(lake.NoAnchor, match="stream second"):
        book_of(T0 + 20 * SECOND, stream="second")


@pytest.mark.parametrize("hours", [0, 30])
def test_between_the_end_of_one_stream_and_the_begin_of_another_is_a_gap(store, book_of, hours):
    fobd_line(store).write((BTC, _anchored().table()))
    fobd_line(store, stream="second").write((BTC, _anchored(recv_ns=T0 + (hours * 3600 + 50) * SECOND).table()))
    (gap,) = book_of(T0 + 20 * SECOND).gaps
    assert (gap.cause, gap.stream, gap.since_ns, gap.until_ns) == (STREAM_ENDED, "main", T0 + SECOND, None)


def test_a_stream_that_goes_on_beside_another_has_not_ended(store, book_of):
    rows = _anchored()
    rows.update(11, 12, 10, at=T0 + 60 * SECOND)
    fobd_line(store).write((BTC, rows.table()))
    fobd_line(store, stream="second").write((BTC, _anchored(recv_ns=T0 + 50 * SECOND).table()))
    assert book_of(T0 + 20 * SECOND).gaps == ()


def test_what_follows_is_looked_for_in_order_whatever_the_files_are(store, book_of):
    line, rows = fobd_line(store), _anchored()
    line.write((BTC, rows.take()))
    rows.anchor(10, BIDS, ASKS, at=T0 + 100 * SECOND)  # decides nothing
    line.write((BTC, rows.take()))
    rows.update(11, 12, 10, at=T0 + 200 * SECOND)
    line.write((BTC, rows.take()))
    for number, at in enumerate((T0 + 300 * SECOND, HOUR_1 * 1000)):  # chains to what came before, and to nothing else
        rows.update(13 + 2 * number, 14 + 2 * number, 12 + 2 * number, at=at)
        line.write((BTC, rows.take()))
    assert book_of(T0 + 50 * SECOND).gaps == ()
    assert book_of(T0 + 150 * SECOND).gaps == ()


def test_foreign_files_in_the_folders_are_passed_over(store, book_of, tmp_path):
    line = fobd_line(store)
    line.write((BTC, _anchored().table()))
    folder = (tmp_path / "lake" / line.claims[0].files[0].path).parent
    for name in ("0", "fobd-main-x.parquet", "zzz"):
        (folder / name).write_bytes(b"x")
    assert book_of(T0 + 30 * 3600 * SECOND).update_id == 10


def test_a_damaged_file_is_named(store, book_of, tmp_path):
    line = fobd_line(store)
    line.write((BTC, _anchored().table()))
    path = tmp_path / "lake" / line.claims[0].files[0].path
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(FatalError, match=r"fobd-main-00000.*is not readable as Parquet"):
        book_of(T0 + SECOND)


def test_a_file_of_a_newer_schema_asks_for_an_upgrade(store, book_of, monkeypatch):
    monkeypatch.setattr("tests.lakes.SCHEMA_VERSION", 99)
    fobd_line(store).write((BTC, _anchored().table()))
    with pytest.raises(UnknownVersion, match="schema version 99; this release knows 1: upgrade it"):
        book_of(T0 + SECOND)


def test_a_type_that_is_not_known_is_not_passed_over(book_of):
    rows = _anchored()
    rows._add("trade", None, (), ())
    with pytest.raises(FatalError, match="type 'trade'"):
        book_of(T0 + 9 * SECOND, rows)


# The forms of a book ------------------------------------------------------------------------------------------------


def test_depth_cuts_each_side_to_its_best_levels(book_of):
    book = book_of(T0 + 9 * SECOND, _anchored(), depth=2)
    assert sides(book) == [BIDS[:2], ASKS[:2]]


def test_a_book_as_a_table(book_of):
    rows = FobdRows()
    rows.anchor(10, BIDS, ASKS, limit=3)
    rows.update(11, 12, 10, bids=[(90.0, 1.0)])
    rows.gap("disconnect", last=12)
    book = book_of(T0 + 9 * SECOND, rows)
    table = book.to_arrow()
    assert table.schema.names == ["side", "level", "price", "quantity", "beyond_anchor"]
    assert table.column("side").to_pylist() == ["bid"] * 4 + ["ask"] * 2
    assert table.column("level").to_pylist() == [1, 2, 3, 4, 1, 2]
    assert table.column("price").to_pylist() == [100.0, 99.0, 98.0, 90.0, 101.0, 102.0]
    assert table.column("beyond_anchor").to_pylist() == [False, False, False, True, False, False]
    assert table.schema.field("level").type == pa.int32()
    metadata = table.schema.metadata
    assert metadata[b"cryptoflow.symbol"] == b"BTCUSDT"
    assert metadata[b"cryptoflow.update_id"] == b"12"
    assert b'"cause": "disconnect"' in metadata[b"cryptoflow.gaps"]


@pytest.mark.parametrize("market", ["margin", ""])
def test_a_market_without_a_sequence_rule_is_refused(store, market):
    with pytest.raises(FatalError, match=f"no sequence rule for binance:{market}: known are binance:future"):
        lake.book(store.url, exchange="binance", market=market, symbol="BTCUSDT", at=T0)


# Histories ----------------------------------------------------------------------------------------------------------


def _busy_line(store) -> FobdRows:
    """Two hours: an anchor every 50 updates, gaps, and what comes after them, in a file every 7 messages."""
    line, rows, id_ = fobd_line(store), FobdRows(), 1
    generator = np.random.default_rng(7)
    for number in range(300):
        if number % 50 == 0 or number == 123:
            rows.anchor(id_, BIDS, ASKS, limit=3)
        levels = [(90.0 + int(generator.integers(20)), float(generator.integers(4))) for _ in range(3)]
        rows.update(id_ + 1, id_ + 2, id_, bids=levels[:2], asks=[(level + 15, amount) for level, amount in levels[2:]])
        id_ += 2
        if number in (120, 260):
            rows.gap("disconnect", last=id_)
            id_ += 5
        rows.recv_ns += 23 * SECOND
        if number % 7 == 0 or number == 299:
            line.write((BTC, rows.take()))
    return rows


def _same(one, other):
    assert sides(one) == sides(other)
    facts = ("at_ns", "stream", "anchor", "update_id", "last_recv_ns", "updates", "gaps")
    assert {name: getattr(one, name) for name in facts} == {name: getattr(other, name) for name in facts}
    assert one.bids.beyond_anchor.tolist() == other.bids.beyond_anchor.tolist()


@pytest.mark.parametrize("order", ["rising", "falling"])
def test_a_history_gives_the_books_that_single_questions_give(store, book_of, order):
    end = _busy_line(store).recv_ns
    start = T0 + 1000 * SECOND
    history = lake.history(
        store.url, exchange="binance", market="future", symbol="BTCUSDT", start=start, end=end + 5 * SECOND
    )
    instants = sorted(np.random.default_rng(1).integers(start, end + 5 * SECOND, 40), reverse=order == "falling")
    gaps = 0
    for at in map(int, instants):
        book = history.at(at)
        _same(book, book_of(at))
        gaps += bool(book.gaps)
    assert 0 < gaps < 40


def test_a_history_that_begins_before_the_first_anchor_says_so_until_then(store):
    fobd_line(store).write((BTC, _anchored(recv_ns=T0 + 9 * SECOND).table()))
    history = lake.history(
        store.url, exchange="binance", market="future", symbol="BTCUSDT", start=T0, end=T0 + HOUR_US * 1000
    )
    with pytest.raises(lake.NoAnchor):
        history.at(T0 + 9 * SECOND)
    assert history.at(T0 + 10 * SECOND).update_id == 10


def test_an_instant_outside_of_a_history_is_refused(store):
    fobd_line(store).write((BTC, _anchored().table()))
    options = {"exchange": "binance", "market": "future", "symbol": "BTCUSDT"}
    history = lake.history(store.url, start=T0 + 2 * SECOND, end=T0 + 3 * SECOND, **options)
    for at in (T0 + 2 * SECOND - 1, T0 + 3 * SECOND + 1):
        with pytest.raises(ValueError, match="outside of the span"):
            history.at(at)
    with pytest.raises(ValueError, match="before it begins"):
        lake.history(store.url, start=T0 + 2, end=T0 + 1, **options)
