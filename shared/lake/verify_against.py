"""The lake against the raw records it was made from, as far as a source still holds them: every row, both ways.

For each line, claim by claim: the raw records that the claim took are read from the source, made into rows anew, and
held against the claim's files. Digests decide; only a file whose digest differs, or of which the source holds a part,
is read. What the source does not hold is not compared, and said with numbers; it is no damage.
Run it after `verify`, whose report it completes: that files are what their claims say is proven there.
Memory: the raw records of one claim as compressed rows, and one file's rows. Reads only.
"""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING, Protocol

from shared.errors import FatalError, PoisonMessage
from shared.lake import claims, layout, parquet
from shared.lake.against import Against, AgainstLine
from shared.lake.claims import Claim
from shared.lake.digest import digest
from shared.lake.kinds import is_rows
from shared.lake.patient import Patient, tried
from shared.lake.raw_feed import Counted, Feed
from shared.lake.raw_source import RawLine
from shared.lake.report import Problem
from shared.lake.row_diff import diff
from shared.lake.spans import count, mask, within, without
from shared.messages import SourceRange

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    import pyarrow as pa

    from shared.kafka import Record
    from shared.lake.claims import FileEntry
    from shared.lake.raw_source import RawSource
    from shared.lake.report import LineReport, Report
    from shared.lake.row_diff import Diff
    from shared.lake.spans import Spans
    from shared.lake.store import Store

NAMED_PER_FILE = 5  # differences of each kind
NAMED = 1000  # of all files; they are counted beyond


class Expect(Protocol):
    """Makes the rows of a claim anew from its raw records: all are consumed before the first table comes."""

    def __call__(self, claim: Claim, records: Iterable[Record]) -> Iterator[tuple[str, pa.Table]]:
        """(path, rows) of each file that the claim should have; strings may be dictionaries."""


