"""Raw records out of the topics, as far as Kafka still holds them: a `RawSource` for commands that are no service.

It joins no group, commits nothing, and waits while Kafka is down. What retention deletes while it reads it passes over,
and from then on says that it no longer holds it.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Self, TypeVar

from shared.kafka import Admin, OffsetsLost, TopicPartition, read_range
from shared.lake.raw_source import Held

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Coroutine, Iterator
    from types import TracebackType

    from shared.kafka import Record
    from shared.lake.raw_source import RawLine
    from shared.settings import Settings

BATCH_BYTES = 4 * 1024 * 1024

Result = TypeVar("Result")


class RawTopics:
    """``with RawTopics(settings) as source``: the raw topics of the configured stream. For code outside any event loop."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._client_id = f"{settings.cryptoflow.name}-lake"
        self._topics = {"fobs": settings.channels.raw_fobs.topic, "fobd": settings.channels.raw_fobd.topic}
        self._runner = asyncio.Runner()
        self._cluster_id: str | None = None
        self._spans: dict[
            TopicPartition, tuple[int, int]
        ] = {}  # begin, end: the first offset, and the one after the last

    @property
    def name(self) -> str:  # noqa: D102  # `RawSource` says it
        return f"Kafka at {self._settings.kafka.bootstrap_servers}"

    @property
    def cluster_id(self) -> str:
        """Of the cluster, which is asked the first time."""
        if self._cluster_id is None:
            self._run(self._describe())
        return str(self._cluster_id)

    def partitions(self, topic: str) -> list[int]:
        """The partitions of a raw topic; none where there is no such topic."""
        assert self.cluster_id
        return sorted(tp.partition for tp in self._spans if tp.topic == topic)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._runner.close()

    def held(self, line: RawLine) -> Held:
        """Only of the configured stream, and of the cluster and topic that the line was made from."""
        stream, topic = self._settings.kafka.stream, self._topics[line.kind]
        if line.stream != stream:
            return Held(why=f"the topics are of stream {stream}, these raw records were of stream {line.stream}")
        if line.topic != topic:
            return Held(why=f"the raw records were in topic {line.topic}, the settings say {topic}")
        if line.cluster_id != self.cluster_id:
            return Held(why=f"they were in Kafka cluster {line.cluster_id}, this is {self.cluster_id}")
        found = self._spans.get(TopicPartition(topic, line.partition))
        if found is None:
            return Held(why=f"{self.name} has no {topic}/{line.partition}")
        begin, end = found
        if begin >= end:
            return Held(why=f"{topic}/{line.partition} at {self.name} is empty")
        return Held(((begin, end - 1),))

    def records(self, line: RawLine, first: int, last: int) -> Iterator[Record]:
        """What Kafka still has of these offsets, 4 MiB at a time."""
        tp = TopicPartition(line.topic, line.partition)
        position = first
        while position <= last:
            reading = read_range(self._settings.kafka, tp, position, last, client_id=self._client_id)
            try:
                while batch := self._run(_batch(reading)):
                    position = batch[-1].offset + 1
                    yield from batch
            except OffsetsLost as lost:
                position = lost.beginning
                self._spans[tp] = (lost.beginning, max(lost.beginning, self._spans[tp][1]))
            else:
                return
            finally:
                self._run(reading.aclose())  # type: ignore[attr-defined]  # an async generator

    def _run(self, coroutine: Coroutine[Any, Any, Result]) -> Result:
        return self._runner.run(coroutine)

    async def _describe(self) -> None:
        async with Admin(self._settings.kafka, client_id=self._client_id) as admin:
            self._cluster_id = await admin.cluster_id()
            described = await admin.describe(self._topics.values())
            tps = [
                TopicPartition(topic, partition)
                for topic, description in described.items()
                for partition in range(description.partitions if description else 0)
            ]
            begins, ends = await admin.beginning_offsets(tps), await admin.end_offsets(tps)
        self._spans = {tp: (begins[tp], ends[tp]) for tp in tps}


async def _batch(reading: AsyncIterator[Record]) -> list[Record]:
    """The next few; none at the end."""
    batch: list[Record] = []
    size = 0
    async for record in reading:
        batch.append(record)
        size += len(record.value)
        if size >= BATCH_BYTES:
            break
    return batch
