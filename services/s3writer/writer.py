"""All partitions that this process holds: assigned, fed, cut, drained, revoked.

One loop fetches, and it alone moves Kafka's position and pauses partitions. It never waits for the store: flushes run
beside it, a full budget only pauses fetching, so the group sees a live member all the time.
"""

from __future__ import annotations

import asyncio
import random
import secrets
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import count
from typing import TYPE_CHECKING

from services.s3writer.buffer import Budget, Limits
from services.s3writer.flush import Protocol
from services.s3writer.lines import take_of
from services.s3writer.meters import PartitionMeters
from services.s3writer.partition import Partition
from shared import crash_points, metrics
from shared.errors import RetryableError
from shared.kafka import OffsetsLost, OwnershipLost
from shared.lake.claim_log import ClaimLog
from shared.log import get_logger

if TYPE_CHECKING:
    from services.s3writer.storage import Storage
    from shared.kafka import Consumer, Epoch, TopicPartition
    from shared.lake.kinds import LakeKind
    from shared.service import Lifecycle
    from shared.settings import Settings

FETCH_SECONDS = 0.5
LAG_EVERY_SECONDS = 5.0
START_POSITION_PAUSE_SECONDS = 2.0

_log = get_logger(__name__)


class Writer:
    """Between the consumer and the store. `kinds` maps each topic to the kind of its lines."""

    def __init__(
        self,
        settings: Settings,
        lifecycle: Lifecycle,
        *,
        storage: Storage,
        kinds: dict[str, LakeKind],
        cluster_id: str,
        group: str,
        tasks: asyncio.TaskGroup,
    ) -> None:
        limits = settings.writer.buffer
        self.consumer: Consumer
        self._stream = settings.kafka.stream
        self._compression = settings.storage.s3.compression
        self._lifecycle = lifecycle
        self._storage = storage
        self._kinds = kinds
        self._cluster_id = cluster_id
        self._group = group
        self._task_group = tasks
        self._budget = Budget(limits.max_bytes)
        snapshots = Limits(limits.snapshot_flush_interval, limits.max_rows)
        deltas = Limits(limits.delta_flush_interval, limits.max_rows)
        self._limits = {"fobs": snapshots, "raw-fobs": snapshots, "fobd": deltas, "raw-fobd": deltas}
        self._encoder = ThreadPoolExecutor(1, "encoder")
        self._partitions: dict[TopicPartition, Partition] = {}
        self._tasks: dict[TopicPartition, asyncio.Task[None]] = {}
        self._process, self._attempts = secrets.token_hex(8), count()
        self._lag_at = 0.0
        self._drained = asyncio.Event()  # not set while draining
        self._drained.set()
        lifecycle.ready("assignment", False, "not a member of the group yet")

    async def assigned(self, tps: set[TopicPartition]) -> None:
        """Begin to resume these partitions; none is fetched before it is."""
        try:
            epoch = self.consumer.epoch()
            for tp in sorted(tps):
                start = await self._start_position(tp)
                await self.consumer.seek(tp, start)
                self.consumer.pause(tp)
                self._begin(tp, epoch, start)
        except OwnershipLost as lost:  # the group moved on meanwhile, and will assign anew
            _log.info("assignment overtaken", reason=str(lost))
        self._show_ready()

    async def revoked(self, tps: set[TopicPartition]) -> None:
        """Cancel what these partitions do, wait for its end, drop what they hold.

        What is being drained is stored first: where several are told to end at once, the first to leave the group would
        take from the others what they hold, and the group waits for them.
        """
        await self._drained.wait()
        tasks = [self._tasks.pop(tp) for tp in tps if tp in self._tasks]
        for task in tasks:
            task.cancel()
        await crash_points.passed("s3writer.in_revoke")
        if tasks:
            await asyncio.wait(tasks)
        for tp in tps & self._partitions.keys():
            self._partitions.pop(tp).meters.remove()
        self._lifecycle.ready("assignment", False, "partitions are being assigned")

    async def run(self) -> None:
        """Fetch and cut until told to stop. Raises `FatalError`."""
        while not self._lifecycle.stopping.is_set():
            await self._steer()
            try:
                batches = await self.consumer.fetch(FETCH_SECONDS)
            except OffsetsLost as lost:
                await self._skip(lost)
                continue
            for tp, records in batches.items():
                if tp in self._partitions:
                    self._partitions[tp].add(records)
                await asyncio.sleep(0)  # heartbeats go between partitions
            self._cut()
            self._show_lag()
            self._show_ready()
            self._lifecycle.beat()

    async def drain(self) -> None:
        """Flush everything that is buffered, and commit it."""
        self._drained.clear()
        try:
            await crash_points.passed("s3writer.in_shutdown")
            async with asyncio.TaskGroup() as group:
                for partition in self._partitions.values():
                    group.create_task(partition.drain())
        finally:
            self._drained.set()

    async def close(self) -> None:
        """Let go of all partitions, and start nothing new in threads."""
        await self.revoked(set(self._partitions))
        self._encoder.shutdown(wait=False, cancel_futures=True)
        self._storage.close()

    def _begin(self, tp: TopicPartition, epoch: Epoch, start: int) -> None:
        log = ClaimLog(
            kind=self._kinds[tp.topic],
            stream=self._stream,
            partition=tp.partition,
            topic=tp.topic,
            cluster_id=self._cluster_id,
        )
        protocol = Protocol(
            log,
            tp=tp,
            epoch=epoch,
            consumer=self.consumer,
            storage=self._storage,
            encoder=self._encoder,
            compression=self._compression,
            take=take_of(log.kind),
        )
        self._partitions[tp] = partition = Partition(
            tp,
            epoch=epoch,
            start=start,
            protocol=protocol,
            consumer=self.consumer,
            limits=self._limits[log.kind],
            meters=PartitionMeters(log.kind, self._group, tp),
            nonce=self._nonce,
        )
        self._tasks[tp] = self._task_group.create_task(partition.run(), name=f"{tp.topic}/{tp.partition}")

    async def _start_position(self, tp: TopicPartition) -> int:
        while True:
            try:
                return await self.consumer.start_position(tp)
            except RetryableError as error:
                _log.warning("start position unknown", topic=tp.topic, partition=tp.partition, reason=str(error))
                await asyncio.sleep(random.uniform(0, START_POSITION_PAUSE_SECONDS))  # noqa: S311  # jitter

    def _nonce(self) -> str:
        return f"{self._process}-{next(self._attempts)}"

    async def _steer(self) -> None:
        """Bring Kafka's positions and pauses to what the partitions want."""
        full = self._budget.full(sum(partition.held_bytes for partition in self._partitions.values()))
        for tp, partition in list(self._partitions.items()):
            if partition.seek_to is not None:
                offset, partition.seek_to = partition.seek_to, None
                with suppress(OwnershipLost):  # the revocation is on its way
                    await self.consumer.seek(tp, offset)
            if full or not partition.resumed or partition.stopped_why:
                self.consumer.pause(tp)
            else:
                self.consumer.resume(tp)

    async def _skip(self, lost: OffsetsLost) -> None:
        """Kafka deleted records before they were stored: go on where it begins. The hole shows in the raw offsets."""
        _log.error(
            "records lost",
            topic=lost.tp.topic,
            partition=lost.tp.partition,
            position=lost.position,
            beginning=lost.beginning,
        )
        with suppress(OwnershipLost):
            await self.consumer.seek(lost.tp, lost.beginning)

    def _cut(self) -> None:
        now = time.time()
        for partition in self._partitions.values():
            partition.cut_if_due(now)
        held = sum(partition.held_bytes for partition in self._partitions.values())
        metrics.WRITER_BUFFER_BYTES.set(held)
        largest = self._budget.largest(partition.open_buffer for partition in self._partitions.values())
        for partition in self._partitions.values():
            if largest is not None and partition.waiting is largest:  # else its flush has to end first
                partition.cut("bytes")

    def _show_lag(self) -> None:
        if time.monotonic() < self._lag_at:
            return
        self._lag_at = time.monotonic() + LAG_EVERY_SECONDS
        for tp, partition in self._partitions.items():
            with suppress(OwnershipLost):
                end = self.consumer.high_watermark(tp)
                if end is not None and partition.resumed:
                    stored, oldest_ms = partition.stored_offset, partition.oldest_ms
                    partition.meters.lag(self.consumer.lag(tp), end=end, stored=stored, oldest_ms=oldest_ms)

    def _show_ready(self) -> None:
        why = [partition.stopped_why for partition in self._partitions.values() if partition.stopped_why]
        resuming = sum(not partition.resumed for partition in self._partitions.values())
        if not why and resuming:
            why = [f"{resuming} of {len(self._partitions)} partitions are looking for the end of their claims"]
        self._lifecycle.ready("assignment", not why, "; ".join(why))
