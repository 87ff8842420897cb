"""A raw record as a row of the archive, and back: equal in key, value, headers, time and offset.

Headers are columns. A record whose headers are not, to the byte, those that the reader writes for them (of another
version or stream, damaged, with one too many, in another order) keeps them verbatim in `headers` as well. Where they
cannot be read at all, its book is that of its key, and its receive time is Kafka's.
What Kafka knows and `shared.kafka.Record` does not (a null value is an empty one) is not archived. No I/O.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import quote

from shared.errors import PoisonMessage, UnknownVersion
from shared.kafka import Record
from shared.messages import INT64_MAX, Book, RawHeaders, RawHeadersOf

if TYPE_CHECKING:
    from shared.messages import Header

UNKNOWN = "unknown"
UNKNOWN_BOOK = Book(UNKNOWN, UNKNOWN, UNKNOWN)

_INT32_MAX = 2**31 - 1
_LONGEST_NAME = 200  # of a path key, escaped: a folder's name may have 255 bytes


class RawRow(NamedTuple):
    """The columns of `PACK_SCHEMA`: the book, then those of `ARCHIVE_SCHEMA`."""

    exchange: str
    market: str
    symbol: str
    timestamp: int  # us since the epoch
    recv_ns: int
    kafka_timestamp_ms: int
    type: str
    limit: int | None
    conn: str | None
    seq: int | None
    sent_ns: int | None
    ip: str | None
    key: bytes | None
    value: bytes
    headers: tuple[Header, ...] | None
    raw_partition: int
    raw_offset: int


def row_of(record: Record, stream: str) -> RawRow:
    """Any record of a raw topic as a row of the archive of `stream`."""
    try:
        headers = RawHeaders.decode(record.headers)
        book = _storable(headers.exchange, headers.market, headers.symbol)
    except (PoisonMessage, UnknownVersion):
        headers, book = None, None
    if headers is None or book is None:
        recv_ns = min(max(0, record.timestamp_ms) * 1_000_000, INT64_MAX)
        return _row(record, _book_of_key(record.key), None, recv_ns, record.headers)
    fits = headers.stream == stream and (headers.limit or 0) <= _INT32_MAX
    verbatim = None if fits and _written(headers) == record.headers else record.headers
    return _row(record, book, headers, headers.recv_ns, verbatim)


def record_of(row: RawRow, topic: str, stream: str) -> Record:
    """The record of `topic` that a row of the archive of `stream` was made of."""
    headers = row.headers
    if headers is None:
        headers = _written(
            RawHeaders(
                stream=stream,
                exchange=row.exchange,
                market=row.market,
                symbol=row.symbol,
                type=row.type,  # type: ignore[arg-type]  # one of them, or the headers would stand there verbatim
                recv_ns=row.recv_ns,
                conn=row.conn or "",
                seq=row.seq or 0,
                sent_ns=row.sent_ns,
                limit=row.limit,
                ip=row.ip,
            )
        )
    return Record(topic, row.raw_partition, row.raw_offset, row.kafka_timestamp_ms, row.key, row.value, headers)


def _row(
    record: Record, book: Book, told: RawHeaders | None, recv_ns: int, verbatim: tuple[Header, ...] | None
) -> RawRow:
    limit = told.limit if told is not None else None
    return RawRow(
        exchange=book.exchange,
        market=book.market,
        symbol=book.symbol,
        timestamp=recv_ns // 1000,
        recv_ns=recv_ns,
        kafka_timestamp_ms=record.timestamp_ms,
        type=UNKNOWN if told is None else told.type,
        limit=limit if (limit or 0) <= _INT32_MAX else None,
        conn=None if told is None else told.conn,
        seq=None if told is None else told.seq,
        sent_ns=None if told is None else told.sent_ns,
        ip=None if told is None else told.ip,
        key=record.key,
        value=record.value,
        headers=verbatim,
        raw_partition=record.partition,
        raw_offset=record.offset,
    )


def _written(headers: RawHeaders) -> tuple[Header, ...]:
    """As the reader writes them: of updates it encodes once what they share."""
    if headers.type == "update":
        return tuple(RawHeadersOf(headers).encode(headers.recv_ns, headers.seq))
    return tuple(headers.encode())


@lru_cache(maxsize=16_384)
def _storable(exchange: str, market: str, symbol: str) -> Book | None:
    """The book, if a path can hold it."""
    names = (exchange, market, symbol)
    return Book(*names) if all(name and len(quote(name, safe="")) <= _LONGEST_NAME for name in names) else None


@lru_cache(maxsize=16_384)
def _book_of_key(key: bytes | None) -> Book:
    try:
        book = Book.from_key(key or b"")
    except PoisonMessage:
        return UNKNOWN_BOOK
    return _storable(book.exchange, book.market, book.symbol) or UNKNOWN_BOOK
