"""Which files one book has in which hour, found by listings of one folder or of one object: never of the whole book.

An hour's folder holds the rows received in that hour, of every stream and partition. Reads only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from shared.lake import layout
from shared.lake.layout import HOUR_US
from shared.lake.patient import tried

if TYPE_CHECKING:
    from shared.lake.layout import DataPath
    from shared.lake.store import Store
    from shared.messages import Book, Kind


class Hours:
    """The hours of one book. Hours are given by their start, in microseconds since the epoch."""

    def __init__(self, store: Store, kind: Kind, book: Book) -> None:
        self._store = store
        self._kind: Kind = kind
        self._book = book
        self._prefix = layout.book_prefix(kind, book)

    def files(self, hour_us: int) -> list[DataPath]:
        """The files of an hour, in the order of their norm offsets."""
        if hour_us < 0:
            return []
        prefix = layout.hour_prefix(self._kind, self._book, hour_us)
        entries = tried(lambda: self._store.list(prefix))
        parsed = (layout.parse_data_path(entry.path) for entry in entries)
        return sorted((path for path in parsed if path is not None), key=lambda path: (path.first, path.stream))

    def after(self, hour_us: int) -> int | None:
        """The first hour after this one that has files."""
        return self._from(hour_us + HOUR_US)

    def before(self, hour_us: int) -> int | None:
        """The last hour before this one that has files: one call where it is the hour before, else a bisection."""
        if hour_us <= 0:
            return None
        found, empty_from = self._from(hour_us - HOUR_US), hour_us
        hours = 1
        while found is None or found >= hour_us:
            empty_from = hour_us - hours * HOUR_US
            if empty_from <= 0:
                return None
            hours *= 2
            found = self._from(max(0, hour_us - hours * HOUR_US))
        while found + HOUR_US < empty_from:  # an unseen later one is in found + 1 hour .. empty_from - 1 hour
            middle = found + (empty_from - found) // HOUR_US // 2 * HOUR_US
            later = self._from(middle)
            if later is not None and found < later < empty_from:
                found = later
            else:
                empty_from = middle
        return found

    def _from(self, hour_us: int) -> int | None:
        """The first hour from this one on that has files."""
        # Names below a book's folder are of fixed width: every store sorts them alike. A folder's own name sorts first.
        start_after = layout.hour_prefix(self._kind, self._book, hour_us)
        while True:
            entries = tried(lambda after=start_after: self._store.list(self._prefix, after, 1))  # type: ignore[misc]
            if not entries:
                return None
            parsed = layout.parse_data_path(entries[0].path)
            if parsed is not None:
                return parsed.hour_start_us
            start_after = entries[0].path  # foreign
