"""The reader's line: shards → polls, anchors and websockets → queues → Kafka.

It keeps no state: a start is a recovery, told by `start` gaps.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from itertools import count
from typing import TYPE_CHECKING

import aiohttp

from services.reader.anchors import Anchors
from services.reader.feed import Feed, StreamPlan
from services.reader.fetch import Source, connector_from
from services.reader.instruments import Instruments
from services.reader.ledger import Ledger
from services.reader.listings import Listings
from services.reader.outlet import Outlet
from services.reader.pressure import Pressure
from services.reader.reach import Reach
from services.reader.requests import Requester
from services.reader.shards import plan
from services.reader.snapshots import Polls
from services.reader.ways import Way, Ways
from shared import crash_points, metrics, topics
from shared.log import get_logger
from shared.service import release
from shared.venues import venue
from shared.venues.base import REASONS

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from services.reader.channel import Channel
    from services.reader.shards import Market, Plan, Shard
    from shared.messages import Book
    from shared.service import Lifecycle
    from shared.settings import MarketSettings, Settings
    from shared.venues.instruments import Instrument


log = get_logger(__name__)


@dataclass
class Line:
    """What all shards of this process share."""

    settings: Settings
    lifecycle: Lifecycle
    listings: Listings
    snapshots: Channel
    deltas: Channel
    pressure: Pressure
    numbers: Iterator[int] = field(default_factory=lambda: count(1))
    feeds: list[Feed] = field(default_factory=list)
    ways: Ways = field(init=False)

    def __post_init__(self) -> None:
        self.ways = Ways(rebalance=self.settings.reader.rebalance_on_ban, ready=self.lifecycle.ready)


async def serve(settings: Settings, lifecycle: Lifecycle) -> None:
    """Records until told to stop, then drains. Raises `FatalError` if what was received could not all be handed over."""
    planned = plan(settings)
    _show(planned)
    metrics.show_zeros("cryptoflow_dead_letters_total", stage=["reader"])
    if await lifecycle.unless_stopped(topics.require(settings, lifecycle)) is None:
        return
    feeds: list[Feed] = []

    def told_elsewhere(books: Collection[Book]) -> None:
        for feed in feeds:
            feed.told_elsewhere(books)

    listings = Listings(settings.storage)
    snapshots, deltas = Outlet(settings, lifecycle, "fobs"), Outlet(settings, lifecycle, "fobd", told_elsewhere)
    line = Line(settings, lifecycle, listings, snapshots.channel, deltas.channel, Pressure(deltas.channel), feeds=feeds)
    async with asyncio.TaskGroup() as tasks:
        storing = tasks.create_task(listings.run())
        snapshots.start(tasks)
        deltas.start(tasks)
        try:
            async with AsyncExitStack() as stack:
                ways = [await _way_out(line, shard, stack) for shard in planned.shards]
                watching = tasks.create_task(line.ways.watch(time.time_ns))
                async with asyncio.TaskGroup() as recording:
                    for shard, way in zip(planned.shards, ways, strict=True):
                        recording.create_task(_record(line, shard, way))
                watching.cancel()
            await crash_points.passed("reader.in_shutdown")
            async with asyncio.TaskGroup() as draining:
                draining.create_task(snapshots.drain())
                draining.create_task(deltas.drain())
        finally:
            storing.cancel()
            await asyncio.gather(snapshots.stop(), deltas.stop())


def _show(planned: Plan) -> None:
    metrics.SHARDS_CONFIGURED.set(len(planned.shards) + len(planned.others))
    metrics.SHARDS_RUNNING.set(len(planned.shards))
    if planned.others:
        log.warning(
            "shards of others",
            skipped=list(planned.others),
            running=[shard.ip for shard in planned.shards],
            why="not an address of this host, or not reader.shard_ip: another reader has to run them",
        )


async def _way_out(line: Line, shard: Shard, stack: AsyncExitStack) -> Way:
    """Requests and websockets, both from the shard's address; all its markets share the requests' budget."""
    reader, lifecycle = line.settings.reader, line.lifecycle
    agent = f"cryptoflow/{release()}"
    source = Source(
        shard.ip,
        timeout_seconds=reader.request_timeout_seconds,
        max_connections=reader.max_connections,
        user_agent=agent,
    )
    session = aiohttp.ClientSession(
        connector=connector_from(shard.ip, limit=0),
        cookie_jar=aiohttp.DummyCookieJar(),
        headers={"User-Agent": agent},
        trust_env=False,
    )
    await stack.enter_async_context(source)
    await stack.enter_async_context(session)
    reach = Reach(shard.ip, [venue(*market) for market in shard.markets], reader.gap_after_seconds, lifecycle.ready)
    requester = Requester(
        source,
        reach,
        weight_share=reader.weight_share,
        max_connections=reader.max_connections,
        beat=lifecycle.beat,
        substitute=line.ways.for_request,
    )
    return line.ways.add(Way(requester, session))


async def _record(line: Line, shard: Shard, way: Way) -> None:
    """One shard, until told to stop."""
    reader, lifecycle = line.settings.reader, line.lifecycle
    ledger = Ledger(line.snapshots, shard.ip, reader.gap_after_seconds)
    polls: list[Polls] = []
    async with asyncio.TaskGroup() as tasks:
        for exchange, market, found in line.settings.source.markets():
            if (exchange, market) not in shard.markets:
                continue
            poll, feed = _market(line, shard, (exchange, market), found, way=way, ledger=ledger)
            if poll is not None:
                polls.append(poll)
            if feed is not None:
                line.feeds.append(feed)
                tasks.create_task(feed.run(lifecycle.stopping))
        await way.requester.run(lifecycle.stopping)
        for poll in polls:
            poll.stop(time.time_ns())


def _market(
    line: Line,
    shard: Shard,
    market: Market,
    found: MarketSettings,
    *,
    way: Way,
    ledger: Ledger,
) -> tuple[Polls | None, Feed | None]:
    """What is recorded of one market from one shard, wired to its desk."""
    adapter, reader, now_ns = venue(*market), line.settings.reader, time.time_ns()
    metrics.show_zeros("reader", exchange=[adapter.exchange], market=[adapter.market], reason=REASONS)
    desk = way.requester.desk(adapter, found.rest_url)
    selected, streamed = shard.snapshots.get(market), shard.deltas.get(market)
    snapshots, delta = found.orderbook.snapshots, found.orderbook.delta
    on_listed = [line.listings.of(adapter)]
    feed = polls = None
    if streamed is not None:
        streams = StreamPlan(
            found.stream_url,
            delta.interval_ms,
            reader.streams_per_connection,
            max_age_seconds=reader.max_connection_age,
            silence_seconds=reader.silence_timeout,
            stale_seconds=reader.stale_after,
            anchor_seconds=delta.anchor_interval,
        )
        feed = Feed(
            adapter,
            streams,
            streamed,
            way=way,
            ways=line.ways,
            channel=line.deltas,
            pressure=line.pressure,
            anchors=Anchors(desk, delta.limit),
            numbers=line.numbers,
            ready=line.lifecycle.ready,
        )
        on_listed.append(feed.listed)
    if selected is not None:
        chosen = selected
        polls = polls_ = Polls(
            desk,
            ledger,
            chosen.explicit,
            interval_ms=snapshots.interval_ms,
            limit=snapshots.limit,
            now_ns=now_ns,
            **({} if feed is None else {"seen": feed.saw_snapshot}),
        )

        def follow(listed: Sequence[Instrument], recv_ns: int) -> None:
            polls_.follow(chosen.explicit | chosen.of({item.symbol for item in listed if item.trading}), recv_ns)

        on_listed.append(follow)
        way.requester.works.append(polls)
    explicit = frozenset().union(*(each.explicit for each in (selected, streamed) if each is not None))
    instruments = Instruments(desk, explicit, on_listed, interval_seconds=reader.instruments_interval, now_ns=now_ns)
    way.requester.works.append(instruments)
    return polls, feed
