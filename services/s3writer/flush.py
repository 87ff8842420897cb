"""Runs the protocol of claims for one assigned partition: what `claim_log` asks for, the store and Kafka answer.

Every decision is the protocol's. Nothing here may conclude anything from an answer, and nothing is remembered between
two protocols. Encoding runs in one thread of its own, calls of the store in others: heartbeats never wait for either.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar

from services.s3writer.buffer import Buffer, NormRecord
from services.s3writer.decode import contents, newest_up_to
from services.s3writer.files import build
from services.s3writer.take import Taker
from shared import crash_points, metrics
from shared.errors import FatalError, PoisonMessage
from shared.kafka import OffsetsLost, OwnershipLost
from shared.lake import claim_log, layout, parquet
from shared.log import get_logger
from shared.messages import NORM_VERSION, NormHeaders

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from concurrent.futures import Executor

    from services.s3writer.buffer import Held
    from services.s3writer.files import Built
    from services.s3writer.storage import Storage
    from shared.kafka import Consumer, Epoch, Record, TopicPartition
    from shared.lake.claim_log import ClaimLog, Position, Rebuilt, Steps
    from shared.lake.claims import Claim

    Take = Callable[[ClaimLog, Record, Taker], Held]

Result = TypeVar("Result")
_log = get_logger(__name__)


class Protocol:
    """The hands of one assignment of one partition."""

    def __init__(
        self,
        log: ClaimLog,
        *,
        tp: TopicPartition,
        epoch: Epoch,
        consumer: Consumer,
        storage: Storage,
        encoder: Executor,
        compression: str,
        take: Take,
    ) -> None:
        self.log = log
        self._take = take
        self._tp = tp
        self._epoch = epoch
        self._consumer = consumer
        self._storage = storage
        self._encoder = encoder
        self._compression = compression

    async def run(self, steps: Steps[Result]) -> Result:
        """Do what the protocol asks for until it ends. Raises what it raises, and `OwnershipLost`."""
        try:
            request = next(steps)
            while True:
                request = steps.send(await self._answer(request))
        except StopIteration as end:
            result: Result = end.value
            return result

    def take(self, record: Record, taker: Taker) -> Held:
        """A record, accepted by the taker. Raises `UnknownVersion`, and `FatalError` for one that is damaged."""
        return self._take(self.log, record, taker)

    async def build(self, first: int, last: int, records: Sequence[Held]) -> Built:
        """The files of a range, made off the event loop."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._encoder, build, self.log, first, last, records, self._compression)

    async def recognise(self, position: Position) -> None:
        """Raises `FatalError` where the topic is another than the one whose records are stored up to here.

        That it ends before tells as much, but a new topic grows past it while its writer is away or refuses.
        """
        last = position.next_offset - 1
        if position.last_timestamp_ms is None:
            return
        with suppress(OffsetsLost):  # retention passed it: nobody can tell
            async for record in self._consumer.read_range(self._tp, last, last):
                if record.timestamp_ms != position.last_timestamp_ms:
                    raise FatalError(
                        f"{record.topic}/{record.partition}@{last} is of {record.timestamp_ms} ms, the record stored as"
                        f" that of {position.last_timestamp_ms} ms: the topic was re-created: set a new kafka.stream"
                    )

    async def _answer(self, request: claim_log.Request) -> Any:  # noqa: PLR0911  # one for each request
        store, call = self._storage.store, self._storage.call
        match request:
            case claim_log.Own():
                if self._consumer.epoch() != self._epoch:
                    raise OwnershipLost(f"{self._tp.topic}/{self._tp.partition} was assigned anew")
                return None
            case claim_log.Create(path, body):
                return await self._create_document(path, body)
            case claim_log.CreateAll(objects):
                return await _all(self._created(thing) for thing in objects)
            case claim_log.Get(path):
                return await call(store.get, path)
            case claim_log.FirstAfter(prefix, start_after):
                entries = await call(store.list, prefix, start_after, 1)
                return entries[0].path if entries else None
            case claim_log.Digests(paths):
                return await _all(call(self._digest, path) for path in paths)
            case claim_log.Rebuild(claim):
                return await self._rebuild(claim)

    async def _create_document(self, path: str, body: bytes) -> bool:
        """An origin, a claim, or the mark of a lost one."""
        parsed = layout.parse_claim_path(path)
        what = parsed.what if parsed is not None else None
        if what == "lost":
            metrics.CLAIMS_LOST.labels(self.log.kind).inc()
            _log.error("claim lost", path=path)
        elif what == "claim":
            await crash_points.passed("s3writer.before_claim")
        created = await self._storage.call(self._storage.store.create, path, body)
        if what == "origin":
            await crash_points.passed("s3writer.after_origin")
        elif what == "claim":
            await crash_points.passed("s3writer.after_claim")
        return created

    async def _created(self, thing: claim_log.DataObject) -> bool:
        await crash_points.passed("s3writer.before_object")
        created = await self._storage.call(self._create_object, thing)
        await crash_points.passed("s3writer.after_object")
        return created

    def _create_object(self, thing: claim_log.DataObject) -> bool:
        created = self._storage.store.create(thing.entry.path, thing.body)
        if created:
            metrics.STORED_FILES.labels(self.log.kind).inc()
            metrics.STORED_ROWS.labels(self.log.kind).inc(thing.entry.rows)
            metrics.STORED_BYTES.labels(self.log.kind).inc(len(thing.body))
        return created

    def _digest(self, path: str) -> str | None:
        tail = self._storage.store.tail(path, parquet.TAIL_BYTES)
        if tail is None:
            return None
        try:
            return parquet.read_footer(tail).digest
        except parquet.FooterBeyondTail as beyond:
            longer = self._storage.store.tail(path, beyond.needed_bytes)
            return None if longer is None else parquet.read_footer(longer).digest

    async def _rebuild(self, claim: Claim) -> Rebuilt:
        metrics.CLAIMS_FINISHED.labels(self.log.kind).inc()
        _log.warning(
            "claim incomplete", topic=self.log.topic, partition=self.log.partition, first=claim.first, last=claim.last
        )
        buffer, kafka_first = await self._reread(claim)
        await crash_points.passed("s3writer.in_rebuild")
        built = await self.build(claim.first, claim.last, buffer.records)
        return claim_log.Rebuilt({made.entry.path: made for made in built.objects}, kafka_first)

    async def _reread(self, claim: Claim) -> tuple[Buffer, int]:
        """Exactly the claim's records, as far as Kafka has them, and where it begins to have them."""
        begin = claim.first
        while True:
            buffer = Buffer(first=begin)
            # All these records were accepted before the claim was made: none can be newer than what it stored.
            taker = Taker(claim.done_before, claim.newest_recv_ns)
            try:
                async for record in self._consumer.read_range(self._tp, begin, claim.last):
                    buffer.add(self.take(record, taker), 0.0)
            except OffsetsLost as lost:
                begin = lost.beginning
            else:
                return buffer, begin


