"""Every known hole of a lake in a span of time: gap rows, and what claims declare as lost. Reads only.

Claims lead the way: those of the span are found by bisection, as the newest receive time of a line never falls; they
name the files, and say which raw offsets never came (`holes`). Of a file first the footer is read: where its statistics
say that no row is a gap, which is nearly everywhere, nothing else is.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import pyarrow as pa

from shared.errors import FatalError
from shared.lake import claims, layout, parquet
from shared.lake.claims import Claim, LostClaim
from shared.lake.data_file import open_file, row_groups
from shared.lake.gap import Gap, row_times
from shared.lake.kinds import is_rows
from shared.lake.patient import Patient
from shared.lake.report import LineKey

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from shared.lake.kinds import LakeKind
    from shared.lake.layout import DataPath
    from shared.lake.store import Store
    from shared.messages import Book

TOLD_LATE_NS = 3_600_000_000_000
"""How long after the span a gap row is still looked for that reaches back into it; a running reader takes a minute."""
PARALLEL_READS = 16

_COLUMNS = ("recv_ns", "gap_cause", "gap_since", "raw_offset")
_IDS = ("prev_update_id", "first_update_id")
_MS = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Which holes: those of ``start_ns <= time < end_ns``; None: from the begin, to the end, or whatever it is."""

    start_ns: int | None = None
    end_ns: int | None = None
    kind: str | None = None
    stream: str | None = None
    exchange: str | None = None
    market: str | None = None
    symbol: str | None = None

    def line(self, key: LineKey) -> bool:
        """Whether holes of this line are wanted; those of the archive are no holes in the rows."""
        return is_rows(key.kind) and self.kind in (None, key.kind) and self.stream in (None, key.stream)

    def book(self, book: Book) -> bool:
        """Whether holes of this book are wanted."""
        pairs = ((self.exchange, book.exchange), (self.market, book.market), (self.symbol, book.symbol))
        return all(wanted in (None, found) for wanted, found in pairs)

    @property
    def some_books(self) -> bool:
        """Whether not those of all books are wanted."""
        return (self.exchange, self.market, self.symbol) != (None, None, None)

    def gap(self, gap: Gap) -> bool:
        """Whether a hole lies in the span, or may: it may begin at any time before, or end at any time after, it was told."""
        before_end = self.end_ns is None or gap.since_ns is None or gap.since_ns < self.end_ns
        return before_end and (self.start_ns is None or gap.until_ns is None or gap.until_ns >= self.start_ns)


@dataclass(frozen=True, slots=True)
class _Near:
    """A claim in or beside the span, and the newest receive time of its line before it."""

    claim: Claim
    newest_before_ns: int | None

    @property
    def line(self) -> LineKey:
        return LineKey(self.claim.kind, self.claim.stream, self.claim.partition)


def gaps(store: Store, wanted: Wanted) -> list[Gap]:
    """The holes, sorted by the time they begin, where that is known, else by the time they were told.

    What a claim declares lost concerns every symbol of its partition; with some books wanted it is left out where their
    files show that they lie in other partitions. Raises `RetryableError`, `FatalError` as the store does, and
    `FatalError` for a claim or file that cannot be read, or where there is no claim at all.
    """
    patient = Patient(store)
    firsts: dict[LineKey, list[int]] = {}
    is_lake = False
    lost: set[tuple[LineKey, int]] = set()
    for entry in store.walk(f"{layout.CLAIMS_V1}/"):
        parsed = layout.parse_claim_path(entry.path)
        if parsed is None or parsed.first is None:
            continue
        is_lake = True
        key = LineKey(parsed.kind, parsed.stream, parsed.partition)
        if not wanted.line(key):
            continue
        if parsed.what == "claim":
            firsts.setdefault(key, []).append(parsed.first)
        else:
            lost.add((key, parsed.first))
    if not is_lake:
        raise FatalError(f"no claim in {store.url}: is it a lake?")
    with ThreadPoolExecutor(PARALLEL_READS, "gaps") as pool:
        spans = list(pool.map(lambda key: list(_claims_of(patient, key, sorted(firsts[key]), wanted)), sorted(firsts)))
        files = [path for span in spans for near in span for path in _files_of(near.claim) if wanted.book(path.book)]
        rows = [gap for gaps_ in pool.map(partial(_rows_of, patient), files) for gap in gaps_]
    with_books = {LineKey(path.kind, path.stream, path.partition) for path in files} if wanted.some_books else set()
    losses = [
        gap
        for span in spans
        for near in span
        if _concerns(with_books, near.line)
        for gap in _losses_of(patient, near, lost)
    ]
    return sorted(filter(wanted.gap, rows + losses), key=_by_time)


def _by_time(gap: Gap) -> tuple[int, int, str, int, int]:
    begin = gap.since_ns if gap.since_ns is not None else gap.told_ns
    return begin, gap.told_ns, gap.stream, gap.raw_partition, gap.raw_offset or 0


