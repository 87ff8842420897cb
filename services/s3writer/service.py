"""The s3writer: norm records in, Parquet files out, each row exactly once. The whole line stands in `serve`."""

from __future__ import annotations

import asyncio
import random
import socket
from typing import TYPE_CHECKING, TypeVar

from services.s3writer.storage import Storage
from services.s3writer.writer import Writer
from shared import topics
from shared.errors import FatalError, RetryableError
from shared.kafka import Admin, Consumer
from shared.lake.store import open_store

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from shared.messages import Kind
    from shared.service import Lifecycle
    from shared.settings import Settings

BEAT_SECONDS = 5.0
KAFKA_PAUSE_SECONDS = 2.0

Result = TypeVar("Result")


async def serve(settings: Settings, lifecycle: Lifecycle) -> None:
    """Take norm records, buffer them, write them by claims; after SIGTERM flush, commit and return."""
    name, channels = settings.cryptoflow.name, settings.channels
    kinds: dict[str, Kind] = {channels.norm_fobs.topic: "fobs", channels.norm_fobd.topic: "fobd"}
    group, client_id = f"{name}-s3writer-{settings.kafka.stream}", f"{name}-s3writer-{socket.gethostname()}"
    storage = Storage(open_store(settings.storage), lifecycle)
    cluster_id = await _unless_stopped(lifecycle, _check(settings, lifecycle, storage, client_id))
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
            await _unless_stopped(lifecycle, consumer.start())
            await writer.run()
            await writer.drain()
        finally:
            await consumer.stop()
            await writer.close()


async def _check(settings: Settings, lifecycle: Lifecycle, storage: Storage, client_id: str) -> str:
    """Wait for the store and for Kafka; gives Kafka's cluster id. Raises `FatalError` if either is not what it must be."""
    await storage.probe()
    lifecycle.ready("kafka", False, "not connected yet")
    while True:
        try:
            if problems := await topics.check(settings):
                raise FatalError("; ".join(problems))
            async with Admin(settings.kafka, client_id=client_id) as admin:
                cluster_id = await admin.cluster_id()
        except RetryableError as error:
            lifecycle.ready("kafka", False, str(error))
            await asyncio.sleep(random.uniform(0, KAFKA_PAUSE_SECONDS))  # noqa: S311  # jitter
        else:
            lifecycle.ready("kafka", True)
            return cluster_id


async def _unless_stopped(lifecycle: Lifecycle, work: Coroutine[object, object, Result]) -> Result | None:
    """The work's result, however long it waits for others; None if the service was told to stop before."""
    working = asyncio.ensure_future(work)
    stopped = asyncio.ensure_future(lifecycle.stopping.wait())
    try:
        while not working.done() and not stopped.done():
            lifecycle.beat()
            await asyncio.wait({working, stopped}, timeout=BEAT_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        return working.result() if working.done() else None
    finally:
        for task in (working, stopped):
            task.cancel()
        await asyncio.wait({working, stopped})
