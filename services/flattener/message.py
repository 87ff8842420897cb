"""One raw record, looked into as far as it takes to know its book, its time and its number of rows.

A record that cannot be understood is not dropped here or anywhere: its `Message` holds the `PoisonMessage`, and is one
row. Pure; never reads a number of a level (that is done for many messages at once) and never guesses a version.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from shared.errors import PoisonMessage
from shared.messages import INT64_MAX, Book, Gap, RawHeaders
from shared.venues import VENUES
from shared.venues.levels import Side, scan

if TYPE_CHECKING:
    from shared.kafka import Record
    from shared.messages import Kind, RecordType
    from shared.venues.base import Venue
    from shared.venues.sequence import UpdateIds

UNKNOWN_BOOK = Book("unknown", "unknown", "unknown")

_MAX_MS = 253_402_300_799_999  # the year 9999: what every reader of the lake can show
_INT32_MAX = 2**31 - 1
_MOST_BOOKS = 16_384  # more than all venues list together


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A full book whose levels are counted but not yet read; among updates it is an anchor."""

    last_update_id: int
    event_ms: int | None
    transaction_ms: int | None
    limit: int | None  # levels asked for a side
    bids: Side
    asks: Side


@dataclass(frozen=True, slots=True)
class Update:
    """What changed in a book; its levels are counted but not yet read."""

    ids: UpdateIds
    event_ms: int | None
    transaction_ms: int | None
    bids: Side
    asks: Side


Content: TypeAlias = Snapshot | Update | Gap | PoisonMessage


@dataclass(frozen=True, slots=True)
class Message:
    """A raw record, and what it says."""

    record: Record
    book: Book
    recv_ns: int
    conn: str | None  # None where the headers cannot be read
    content: Content

    @property
    def rows(self) -> int:
        """How many rows it becomes: its levels, and always at least one."""
        content = self.content
        if isinstance(content, Snapshot | Update):
            return content.bids.count + content.asks.count or 1
        return 1


def read(kind: Kind, record: Record) -> Message:
    """What a record of the raw topic of `kind` says. Raises `UnknownVersion` and nothing else."""
    try:
        headers = _headers(record)
    except PoisonMessage as poison:
        return Message(record, _book_of_key(record.key), record.timestamp_ms * 1_000_000, None, poison)
    known = _known(headers.exchange, headers.market, headers.symbol)
    try:
        content = _content(kind, headers, known, record)
    except PoisonMessage as poison:
        content = poison
    return Message(record, known.book, headers.recv_ns, headers.conn, content)


def _headers(record: Record) -> RawHeaders:
    headers = RawHeaders.decode(record.headers)
    if not (headers.exchange and headers.market and headers.symbol):
        raise PoisonMessage("bad_headers", f"headers name no book: {headers.book}")
    return headers


class _Known(NamedTuple):
    """A book, the key its records have, and the adapter of its market."""

    book: Book
    key: bytes
    adapter: Venue | None


@lru_cache(maxsize=_MOST_BOOKS)
def _known(exchange: str, market: str, symbol: str) -> _Known:
    book = Book(exchange, market, symbol)
    return _Known(book, book.key, VENUES.get((exchange, market)))


_LEVELLED: dict[Kind, tuple[RecordType, ...]] = {"fobs": ("snapshot",), "fobd": ("update", "snapshot")}


def _content(kind: Kind, headers: RawHeaders, known: _Known, record: Record) -> Content:
    if record.key != known.key:
        raise PoisonMessage("bad_key", f"key {record.key!r} is not that of {known.book}")
    if headers.type == "gap":
        return _read_gap(record.value)
    if headers.type not in _LEVELLED[kind]:
        raise PoisonMessage("bad_type", f"a record of type {headers.type} on raw-{kind}")
    if known.adapter is None:
        raise PoisonMessage("unknown_venue", f"no adapter for {headers.exchange}:{headers.market}")
    return (_read_update if headers.type == "update" else _read_snapshot)(headers, known.adapter, record.value)


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
    if event_ms is not None:
        _check("event time", event_ms, _MAX_MS, "bad_time")
    if transaction_ms is not None:
        _check("transaction time", transaction_ms, _MAX_MS, "bad_time")


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