def take(log: ClaimLog, record: Record, taker: Taker) -> NormRecord:
    """A norm record's headers and contents, accepted by the taker.

    Raises `UnknownVersion`, and `FatalError` naming the offset of one that is damaged or belongs elsewhere.
    """
    where = f"{record.topic}/{record.partition}@{record.offset}"
    try:
        headers = NormHeaders.decode(record.headers)
    except PoisonMessage as error:
        raise FatalError(f"{where}: {error}: the norm topic is damaged") from error
    if headers.stream != log.stream:
        raise FatalError(
            f"{where} is of stream {headers.stream!r}, not {log.stream!r}: let the topic end before its stream changes,"
            " or give the new stream topics of its own"
        )
    src = headers.src
    if src.partition != record.partition:
        raise FatalError(f"{where} covers {src}: raw and norm partitions must have equal numbers")
    known = contents(log.kind, record.value, where)
    both_sides = src.first <= taker.done < src.last
    repeated_ns = newest_up_to(log.kind, record.value, taker.done, where) if both_sides else None
    taken = taker.take(src, lost=headers.lost, newest_recv_ns=known.newest_recv_ns, repeated_recv_ns=repeated_ns)
    return NormRecord(
        offset=record.offset,
        timestamp_ms=record.timestamp_ms,
        value=record.value,
        src=src,
        dead=headers.dead,
        version=NORM_VERSION,
        rows=known.rows,
        newest_recv_ns=known.newest_recv_ns,
        taken=taken,
    )


async def _all(calls: Iterable[Any]) -> tuple[Any, ...]:
    """The answers in order; where one fails, the others are cancelled and the first error is raised alone."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(each) for each in calls]
    except ExceptionGroup as errors:
        raise errors.exceptions[0] from errors
    return tuple(task.result() for task in tasks)
