"""One line of a lake made again from raw records, by the s3writer's own protocol: claim, then create-only files.

There is no norm topic behind it: `first`, `last` and `done` of its claims are raw offsets, its topic is the raw topic,
and its origin says of which stream. A claim ends where an hour of Kafka's time ends, or where it is large. It may be
killed at any instruction and run again, also beside itself: it goes on after the last claim, which it finishes first.
Memory: the compressed rows of one claim, and its files. Never overwrites, never deletes.
"""

from __future__ import annotations

import secrets
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any, TypeVar

from cryptoflow.renormalise import Renormaliser
from services.s3writer import files
from shared.errors import FatalError
from shared.lake import claim_log, parquet
from shared.lake.claims import Claim
from shared.lake.patient import Patient, tried
from shared.lake.schema import SCHEMA_VERSION
from shared.lake.spans import count, within

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from services.s3writer.buffer import NormRecord
    from services.s3writer.files import Built
    from shared.kafka import Record
    from shared.lake.claim_log import ClaimLog, DataObject, Position, Steps
    from shared.lake.raw_source import RawLine, RawSource
    from shared.lake.spans import Span
    from shared.lake.store import Store

CLAIM_ROWS = 2_000_000
CLAIM_BYTES = 128 * 1024 * 1024  # of compressed rows
PARALLEL_CALLS = 16
HOUR_MS = 3_600_000

Result = TypeVar("Result")


@dataclass(slots=True)
class Made:
    """What one run added to a line. `next_offset`: all raw offsets of the line before it are there now."""

    next_offset: int
    claims: int = 0
    files: int = 0
    rows: int = 0
    raw_offsets: int = 0
    in_holes: int = 0  # of these, those that the source did not hold, and that the claims declare

    def add(self, claim: Claim) -> None:
        """A claim of this run, with its files."""
        self.claims += 1
        self.files += len(claim.files)
        self.rows += sum(entry.rows for entry in claim.files)
        self.raw_offsets += claim.last - claim.first + 1
        self.in_holes += count(claim.holes)


