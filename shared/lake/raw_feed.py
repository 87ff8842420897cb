"""Raw records on their way from a source to a comparison: handed out claim by claim, and counted. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shared.lake.spans import holds

if TYPE_CHECKING:
    from collections.abc import Iterator

    from shared.kafka import Record
    from shared.lake.spans import Spans


class Feed:
    """The records of a raw partition, handed out claim by claim."""

    def __init__(self, records: Iterator[Record]) -> None:
        self._records = records
        self._next: Record | None = None

    def between(self, first: int, last: int) -> Iterator[Record]:
        """Those of first..last that were not handed out yet; those before are passed over."""
        while True:
            record = self._next or next(self._records, None)
            self._next = record
            if record is None or record.offset > last:
                return
            self._next = None
            if record.offset >= first:
                yield record


class Counted:
    """Records on their way, but for those in declared holes; all are counted."""

    def __init__(self, records: Iterator[Record], holes: Spans) -> None:
        self.in_holes = 0
        self._records = records
        self._holes = holes
        self._offsets: list[int] = []

    def __iter__(self) -> Iterator[Record]:
        for record in self._records:
            if holds(self._holes, record.offset):
                self.in_holes += 1
            else:
                self._offsets.append(record.offset)
                yield record

    def within(self, spans: Spans) -> int:
        """How many of those that went on lie in these spans."""
        return sum(holds(spans, offset) for offset in self._offsets)