def _concerns(with_books: Collection[LineKey], key: LineKey) -> bool:
    """Whether a line holds the wanted books, as far as is known."""
    siblings = [line for line in with_books if (line.kind, line.stream) == (key.kind, key.stream)]
    return not siblings or key in siblings


def _claims_of(patient: Patient, key: LineKey, firsts: list[int], wanted: Wanted) -> Iterator[_Near]:
    """The claims of a line that lie in the span, and one on either side: there stands what opened or closed a silence."""
    low, high = 0, len(firsts)
    while wanted.start_ns is not None and low < high:
        middle = (low + high) // 2
        if _end_ns(_claim(patient, key, firsts[middle])) < wanted.start_ns:
            low = middle + 1
        else:
            high = middle
    before: Claim | None = None  # not known of the one beside the span, and not needed: its holes end before it
    for first in firsts[max(low - 1, 0) :]:
        claim = _claim(patient, key, first)
        yield _Near(claim, None if before is None else before.newest_recv_ns)
        before, oldest = claim, claim.min_recv_ns
        if wanted.end_ns is not None and oldest is not None and oldest >= wanted.end_ns + TOLD_LATE_NS:
            return


def _end_ns(claim: Claim) -> int:
    """What is in a claim, or missing in it, was received before this; it never falls along a line."""
    return max(claim.newest_recv_ns or 0, claim.last_timestamp_ms * _MS)


def _claim(patient: Patient, key: LineKey, first: int) -> Claim:
    path = layout.claim_path(key.kind, key.stream, key.partition, first)
    body = patient.get(path)
    if body is None:
        raise FatalError(f"{path} was listed and is not there: part of the lake was deleted")
    return claims.decode(body, Claim, path)


def _files_of(claim: Claim) -> Iterator[DataPath]:
    for entry in claim.files:
        parsed = layout.parse_data_path(entry.path)
        if parsed is not None:
            yield parsed


def _rows_of(patient: Patient, path: DataPath) -> list[Gap]:
    """The gap rows of a file. None of one that is not there: it is to come, or was declared lost."""
    name = str(path)
    tail = patient.tail(name, parquet.TAIL_BYTES)
    if tail is None:
        return []
    try:
        metadata = parquet.read_metadata(tail)
    except parquet.FooterBeyondTail as beyond:
        metadata = parquet.read_metadata(patient.tail(name, beyond.needed_bytes) or b"")
    if not any(group.has_gaps for group in row_groups(metadata, name)):
        return []
    file = open_file(patient, name)
    if file is None:
        return []
    columns = (*_COLUMNS, *(_IDS if path.kind == "fobd" else ()))
    table = file.read([group for group in file.groups if group.has_gaps], columns)
    return list(_row_gaps(path, table))


def _row_gaps(path: DataPath, table: pa.Table) -> Iterator[Gap]:
    gaps_ = table.filter(table["gap_cause"].is_valid())
    sinces = gaps_["gap_since"].cast(pa.int64()).to_pylist()
    for row, since_us in zip(gaps_.to_pylist(), sinces, strict=True):
        since_ns, until_ns = row_times(row["gap_cause"], row["recv_ns"], since_us)
        yield Gap(
            kind=path.kind,
            stream=path.stream,
            raw_partition=path.partition,
            cause=row["gap_cause"],
            told_ns=row["recv_ns"],
            since_ns=since_ns,
            until_ns=until_ns,
            book=path.book,
            last_id=row.get("prev_update_id"),
            next_id=row.get("first_update_id"),
            raw_offset=row["raw_offset"],
        )


def _losses_of(patient: Patient, near: _Near, lost: set[tuple[LineKey, int]]) -> Iterator[Gap]:
    claim, key = near.claim, near.line
    loss = partial(
        Gap,
        kind=claim.kind,
        stream=claim.stream,
        raw_partition=claim.partition,
        told_ns=claim.last_timestamp_ms * _MS,
    )
    path = layout.claim_path(*_line(key), claim.first)
    for first, last in claim.holes:
        yield loss(
            cause="source-hole",
            raw_offset=first,
            raw_last=last,
            path=path,
            since_ns=near.newest_before_ns,
            until_ns=_end_ns(claim),
        )
    if (key, claim.first) in lost:
        path = layout.lost_path(*_line(key), claim.first)
        body = patient.get(path)
        if body is None:
            raise FatalError(f"{path} was listed and is not there: part of the lake was deleted")
        claims.decode(body, LostClaim, path)
        yield loss(
            cause="lost-claim",
            raw_offset=claim.done_before + 1,
            raw_last=claim.done_after,
            path=path,
            since_ns=claim.min_recv_ns,
            until_ns=claim.max_recv_ns,
        )


def _line(key: LineKey) -> tuple[LakeKind, str, int]:
    return key.kind, key.stream, key.partition
