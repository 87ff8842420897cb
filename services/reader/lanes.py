"""What stands around the records of each book: key, partition, conn and number, headers.

The headers of a book's updates differ in receive time and number alone; the others are encoded once for each conn.
Never sends, never waits.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from shared.kafka import partition_for
from shared.messages import DeadLetterHeaders, RawHeaders, RawHeadersOf

if TYPE_CHECKING:
    from collections.abc import Iterator

    from services.reader.channel import RawRecord
    from shared.messages import Book, Header


@dataclass(slots=True)
class Lane:
    """What is known of a book's records."""

    key: bytes
    place: tuple[str, int]  # topic and partition
    conn: str | None = None  # of its latest record
    seq: int = 0  # of its next one in that conn
    updates: RawHeadersOf | None = None  # of its updates in that conn
    last_good_ns: int | None = None  # receive time and id of the latest update or anchor that was acknowledged
    last_good_id: int | None = None


class Lanes:
    """All books of one topic. `origin` is ``<host>:<process start ns>``, `numbers` those of its conns."""

    def __init__(
        self,
        topic: str,
        partitions: int,
        dead_letter_topic: str,
        dead_letter_partitions: int,
        *,
        stream: str,
        origin: str,
        numbers: Iterator[int],
    ) -> None:
        self._topic = topic
        self._partitions = partitions
        self._dead_letter_topic = dead_letter_topic
        self._dead_letter_partitions = dead_letter_partitions
        self._stream = stream
        self._origin = origin
        self._numbers = numbers
        self._conns: dict[int | None, str] = {}  # of this producer, by websocket
        self._lanes: dict[Book, Lane] = {}

    def begin(self) -> None:
        """Another producer: other conns."""
        self._conns.clear()
        for lane in self._lanes.values():
            lane.conn = None

    def of(self, book: Book) -> Lane:
        """The book's own."""
        lane = self._lanes.get(book)
        if lane is None:
            key = book.key
            lane = self._lanes[book] = Lane(key, (self._topic, partition_for(key, self._partitions)))
        return lane

    def place(self, record: RawRecord) -> tuple[str, int]:
        """Topic and partition."""
        if record.error is not None:
            return self._dead_letter_topic, partition_for(record.book.key, self._dead_letter_partitions)
        return self.of(record.book).place

    def encode(self, record: RawRecord) -> tuple[bytes, bytes, list[Header]]:
        """Key, value, headers; the record takes its number."""
        conn = self._conn(record.link)
        if record.error is not None:
            return record.book.key, record.value, _dead_letter_headers(record, record.error, conn)
        lane = self.of(record.book)
        if lane.conn != conn:
            lane.conn, lane.seq, lane.updates = conn, 0, None
        seq, lane.seq = lane.seq, lane.seq + 1
        if record.type != "update":
            return lane.key, record.value, self._headers(record, conn, seq).encode()
        if lane.updates is None:
            lane.updates = RawHeadersOf(self._headers(record, conn, seq))
        return lane.key, record.value, lane.updates.encode(record.recv_ns, seq)

    def _headers(self, record: RawRecord, conn: str, seq: int) -> RawHeaders:
        return RawHeaders(
            stream=self._stream,
            exchange=record.book.exchange,
            market=record.book.market,
            symbol=record.book.symbol,
            type=record.type,  # type: ignore[arg-type]  # a dead letter went another way
            recv_ns=record.recv_ns,
            conn=conn,
            seq=seq,
            sent_ns=record.sent_ns,
            limit=record.limit,
            ip=record.ip,
        )

    def _conn(self, link: int | None) -> str:
        conn = self._conns.get(link)
        if conn is None:
            conn = self._conns[link] = f"{self._origin}:{next(self._numbers)}"
        return conn


def _dead_letter_headers(record: RawRecord, error: str, conn: str) -> list[Header]:
    original = [("conn", conn.encode()), ("recv_ns", str(record.recv_ns).encode())]
    return DeadLetterHeaders(error=error, stage="reader", src=conn).encode(original)
