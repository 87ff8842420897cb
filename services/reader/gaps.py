"""Runs of missed polls: when one becomes a gap record, and what it says.

One run of one symbol is one gap, whatever its length: it is told before the next snapshot, or once it has lasted
`gap_after_ns`. Pure: the time is an argument (ns since the epoch). Never publishes and never counts polls.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from shared.messages import Gap

if TYPE_CHECKING:
    from shared.messages import Book
    from shared.venues.base import MissCause

_WEIGHT_OF_CAUSE: dict[MissCause, int] = {"poll": 0, "overflow": 1, "ban": 2}


@dataclass(slots=True)
class _Run:
    began_ns: int
    cause: MissCause
    told: bool = False


class GapRuns:
    """The runs of the books of one source address. The graver cause of a run (a ban) names it, until it is told."""

    def __init__(self, gap_after_ns: int) -> None:
        self._gap_after_ns = gap_after_ns
        self._last_good_ns: dict[Book, int] = {}
        self._runs: dict[Book, _Run] = {}

    def missed(self, book: Book, cause: MissCause, now_ns: int) -> None:
        """A poll gave no book."""
        run = self._runs.setdefault(book, _Run(now_ns, cause))
        if _WEIGHT_OF_CAUSE[cause] > _WEIGHT_OF_CAUSE[run.cause]:
            run.cause = cause

    def before_snapshot(self, book: Book) -> Gap | None:
        """What must be published before the snapshot at hand. Nothing changes until `good`."""
        run = self._runs.get(book)
        return None if run is None or run.told else self._gap(book, run)

    def good(self, book: Book, recv_ns: int) -> None:
        """A snapshot was taken into the queue: the run is over."""
        self._last_good_ns[book] = recv_ns
        self._runs.pop(book, None)

    def overdue(self, now_ns: int) -> list[tuple[Book, Gap]]:
        """Runs that have lasted too long to wait for the next snapshot; each is returned once."""
        found = []
        for book, run in self._runs.items():
            if not run.told and now_ns - run.began_ns >= self._gap_after_ns:
                run.told = True
                found.append((book, self._gap(book, run)))
        return found

    def end(self, book: Book) -> list[tuple[Book, Gap]]:
        """A book's run, if it was not told yet, for the end of its recording."""
        run = self._runs.pop(book, None)
        return [] if run is None or run.told else [(book, self._gap(book, run))]

    def last_good_ns(self, book: Book) -> int | None:
        """When the latest good book was received; None if there was none since the start."""
        return self._last_good_ns.get(book)

    def _gap(self, book: Book, run: _Run) -> Gap:
        return Gap(cause=run.cause, since_ns=self._last_good_ns.get(book))
