"""The books of a symbol over a span of time: loads the deltas once, and no more of them than the span needs.

Files are read backwards from the end of the span, hour by hour, until there is an anchor at or before its begin. Of a
file only the row groups that matter are decoded. Where a book at the end of the data depends on what was told later,
the files after it are looked into until that is decided. Reads only.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, NamedTuple

from shared.errors import FatalError
from shared.lake import layout
from shared.lake.data_file import DataFile, open_file
from shared.lake.deltas import COLUMNS, Deltas, Piece
from shared.lake.gap import STREAM_ENDED, Gap
from shared.lake.hours import Hours
from shared.lake.instant import instant_text
from shared.lake.layout import HOUR_US
from shared.lake.patient import Patient
from shared.lake.rebuild import Rebuilder

if TYPE_CHECKING:
    from shared.lake.book import Book
    from shared.lake.data_file import RowGroup
    from shared.lake.layout import DataPath
    from shared.lake.rebuild import SequenceRule
    from shared.lake.store import Store
    from shared.messages import Book as BookKey

AHEAD_HOURS = 48  # with files, looked into for what follows; of a quiet symbol some hold but an anchor


class NoAnchor(FatalError):
    """No book is known at an instant: the lake holds no anchor of it received by then."""


class _Lineage(NamedTuple):
    stream: str
    partition: int


@dataclass(slots=True)
class _Line:
    """What was read of one stream and raw partition, and what comes next."""

    pieces: list[Piece] = field(default_factory=list)
    lowest: DataPath | None = None  # the file farthest back
    highest: DataPath | None = None  # the file behind which nothing was looked into
    anchor: int | None = None  # raw offset of the one at or before the begin
    waiting: list[RowGroup] = field(default_factory=list)  # of the highest file, not read yet
    file: DataFile | None = None  # the highest file, while groups of it wait
    exhausted: bool = False


class BookHistory:
    """The books of one symbol at any instant of a span. Not for several threads at once.

    Raises `FatalError` for a file that cannot be read or a lake of a newer release, `RetryableError` where the store
    does not answer for a minute.
    """

    def __init__(
        self,
        store: Store,
        key: BookKey,
        *,
        start_ns: int,
        end_ns: int,
        rule: SequenceRule,
        stream: str | None = None,
    ) -> None:
        if start_ns > end_ns:
            raise ValueError(f"the span ends at {instant_text(end_ns)}, before it begins at {instant_text(start_ns)}")
        self._store = Patient(store)
        self._url = store.url
        self._hours = Hours(store, "fobd", key)
        self._key, self._rule, self._stream = key, rule, stream
        self.start_ns, self.end_ns = start_ns, end_ns
        self._lines: dict[_Lineage, _Line] = {}
        self._load()
        self._rebuilders = {lineage: self._rebuilder(lineage) for lineage, line in self._lines.items() if line.pieces}

    def at(self, at_ns: int, depth: int | None = None) -> Book:
        """The book at an instant of the span, ns since the epoch, with its `depth` best levels of each side, or all.

        Of several streams the one whose anchor is the newest. Rising instants cost only what lies between them.
        Raises `NoAnchor` where there is none yet, `ValueError` for an instant outside of the span.
        """
        if not self.start_ns <= at_ns <= self.end_ns:
            raise ValueError(f"{instant_text(at_ns)} is outside of the span that was loaded")
        anchors = {
            lineage: received
            for lineage, rebuilder in self._rebuilders.items()
            if (received := rebuilder.anchor_recv_ns(at_ns)) is not None
        }
        if not anchors:
            raise NoAnchor(self._no_anchor(at_ns))
        lineage = max(anchors, key=lambda found: (anchors[found], found))
        book, decided = self._rebuilders[lineage].at(at_ns)
        while not decided and self._read_ahead(lineage):
            self._rebuilders[lineage] = self._rebuilder(lineage)
            book, decided = self._rebuilders[lineage].at(at_ns)
        if not decided and (ended := self._ended(lineage, book)) is not None:
            book = replace(book, gaps=(ended,))
        return book if depth is None else replace(book, bids=book.bids.best(depth), asks=book.asks.best(depth))

    def _rebuilder(self, lineage: _Lineage) -> Rebuilder:
        return Rebuilder(self._key, *lineage, Deltas.of(self._lines[lineage].pieces), self._rule)

    def _load(self) -> None:
        hour: int | None = layout.hour_of(self.end_ns // 1000)
        below = layout.hour_of(self.start_ns // 1000)
        while hour is not None:
            for path in reversed(self._files(hour)):
                self._take(path)
            below = min(below, hour)
            # An anchor farther back would be older than one that was found in this hour, of whatever stream.
            if any(line.anchor is not None for line in self._lines.values()):
                break
            hour = self._hours.before(hour)
        # Updates that waited for their anchor lie behind it, and perhaps in the hour before.
        for path in reversed(self._files(below - HOUR_US)):
            line = self._lines.get(_Lineage(path.stream, path.partition))
            if line is not None and line.lowest is not None and path.last >= line.lowest.first:
                self._take(path)

    def _files(self, hour_us: int) -> list[DataPath]:
        return [path for path in self._hours.files(hour_us) if self._stream in (None, path.stream)]

    def _take(self, path: DataPath) -> None:
        """Read what is needed of a file, the last rows first, until the anchor at or before the begin is found."""
        line = self._lines.setdefault(_Lineage(path.stream, path.partition), _Line())
        if line.anchor is not None and line.lowest is not None and path.last < line.lowest.first:
            return
        file = open_file(self._store, str(path))
        if file is None:
            raise FatalError(f"{path} was listed and is not there: part of the lake was deleted")
        line.lowest = path
        line.highest = line.highest or path
        for index, group in reversed(list(enumerate(file.groups))):
            if line.anchor is not None and group.max_offset < line.anchor:
                continue
            if group.min_recv_ns > self.end_ns:  # read if need be; nothing behind it is, unless it was
                line.highest, line.file, line.waiting = path, file, file.groups[index:]
                continue
            piece = Piece.of(file.read([group], COLUMNS))
            line.pieces.append(piece)
            if line.anchor is None:
                line.anchor = piece.anchor_at(self.start_ns)

    def _read_ahead(self, lineage: _Lineage) -> bool:
        """Read what comes next of a line. False where there is nothing, or enough was read."""
        line = self._lines[lineage]
        if not line.waiting:
            self._next_file(lineage, line)
        if line.file is None or not line.waiting:
            return False
        line.pieces.append(Piece.of(line.file.read(line.waiting[:1], COLUMNS)))
        line.waiting = line.waiting[1:]
        return True

    def _next_file(self, lineage: _Lineage, line: _Line) -> None:
        line.file = None
        if line.exhausted or line.highest is None:
            return
        reached = _place(line.highest)
        hour: int | None = line.highest.hour_start_us
        for _ in range(AHEAD_HOURS):
            if hour is None:
                break
            for path in self._hours.files(hour):
                if (path.stream, path.partition) == lineage and _place(path) > reached:
                    line.highest, line.file = path, open_file(self._store, str(path))
                    line.waiting = line.file.groups if line.file is not None else []
                    return
            hour = self._hours.after(hour)
        line.exhausted = True

    def _ended(self, lineage: _Lineage, book: Book) -> Gap | None:
        """The hole of a stream that nothing follows, while the symbol goes on in another one."""
        if self._stream is not None or not self._others_follow(lineage, book.at_ns):
            return None
        return Gap(
            kind="fobd",
            stream=lineage.stream,
            raw_partition=lineage.partition,
            cause=STREAM_ENDED,
            told_ns=book.at_ns,
            since_ns=book.last_recv_ns,
            book=self._key,
            last_id=book.update_id,
        )

    def _others_follow(self, lineage: _Lineage, at_ns: int) -> bool:
        """Whether there are rows of this symbol after an instant that are of another stream or partition."""
        others = [line for found, line in self._lines.items() if found != lineage]
        if any(line.waiting or any(piece.last_recv_ns > at_ns for piece in line.pieces) for line in others):
            return True
        hour = self._hours.after(layout.hour_of(self.end_ns // 1000))
        return hour is not None and any((path.stream, path.partition) != lineage for path in self._hours.files(hour))

    def _no_anchor(self, at_ns: int) -> str:
        words = f"no anchor of {self._key} received at or before {instant_text(at_ns)} in {self._url}"
        if self._stream is not None:
            words += f", stream {self._stream}"
        first = self._hours.after(-HOUR_US)
        if first is None:
            return f"{words}: there is no fobd of this symbol at all"
        return f"{words}: its first fobd is of {layout.hour_text(first)}"


def _place(path: DataPath) -> tuple[int, int]:
    """Where a file stands in its line: rows of one claim that were received in two hours are two files."""
    return path.first, path.hour_start_us
