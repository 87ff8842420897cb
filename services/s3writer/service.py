"""The s3writer: norm records in, Parquet files out, each row exactly once. The whole line stands in `serve`.

With ``storage.s3.archive_raw`` raw records go the same way, as they are.
"""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING

from services.s3writer.storage import Storage
from services.s3writer.writer import Writer
from shared import metrics, topics
from shared.kafka import Consumer
from shared.lake.store import open_store

if TYPE_CHECKING:
    from shared.lake.kinds import LakeKind
    from shared.service import Lifecycle
    from shared.settings import Settings


async def serve(settings: Settings, lifecycle: Lifecycle) -> None:
    """Take norm records, buffer them, write them by claims; after SIGTERM flush, commit and return."""
    name, channels = settings.cryptoflow.name, settings.channels
    kinds: dict[str, LakeKind] = {channels.norm_fobs.topic: "fobs", channels.norm_fobd.topic: "fobd"}
    if settings.storage.s3.archive_raw:
        kinds |= {channels.raw_fobs.topic: "raw-fobs", channels.raw_fobd.topic: "raw-fobd"}
    group, client_id = f"{name}-s3writer-{settings.kafka.stream}", f"{name}-s3writer-{socket.gethostname()}"
    metrics.show_zeros("s3writer", kind=kinds.values())
    buffer = settings.writer.buffer
    metrics.WRITER_BUFFER_LIMIT_BYTES.set(buffer.max_bytes)
    intervals = {"fobs": buffer.snapshot_flush_interval, "fobd": buffer.delta_flush_interval}
    for topic, kind in kinds.items():
        metrics.FLUSH_INTERVAL.labels(topic).set(intervals[kind.removeprefix("raw-")])
    storage = Storage(open_store(settings.storage), lifecycle)
    cluster_id = await lifecycle.unless_stopped(_check(settings, lifecycle, storage))
    if cluster_id is None:
        return
    async with asyncio.TaskGroup() as tasks:
        writer = Writer(
            settings, lifecycle, storage=storage, kinds=kinds, cluster_id=cluster_id, group=group, tasks=tasks
        )
        writer.consumer = consumer = Consumer(
            settings.kafka,
            client_id=client_id,
            group=group,
            topics=kinds,
            on_assigned=writer.assigned,
            on_revoked=writer.revoked,
        )
        try:
            await lifecycle.unless_stopped(consumer.start())
            await writer.run()
            await writer.drain()
        finally:
            await consumer.stop()
            await writer.close()


async def _check(settings: Settings, lifecycle: Lifecycle, storage: Storage) -> str:
    """Wait for the store and for Kafka; gives Kafka's cluster id. Raises `FatalError` if either is not what it must be."""
    await storage.probe()
    return await topics.require(settings, lifecycle)
