"""Who publishes each book of a raw partition, and whether two readers do: readers scale by shards, never by replicas.

A publisher is a reader process, the ``<host>:<process start ns>`` of ``conn``. One that follows another is a restart;
two that take turns for a short time are a hand-over; two that go on taking turns are duplicates: each of the venue's
messages is in the lake twice. Time is the records' own receive time, the highest so far, and every record is looked at:
a replay or a backlog, in whatever portions it comes, is judged as it was live. Pure.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from shared.venues.base import SECOND_NS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from services.flattener.message import Message

HANDOVER_NS = 60 * SECOND_NS
QUIET_NS = 300 * SECOND_NS
SPACINGS = 3
MOST_PUBLISHERS = 8
"""Of a book. While none of them is silent, what others do changes nothing: there are two already."""


@dataclass(frozen=True, slots=True)
class Change:
    """A book that has duplicate publishers from now on (`began`), or has them no longer."""

    key: bytes
    began: bool
    publishers: tuple[str, ...]  # those that take turns, or that are left; the latest last


@dataclass(slots=True)
class _Publisher:
    """Of one book. It takes a turn when it publishes behind another and has published before."""

    latest_ns: int
    turned_ns: int
    contested_ns: int | None = None  # its first turn since it had the book to itself for long

    def turn(self, now_ns: int) -> int:
        """Gives for how long it has been taking turns."""
        if self.contested_ns is None or self.latest_ns - self.turned_ns > HANDOVER_NS:
            self.contested_ns = now_ns
        self.turned_ns = now_ns
        return now_ns - self.contested_ns


@dataclass(slots=True)
class _Book:
    conn: str  # of its latest record
    current: _Publisher
    publishers: dict[str, _Publisher]  # by name; who began to publish last is last, and silent the shortest
    ends_ns: int = 0  # its duplicates are none from then on, unless another turn is taken


class Publishers:
    """All books of one partition."""

    def __init__(self) -> None:
        self._now_ns = 0
        self._books: dict[bytes, _Book] = {}
        self._duplicated: dict[bytes, _Book] = {}
        self._next_end_ns = 0  # none of them ends before

    @property
    def duplicated(self) -> int:
        """How many books have duplicate publishers."""
        return len(self._duplicated)

    def see(self, messages: Iterable[Message]) -> list[Change]:
        """The partition's next records, in their order. Gives what they change."""
        changes: list[Change] = []
        books, now_ns = self._books, self._now_ns
        for message in messages:
            key, conn = message.record.key, message.conn
            if key is None or conn is None:
                continue
            if message.recv_ns > now_ns:
                now_ns = self._now_ns = message.recv_ns
            book = books.get(key)
            if book is not None and book.conn == conn:
                book.current.latest_ns = now_ns
            else:
                changes += self._switch(key, book, conn)
        changes += self._over()
        return changes

    def _switch(self, key: bytes, book: _Book | None, conn: str) -> Iterator[Change]:
        """The record is of another conn than the book's latest, or its first."""
        now_ns, name = self._now_ns, conn.rpartition(":")[0]
        if book is None:
            only = _Publisher(now_ns, now_ns)
            self._books[key] = _Book(conn, only, {name: only})
            return
        if key in self._duplicated and now_ns >= book.ends_ns:
            yield self._end(key)
        publisher = book.publishers.pop(name, None)
        if publisher is None:
            publisher = _Publisher(now_ns, now_ns)
            _make_room(book.publishers, now_ns)
        elif publisher is not book.current:
            yield from self._turn(key, book, publisher, name)
        publisher.latest_ns = now_ns
        book.conn, book.current = conn, publisher
        if len(book.publishers) < MOST_PUBLISHERS:
            book.publishers[name] = publisher

    def _turn(self, key: bytes, book: _Book, publisher: _Publisher, name: str) -> Iterator[Change]:
        now_ns = self._now_ns
        # Books that are polled once an hour take their turns once an hour.
        quiet_ns = max(QUIET_NS, SPACINGS * (now_ns - publisher.latest_ns))
        turning_ns = publisher.turn(now_ns)
        if key in self._duplicated:
            book.ends_ns = max(book.ends_ns, now_ns + quiet_ns)
        elif turning_ns > HANDOVER_NS:
            book.ends_ns = now_ns + quiet_ns
            self._next_end_ns = min(self._next_end_ns, book.ends_ns) if self._duplicated else book.ends_ns
            self._duplicated[key] = book
            yield Change(key, began=True, publishers=(*_heard(book.publishers, now_ns - turning_ns), name))

    def _over(self) -> Iterator[Change]:
        if not self._duplicated or self._now_ns < self._next_end_ns:
            return
        for key in [key for key, book in self._duplicated.items() if self._now_ns >= book.ends_ns]:
            yield self._end(key)
        self._next_end_ns = min((book.ends_ns for book in self._duplicated.values()), default=0)

    def _end(self, key: bytes) -> Change:
        book = self._duplicated.pop(key)
        for publisher in book.publishers.values():
            publisher.contested_ns = None
        return Change(key, began=False, publishers=_heard(book.publishers, self._now_ns - QUIET_NS))


def _heard(publishers: Mapping[str, _Publisher], since_ns: int) -> tuple[str, ...]:
    return tuple(name for name, publisher in publishers.items() if publisher.latest_ns >= since_ns)


def _make_room(publishers: dict[str, _Publisher], now_ns: int) -> None:
    """Forgets who has been silent longest; nobody, if even that one is not silent."""
    name = next(iter(publishers))
    if len(publishers) >= MOST_PUBLISHERS and now_ns - publishers[name].latest_ns > QUIET_NS:
        del publishers[name]
