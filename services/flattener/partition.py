"""One raw partition, from its assignment to its revocation: read, cut, publish, one norm record in flight.

It never commits and never fetches: `acked_offset` says up to where the norm topic has everything, and the owner commits
that. Cancelled at a revocation it leaves nothing behind: what was in flight lands or not, the next owner cuts again
from the last commit, and who takes the norm records tells by raw offsets what it has.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from typing import TYPE_CHECKING

from services.flattener.cut import Cutter
from services.flattener.message import read
from services.flattener.meters import PartitionMeters
from services.flattener.publishers import Publishers
from shared.errors import UnknownVersion
from shared.log import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from services.flattener.cut import Cut
    from services.flattener.publish import Publisher
    from services.flattener.publishers import Change
    from shared.kafka import Record, TopicPartition
    from shared.messages import Kind

BACKLOG_BYTES = 8 * 1024 * 1024
"""Of one partition: above it nothing more is fetched, and what is there is cut."""
RECORD_OVERHEAD_BYTES = 2_000
"""What a record weighs beside its value: its headers are some thirty objects."""
MOST_TOLD = 10
"""Books with duplicate publishers that the log names at a time: the metric counts them all."""

_log = get_logger(__name__)


class Partition:
    """Records in by `add`, norm records out by `run`. `on_acked` is called after each of them."""

    def __init__(
        self,
        tp: TopicPartition,
        *,
        kind: Kind,
        position: int,
        group: str,
        publisher: Publisher,
        max_rows: int,
        max_wait_seconds: float,
        on_acked: Callable[[], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.tp = tp
        self.acked_offset = position  # everything before it is on the norm topic
        self.committed_offset = position
        self.backlog_bytes = 0  # of records that are not acknowledged yet
        self.oldest_ms: int | None = None  # Kafka's time of the oldest of them, or of the one before it
        self.stopped_why = ""  # a record of an unknown version: nothing more is taken
        self.meters = PartitionMeters(group, tp, kind)
        self._kind = kind
        self._publisher = publisher
        self._cutter = Cutter(position, max_rows=max_rows, max_wait_seconds=max_wait_seconds)
        self._publishers = Publishers()
        self._duplicates_told: set[bytes] = set()
        self._on_acked = on_acked
        self._clock = clock
        self._records: deque[Record | int] = deque()  # an int: offsets before it are lost
        self._draining = False
        self._work = asyncio.Event()

    @property
    def full(self) -> bool:
        """Whether it has enough to do."""
        return self.backlog_bytes > BACKLOG_BYTES

    def add(self, records: Sequence[Record]) -> None:
        """The next records of the partition."""
        if self.oldest_ms is None and records:
            self.oldest_ms = records[0].timestamp_ms
        self._records.extend(records)
        self.backlog_bytes += _weight(records)
        self._work.set()

    def lose(self, beginning: int) -> None:
        """Kafka has nothing between what was added so far and offset `beginning`."""
        self._records.append(beginning)
        self._work.set()

    def drain(self) -> None:
        """Publish what was added without waiting for more; `run` then returns."""
        self._draining = True
        self._work.set()

    async def run(self) -> None:
        """Until drained or cancelled. Raises `FatalError`."""
        while (cut := await self._next_cut()) is not None:
            await self._publisher.publish(self.tp, cut)
            self.acked_offset = cut.last + 1
            self.backlog_bytes -= _weight([message.record for message in cut.messages])
            if cut.messages:
                self.oldest_ms = cut.messages[-1].record.timestamp_ms if self.backlog_bytes else None
            if changes := self._publishers.see(cut.messages):
                self._tell_duplicates(changes)
            self._on_acked()

    async def _next_cut(self) -> Cut | None:
        while True:
            self._fill()
            at_once = self._draining or self.full or bool(self.stopped_why)
            cut = self._cutter.take(self._clock(), at_once=at_once)
            if cut is not None or self._draining:
                return cut
            self._work.clear()
            wait_seconds = self._cutter.due_in_seconds(self._clock())
            try:
                async with asyncio.timeout(None if wait_seconds == float("inf") else wait_seconds):
                    await self._work.wait()
            except TimeoutError:
                pass

    def _fill(self) -> None:
        """As many records into the cutter as the next cut may take: no more are looked into at a time."""
        while self._records and self._cutter.wants_more and not self.stopped_why:
            record = self._records[0]
            if isinstance(record, int):
                self._cutter.lose(record)
            else:
                try:
                    message = read(self._kind, record)
                except UnknownVersion as error:
                    self._stop(record, error)
                    return
                self._cutter.add(message, self._clock())
            self._records.popleft()

    def _tell_duplicates(self, changes: Sequence[Change]) -> None:
        self.meters.duplicated(self._publishers.duplicated)
        for change in changes:
            if change.began and len(self._duplicates_told) < MOST_TOLD:
                self._duplicates_told.add(change.key)
                say, event = _log.warning, "duplicate publishers"
            elif not change.began and change.key in self._duplicates_told:
                self._duplicates_told.remove(change.key)
                say, event = _log.info, "duplicate publishers no longer"
            else:
                continue
            say(event, topic=self.tp.topic, key=change.key.decode(errors="replace"), publishers=change.publishers)

    def _stop(self, record: Record, error: UnknownVersion) -> None:
        self.stopped_why = f"{record.topic}/{record.partition} stands at offset {record.offset}: {error}"
        self.meters.unknown_version.set(1)
        _log.error("unknown version", reason=self.stopped_why)


def _weight(records: Sequence[Record]) -> int:
    return sum(len(record.value) for record in records) + RECORD_OVERHEAD_BYTES * len(records)
