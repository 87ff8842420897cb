"""What stands around records: a partition per key, numbers per conn, headers that say the same however they were made."""

from __future__ import annotations

from itertools import count

from services.reader.channel import RawRecord
from services.reader.lanes import Lanes
from shared.kafka import partition_for
from shared.messages import Book, RawHeaders

BTC, ETH = Book("binance", "future", "BTCUSDT"), Book("binance", "future", "币安人生USDT")


def lanes() -> Lanes:
    return Lanes("raw-fobd", 6, "dead-letters", 3, stream="main", origin="host:1", numbers=count(1))


def update(book: Book = BTC, recv_ns: int = 1, link: int = 1) -> RawRecord:
    return RawRecord(book, "update", b"{}", recv_ns, "10.0.0.1", link=link, last_id=5)


def headers(found: Lanes, record: RawRecord) -> RawHeaders:
    return RawHeaders.decode(found.encode(record)[2])


def numbers(found: Lanes, *records: RawRecord) -> list[tuple[str, int]]:
    return [(each.conn, each.seq) for each in (headers(found, record) for record in records)]


def test_every_update_says_all_of_itself_the_first_of_its_conn_and_the_later_ones() -> None:
    found = lanes()
    for book in (BTC, ETH):
        for seq, recv_ns in enumerate((7, 8, 9)):
            assert headers(found, update(book, recv_ns)) == RawHeaders(
                stream="main",
                exchange="binance",
                market="future",
                symbol=book.symbol,
                type="update",
                recv_ns=recv_ns,
                conn="host:1:1",
                seq=seq,
                ip="10.0.0.1",
            )


def test_anchors_and_gaps_are_numbered_among_the_updates_and_have_headers_of_their_own() -> None:
    found = lanes()
    anchor = RawRecord(BTC, "snapshot", b"{}", 3, "10.0.0.1", 2, 1000, 1, 5)
    gap = RawRecord(BTC, "gap", b"{}", 4, "10.0.0.1", link=1)
    made = [headers(found, record) for record in (update(), anchor, update(), gap, update())]
    assert [each.type for each in made] == ["update", "snapshot", "update", "gap", "update"]
    assert [each.seq for each in made] == [0, 1, 2, 3, 4]
    assert [(each.sent_ns, each.limit) for each in made] == [(None, None), (2, 1000), (None, None), (None, None), (None, None)]  # fmt: skip


def test_numbers_begin_anew_with_every_websocket_and_are_each_books_own() -> None:
    records = [update(), update(ETH), update(), update(link=2), update(link=2), update(ETH)]
    first, second = "host:1:1", "host:1:2"
    assert numbers(lanes(), *records) == [(first, 0), (first, 0), (first, 1), (second, 0), (second, 1), (first, 1)]


def test_another_producer_is_another_conn_of_the_same_websocket() -> None:
    found = lanes()
    assert numbers(found, update(), update()) == [("host:1:1", 0), ("host:1:1", 1)]
    found.begin()
    assert numbers(found, update(), update()) == [("host:1:2", 0), ("host:1:2", 1)]


def test_a_dead_letter_goes_to_its_topic_and_takes_no_number() -> None:
    found = lanes()
    dead = RawRecord(BTC, "dead", b"?", 4, link=1, error="bad_json: ?")
    assert found.place(dead) == ("dead-letters", partition_for(BTC.key, 3))
    assert found.place(update()) == ("raw-fobd", partition_for(BTC.key, 6))
    assert dict(found.encode(dead)[2]) | {"error": b"bad_json: ?", "conn": b"host:1:1", "recv_ns": b"4"} == dict(
        found.encode(dead)[2]
    )
    assert numbers(found, update()) == [("host:1:1", 0)]
