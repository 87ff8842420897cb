"""One raw record, looked into as far as it takes to know its book, its time and its number of rows.

A record that cannot be understood is not dropped here or anywhere: its `Message` holds the `PoisonMessage`, and is one
row. Pure; never reads a number of a level (that is done for many messages at once) and never guesses a version.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import msgspec

from shared.errors import PoisonMessage
from shared.messages import INT64_MAX, Book, Gap, RawHeaders, RawHeadersOf
from shared.venues import VENUES
from shared.venues.levels import Side, scan

if TYPE_CHECKING:
    from shared.kafka import Record
    from shared.messages import Header, Kind, RecordType
    from shared.venues.base import Venue
    from shared.venues.sequence import UpdateIds

UNKNOWN_BOOK = Book("unknown", "unknown", "unknown")

_MAX_MS = 253_402_300_799_999  # the year 9999: what every reader of the lake can show
_INT32_MAX = 2**31 - 1
_MOST_SOURCES = 16_384  # more books than all venues list together


class Snapshot(msgspec.Struct, frozen=True, gc=False):
    """A full book whose levels are counted but not yet read; among updates it is an anchor."""

    last_update_id: int
    event_ms: int | None
    transaction_ms: int | None
    limit: int | None  # levels asked for a side
    bids: Side
    asks: Side


class Update(msgspec.Struct, frozen=True, gc=False):
    """What changed in a book; its levels are counted but not yet read."""

    ids: UpdateIds
    event_ms: int | None
    transaction_ms: int | None
    bids: Side
    asks: Side


Content: TypeAlias = Snapshot | Update | Gap | PoisonMessage


class Message(msgspec.Struct, frozen=True, gc=False):
    """A raw record, and what it says. Nothing in it may lead back to it: the garbage collector does not look here."""

    record: Record
    book: Book
    recv_ns: int
    conn: str | None  # None where the headers cannot be read
    content: Content
    rows: int = 1  # that it becomes: its levels, and always at least one

    def spoilt(self, poison: PoisonMessage) -> Message:
        """The same record, which turned out to say nothing."""
        return Message(self.record, self.book, self.recv_ns, self.conn, poison)


def read(kind: Kind, record: Record) -> Message:
    """What a record of the raw topic of `kind` says. Raises `UnknownVersion` and nothing else."""
    try:
        source, recv_ns = _source_and_time(record.headers)
    except PoisonMessage as poison:
        return Message(record, _book_of_key(record.key), record.timestamp_ms * 1_000_000, None, poison.bare())
    try:
        content = _content(kind, source, record)
    except PoisonMessage as poison:
        return Message(record, source.book, recv_ns, source.headers.conn, poison.bare())
    rows = content.bids.count + content.asks.count if isinstance(content, _WITH_LEVELS) else 1
    return Message(record, source.book, recv_ns, source.headers.conn, content, rows or 1)


class _Source(NamedTuple):
    """What records say that are alike but for `recv_ns` and `seq`; the book, its key and the adapter of its market."""

    headers: RawHeaders  # of one of them
    book: Book
    key: bytes
    adapter: Venue | None


def _source_and_time(headers: tuple[Header, ...]) -> tuple[_Source, int]:
    split = RawHeadersOf.split(headers)
    if split is None:
        decoded = RawHeaders.decode(headers)
        return _source(decoded), decoded.recv_ns
    return _kept_source(split[0]), split[1]


@lru_cache(maxsize=_MOST_SOURCES)
def _kept_source(shared: tuple[Header, ...]) -> _Source:
    return _source(RawHeaders.decode((*shared, ("recv_ns", b"0"), ("seq", b"0"))))


def _source(headers: RawHeaders) -> _Source:
    if not (headers.exchange and headers.market and headers.symbol):
        raise PoisonMessage("bad_headers", f"headers name no book: {headers.book}")
    return _Source(headers, *_known(headers.exchange, headers.market, headers.symbol))


@lru_cache(maxsize=_MOST_SOURCES)
def _known(exchange: str, market: str, symbol: str) -> tuple[Book, bytes, Venue | None]:
    book = Book(exchange, market, symbol)
    return book, book.key, VENUES.get((exchange, market))


_WITH_LEVELS = (Update, Snapshot)  # the usual one first
_LEVELLED: dict[Kind, tuple[RecordType, ...]] = {"fobs": ("snapshot",), "fobd": ("update", "snapshot")}


def _content(kind: Kind, source: _Source, record: Record) -> Snapshot | Update | Gap:
    headers, book, key, adapter = source
    if record.key != key:
        raise PoisonMessage("bad_key", f"key {record.key!r} is not that of {book}")
    if headers.type == "gap":
        return _read_gap(record.value)
    if headers.type not in _LEVELLED[kind]:
        raise PoisonMessage("bad_type", f"a record of type {headers.type} on raw-{kind}")
    if adapter is None:
        raise PoisonMessage("unknown_venue", f"no adapter for {headers.exchange}:{headers.market}")
    return (_read_update if headers.type == "update" else _read_snapshot)(headers, adapter, record.value)


def _read_snapshot(headers: RawHeaders, adapter: Venue, value: bytes) -> Snapshot:
    if headers.limit is not None:
        _check("limit", headers.limit, _INT32_MAX, "bad_headers")
    envelope = adapter.parse_snapshot(value)
    _check_times(envelope.event_ms, envelope.transaction_ms)
    return Snapshot(
        envelope.last_update_id,
        envelope.event_ms,
        envelope.transaction_ms,
        headers.limit,
        scan(envelope.bids),
        scan(envelope.asks),
    )


def _read_update(headers: RawHeaders, adapter: Venue, value: bytes) -> Update:
    envelope = adapter.parse_update(value)
    if envelope.symbol != headers.symbol:
        raise PoisonMessage("foreign_symbol", f"an update of {envelope.symbol!a} under the headers of {headers.book}")
    _check_times(envelope.event_ms, envelope.transaction_ms)
    return Update(envelope.ids, envelope.event_ms, envelope.transaction_ms, scan(envelope.bids), scan(envelope.asks))


def _read_gap(value: bytes) -> Gap:
    gap = Gap.decode(value)
    for name, number in (("since_ns", gap.since_ns), ("last_id", gap.last_id), ("next_id", gap.next_id)):
        if number is not None:
            _check(name, number, INT64_MAX, "bad_gap")
    return gap


def _check_times(event_ms: int | None, transaction_ms: int | None) -> None:
    if not (0 <= (event_ms or 0) <= _MAX_MS and 0 <= (transaction_ms or 0) <= _MAX_MS):
        _check("event time", event_ms or 0, _MAX_MS, "bad_time")
        _check("transaction time", transaction_ms or 0, _MAX_MS, "bad_time")


def _check(name: str, value: int, most: int, reason: str) -> None:
    if not 0 <= value <= most:
        raise PoisonMessage(reason, f"{name} {value} is not between 0 and {most}")


def _book_of_key(key: bytes | None) -> Book:
    """The book a record was meant for, as well as its key tells."""
    try:
        book = Book.from_key(key or b"")
    except PoisonMessage:
        return UNKNOWN_BOOK
    return book if all((book.exchange, book.market, book.symbol)) else UNKNOWN_BOOK
