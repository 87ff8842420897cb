"""What became of every poll of one source address, told once to the queue and once to the metrics.

A poll that was due ends here as exactly one of: a snapshot taken into the queue, or a miss that becomes part of a gap.
Never sends, never waits, never judges an answer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from services.reader.channel import RawRecord
from services.reader.gaps import GapRuns
from shared import metrics
from shared.messages import Gap
from shared.venues.base import SECOND_NS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from services.reader.channel import Channel
    from services.reader.fetch import Answer
    from shared.messages import Book, GapCause
    from shared.venues.base import MissCause, Reason


class Ledger:
    """The books of one source address (`ip` None = the default route). Times are ns since the epoch."""

    def __init__(self, channel: Channel, ip: str | None, gap_after_seconds: float) -> None:
        self._channel = channel
        self._ip = ip
        self._size_bytes: dict[Book, int] = {}  # of the latest answer
        self._runs = GapRuns(int(gap_after_seconds * SECOND_NS))

    def has_room(self, book: Book) -> bool:
        """Whether a poll is worth sending: an answer as large as the latest one would find room in the queue."""
        return self._channel.has_room(self._size_bytes.get(book, 1))

    def snapshot(self, book: Book, answer: Answer, limit: int, now_ns: int) -> bool:
        """Take a good answer into the queue, the gap before it included. False = no room: counted as a miss."""
        record = RawRecord(book, "snapshot", answer.body, answer.recv_ns, answer.ip, answer.sent_ns, limit)
        self._size_bytes[book] = record.size_bytes
        gap = self._runs.before_snapshot(book)
        if not self._channel.offer(record, after=None if gap is None else self._record(book, gap, now_ns)):
            self.missed(book, "queue_full", "overflow", now_ns)
            return False
        if gap is not None:
            _count(book, gap)
        self._runs.good(book, answer.recv_ns)
        metrics.POLLS.labels(book.exchange, book.market, "ok").inc()
        metrics.POLL_SECONDS.labels(book.exchange, book.market).observe((answer.recv_ns - answer.sent_ns) / SECOND_NS)
        return True

    def missed(self, book: Book, reason: Reason, cause: MissCause, now_ns: int) -> None:
        """A poll that was due gave no book."""
        metrics.POLLS.labels(book.exchange, book.market, reason).inc()
        self._runs.missed(book, cause, now_ns)

    def tell_overdue(self, now_ns: int) -> None:
        """The gaps of runs that have lasted too long to wait for their next snapshot."""
        self._tell(self._runs.overdue(now_ns), now_ns)

    def tell_start(self, books: Iterable[Book], now_ns: int) -> None:
        """A gap for every book: nothing is known of before."""
        self._tell_all(books, "start", now_ns)

    def tell_stop(self, books: Iterable[Book], now_ns: int) -> None:
        """Of each book what was missed and not told yet, then a gap: nothing is known of after."""
        for book in books:
            self._tell(self._runs.end(book), now_ns)
            self._tell_all([book], "stop", now_ns)

    def _tell_all(self, books: Iterable[Book], cause: GapCause, now_ns: int) -> None:
        self._tell([(book, Gap(cause=cause, since_ns=self._runs.last_good_ns(book))) for book in books], now_ns)

    def _tell(self, gaps: Iterable[tuple[Book, Gap]], now_ns: int) -> None:
        for book, gap in gaps:
            self._channel.put(self._record(book, gap, now_ns))
            _count(book, gap)

    def _record(self, book: Book, gap: Gap, now_ns: int) -> RawRecord:
        return RawRecord(book, "gap", gap.encode(), now_ns, self._ip)


def _count(book: Book, gap: Gap) -> None:
    metrics.GAPS.labels("fobs", book.exchange, book.market, gap.cause).inc()
