"""Topics, offsets and identity of a cluster, for start-up checks and the command line.

Never names a topic in a metadata request: a broker that creates topics on demand would make it on the spot, with its
own partition count.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Self

from aiokafka import AIOKafkaConsumer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic, RecordsToDelete
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import KafkaError, NodeNotReadyError, NoError, TopicAlreadyExistsError, for_code

from shared.errors import RetryableError
from shared.kafka.connection import FETCH_OPTIONS, Outage, client_options, close_hard, start_patiently
from shared.kafka.diagnosis import diagnose
from shared.kafka.errors import from_kafka, in_words
from shared.kafka.membership import stop_hard

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from types import TracebackType

    from aiokafka import TopicPartition

    from shared.errors import CryptoFlowError
    from shared.settings import KafkaSettings


@dataclass(frozen=True, slots=True)
class TopicSpec:
    """A topic as it should be."""

    name: str
    partitions: int
    replication_factor: int = 1
    configs: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class TopicDescription:
    """A topic as it is. `ready`: every partition has a leader."""

    name: str
    partitions: int
    replication_factor: int
    ready: bool
    configs: Mapping[str, str]


class Admin:
    """``async with Admin(settings, client_id=…) as admin``: waits for Kafka for ever. Raises `RetryableError`, `FatalError`."""

    def __init__(self, settings: KafkaSettings, *, client_id: str) -> None:
        self._options = client_options(settings, client_id)
        self._outage = Outage(client_id)
        self._client: AIOKafkaAdminClient | None = None
        self._reader: AIOKafkaConsumer | None = None

    async def __aenter__(self) -> Self:
        make = partial(AIOKafkaAdminClient, **self._options)
        self._client = await start_patiently(make, _close_admin, self._options, self._outage)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._reader is not None:
            await stop_hard(self._reader)
        if self._client is not None:
            await _close_admin(self._client)

    async def create_topics(self, specs: Iterable[TopicSpec]) -> dict[str, bool]:
        """By name, whether this call created it; False: it exists, as whatever it is."""
        topics = [
            NewTopic(spec.name, spec.partitions, spec.replication_factor, topic_configs=dict(spec.configs))
            for spec in specs
        ]
        try:
            response = await self._started().create_topics(topics)
        except (KafkaError, OSError, TimeoutError) as error:
            raise await self._told(error, "create topics") from error
        created: dict[str, bool] = {}
        for name, code, *message in response.topic_errors:
            kind = for_code(code)
            if kind not in (NoError, TopicAlreadyExistsError):
                raise from_kafka(kind(*(text for text in message[:1] if text)), f"create topic {name}")
            created[name] = kind is NoError
        return created

    async def describe(self, names: Iterable[str]) -> dict[str, TopicDescription | None]:
        """Each topic as it is, None where it does not exist."""
        wanted = list(names)
        try:
            listed = {topic["topic"]: topic["partitions"] for topic in await self._started().describe_topics()}
            configs = await self._configs([name for name in wanted if name in listed])
        except (KafkaError, OSError, TimeoutError) as error:
            raise await self._told(error, "describe topics") from error
        found: dict[str, TopicDescription | None] = dict.fromkeys(wanted)
        for name, values in configs.items():
            partitions = listed[name]
            found[name] = TopicDescription(
                name,
                len(partitions),
                min((len(partition["replicas"]) for partition in partitions), default=0),
                all(partition["leader"] >= 0 for partition in partitions) and bool(partitions),
                values,
            )
        return found

    async def cluster_id(self) -> str:
        """The cluster's own id, the same for its whole life."""
        try:
            described = await self._started().describe_cluster()
        except (KafkaError, OSError, TimeoutError) as error:
            raise await self._told(error, "cluster id") from error
        return str(described["cluster_id"])

    async def beginning_offsets(self, tps: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        """The first offset each log still has."""
        try:
            return dict(await (await self._offsets()).beginning_offsets(list(tps)))
        except (KafkaError, TimeoutError) as error:
            raise from_kafka(error, "beginning offsets") from error

    async def end_offsets(self, tps: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        """The offset each log will give to its next record."""
        try:
            return dict(await (await self._offsets()).end_offsets(list(tps)))
        except (KafkaError, TimeoutError) as error:
            raise from_kafka(error, "end offsets") from error

    async def delete_records(self, before: Mapping[TopicPartition, int]) -> None:
        """Removes what lies before these offsets, for good."""
        try:
            await self._started().delete_records({tp: RecordsToDelete(offset) for tp, offset in before.items()})
        except (KafkaError, OSError, TimeoutError) as error:
            raise await self._told(error, "delete records") from error

    async def _configs(self, names: list[str]) -> dict[str, dict[str, str]]:
        if not names:
            return {}
        resources = [ConfigResource(ConfigResourceType.TOPIC, name) for name in names]
        found: dict[str, dict[str, str]] = {}
        for response in await self._started().describe_configs(resources):
            for code, message, _, name, entries in response.resources:
                if for_code(code) is not NoError:
                    raise for_code(code)(message or name)
                found[name] = {entry[0]: entry[1] for entry in entries}
        return found

    async def _offsets(self) -> AIOKafkaConsumer:
        if self._reader is None:
            make = partial(AIOKafkaConsumer, **self._options, **FETCH_OPTIONS)
            self._reader = await start_patiently(make, stop_hard, self._options, self._outage)
        return self._reader

    async def _told(self, error: Exception, doing: str) -> CryptoFlowError:
        """The error in words. A cluster may name its brokers by addresses that lead nowhere from here: then which, and why.

        Raises `FatalError` where a setting has to mend that.
        """
        if isinstance(error, NodeNotReadyError):
            brokers = [f"{broker.host}:{broker.port}" for broker in self._started()._client.cluster.brokers()]  # noqa: SLF001
            # A broker that was away a while is named by nobody until it has registered anew.
            reason = await diagnose({**self._options, "bootstrap_servers": ",".join(brokers)}) if brokers else None
            if reason is not None:
                named = ", ".join(brokers)
                return RetryableError(f"the cluster names its brokers {named}; not to be reached: {in_words(reason)}")
        return from_kafka(error, doing)

    def _started(self) -> AIOKafkaAdminClient:
        assert self._client is not None, "use it as an async context manager"
        return self._client


async def _close_admin(client: AIOKafkaAdminClient) -> None:
    await close_hard(client._client)  # noqa: SLF001
    client._closed = True  # noqa: SLF001
