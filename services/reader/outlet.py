"""One topic's way out: its queue, its publisher, its producer, drained at the end within a bound."""

from __future__ import annotations

import asyncio
import socket
import time
from itertools import count
from typing import TYPE_CHECKING

from services.reader.channel import Channel
from services.reader.publisher import Publisher
from shared import metrics
from shared.errors import FatalError
from shared.kafka import Producer
from shared.log import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from shared.messages import Book, Kind
    from shared.service import Lifecycle
    from shared.settings import Settings

DRAIN_SECONDS = 18.0
"""What a queue gets to empty itself at the end; with requests in flight and the producer's end it is under 30 s."""
PRODUCER_STOP_SECONDS = 4.0
REPORT_EVERY_SECONDS = 30.0
ORIGIN = f"{socket.gethostname()}:{time.time_ns()}"
NUMBERS = count(1)
"""Of the conns of this process."""

log = get_logger(__name__)


class Outlet:
    """A queue that is published to the raw topic of its kind. `on_lost`: see `Publisher`."""

    def __init__(
        self,
        settings: Settings,
        lifecycle: Lifecycle,
        kind: Kind,
        on_lost: Callable[[Collection[Book]], None] = lambda _books: None,
    ) -> None:
        channels = settings.channels
        raw = channels.raw_fobs if kind == "fobs" else channels.raw_fobd
        self.channel = Channel(channels.buffer_bytes)
        self._topic = raw.topic
        metrics.CHANNEL_LIMIT_BYTES.labels(raw.topic).set(channels.buffer_bytes)
        self._publisher = Publisher(
            self.channel,
            lambda: Producer(settings.kafka, client_id=f"{settings.cryptoflow.name}-reader-{kind}"),
            kind=kind,
            topic=raw.topic,
            partitions=raw.partitions,
            dead_letter_topic=channels.dead_letters.topic,
            dead_letter_partitions=channels.dead_letters.partitions,
            stream=settings.kafka.stream,
            origin=ORIGIN,
            numbers=NUMBERS,
            ready=lambda what, ok, why: lifecycle.ready(f"{what} ({raw.topic})", ok, why),
            on_lost=on_lost,
        )
        self._publishing: asyncio.Task[None]
        self._reporting: asyncio.Task[None]

    def start(self, tasks: asyncio.TaskGroup) -> None:
        """Publish from now on."""
        self._publishing = tasks.create_task(self._publisher.run())
        self._reporting = tasks.create_task(_report(self.channel, self._topic))

    async def drain(self) -> None:
        """Nothing more comes: hand over what is held. Raises `FatalError` if that takes too long."""
        self.channel.close()
        try:
            async with asyncio.timeout(DRAIN_SECONDS):
                await self._publishing
        except TimeoutError:
            left = self._publisher.unacknowledged_records
            raise FatalError(f"{left} records of {self._topic} not acknowledged by Kafka at the end") from None

    async def stop(self) -> None:
        """Close the producer, within a bound."""
        self._reporting.cancel()
        await self._publisher.stop(PRODUCER_STOP_SECONDS)


async def _report(channel: Channel, topic: str) -> None:
    """The queue's depth: to the metrics every second, to the log every 30 s."""
    depth = metrics.CHANNEL_DEPTH_BYTES.labels(topic)
    last = time.monotonic()
    while True:
        depth.set(channel.held_bytes)
        if time.monotonic() - last >= REPORT_EVERY_SECONDS:
            last = time.monotonic()
            log.info("channel", topic=topic, held_bytes=channel.held_bytes, limit_bytes=channel.limit_bytes)
        await asyncio.sleep(1)
