"""One suite, two brokers. What the embedded one cannot do is named here, once, with its reason; nothing is loosened."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest

from shared.kafka import Admin, Consumer, Producer, TopicPartition, TopicSpec
from tests.support import eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

    from shared.kafka import Record
    from shared.settings import Settings

LACKS = {
    "embedded": {
        "commit while rebalancing": "the embedded broker starts the next generation with a rebalance, not after it",
        "restart": "the embedded broker keeps its data in memory: killed, it loses what it acknowledged",
        "refuse unknown topics": "the embedded broker creates a topic when a client names it",
        "refuse credentials": "the embedded broker takes any credentials",
        "cluster id": "the embedded broker has the same cluster id on every machine",
    },
    "kafka": {},
}


class Broker:
    """A running broker; `needs` skips a test it cannot take."""

    def __init__(self, name: str, server: Any) -> None:
        self.name = name
        self.server = server
        self.bootstrap_servers: str = server.bootstrap_servers

    def freeze(self) -> None:
        """Connections stay open, nothing answers."""
        self.server.pause()

    def thaw(self) -> None:
        self.server.resume()

    def needs(self, capability: str) -> None:
        assert capability in LACKS["embedded"], f"{capability!r} is not a named capability"
        if reason := LACKS[self.name].get(capability):
            pytest.skip(reason)


@pytest.fixture(params=["embedded", pytest.param("kafka", marks=pytest.mark.docker)])
def broker(request: pytest.FixtureRequest) -> Iterator[Broker]:
    fixture = {"embedded": "embedded_kafka", "kafka": "kafka"}[request.param]
    server = request.getfixturevalue(fixture)
    yield Broker(request.param, server)
    server.recover()


@pytest.fixture
def settings(broker: Broker, make_settings: Callable[..., Settings]) -> Settings:
    return make_settings(kafka={"bootstrap_servers": broker.bootstrap_servers})


@pytest.fixture
async def admin(settings: Settings) -> AsyncIterator[Admin]:
    async with Admin(settings.kafka, client_id="contract-admin") as client:
        yield client


@pytest.fixture
def make_topic(admin: Admin, stream: str) -> Callable[..., Awaitable[str]]:
    """Makes a topic with a name of its own: ``await make_topic(partitions=1, **configs)`` (``_`` for ``.``)."""
    made: list[str] = []

    async def make(partitions: int = 1, **configs: str) -> str:
        name = f"contract-{stream}-{len(made)}"
        made.append(name)
        spec = TopicSpec(name, partitions, configs={key.replace("_", "."): value for key, value in configs.items()})
        assert await admin.create_topics([spec]) == {name: True}

        async def ready() -> bool:
            found = (await admin.describe([name]))[name]
            return found is not None and found.ready

        await eventually(ready, what=f"topic {name} is ready")
        return name

    return make


@pytest.fixture
async def producer(settings: Settings) -> AsyncIterator[Producer]:
    client = Producer(settings.kafka, client_id="contract-producer")
    await client.start()
    yield client
    await client.stop(5)


class Member:
    """A member of the group, which notes what happens to it. A test drives it: nothing runs by itself."""

    def __init__(self, settings: Settings, group: str, topics: list[str]) -> None:
        self.assigned: list[set[TopicPartition]] = []
        self.revoked: list[set[TopicPartition]] = []
        self.records: dict[TopicPartition, list[Record]] = {}
        self.start_at: dict[TopicPartition, int] = {}
        self.topics = topics
        self.consumer = Consumer(
            settings.kafka,
            client_id="contract-consumer",
            group=group,
            topics=topics,
            on_assigned=self.on_assigned,
            on_revoked=self.on_revoked,
        )

    async def on_assigned(self, tps: set[TopicPartition]) -> None:
        self.assigned.append(tps)
        for tp in tps:
            start = self.start_at.get(tp)
            await self.consumer.seek(tp, await self.consumer.start_position(tp) if start is None else start)

    async def on_revoked(self, tps: set[TopicPartition]) -> None:
        self.revoked.append(tps)

    @property
    def count(self) -> int:
        return sum(len(records) for records in self.records.values())

    def offsets(self, tp: TopicPartition) -> list[int]:
        return [record.offset for record in self.records.get(tp, [])]

    async def take(self, timeout_seconds: float = 0.5, limit: int | None = None) -> int:
        """Fetches once; gives how many records it was handed."""
        most = None if limit is None else dict.fromkeys(self.topics, limit)
        fetched = await self.consumer.fetch(timeout_seconds, most)
        for tp, records in fetched.items():
            self.records.setdefault(tp, []).extend(records)
        return sum(len(records) for records in fetched.values())

    async def take_until(self, count: int, limit: int | None = None) -> None:
        async def enough() -> bool:
            await self.take(limit=limit)
            return self.count >= count

        await eventually(enough, what=f"{count} records")


@pytest.fixture
def join(settings: Settings, stream: str) -> Callable[..., Any]:
    """``async with join(topic) as member``: a started member of this test's group."""

    @asynccontextmanager
    async def joined(*topics: str, start_at: dict[TopicPartition, int] | None = None) -> AsyncIterator[Member]:
        member = Member(settings, f"contract-{stream}", list(topics))
        member.start_at = start_at or {}
        await member.consumer.start()
        try:
            yield member
        finally:
            await member.consumer.stop()

    return joined
