"""Small lakes made from raw records by the code of flattener and s3writer, without Kafka; and sources of these records."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from cryptoflow.renormalise import Renormaliser
from services.s3writer import files
from services.s3writer.buffer import Buffer
from shared.kafka import Record
from shared.lake import claims, layout
from shared.lake.claim_log import ClaimLog
from shared.lake.claims import Claim
from shared.lake.raw_source import Held, RawLine
from shared.lake.schema import SCHEMA_VERSION
from shared.lake.spans import Spans, within
from shared.messages import Gap, Kind
from tests.flattener_line import BOOKS, body, frame, headers

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

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

    def held(self, line: RawLine) -> Held:
        self.asked.append(line)
        records = self.records_of.get((line.kind, line.partition), [])
        if not records:
            return Held(why="memory has none of these")
        whole = ((records[0].offset, records[-1].offset),)
        return Held(whole if self.spans is None else self.spans)

    def records(self, line: RawLine, first: int, last: int) -> Iterator[Record]:
        for record in self.records_of[line.kind, line.partition]:
            if self.lose_at is not None and record.offset >= self.lose_at and first < self.lose_at:
                self.spans = within(self.held(line).spans, self.lose_at, last)
            if within(self.held(line).spans, record.offset, record.offset) and first <= record.offset <= last:
                yield record


@dataclass
class RawLake:
    """One line, written flush by flush as an s3writer does from what a flattener makes of raw records."""

    store: Store
    kind: Kind = "fobs"
    stream: str = "main"
    partition: int = 0
    first: int = 0  # of the next claim
    done: int = -1
    newest: int | None = None
    claims: list[Claim] = field(default_factory=list)

    @property
    def log(self) -> ClaimLog:
        return ClaimLog(
            kind=self.kind,
            stream=self.stream,
            partition=self.partition,
            topic=f"norm-{self.kind}",
            cluster_id=CLUSTER,
        )

    def flush(self, records: Sequence[Record], *, first_raw: int | None = None, **changes) -> Claim:
        """A claim over these raw records. Where they begin after what is done, that is a hole."""
        if not self.claims:
            origin = claims.Origin(first=self.first, cluster_id=CLUSTER, topic=f"norm-{self.kind}")
            assert self.store.create(layout.origin_path(self.kind, self.stream, self.partition), claims.encode(origin))
        begin = records[0].offset if first_raw is None else first_raw
        buffer = Buffer(first=self.first)
        for record in Renormaliser(self.kind).records(records, begin):
            buffer.add(record, 0.0)
        last = self.first + len(records) - 1
        built = files.build(self.log, self.first, last, buffer.records, compression="zstd")
        self.newest = max(filter(None, (self.newest, built.max_recv_ns)), default=None)
        fields = {
            "kind": self.kind,
            "stream": self.stream,
            "partition": self.partition,
            "first": self.first,
            "last": last,
            "schema_version": SCHEMA_VERSION,
            "topic": f"norm-{self.kind}",
            "files": tuple(made.entry for made in built.objects),
            "done_before": self.done,
            "done_after": records[-1].offset,
            "holes": ((self.done + 1, begin - 1),) if begin > self.done + 1 else (),
            "dead": buffer.dead,
            "min_recv_ns": built.min_recv_ns,
            "max_recv_ns": built.max_recv_ns,
            "newest_recv_ns": self.newest,
            "writer": f"writer-{self.first}",
            "last_timestamp_ms": records[-1].timestamp_ms,
            "last_src": f"raw-{self.kind}/{self.partition}/{begin}-{records[-1].offset}",
        }
        claim = Claim(**(fields | changes))
        assert self.store.create(
            layout.claim_path(self.kind, self.stream, self.partition, self.first), claims.encode(claim)
        )
        for made in built.objects:
            assert self.store.create(made.entry.path, made.body)
        self.first, self.done = last + 1, records[-1].offset
        self.claims.append(claim)
        return claim

    def flush_all(self, records: Sequence[Record], per_claim: int) -> None:
        """Claims of so many raw records each."""
        for begin in range(0, len(records), per_claim):
            self.flush(records[begin : begin + per_claim])
