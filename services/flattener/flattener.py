"""All raw partitions that this process holds: assigned, fed, published, committed, drained, revoked.

One loop fetches, one commits, each partition publishes. Fetching stops for a partition whose backlog is full, so memory
does not follow the lag; the group sees a live member all the time, as no step takes longer than one norm record.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from services.flattener.partition import Partition
from shared import crash_points, metrics
from shared.errors import FatalError, RetryableError
from shared.kafka import OffsetsLost, OwnershipLost
from shared.log import get_logger

if TYPE_CHECKING:
    from services.flattener.publish import Publisher
    from shared.kafka import Consumer, Epoch, TopicPartition
    from shared.messages import Kind
    from shared.service import Lifecycle
    from shared.settings import Settings

FETCH_SECONDS = 0.2
PAUSED_FETCH_SECONDS = 0.01  # while a backlog is full: it empties in some milliseconds, and should not run dry
FETCH_RECORDS: dict[Kind, int] = {"fobs": 50, "fobd": 500}  # of one partition at a time: some 2 MB at most
COMMIT_SECONDS = 0.25  # between two: a commit costs as much as a norm record, and is a hint
LAG_SECONDS = 1.0  # between two looks at the lags
RETRY_SECONDS = 1.0

_log = get_logger(__name__)


class Flattener:
    """Between the consumer and the publisher. `kinds` maps each raw topic to its kind."""

    def __init__(
        self,
        settings: Settings,
        lifecycle: Lifecycle,
        *,
        kinds: dict[str, Kind],
        publishers: dict[str, Publisher],
        tasks: asyncio.TaskGroup,
    ) -> None:
        self.consumer: Consumer
        self._processor = settings.processor
        self._lifecycle = lifecycle
        self._group = group_name(settings)
        self._kinds = kinds
        self._publishers = publishers
        self._tasks = tasks
        self._partitions: dict[TopicPartition, Partition] = {}
        self._running: dict[TopicPartition, asyncio.Task[None]] = {}
        self._epoch: Epoch | None = None
        self._acked = asyncio.Event()
        self._lag_at = 0.0
        lifecycle.ready("assignment", False, "not a member of the group yet")

    async def assigned(self, tps: set[TopicPartition]) -> None:
        """Begin at what is committed; at the beginning of the topic if nothing is."""
        self._epoch = self.consumer.epoch()
        await crash_points.passed("flattener.in_recovery")
        for tp in sorted(tps):
            position = await self._start_position(tp)
            await self.consumer.seek(tp, position)
            partition = Partition(
                tp,
                kind=self._kinds[tp.topic],
                position=position,
                group=self._group,
                publisher=self._publishers[tp.topic],
                max_rows=self._processor.batch_size,
                max_wait_seconds=self._processor.batch_timeout,
                on_acked=self._acked.set,
            )
            self._partitions[tp] = partition
            self._running[tp] = self._tasks.create_task(partition.run(), name=f"{tp.topic}/{tp.partition}")
        self._show_ready()

    async def revoked(self, tps: set[TopicPartition]) -> None:
        """Cancel what these partitions do, and wait for its end. Nothing more is committed for them."""
        ending = [self._running.pop(tp) for tp in tps if tp in self._running]
        for task in ending:
            task.cancel()
        await crash_points.passed("flattener.in_revoke")
        if ending:
            await asyncio.wait(ending)
        for tp in tps & self._partitions.keys():
            self._partitions.pop(tp).meters.forget()
        self._lifecycle.ready("assignment", False, "partitions are being assigned")

    async def fetch(self) -> None:
        """Feed the partitions until told to stop. Raises `FatalError`."""
        consumed = {topic: metrics.CONSUMED_RECORDS.labels(topic) for topic in self._kinds}
        most_records = {topic: FETCH_RECORDS[kind] for topic, kind in self._kinds.items()}
        while not self._lifecycle.stopping.is_set():
            paused = self._steer()
            try:
                fetched = await self.consumer.fetch(PAUSED_FETCH_SECONDS if paused else FETCH_SECONDS, most_records)
            except OffsetsLost as lost:
                await self._skip(lost)
                continue
            for tp, records in fetched.items():
                if tp in self._partitions:
                    self._partitions[tp].add(records)
                    consumed[tp.topic].inc(len(records))
            self._show_lag()
            self._lifecycle.beat()
            self._show_ready()

    async def commit(self) -> None:
        """Commit what is acknowledged, every `COMMIT_SECONDS`, until cancelled. Raises `FatalError`."""
        while True:
            await self._acked.wait()
            self._acked.clear()
            await self.commit_once()
            await asyncio.sleep(COMMIT_SECONDS)

    async def commit_once(self) -> None:
        """Commit what is acknowledged. Kafka being away is no harm: the norm topic is the truth, commits are hints."""
        due = {tp: p.acked_offset for tp, p in self._partitions.items() if p.acked_offset > p.committed_offset}
        if not due or self._epoch is None:
            return
        await crash_points.passed("flattener.before_commit")
        try:
            await self.consumer.commit(due, self._epoch)
        except OwnershipLost as lost:
            self._epoch = None  # said once: until the next assignment every commit would be refused
            _log.info("commit refused", reason=str(lost))
        except RetryableError as error:
            _log.warning("commit failed", reason=str(error))
            await asyncio.sleep(RETRY_SECONDS)
            self._acked.set()
        else:
            await crash_points.passed("flattener.after_commit")
            for tp, offset in due.items():
                if tp in self._partitions:
                    self._partitions[tp].committed_offset = offset

    async def drain(self) -> None:
        """Publish everything that was fetched, and commit it."""
        await crash_points.passed("flattener.in_shutdown")
        for partition in self._partitions.values():
            partition.drain()
        if self._running:
            await asyncio.wait(self._running.values())
        await self.commit_once()

    async def _start_position(self, tp: TopicPartition) -> int:
        while True:
            try:
                return await self.consumer.start_position(tp)
            except RetryableError as error:
                _log.warning("start position unknown", topic=tp.topic, partition=tp.partition, reason=str(error))
                await asyncio.sleep(RETRY_SECONDS)

    def _steer(self) -> bool:
        """Pause what has enough to do; gives whether there is such a partition."""
        full = [tp for tp, partition in self._partitions.items() if partition.full]
        stopped = [tp for tp, partition in self._partitions.items() if partition.stopped_why]
        self.consumer.resume(*self._partitions)
        self.consumer.pause(*full, *stopped)
        return bool(full)

    async def _skip(self, lost: OffsetsLost) -> None:
        """Kafka deleted records before they were flattened: an empty record says so, then go on where it begins."""
        tp = lost.tp
        if lost.beginning <= lost.position:
            raise FatalError(
                f"{tp.topic}/{tp.partition} ends before offset {lost.position}, which this group has read:"
                " the topic was re-created: set a new stream"
            )
        _log.error(
            "raw records lost", topic=tp.topic, partition=tp.partition, first=lost.position, last=lost.beginning - 1
        )
        if tp in self._partitions:
            with suppress(OwnershipLost):  # a rebalance came between: the next owner finds the same
                await self.consumer.seek(tp, lost.beginning)
                self._partitions[tp].lose(lost.beginning)

    def _show_lag(self) -> None:
        if time.monotonic() < self._lag_at:
            return
        self._lag_at = time.monotonic() + LAG_SECONDS
        for tp, partition in self._partitions.items():
            end = self.consumer.high_watermark(tp)
            if end is not None:
                stored, oldest_ms = partition.acked_offset, partition.oldest_ms
                partition.meters.lag(self.consumer.lag(tp), end=end, stored=stored, oldest_ms=oldest_ms)

    def _show_ready(self) -> None:
        why = [partition.stopped_why for partition in self._partitions.values() if partition.stopped_why]
        self._lifecycle.ready("assignment", not why, "; ".join(why))


def group_name(settings: Settings) -> str:
    """The consumer group of all flatteners of a stream."""
    return f"{settings.cryptoflow.name}-flattener-{settings.kafka.stream}"
