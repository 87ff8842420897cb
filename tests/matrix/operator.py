"""What an operator's tools do to Kafka behind the line's back: groups moved and deleted, records and topics deleted."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Literal

from aiokafka import AIOKafkaConsumer
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions
from aiokafka.errors import NoError, for_code
from aiokafka.protocol.admin import DeleteGroupsRequest

from shared import topics
from shared.errors import RetryableError
from shared.kafka import Admin, TopicPartition
from tests.matrix.world import KINDS
from tests.support import eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from tests.matrix.world import World

Side = Literal["raw", "norm"]
Bounds = tuple[dict[TopicPartition, int], dict[TopicPartition, int]]  # first offset, offset of the next record
Grouped = Literal["flattener", "s3writer"]
READS: dict[Grouped, Side] = {"flattener": "raw", "s3writer": "norm"}
SERVE_SECONDS = 60.0
EMPTY_SECONDS = 20.0  # a killed member is one until its session ends


def partitions_of(world: World, side: Side) -> list[TopicPartition]:
    """Of both kinds."""
    return [tp for kind in KINDS for tp in world.partitions(side, kind)]


async def serving(world: World) -> None:
    """Until the cluster names its broker again: one that was away a while is not a member of it at once."""

    async def named() -> bool:
        try:
            await bounds(world, partitions_of(world, "raw"))
            return not await topics.check(world.line.settings)
        except RetryableError:
            return False

    await eventually(named, SERVE_SECONDS, "the cluster names its broker")


async def bounds(world: World, tps: list[TopicPartition]) -> Bounds:
    """Of these logs."""
    async with Admin(world.line.settings.kafka, client_id="operator") as admin:
        return await admin.beginning_offsets(tps), await admin.end_offsets(tps)


async def committed(world: World, service: Grouped) -> dict[TopicPartition, int]:
    """Where the group of a service goes on; partitions without a commit are left out."""
    async with _admin(world) as admin:
        found = await admin.list_consumer_group_offsets(world.group(service))
        return {tp: place.offset for tp, place in found.items() if place.offset >= 0}


async def move_group(world: World, service: Grouped, to: Literal["earliest", "latest"]) -> None:
    """Commits another offset for the group, once it has no member."""
    tps = partitions_of(world, READS[service])
    begins, ends = await bounds(world, tps)
    servers = world.kafka.bootstrap_servers
    consumer = AIOKafkaConsumer(bootstrap_servers=servers, group_id=world.group(service), enable_auto_commit=False)
    await _empty(world, service)
    await consumer.start()
    try:
        consumer.assign(tps)
        await consumer.commit(begins if to == "earliest" else ends)
    finally:
        await consumer.stop()


async def delete_group(world: World, service: Grouped) -> None:
    """The group and what it committed, once it has no member."""
    group = world.group(service)
    await _empty(world, service)
    async with _admin(world) as admin:
        coordinator = await admin.find_coordinator(group)
        response = await admin._client.send(coordinator, DeleteGroupsRequest([group]))  # the admin client has no word
    [(_, code)] = response.results
    if for_code(code) is not NoError:
        raise for_code(code)(group)


async def delete_records(world: World, before: Mapping[TopicPartition, int]) -> None:
    """As retention does, at once."""
    async with Admin(world.line.settings.kafka, client_id="operator") as admin:
        await admin.delete_records(before)


async def make_anew(world: World, names: list[str]) -> None:
    """Topics deleted, and created again as `cryptoflow topics create` does."""
    async with _admin(world) as admin:
        await admin.delete_topics(names)

        async def gone() -> bool:
            return not set(names) & set(await admin.list_topics())

        await eventually(gone, what=f"{names} are deleted")
    await topics.create(world.line.settings)


async def add_partition(world: World, name: str, partitions: int) -> None:
    """Now it has so many."""
    async with _admin(world) as admin:
        await admin.create_partitions({name: NewPartitions(partitions)})


async def _empty(world: World, service: Grouped) -> None:
    async with _admin(world) as admin:

        async def no_member() -> bool:
            [response] = await admin.describe_consumer_groups([world.group(service)])
            return all(state in {"Empty", "Dead"} for _, _, state, *_ in response.groups)

        await eventually(no_member, EMPTY_SECONDS, f"the group of {service} has no member")


@asynccontextmanager
async def _admin(world: World) -> AsyncIterator[AIOKafkaAdminClient]:
    client = AIOKafkaAdminClient(bootstrap_servers=world.kafka.bootstrap_servers)
    await client.start()
    try:
        yield client
    finally:
        await client.close()
