"""The archive of raw records, read back: what the raw topics held, for as long as the lake is kept. Reads only.

The files of a claim are one for each book and hour; a record's place among all of them is its offset, so they are
merged by it. In memory at a time: the files of one claim, as they lie in the store, and a slice of each of them.
"""

from __future__ import annotations

import heapq
from bisect import bisect_right
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from shared.errors import FatalError
from shared.lake import claims, layout, parquet
from shared.lake.claims import Claim, LostClaim
from shared.lake.kinds import archive_of
from shared.lake.patient import Patient, tried
from shared.lake.raw_row import RawRow, record_of
from shared.lake.schema import ARCHIVE_SCHEMA

if TYPE_CHECKING:
    from collections.abc import Iterator

    from shared.kafka import Record
    from shared.lake.kinds import ArchiveKind
    from shared.lake.store import Store
    from shared.messages import Header, Kind

PARALLEL_READS = 8


@dataclass(frozen=True, slots=True)
class Bounds:
    """What the archive has of a raw partition: offsets `first..last`, both included, but for `holes`.

    A hole is what Kafka had deleted before it was archived, or the whole of a claim that lost some of its files.
    """

    first: int
    last: int
    holes: tuple[tuple[int, int], ...] = ()


def partitions(store: Store, kind: Kind, stream: str) -> list[int]:
    """The raw partitions of a stream that are archived, in order."""
    found = set()
    for entry in store.walk(f"{layout.CLAIMS_V1}/{archive_of(kind)}/{stream}/"):
        parsed = layout.parse_claim_path(entry.path)
        if parsed is not None:
            found.add(parsed.partition)
    return sorted(found)


def bounds(store: Store, kind: Kind, stream: str, partition: int) -> Bounds | None:
    """What is archived of a raw partition; None: nothing yet. Raises as `records` does."""
    log = _Log.of(store, archive_of(kind), stream, partition)
    with ThreadPoolExecutor(PARALLEL_READS, "archive") as pool:
        made = list(pool.map(log.claim, log.firsts))
    if made and not log.finished(made[-1]):
        made.pop()
    if not made:
        return None
    holes = [
        hole for claim in made for hole in ([(claim.first, claim.last)] if claim.first in log.lost else claim.holes)
    ]
    return Bounds(made[0].first, made[-1].last, tuple(holes))


def records(  # noqa: PLR0917  # which partition, then which range of it
    store: Store, kind: Kind, stream: str, partition: int, first: int | None = None, last: int | None = None
) -> Iterator[Record]:
    """The archived records of a raw partition with offsets `first..last` (None: as far as it goes), in their order.

    What no claim holds, or what one declares lost, is left out; so is a last claim that is not finished.
    Raises `RetryableError`, `FatalError` as the store does, and `FatalError` for what is damaged or missing.
    """
    log = _Log.of(store, archive_of(kind), stream, partition)
    begin = 0 if first is None else max(0, bisect_right(log.firsts, first) - 1)
    for claim_first in log.firsts[begin:]:
        if last is not None and claim_first > last:
            return
        claim = log.claim(claim_first)
        if claim_first == log.firsts[-1] and not log.finished(claim):
            return
        for record in log.records(claim):
            if last is not None and record.offset > last:
                return
            if first is None or record.offset >= first:
                yield record


@dataclass(slots=True)
class _Log:
    """The claim log of one archived partition, as listed."""

    store: Patient
    kind: ArchiveKind
    stream: str
    partition: int
    firsts: list[int] = field(default_factory=list)
    lost: set[int] = field(default_factory=set)

    @classmethod
    def of(cls, store: Store, kind: ArchiveKind, stream: str, partition: int) -> _Log:
        log = cls(Patient(store), kind, stream, partition)
        for entry in tried(lambda: store.list(layout.claims_prefix(kind, stream, partition))):
            parsed = layout.parse_claim_path(entry.path)
            if parsed is not None and parsed.first is not None:
                if parsed.what == "claim":
                    log.firsts.append(parsed.first)
                else:
                    log.lost.add(parsed.first)
        log.firsts.sort()
        return log

    def claim(self, first: int) -> Claim:
        path = layout.claim_path(self.kind, self.stream, self.partition, first)
        return claims.decode(self._get(path), Claim, path)

    def finished(self, claim: Claim) -> bool:
        """Whether all its files are there, or are declared lost."""
        return claim.first in self.lost or all(self.store.size(entry.path) is not None for entry in claim.files)

    def records(self, claim: Claim) -> Iterator[Record]:
        gone: frozenset[str] = frozenset()
        if claim.first in self.lost:
            path = layout.lost_path(self.kind, self.stream, self.partition, claim.first)
            gone = frozenset(claims.decode(self._get(path), LostClaim, path).missing)
        paths = [entry.path for entry in claim.files if entry.path not in gone]
        with ThreadPoolExecutor(PARALLEL_READS, "archive") as pool:
            bodies = list(pool.map(self._get, paths))
        rows = [_rows(body, path) for body, path in zip(bodies, paths, strict=True)]
        del bodies
        for row in heapq.merge(*rows, key=lambda row: row.raw_offset):
            yield record_of(row, claim.topic, self.stream)

    def _get(self, path: str) -> bytes:
        body = self.store.get(path)
        if body is None:
            raise FatalError(f"{path} is not there: `cryptoflow lake verify` says what else is missing")
        return body


def _rows(body: bytes, path: str) -> Iterator[RawRow]:
    """The rows of a file, slice by slice."""
    parsed = layout.parse_data_path(path)
    if parsed is None:
        raise FatalError(f"{path} is no name of an archived file")
    book = parsed.book.exchange, parsed.book.market, parsed.book.symbol
    try:
        for batch in parquet.slices(body, parsed.kind):
            columns = {name: batch.column(name) for name in batch.schema.names}
            columns["timestamp"] = columns["timestamp"].cast(pa.int64())
            for row in zip(*(columns[name].to_pylist() for name in ARCHIVE_SCHEMA.names), strict=True):
                made = RawRow(*book, *row)
                yield made if made.headers is None else made._replace(headers=_pairs(made.headers))
    except FatalError as error:
        raise FatalError(f"{path}: {error}") from error


def _pairs(headers: Any) -> tuple[Header, ...]:
    return tuple((header["name"], header["value"]) for header in headers)