def verify_against(
    store: Store,
    report: Report,
    source: RawSource,
    expect: Expect,
    *,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Compare what `report` is of with `source`, and put into it what was found.

    `progress` is told claims done, of how many. Raises `RetryableError`; what makes one line incomparable stands in it.
    """
    report.against = Against(source.name)
    patient = Patient(store)
    lines = [line for line in report.lines if is_rows(line.line.kind)]
    firsts = [_firsts(store, line) for line in lines]
    total, done = sum(map(len, firsts)), 0
    for line, log in zip(lines, firsts, strict=True):
        comparison = _Comparison(patient, report, report.against, line, source, expect)
        try:
            for number in comparison.claims(log):
                if progress is not None:
                    progress(done + number, total)
        except FatalError as error:  # of the source: other lines may be readable
            comparison.stop(error)
        done += len(log)


def _firsts(store: Store, line: LineReport) -> list[int]:
    """Where the claims that the report knows begin, in order."""
    key = line.line
    entries = tried(lambda: store.list(layout.claims_prefix(key.kind, key.stream, key.partition)))
    parsed = (layout.parse_claim_path(entry.path) for entry in entries)
    found = (path.first for path in parsed if path is not None and path.what == "claim" and path.first is not None)
    return sorted(first for first in found if line.last is not None and first <= line.last)


class _Comparison:
    """One line against its raw partition."""

    def __init__(  # noqa: PLR0917  # made in one place
        self, patient: Patient, report: Report, against: Against, line: LineReport, source: RawSource, expect: Expect
    ) -> None:
        self._patient = patient
        self._report = report
        self._against = against
        self._line = line
        self._source = source
        self._expect = expect
        self._found = AgainstLine(line.line)
        self._unreadable = {problem.path for problem in report.problems if problem.what == "file-damaged"}
        # Of these files the claim's digest is not enough to go by: they are read, or are not there.
        self._doubtful = {problem.path for problem in report.problems}
        self._doubtful.update(line.open_files, *(loss.files for loss in report.losses))
        against.lines.append(self._found)

    def claims(self, firsts: list[int]) -> Iterator[int]:
        """Compare claim after claim; yields how many are done."""
        found, line = self._found, self._line
        last = next(filter(None, map(self._claim, reversed(firsts))), None)
        first = next(filter(None, map(self._claim, firsts)), None)
        if first is None or last is None or line.cluster_id is None:
            found.why = "none of its claims can be read"
            return
        if last.done_after <= first.done_before:
            return
        found.first, found.last = first.done_before + 1, last.done_after
        try:
            topic = SourceRange.parse(last.last_src).topic
        except PoisonMessage as error:
            found.why = f"its last claim names no raw topic: {error}"
            return
        key = line.line
        assert is_rows(key.kind)  # others are not compared
        raw = RawLine(key.kind, line.raw_stream or key.stream, key.partition, topic, line.cluster_id)
        held = self._source.held(raw)
        spans = within(held.spans, found.first, found.last)
        if line.raw_stream is None:  # one made again ends where it was asked to
            found.not_stored = count(within(held.spans, found.last + 1, 2**63))
        if not spans:
            found.not_held = ((found.first, found.last),)
            found.why = held.why or f"{self._source.name}: nothing is left of raw offsets {found.first}-{found.last}"
            return
        begin = self._first_that_reaches(firsts, spans[0][0])
        feed = Feed(self._source.records(raw, spans[0][0], spans[-1][1]))
        for number, at in enumerate(firsts[begin:], begin + 1):
            claim = self._claim(at)
            if claim is not None and claim.first <= claim.last and claim.done_before < claim.done_after:
                self._compare(claim, raw, feed)
            yield number
        spans = self._source.held(raw).spans
        found.not_held = without(((found.first, found.last),), spans)

    def stop(self, error: FatalError) -> None:
        """The source cannot be read on."""
        self._found.failed = str(error)

    def _compare(self, claim: Claim, raw: RawLine, feed: Feed) -> None:
        first, last = claim.done_before + 1, claim.done_after
        counted = Counted(feed.between(first, last), claim.holes)
        tables = self._expect(claim, counted)
        head = next(tables, None)  # now the records are read, and the source knows what it still had
        held = within(self._source.held(raw).spans, first, last)
        self._found.recoverable += counted.in_holes
        if not held:
            return
        self._found.claims += 1
        self._found.raw_records += counted.within(held)
        spans = without(held, claim.holes)
        whole = held == ((first, last),)
        entries = {entry.path: entry for entry in claim.files}
        for path, table in chain(() if head is None else (head,), tables):
            self._file(path, entries.pop(path, None), table, None if whole else spans)
        for path, entry in entries.items():
            self._file(path, entry, None, None if whole else spans)

    def _file(self, path: str, entry: FileEntry | None, table: pa.Table | None, spans: Spans | None) -> None:
        """One file of a claim. `entry` None: the claim has none; `table` None: the source gives none; `spans`: of these."""
        table = _only(table, spans)
        if table is not None and entry is not None and spans is None and self._is(entry, table):
            self._found.files += 1
            self._found.rows += table.num_rows
            return
        lake = _only(self._read(path, entry), spans)
        if lake is None:
            if entry is not None:  # not there, or not readable: `verify` has said so
                self._found.files_missing += 1
                return
            assert table is not None
            lake = table.slice(0, 0)
        table = lake.slice(0, 0) if table is None else table
        if lake.num_rows or table.num_rows:
            self._found.files += 1
            self._found.rows += table.num_rows
            self._tell(diff(path, lake, table, most=NAMED_PER_FILE))

    def _is(self, entry: FileEntry, table: pa.Table) -> bool:
        return entry.path not in self._doubtful and entry.digest == digest(table)

    def _read(self, path: str, entry: FileEntry | None) -> pa.Table | None:
        body = self._patient.get(path) if entry is not None else None
        if body is None:
            return None
        try:
            return parquet.decode(body, self._line.line.kind)
        except FatalError as error:
            if path not in self._unreadable:
                self._report.problems.append(Problem("file-damaged", path, str(error), self._line.line))
            return None

    def _tell(self, found: Diff) -> None:
        against = self._against
        against.rows_differ += found.rows["rows-differ"]
        against.rows_extra += found.rows["rows-extra"]
        against.rows_lost += found.rows["rows-lost"]
        for what, rows in found.rows.items():
            named = [difference for difference in found.first if difference.what == what]
            detail = f"{rows:,} rows of {found.raw_records[what]:,} raw records {_SAID[what]}; {named[0]}"
            self._report.problems.append(Problem(what, found.path, detail, self._line.line))
        against.differences += found.first[: max(0, NAMED - len(against.differences))]

    def _claim(self, first: int) -> Claim | None:
        """None for one that cannot be read: `verify` has said so."""
        key = self._line.line
        path = layout.claim_path(key.kind, key.stream, key.partition, first)
        body = self._patient.get(path)
        try:
            return None if body is None else claims.decode(body, Claim, path)
        except FatalError:
            return None

    def _first_that_reaches(self, firsts: list[int], offset: int) -> int:
        """The index of the first claim that took this raw offset, or one before it where claims cannot be read."""
        low, high = 0, len(firsts) - 1
        while low < high:
            middle = (low + high) // 2
            claim = self._claim(firsts[middle])
            if claim is not None and claim.done_after < offset:
                low = middle + 1
            else:
                high = middle
        return low


_SAID = {
    "rows-differ": "are not what the source gives",
    "rows-extra": "are not in the source",
    "rows-lost": "are in the source and not in the lake",
}


def _only(table: pa.Table | None, spans: Spans | None) -> pa.Table | None:
    """The rows of these raw offsets; None: of all."""
    if table is None or spans is None:
        return table
    return table.filter(mask(spans, table.column("raw_offset").to_numpy()))
