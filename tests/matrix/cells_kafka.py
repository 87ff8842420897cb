"""Kafka dies, freezes, refuses, forgets; groups rebalance without end. Topics that change stand in `cells_topics`."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Literal, get_args

import pytest
from aiokafka import AIOKafkaConsumer
from aiokafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor
from aiokafka.record.default_records import DefaultRecordBatchBuilder

from shared.errors import PoisonMessage
from shared.kafka import MAX_RECORD_BYTES, Producer
from tests.deltas import control
from tests.matrix import cells_topics, operator
from tests.matrix.cells import LOSSY, Cell
from tests.matrix.world import KINDS, QUICK
from tests.support import eventually

if TYPE_CHECKING:
    from shared.kafka import TopicPartition
    from tests.matrix.operator import Grouped
    from tests.matrix.world import World
    from tests.processes import Service

To = Literal["earliest", "latest", "deleted"]
GROUPED: tuple[Grouped, ...] = get_args(operator.Grouped)
REACH_SECONDS = 60.0
STORM_TURNS = 6
STORM_SECONDS = 1.0
LARGEST_BODY_BYTES = 15 * 1024 * 1024  # what a reader takes
SMALL_BYTES = 300


async def broker_killed(world: World) -> None:
    """SIGKILL under load, and a start; once, or again as soon as it serves."""
    await world.begin()
    await world.start_all()
    for _ in range(world.rng.randint(1, 2)):
        await world.load(world.rng.randint(1, 15))
        await asyncio.to_thread(world.kafka.restart)
        await operator.serving(world)
    await world.load(10)


async def broker_paused(world: World) -> None:
    """Connections stay open and nothing answers, for less or more than a session and than a request may take."""
    await world.begin()
    await world.start_all()
    await world.load(world.rng.randint(1, 15))
    await asyncio.to_thread(world.kafka.pause)
    await asyncio.sleep(world.rng.uniform(1, 9))
    await asyncio.to_thread(world.kafka.resume)
    await operator.serving(world)
    await revived(world)
    await world.load(10)


async def rebalance_storm(world: World) -> None:
    """Two writers and two flatteners, and a third member of either group that comes and goes every second."""
    await world.begin()
    await world.start_all()
    await asyncio.gather(*(world.start(service) for service in GROUPED))
    await asyncio.gather(*(_come_and_go(world, service) for service in GROUPED))
    await world.load(10)


async def scaled(world: World) -> None:
    """Writers and flatteners come, and others go, in order or killed."""
    await world.begin()
    await world.start_all()
    for _ in range(2):
        await asyncio.gather(*(world.start(service) for service in GROUPED))
        await world.load(world.rng.randint(1, 10))
        await stopped(world, [world.rng.choice(world.alive(service)) for service in GROUPED])
    await world.load(5)


async def group_moved(world: World, to: To) -> None:
    """Both groups, while nobody is in them and something waits; their members begin where they are told."""
    await world.begin()
    await world.start_all()
    await world.load(15)
    await world.flushed()
    await stopped(world, [process for service in GROUPED for process in world.alive(service)])
    await world.load(world.rng.randint(1, 15))
    await world.keep()
    for service in GROUPED:
        if to == "deleted":
            await operator.delete_group(world, service)
        else:
            await operator.move_group(world, service, to)
    await asyncio.gather(*(world.start(service) for service in GROUPED))
    await world.load(10)


async def read_records_deleted(world: World) -> None:
    """What every group has committed goes, under running services; one of which is then killed, and goes on."""
    await world.begin()
    running = await world.start_all()
    await world.load(15)
    await world.flushed()
    places = [await operator.committed(world, service) for service in GROUPED]
    await world.keep()
    for before in places:
        await operator.delete_records(world, before)
    victim = world.rng.choice(GROUPED)
    running[victim].kill()
    await world.start(victim)
    await world.load(10)


async def unread_records_deleted(world: World, service: Grouped) -> None:
    """Retention passes what a service that was away has not read: declared, and nothing beyond it is lost."""
    await world.begin()
    running = await world.start_all()
    await world.load(10)
    await world.flushed()
    await world.end([running[service]])
    tps = operator.partitions_of(world, operator.READS[service])
    await _ends_move(world, tps, 3)
    places = await operator.committed(world, service)
    _, ends = await operator.bounds(world, list(places))
    await world.keep()
    waiting = {tp: range(place, ends[tp]) for tp, place in places.items() if ends[tp] > place}
    assert waiting, f"{service} left nothing unread"
    await operator.delete_records(
        world, {tp: world.rng.randint(unread.start + 1, unread.stop) for tp, unread in waiting.items()}
    )
    await world.start(service)
    await world.load(10)


async def claimed_records_deleted(world: World) -> None:
    """A writer dies between its claim and its files, and Kafka no longer has what the claim promises."""
    await world.begin()
    running = await world.start_all(s3writer=f"s3writer.after_claim:{world.rng.randint(1, 4)}:kill")
    await asyncio.to_thread(running["s3writer"].wait, REACH_SECONDS)
    await world.load(10)
    await world.keep()
    _, ends = await operator.bounds(world, operator.partitions_of(world, "norm"))
    await operator.delete_records(world, ends)
    await world.start("s3writer")
    await world.load(10)


async def largest_messages(world: World) -> None:
    """Books as large as a reader takes and larger, a record as large as Kafka takes and larger."""
    await world.begin()
    await world.start_all()
    await world.load(3)
    for size in (LARGEST_BODY_BYTES, LARGEST_BODY_BYTES + 1):
        rule = {"kind": "oversize_body", "count": 2, "args": {"bytes": size}}
        await control(world.exchange, "POST", "faults", rule)
    await world.load(10)
    await _plant_largest(world)
    await world.load(5)


async def norm_records_refused(world: World) -> None:
    """Kafka takes no norm record: flatteners end and say so, one after the other, until it does; nothing is skipped."""
    await world.begin()
    await world.start_all()
    await world.load(5)
    for kind in KINDS:
        await world.limit_messages(world.partitions("norm", kind)[0].topic, SMALL_BYTES)
    for flattener in (*world.alive("flattener"), await world.start("flattener", ready=False)):
        code = await asyncio.to_thread(flattener.wait, REACH_SECONDS)
        assert (code, bool(flattener.logged("service failed"))) == (1, True), flattener.tail()
    for kind in KINDS:
        await world.limit_messages(world.partitions("norm", kind)[0].topic, MAX_RECORD_BYTES)
    await world.start("flattener")
    await world.load(5)


async def revived(world: World) -> None:
    """What ended is started again, as whatever runs services does. Only a flattener may end of an outage."""
    assert world.alive("reader"), "the reader did not outlive it"
    assert world.alive("s3writer"), "the s3writer did not outlive it"
    if not world.alive("flattener"):
        await world.start("flattener")


async def stopped(world: World, services: list[Service]) -> None:
    """In order, or killed."""
    if world.rng.random() < 0.5:
        await world.end(services)
    else:
        for service in services:
            service.kill()


async def _come_and_go(world: World, service: Grouped) -> None:
    topics = {tp.topic for tp in operator.partitions_of(world, operator.READS[service])}
    for _ in range(STORM_TURNS):
        member = AIOKafkaConsumer(
            *topics,
            bootstrap_servers=world.kafka.bootstrap_servers,
            group_id=world.group(service),
            enable_auto_commit=False,
            session_timeout_ms=QUICK["session_timeout_ms"],
            heartbeat_interval_ms=QUICK["heartbeat_interval_ms"],
            partition_assignment_strategy=(RoundRobinPartitionAssignor,),  # a group has one, and this is the services'
        )
        await member.start()
        await asyncio.sleep(STORM_SECONDS)
        await member.stop()


async def _ends_move(world: World, tps: list[TopicPartition], records: int) -> None:
    """Until partitions that grow have so many records more."""
    _, before = await operator.bounds(world, tps)

    async def moved() -> bool:
        _, now = await operator.bounds(world, tps)
        return sum(now.values()) - sum(before.values()) >= records * len(tps)

    await eventually(moved, REACH_SECONDS, f"{records} records more for each of {tps}")


async def _plant_largest(world: World) -> None:
    """A book of the exchange padded until its record is as large as one may be; a byte more is refused."""
    books = [r for r in await world.line.raw_records("fobs") if dict(r.headers)["type"] == b"snapshot"]
    book = min(books, key=lambda record: len(record.value))
    headers = list(book.headers)
    like = bytes(LARGEST_BODY_BYTES)  # the length of a value takes room too
    around = DefaultRecordBatchBuilder.estimate_size_in_bytes(book.key, like, headers) - len(like)
    room = MAX_RECORD_BYTES - around
    head = book.value.removesuffix(b"}") + b',"pad":"'
    largest = head + b"x" * (room - len(head) - 2) + b'"}'
    producer = Producer(world.line.settings.kafka, client_id="planter", compression="none")
    await producer.start()
    try:
        with pytest.raises(PoisonMessage, match=f"{MAX_RECORD_BYTES} is the most"):
            await producer.send(book.topic, largest + b" ", key=book.key, partition=book.partition, headers=headers)
        sent = await producer.send(book.topic, largest, key=book.key, partition=book.partition, headers=headers)
        world.planted.add(("fobs", book.partition, await sent))
    finally:
        await producer.stop(10)


CELLS = [
    Cell("kafka broker killed", broker_killed),
    Cell("kafka broker paused", broker_paused),
    Cell("kafka rebalance storm", rebalance_storm),
    Cell("kafka members scaled up and down", scaled),
    Cell("kafka groups moved to the beginning", partial(group_moved, to="earliest")),
    Cell("kafka groups moved to the end", partial(group_moved, to="latest"), LOSSY),
    Cell("kafka groups deleted", partial(group_moved, to="deleted")),
    Cell("kafka read records deleted", read_records_deleted),
    Cell("kafka unread raw records deleted", partial(unread_records_deleted, service="flattener"), LOSSY),
    Cell("kafka unread norm records deleted", partial(unread_records_deleted, service="s3writer"), LOSSY),
    Cell("kafka claimed norm records deleted", claimed_records_deleted, LOSSY),
    Cell("kafka largest messages", largest_messages),
    Cell("kafka norm records refused", norm_records_refused),
    *cells_topics.CELLS,
]
