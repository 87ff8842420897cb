"""The flattener: raw records in, norm records out, in order and tiling. The whole line stands in `serve`."""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING

from services.flattener.ceiling import Ceiling
from services.flattener.flattener import Flattener, group_name
from services.flattener.publish import Publisher
from shared import topics
from shared.kafka import Consumer, Producer

if TYPE_CHECKING:
    from shared.messages import Kind
    from shared.service import Lifecycle
    from shared.settings import Settings

PRODUCER_STOP_SECONDS = 5.0


async def serve(settings: Settings, lifecycle: Lifecycle) -> None:
    """Consume, flatten, produce, commit; after SIGTERM publish what was fetched, commit and return."""
    if await lifecycle.unless_stopped(topics.require(settings, lifecycle)) is None:
        return
    client_id = f"{settings.cryptoflow.name}-flattener-{socket.gethostname()}"
    # Values are compressed inside; a second time costs and gains nothing.
    producer = Producer(settings.kafka, client_id=client_id, compression="none")
    kinds: dict[str, Kind] = {settings.channels.raw_fobs.topic: "fobs"}
    publishers = {
        settings.channels.raw_fobs.topic: Publisher(
            producer,
            kind="fobs",
            norm_topic=settings.channels.norm_fobs.topic,
            dead_letter_topic=settings.channels.dead_letters.topic,
            stream=settings.kafka.stream,
            ceiling=Ceiling(settings.processor.dead_letter_ceiling),
        )
    }
    try:
        await lifecycle.unless_stopped(producer.start())
        async with asyncio.TaskGroup() as tasks:
            flattener = Flattener(settings, lifecycle, kinds=kinds, publishers=publishers, tasks=tasks)
            flattener.consumer = consumer = Consumer(
                settings.kafka,
                client_id=client_id,
                group=group_name(settings),
                topics=list(kinds),
                on_assigned=flattener.assigned,
                on_revoked=flattener.revoked,
            )
            try:
                await lifecycle.unless_stopped(consumer.start())
                committing = tasks.create_task(flattener.commit(), name="commit")
                await flattener.fetch()
                await flattener.drain()
                committing.cancel()
            finally:
                await consumer.stop()
    finally:
        await producer.stop(PRODUCER_STOP_SECONDS)
