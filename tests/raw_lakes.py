"""Small lakes made from raw records by the code of flattener and s3writer, without Kafka; and sources of these records."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from cryptoflow.renormalise import Renormaliser
from services.s3writer.buffer import Buffer
from services.s3writer.files import build
from services.s3writer.lines import take_of
from services.s3writer.take import Taker
from shared.kafka import Record
from shared.lake import claims, layout
from shared.lake.claim_log import ClaimLog
from shared.lake.claims import Claim
from shared.lake.kinds import LakeKind, is_archive, is_rows
from shared.lake.raw_source import Held as HeldBySource
from shared.lake.raw_source import RawLine
from shared.lake.schema import SCHEMA_VERSION
from shared.lake.spans import Spans, within
from shared.messages import Gap, Kind
from tests.flattener_line import BOOKS, body, frame, headers

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from services.s3writer.buffer import Held
    from shared.lake.store import Store

CLUSTER = "cluster-a"
HOUR_NS = 3_600_000_000_000
BEGIN_NS = 500_000 * HOUR_NS


def raw_record(offset: int, kind: Kind = "fobs", *, partition: int = 0, step_ns: int = 60_000_000_000) -> Record:
    """Of three books in turn, a minute apart; every 7th is a gap, every 11th malformed, every 13th without a level."""
    book = BOOKS[offset % 3]
    type_ = "gap" if offset % 7 == 6 else "snapshot" if kind == "fobs" else "update"
    levels = 0 if offset % 13 == 12 else 3
    value = body(offset, levels) if kind == "fobs" else frame(book, offset, levels)
    if type_ == "gap":
        value = Gap(cause="poll" if kind == "fobs" else "sequence", since_ns=BEGIN_NS).encode()
    elif offset % 11 == 10:
        value = b"{not json"
    recv_ns = BEGIN_NS + offset * step_ns
    pairs = headers(book, offset, type=type_, recv_ns=recv_ns, limit=1000 if type_ == "snapshot" else None)
    return Record(f"raw-{kind}", partition, offset, recv_ns // 1_000_000 + 5, book.key, value, tuple(pairs))


def raw_records(first: int, last: int, kind: Kind = "fobs", *, partition: int = 0) -> list[Record]:
    """Those of `first..last`, both included."""
    return [raw_record(offset, kind, partition=partition) for offset in range(first, last + 1)]


@dataclass
class Source:
    """Raw records in memory. `spans`: what of them it still holds; `lose_at`: read up to there, it loses all before."""

    records_of: dict[tuple[str, int], list[Record]]  # by kind and partition
    spans: Spans | None = None
    lose_at: int | None = None
    name: str = "memory"
    asked: list[RawLine] = field(default_factory=list)

    def held(self, line: RawLine) -> HeldBySource:
        self.asked.append(line)
        records = self.records_of.get((line.kind, line.partition), [])
        if not records:
            return HeldBySource(why="memory has none of these")
        whole = ((records[0].offset, records[-1].offset),)
        return HeldBySource(whole if self.spans is None else self.spans)

    def records(self, line: RawLine, first: int, last: int) -> Iterator[Record]:
        for record in self.records_of[line.kind, line.partition]:
            if self.lose_at is not None and record.offset >= self.lose_at and first < self.lose_at:
                self.spans = within(self.held(line).spans, self.lose_at, last)
            if within(self.held(line).spans, record.offset, record.offset) and first <= record.offset <= last:
                yield record


@dataclass
class RawLake:
    """One line, written flush by flush as an s3writer does: what a flattener makes of raw records, or their archive."""

    store: Store
    kind: LakeKind = "fobs"
    stream: str = "main"
    partition: int = 0
    first: int = 0  # of the next claim
    done: int = -1
    newest: int | None = None
    claims: list[Claim] = field(default_factory=list)

    @property
    def topic(self) -> str:
        return self.kind if is_archive(self.kind) else f"norm-{self.kind}"

    @property
    def log(self) -> ClaimLog:
        return ClaimLog(
            kind=self.kind, stream=self.stream, partition=self.partition, topic=self.topic, cluster_id=CLUSTER
        )

    def flush(self, records: Sequence[Record], **changes) -> Claim:
        """A claim over these raw records. Where they begin after what is done, that is a hole."""
        if is_archive(self.kind) and not self.claims:
            self.first, self.done = records[0].offset, records[0].offset - 1
        if not self.claims:
            origin = claims.Origin(first=self.first, cluster_id=CLUSTER, topic=self.topic)
            assert self.store.create(layout.origin_path(self.kind, self.stream, self.partition), claims.encode(origin))
        begin, end = records[0].offset, records[-1].offset
        held = self._held(records)
        last = end if is_archive(self.kind) else self.first + len(records) - 1
        built = build(self.log, self.first, last, held, "zstd")
        self.newest = max(filter(None, (self.newest, built.max_recv_ns)), default=None)
        fields = {
            "kind": self.kind,
            "stream": self.stream,
            "partition": self.partition,
            "first": self.first,
            "last": last,
            "schema_version": SCHEMA_VERSION,
            "topic": self.topic,
            "files": tuple(made.entry for made in built.objects),
            "done_before": self.done,
            "done_after": end,
            "holes": ((self.done + 1, begin - 1),) if begin > self.done + 1 else (),
            "dead": sum(each.dead for each in held),
            "min_recv_ns": built.min_recv_ns,
            "max_recv_ns": built.max_recv_ns,
            "newest_recv_ns": self.newest,
            "writer": f"writer-{self.first}",
            "last_timestamp_ms": records[-1].timestamp_ms,
            "last_src": f"{records[0].topic}/{self.partition}/{begin}-{end}",
        }
        claim = Claim(**(fields | changes))
        path = layout.claim_path(self.kind, self.stream, self.partition, self.first)
        assert self.store.create(path, claims.encode(claim))
        for made in built.objects:
            assert self.store.create(made.entry.path, made.body)
        self.first, self.done = last + 1, end
        self.claims.append(claim)
        return claim

    def _held(self, records: Sequence[Record]) -> list[Held]:
        if is_rows(self.kind):
            return list(Renormaliser(self.kind).records(records, records[0].offset))
        taker, buffer = Taker(records[0].offset - 1), Buffer(first=records[0].offset)
        for record in records:
            buffer.add(take_of(self.kind)(self.log, record, taker), 0.0)
        return buffer.records

    def flush_all(self, records: Sequence[Record], per_claim: int) -> None:
        """Claims of so many raw records each."""
        for begin in range(0, len(records), per_claim):
            self.flush(records[begin : begin + per_claim])
