"""The flattener: raw records in, norm records out, in order and tiling. The whole line stands in `serve`."""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING

from services.flattener.ceiling import Ceiling
from services.flattener.flattener import Flattener, group_name
from services.flattener.meters import STAGE
from services.flattener.publish import Publisher
from shared import metrics, topics
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
    # Values are compressed inside; a second time costs and gains nothing. One record of a partition is in flight at a time.
    producer = Producer(settings.kafka, client_id=client_id, compression="none", linger_ms=0)
    channels = settings.channels
    kinds: dict[str, Kind] = {channels.raw_fobs.topic: "fobs", channels.raw_fobd.topic: "fobd"}
    metrics.show_zeros("flattener", topic=list(kinds))
    metrics.show_zeros("cryptoflow_dead_letters_total", stage=[STAGE])
    norm_topics: dict[Kind, str] = {"fobs": channels.norm_fobs.topic, "fobd": channels.norm_fobd.topic}
    publishers = {
        raw_topic: Publisher(
            producer,
            kind=kind,
            norm_topic=norm_topics[kind],
            dead_letter_topic=channels.dead_letters.topic,
            stream=settings.kafka.stream,
            # Of its own: a venue's new format of one kind must not hide behind the traffic of the other.
            ceiling=Ceiling(settings.processor.dead_letter_ceiling),
        )
        for raw_topic, kind in kinds.items()
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
