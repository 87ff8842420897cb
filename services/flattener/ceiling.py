"""The share of dead letters at which the service stops: a venue's new format must not turn a whole stream into gaps.

Pure. It counts what the service is about to give up, so the record that breaks the ceiling is not given up: it is still
in the raw topic when a release that understands it starts.
"""

from __future__ import annotations

from collections import Counter, deque
from typing import TYPE_CHECKING

from shared.errors import FatalError

if TYPE_CHECKING:
    from collections.abc import Sequence

WINDOW_RECORDS = 1000


class Ceiling:
    """The latest `WINDOW_RECORDS` or more raw records of this process, and how many of them went to dead letters."""

    def __init__(self, share: float) -> None:
        self._share = share
        self._latest: deque[tuple[int, Sequence[str]]] = deque()
        self._records = 0
        self._reasons: Counter[str] = Counter()

    def count(self, records: int, reasons: Sequence[str]) -> None:
        """`records` more, `reasons` of those that are dead. Raises `FatalError` above the ceiling."""
        self._latest.append((records, reasons))
        self._records += records
        self._reasons.update(reasons)
        while self._records - self._latest[0][0] >= WINDOW_RECORDS:
            gone, their_reasons = self._latest.popleft()
            self._records -= gone
            self._reasons.subtract(their_reasons)
        dead = self._reasons.total()
        if self._records >= WINDOW_RECORDS and dead > self._share * self._records:
            named = ", ".join(f"{reason} {count}" for reason, count in self._reasons.most_common() if count > 0)
            raise FatalError(
                f"{dead} of the latest {self._records} raw records cannot be processed ({named}), more than"
                f" processor.dead_letter_ceiling {self._share:g} allows: nothing more is given up. See `cryptoflow"
                " dead-letters list`; a venue may have changed its format: upgrade, or raise the ceiling"
            )
