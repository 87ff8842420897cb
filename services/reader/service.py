"""The reader's line: shards → pollers → queue → Kafka. It keeps no state: a start is a recovery, told by `start` gaps."""

from __future__ import annotations

import asyncio
import socket
import time
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

from services.reader.channel import Channel
from services.reader.fetch import Source
from services.reader.ledger import Ledger
from services.reader.publisher import Publisher
from services.reader.reach import Reach
from services.reader.shards import plan
from services.reader.snapshots import Line, Poller
from shared import metrics, topics
from shared.errors import FatalError
from shared.kafka import Producer
from shared.log import get_logger
from shared.service import release
from shared.venues import venue

if TYPE_CHECKING:
    from services.reader.shards import Shard
    from shared.service import Lifecycle
    from shared.settings import Settings

DRAIN_SECONDS = 18.0
"""What the queue gets to empty itself at the end; with requests in flight and the producer's end it is under 30 s."""
PRODUCER_STOP_SECONDS = 4.0
REPORT_EVERY_SECONDS = 30.0

log = get_logger(__name__)


async def serve(settings: Settings, lifecycle: Lifecycle) -> None:
    """Polls until told to stop, then drains. Raises `FatalError` if what was received could not all be handed over."""
    shards = plan(settings)
    if await lifecycle.unless_stopped(topics.require(settings, lifecycle)) is None:
        return
    channel = Channel(settings.channels.buffer_bytes)
    publisher = Publisher(
        channel,
        lambda: Producer(settings.kafka, client_id=f"{settings.cryptoflow.name}-reader"),
        topic=settings.channels.raw_fobs.topic,
        stream=settings.kafka.stream,
        origin=f"{socket.gethostname()}:{time.time_ns()}",
        ready=lifecycle.ready,
    )
    async with asyncio.TaskGroup() as tasks:
        publishing = tasks.create_task(publisher.run())
        reporting = tasks.create_task(_report(channel, settings.channels.raw_fobs.topic))
        async with AsyncExitStack() as stack, asyncio.TaskGroup() as polling:
            for shard in shards:
                poller = await stack.enter_async_context(_source(settings, shard))
                polling.create_task(_poller(settings, shard, poller, channel, lifecycle).run(lifecycle.stopping))
        channel.close()
        try:
            async with asyncio.timeout(DRAIN_SECONDS):
                await publishing
        except TimeoutError:
            raise FatalError(
                f"{publisher.unacknowledged_records} records not acknowledged by Kafka at the end"
            ) from None
        finally:
            reporting.cancel()
            await publisher.stop(PRODUCER_STOP_SECONDS)


def _source(settings: Settings, shard: Shard) -> Source:
    return Source(
        shard.ip,
        timeout_seconds=settings.reader.request_timeout_seconds,
        max_connections=settings.reader.max_connections,
        user_agent=f"cryptoflow/{release()}",
    )


def _poller(settings: Settings, shard: Shard, source: Source, channel: Channel, lifecycle: Lifecycle) -> Poller:
    lines = []
    for exchange, market, found in settings.source.snapshots():
        if symbols := shard.symbols.get((exchange, market)):
            snapshots = found.orderbook.snapshots
            adapter = venue(exchange, market)
            lines.append(Line(adapter, found.rest_url, symbols, snapshots.interval_ms, snapshots.limit))
    reader = settings.reader
    return Poller(
        lines,
        source,
        Ledger(channel, shard.ip, reader.gap_after_seconds),
        Reach(shard.ip, [line.venue for line in lines], reader.gap_after_seconds, lifecycle.ready),
        weight_share=reader.weight_share,
        max_connections=reader.max_connections,
        beat=lifecycle.beat,
    )


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
