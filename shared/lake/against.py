"""What a comparison of the lake with its raw records found: how much was compared, what could not be, and how it differs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from shared.lake.spans import count

if TYPE_CHECKING:
    from collections.abc import Iterator

    from shared.lake.report import LineKey
    from shared.lake.row_diff import Difference
    from shared.lake.spans import Span


@dataclass(slots=True)
class AgainstLine:
    """One line against its raw partition. Offsets are raw ones, both ends included."""

    line: LineKey
    first: int | None = None  # what the lake says it has taken; None: nothing
    last: int | None = None
    claims: int = 0  # compared, be it in part
    raw_records: int = 0
    files: int = 0
    rows: int = 0  # that the source gives for what was compared
    not_held: tuple[Span, ...] = ()  # what the lake has taken and the source does not hold
    not_stored: int = 0  # what the source holds beyond `last`
    recoverable: int = 0  # records in holes that the lake declares, which the source holds
    files_missing: int = 0  # not compared, as they are not there
    why: str = ""  # why nothing was compared
    failed: str = ""  # why the comparison ended before its time

    def notes(self, source: str) -> Iterator[str]:
        """What was not compared, and what else is to be said, in words."""
        if self.why:
            yield f"{self.line}: not compared: {self.why}"
            return
        if self.failed:
            yield f"{self.line}: compared only {self.raw_records:,} raw records: {self.failed}"
        for first, last in self.not_held:
            where = "does not hold"
            if first == self.first:
                where = "no longer holds" if last != self.last else "holds nothing of"
            elif last == self.last:
                where = "does not reach"
            yield f"{self.line}: {source} {where} raw offsets {first}-{last}: not compared"
        if self.files_missing:
            yield f"{self.line}: {self.files_missing:,} files are not there: not compared"
        if self.recoverable:
            yield f"{self.line}: {source} still holds {self.recoverable:,} records of holes that the lake declares"
        if self.not_stored:
            yield f"{self.line}: {self.not_stored:,} raw offsets beyond {self.last} are not stored yet"


@dataclass(slots=True)
class Against:
    """The whole comparison. `differences` are the first ones of each file, up to a limit; problems count them all."""

    source: str
    lines: list[AgainstLine] = field(default_factory=list)
    differences: list[Difference] = field(default_factory=list)
    rows_differ: int = 0
    rows_extra: int = 0
    rows_lost: int = 0

    @property
    def raw_records(self) -> int:
        """Raw records whose rows were compared."""
        return sum(line.raw_records for line in self.lines)

    @property
    def rows(self) -> int:
        """Rows that these records become."""
        return sum(line.rows for line in self.lines)

    @property
    def done(self) -> bool:
        """Whether something was compared, and all that the source holds."""
        return self.raw_records > 0 and not any(line.failed for line in self.lines)

    @property
    def not_held(self) -> int:
        """Raw offsets that the lake has taken and that could not be compared."""
        return sum(count(line.not_held) for line in self.lines)

    def __str__(self) -> str:
        compared = f"{self.raw_records:,} raw records compared, row by row: {self.rows:,} rows"
        differ = [
            f"{number:,} {word}"
            for number, word in (
                (self.rows_differ, "differ"),
                (self.rows_extra, "only in the lake"),
                (self.rows_lost, "only in the source"),
            )
            if number
        ]
        rest = f"; {self.not_held:,} raw offsets could not be compared" if self.not_held else ""
        return f"{compared}, {', '.join(differ) or 'all equal'}{rest}"
