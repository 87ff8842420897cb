"""One raw record, looked into as far as it takes to know its book, its time and its number of rows.

A record that cannot be understood is not dropped here or anywhere: its `Message` holds the `PoisonMessage`, and is one
row. Pure; never reads a number of a level (that is done for many messages at once) and never guesses a version.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from shared.errors import PoisonMessage
from shared.messages import INT64_MAX, Book, Gap, RawHeaders
from shared.venues import VENUES
from shared.venues.levels import Side, scan

if TYPE_CHECKING:
    from shared.kafka import Record
    from shared.messages import Kind

UNKNOWN_BOOK = Book("unknown", "unknown", "unknown")

_MAX_MS = 253_402_300_799_999  # the year 9999: what every reader of the lake can show
_INT32_MAX = 2**31 - 1


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A full book whose levels are counted but not yet read."""

    last_update_id: int
    event_ms: int | None
    transaction_ms: int | None
    limit: int | None  # levels asked for a side
    bids: Side
    asks: Side


Content: TypeAlias = Snapshot | Gap | PoisonMessage


@dataclass(frozen=True, slots=True)
class Message:
    """A raw record, and what it says."""

    record: Record
    book: Book
    recv_ns: int
    content: Content

    @property
    def rows(self) -> int:
        """How many rows it becomes: its levels, and always at least one."""
        if isinstance(self.content, Snapshot):
            return max(1, self.content.bids.count + self.content.asks.count)
        return 1


def read(kind: Kind, record: Record) -> Message:
    """What a record of the raw topic of `kind` says. Raises `UnknownVersion` and nothing else."""
    try:
        headers = _headers(record)
    except PoisonMessage as poison:
        return Message(record, _book_of_key(record.key), record.timestamp_ms * 1_000_000, poison)
    try:
        content = _content(kind, headers, record)
    except PoisonMessage as poison:
        content = poison
    return Message(record, headers.book, headers.recv_ns, content)


def _headers(record: Record) -> RawHeaders:
    headers = RawHeaders.decode(record.headers)
    if not all((headers.exchange, headers.market, headers.symbol)):
        raise PoisonMessage("bad_headers", f"headers name no book: {headers.book}")
    return headers


def _content(kind: Kind, headers: RawHeaders, record: Record) -> Content:
    if record.key != headers.book.key:
        raise PoisonMessage("bad_key", f"key {record.key!r} is not that of {headers.book}")
    if headers.type != "gap":
        return _READERS[kind](headers, record.value)
    gap = Gap.decode(record.value)
    if gap.since_ns is not None:
        _check("since_ns", gap.since_ns, INT64_MAX, "bad_gap")
    return gap


def _read_snapshot(headers: RawHeaders, value: bytes) -> Content:
    if headers.type != "snapshot":
        raise PoisonMessage("bad_type", f"a record of type {headers.type} among snapshots")
    adapter = VENUES.get((headers.exchange, headers.market))
    if adapter is None:
        raise PoisonMessage("unknown_venue", f"no adapter for {headers.exchange}:{headers.market}")
    if headers.limit is not None:
        _check("limit", headers.limit, _INT32_MAX, "bad_headers")
    envelope = adapter.parse_snapshot(value)
    for name, time_ms in (("event time", envelope.event_ms), ("transaction time", envelope.transaction_ms)):
        if time_ms is not None:
            _check(name, time_ms, _MAX_MS, "bad_time")
    return Snapshot(
        envelope.last_update_id,
        envelope.event_ms,
        envelope.transaction_ms,
        headers.limit,
        scan(envelope.bids),
        scan(envelope.asks),
    )


_READERS = {"fobs": _read_snapshot}


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
