"""One partition, from its assignment to its revocation: resume, buffer, flush, one flush at a time.

It never touches Kafka's position itself: it says in `seek_to` where fetching has to go on, and the fetch loop obeys
before the next fetch, so that no record from before a seek is ever buffered. What is buffered is dropped at the end:
Kafka has it.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import deque
from typing import TYPE_CHECKING

from services.s3writer.buffer import Buffer
from services.s3writer.take import Taker
from shared import crash_points
from shared.errors import RetryableError, UnknownVersion
from shared.kafka import OwnershipLost
from shared.lake.claims import Claim
from shared.lake.schema import SCHEMA_VERSION
from shared.log import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from services.s3writer.buffer import Limits, Trigger
    from services.s3writer.files import Built
    from services.s3writer.flush import Protocol
    from services.s3writer.meters import PartitionMeters
    from shared.kafka import Consumer, Epoch, Record, TopicPartition
    from shared.lake.claim_log import Position

COMMIT_TRIES = 3
COMMIT_PAUSE_SECONDS = 0.5

_log = get_logger(__name__)


class Partition:
    """Records in by `add`, files out by `run`, which is cancelled at the revocation."""

    def __init__(
        self,
        tp: TopicPartition,
        *,
        epoch: Epoch,
        start: int,
        protocol: Protocol,
        consumer: Consumer,
        limits: Limits,
        meters: PartitionMeters,
        nonce: Callable[[], str],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.tp = tp
        self.seek_to: int | None = None  # the fetch loop has to go there first
        self.resumed = False  # the line's end is known: records may come
        self.stopped_why = ""  # a record of an unknown version: nothing more is taken
        self._epoch = epoch
        self._start = start
        self._protocol = protocol
        self._consumer = consumer
        self._limits = limits
        self._nonce = nonce
        self._clock = clock
        self._taker = Taker()
        self.open_buffer = Buffer(first=start)  # what is taken and not yet cut
        self._cut: deque[tuple[Buffer, Trigger]] = deque()
        self._work = asyncio.Event()
        self._idle = asyncio.Event()
        self.meters = meters

    async def run(self) -> None:
        """Resume, then flush what is cut, until cancelled or disowned. Raises `FatalError`."""
        try:
            await self._resume()
            while True:
                await self._work.wait()
                while self._cut:
                    await self._flush(*self._cut[0])
                self._work.clear()
                self._idle.set()
        except UnknownVersion as error:  # of a claim
            self._stop(str(error))
        except OwnershipLost as lost:
            _log.info("partition disowned", topic=self.tp.topic, partition=self.tp.partition, reason=str(lost))
        finally:
            self.resumed = False
            self._cut.clear()
            self.open_buffer = Buffer(first=self.open_buffer.first)
            self._idle.set()

    @property
    def held_bytes(self) -> int:
        """Bytes in memory, those being flushed included."""
        return self.open_buffer.size_bytes + sum(buffer.size_bytes for buffer, _ in self._cut)

    @property
    def waiting(self) -> Buffer | None:
        """The buffer that may be cut now; None while another is being flushed."""
        return self.open_buffer if self.resumed and not self._cut else None

    @property
    def stored_offset(self) -> int:
        """The first offset that is not durable in the lake."""
        return self._cut[0][0].first if self._cut else self.open_buffer.first

    @property
    def oldest_ms(self) -> int | None:
        """The Kafka timestamp of the oldest record in memory."""
        oldest = self._cut[0][0] if self._cut else self.open_buffer
        return oldest.records[0].oldest_ms if oldest.records else None

    def add(self, records: Sequence[Record]) -> None:
        """Buffer fetched records. Raises `FatalError` for one that is damaged, or not of this line."""
        if self.seek_to is not None or not self.resumed or self.stopped_why:
            return
        now = self._clock()
        for record in records:
            try:
                taken = self._protocol.take(record, self._taker)
            except UnknownVersion as error:
                self._stop(f"{record.topic}/{record.partition}@{record.offset}: {error}")
                return
            if not self.open_buffer.fits(taken.version):
                self.cut("schema")
            if taken.taken.hole:
                _log.error(
                    "source hole", topic=taken.src.topic, partition=taken.src.partition, raw_offsets=taken.taken.hole
                )
            self.open_buffer.add(taken, now)
            self.meters.took(taken)

    def cut_if_due(self, now: float) -> None:
        """Cut the buffer if its own limits say so."""
        buffer = self.waiting
        trigger = self._limits.due(buffer, now) if buffer is not None else None
        if trigger is not None:
            self.cut(trigger)

    def cut(self, trigger: Trigger) -> None:
        """Hand the buffer to the flush; the next record begins another."""
        if self.open_buffer.records:
            self._cut.append((self.open_buffer, trigger))
            self.open_buffer = Buffer(first=self.open_buffer.last + 1)
            self._idle.clear()
            self._work.set()

    async def drain(self) -> None:
        """Flush all that is buffered."""
        if not self.resumed:
            return
        self.cut("shutdown")
        if self._cut:
            await self._idle.wait()

    async def _resume(self) -> None:
        log = self._protocol.log
        await crash_points.passed("s3writer.in_recovery")
        position = await self._protocol.run(log.resume(start=self._start, hint=self._start, nonce=self._nonce()))
        await self._protocol.recognise(position)
        _log.info(
            "partition resumed",
            topic=self.tp.topic,
            partition=self.tp.partition,
            next_offset=position.next_offset,
            committed=self._start,
            done=position.done,
        )
        self._go_on_from(position)
        self.resumed = True
        if position.next_offset != self._start:
            await self._commit(position.next_offset)

    async def _flush(self, buffer: Buffer, trigger: Trigger) -> None:
        began = time.monotonic()
        built = await self._protocol.build(buffer.first, buffer.last, buffer.records)
        claim = self._claim(buffer, built)
        try:
            flushed = await self._protocol.run(self._protocol.log.flush(claim, built.objects))
        except OwnershipLost:
            self.meters.flush_disowned(trigger)
            raise
        if flushed.won:
            self._cut.popleft()
        else:
            self._cut.clear()
            self._go_on_from(flushed.position)
        self.meters.flushed(trigger, buffer, won=flushed.won, seconds=time.monotonic() - began)
        _log.info(
            "flushed",
            topic=self.tp.topic,
            partition=self.tp.partition,
            first=buffer.first,
            last=buffer.last,
            trigger=trigger,
            outcome="written" if flushed.won else "adopted",
            files=len(claim.files),
            rows=sum(entry.rows for entry in claim.files),
            seconds=round(time.monotonic() - began, 3),
        )
        await self._commit(flushed.position.next_offset)

    def _claim(self, buffer: Buffer, built: Built) -> Claim:
        log, last = self._protocol.log, buffer.records[-1]
        return Claim(
            kind=log.kind,
            stream=log.stream,
            partition=log.partition,
            first=buffer.first,
            last=buffer.last,
            schema_version=SCHEMA_VERSION,
            topic=log.topic,
            files=tuple(made.entry for made in built.objects),
            done_before=buffer.records[0].taken.above,
            done_after=last.taken.done,
            holes=buffer.holes,
            dead=buffer.dead,
            min_recv_ns=built.min_recv_ns,
            max_recv_ns=built.max_recv_ns,
            newest_recv_ns=last.taken.newest_recv_ns,
            writer=self._nonce(),
            last_timestamp_ms=last.timestamp_ms,
            last_src=str(last.src),
        )

    def _stop(self, why: str) -> None:
        """Take nothing more until this release is replaced by one that knows more."""
        self.stopped_why = why
        self.meters.unknown_version.set(1)
        _log.error("partition stopped", topic=self.tp.topic, partition=self.tp.partition, reason=why)

    def _go_on_from(self, position: Position) -> None:
        """Take up the line where the lake ends; what was fetched for another place is dropped."""
        self._taker = Taker(position.done, position.newest_recv_ns)
        self.open_buffer = Buffer(first=position.next_offset)
        self.stopped_why = ""
        self.meters.unknown_version.set(0)
        self.seek_to = position.next_offset

    async def _commit(self, offset: int) -> None:
        """Tell Kafka. It is a hint for the next start and for lag alone, so a failure is no more than a warning."""
        await crash_points.passed("s3writer.before_commit")
        for tries_left in reversed(range(COMMIT_TRIES)):
            try:
                await self._consumer.commit({self.tp: offset}, self._epoch)
            except RetryableError as error:
                if not tries_left:
                    _log.warning("commit failed", topic=self.tp.topic, partition=self.tp.partition, reason=str(error))
                else:
                    await asyncio.sleep(random.uniform(0, COMMIT_PAUSE_SECONDS))  # noqa: S311  # jitter
            else:
                await crash_points.passed("s3writer.after_commit")
                return