class Remaker:
    """Makes one line in `store` of the raw records of `raw`."""

    def __init__(self, store: Store, log: ClaimLog, source: RawSource, raw: RawLine) -> None:
        self._store = store
        self._patient = Patient(store)
        self._log = log
        self._source = source
        self._raw = raw
        self._renormaliser = Renormaliser(raw.kind)

    def make(self, first: int, last: int, progress: Callable[[int], None]) -> Made:
        """Up to raw offset `last`, from where the line ends; one that is not there yet begins at `first`.

        `progress` is told the next offset. Raises `RetryableError`, `FatalError`; what is made stays, and is gone on from.
        """
        position: Position = self._play(self._log.resume(start=first, hint=first, nonce=_nonce()))
        made = Made(position.next_offset)
        alone = False
        while not alone:
            alone = True
            for claim, objects in self._claims(position, last):
                flushed = self._play(self._log.flush(claim, objects))
                position, alone = flushed.position, flushed.won
                if not alone:  # another run was there first: go on from where it came to
                    break
                made.add(claim)
                progress(position.next_offset)
        made.next_offset = position.next_offset
        return made

    def _claims(self, position: Position, last: int) -> Iterator[tuple[Claim, tuple[DataObject, ...]]]:
        first, newest = position.next_offset, position.newest_recv_ns
        holes: list[Span] = []
        for batch in self._batches(first, last, holes):
            end = batch[-1].src.last
            built = files.build(self._log, first, end, batch, compression="zstd")
            newest = max((ns for ns in (newest, built.max_recv_ns) if ns is not None), default=None)
            inside = tuple(hole for hole in holes if hole[1] < end)  # a hole ends before a record
            del holes[: len(inside)]
            yield self._claim((first, end), batch, built, newest, inside), built.objects
            first = end + 1

    def _batches(self, first: int, last: int, holes: list[Span]) -> Iterator[list[NormRecord]]:
        """The norm records of one claim after the other."""
        raw = _watched(self._source.records(self._raw, first, last), first, holes)
        batch: list[NormRecord] = []
        rows = size_bytes = 0
        for _, hour in groupby(raw, _hours()):
            for record in self._renormaliser.records(hour, first):
                batch.append(record)
                rows += record.rows
                size_bytes += record.size_bytes
                first = record.src.last + 1
                if rows >= CLAIM_ROWS or size_bytes >= CLAIM_BYTES:
                    yield batch
                    batch, rows, size_bytes = [], 0, 0
            if batch:
                yield batch
                batch, rows, size_bytes = [], 0, 0

    def _claim(
        self, span: Span, batch: Sequence[NormRecord], built: Built, newest: int | None, holes: tuple[Span, ...]
    ) -> Claim:
        log, (first, last) = self._log, span
        return Claim(
            kind=log.kind,
            stream=log.stream,
            partition=log.partition,
            first=first,
            last=last,
            schema_version=SCHEMA_VERSION,
            topic=log.topic,
            files=tuple(made.entry for made in built.objects),
            done_before=first - 1,
            done_after=last,
            holes=holes,
            dead=sum(record.dead for record in batch),
            min_recv_ns=built.min_recv_ns,
            max_recv_ns=built.max_recv_ns,
            newest_recv_ns=newest,
            writer=_nonce(),
            last_timestamp_ms=batch[-1].timestamp_ms,
            last_src=str(batch[-1].src),
        )

    def _play(self, steps: Steps[Result]) -> Result:
        """Do what the protocol asks for until it ends."""
        try:
            request = next(steps)
            while True:
                request = steps.send(self._answer(request))
        except StopIteration as end:
            result: Result = end.value
            return result

    def _answer(self, request: claim_log.Request) -> Any:  # noqa: PLR0911  # one for each request
        store = self._store
        match request:
            case claim_log.Own():  # nobody assigns this line: who claims first, wins
                return None
            case claim_log.Create(path, body):
                return tried(lambda: store.create(path, body))
            case claim_log.CreateAll(objects):
                return _all(lambda thing: tried(lambda: store.create(thing.entry.path, thing.body)), objects)
            case claim_log.Get(path):
                return self._patient.get(path)
            case claim_log.FirstAfter(prefix, start_after):
                entries = tried(lambda: store.list(prefix, start_after, 1))
                return entries[0].path if entries else None
            case claim_log.Digests(paths):
                return _all(self._digest, paths)
            case claim_log.Rebuild(claim):
                return self._rebuild(claim)

    def _rebuild(self, claim: Claim) -> claim_log.Rebuilt:
        raw = self._source.records(self._raw, claim.first, claim.last)
        records = list(self._renormaliser.records(raw, claim.first))
        built = files.build(self._log, claim.first, claim.last, records, compression="zstd")
        held = within(self._source.held(self._raw).spans, claim.first, claim.last)
        begin = held[0][0] if held else claim.last + 1
        lost_since = begin > claim.first and (claim.first, begin - 1) not in claim.holes
        if not lost_since and tuple(made.entry for made in built.objects) != claim.files:
            raise FatalError(
                f"claim {claim.first} of {self._log.kind}/{self._log.stream}/{self._log.partition} was begun by another"
                " release: its raw records become other rows now than it promises; begin anew in another prefix or stream"
            )
        return claim_log.Rebuilt(
            {made.entry.path: made for made in built.objects}, begin if lost_since else claim.first
        )

    def _digest(self, path: str) -> str | None:
        tail = self._patient.tail(path, parquet.TAIL_BYTES)
        if tail is None:
            return None
        try:
            return parquet.read_footer(tail).digest
        except parquet.FooterBeyondTail as beyond:
            return parquet.read_footer(self._patient.tail(path, beyond.needed_bytes) or b"").digest


def _nonce() -> str:
    return f"reflatten-{secrets.token_hex(16)}"


def _watched(records: Iterator[Record], position: int, holes: list[Span]) -> Iterator[Record]:
    """The records, and what offsets they leave out."""
    for record in records:
        if record.offset > position:
            holes.append((position, record.offset - 1))
        position = record.offset + 1
        yield record


def _hours() -> Callable[[Record], int]:
    """The hour of the newest record so far, so that a clock that goes back makes no new one."""
    newest = 0

    def hour_of(record: Record) -> int:
        nonlocal newest
        newest = max(newest, record.timestamp_ms // HOUR_MS)
        return newest

    return hour_of


def _all(call: Callable[[Any], Any], things: Sequence[Any]) -> tuple[Any, ...]:
    with ThreadPoolExecutor(PARALLEL_CALLS, "reflatten") as pool:
        return tuple(pool.map(call, things))
