"""The five topics as the settings want them: made by `create`, held against Kafka by `check`, never altered.

The partition count of a topic is fixed for the life of a stream, as offsets and names in the lake mean a partition of
it. A topic that differs is told in words; nothing here changes or deletes one.
"""

from __future__ import annotations

import asyncio
import random
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from shared import metrics
from shared.errors import FatalError, RetryableError
from shared.kafka import MAX_RECORD_BYTES, Admin, TopicDescription, TopicSpec
from shared.log import get_logger

if TYPE_CHECKING:
    from collections.abc import Sequence

    from shared.service import Lifecycle
    from shared.settings import Settings

CHANNELS = ("raw_fobs", "norm_fobs", "raw_fobd", "norm_fobd", "dead_letters")
HOUR_SECONDS = 3600
HOUR_MS = 1000 * HOUR_SECONDS
VISIBLE_SECONDS = 30.0
POLL_SECONDS = 0.1
RETRY_SECONDS = 2.0

# What else a topic must have, or records are refused, vanish early or change; other values are the operator's business.
_MINIMA = ("max.message.bytes", "retention.ms")
_EXACT = ("cleanup.policy", "message.timestamp.type")
_UNLIMITED = -1

_log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Report:
    """What `create` found and did: names, and for topics that are not as the settings want them one line each."""

    created: tuple[str, ...]
    exists: tuple[str, ...]
    differs: tuple[str, ...]


def specs(settings: Settings) -> list[TopicSpec]:
    """Every topic of this stream."""
    replicas = settings.kafka.replication_factor
    found = []
    for name in CHANNELS:
        channel = getattr(settings.channels, name)
        configs = {
            "cleanup.policy": "delete",
            "compression.type": "producer",
            "max.message.bytes": str(MAX_RECORD_BYTES),
            "message.timestamp.type": "CreateTime",
            "retention.ms": str(channel.retention_hours * HOUR_MS),
        }
        if replicas > 1:
            # acks=all then means two copies, and one broker may be away.
            configs["min.insync.replicas"] = str(max(1, min(replicas - 1, 2)))
        found.append(TopicSpec(channel.topic, channel.partitions, replicas, configs))
    return found


async def create(settings: Settings) -> Report:
    """Creates the topics that are missing and waits until they can be used; those that exist stay as they are."""
    wanted = specs(settings)
    async with Admin(settings.kafka, client_id=_client_id(settings)) as admin:
        missing = [spec for spec in wanted if (await admin.describe([spec.name]))[spec.name] is None]
        made = await admin.create_topics(missing) if missing else {}
        created = {name for name, own in made.items() if own}
        found = await _visible(admin, wanted)
    differs = [problem for spec in wanted for problem in problems_of(spec, found[spec.name], settings.kafka.stream)]
    return Report(
        created=tuple(spec.name for spec in wanted if spec.name in created),
        exists=tuple(spec.name for spec in wanted if spec.name not in created),
        differs=tuple(differs),
    )


async def check(settings: Settings) -> list[str]:
    """What is wrong with the topics, in words; empty if nothing is. Waits for Kafka, creates nothing."""
    async with Admin(settings.kafka, client_id=_client_id(settings)) as admin:
        return await _problems(settings, admin)


async def require(settings: Settings, lifecycle: Lifecycle) -> str:
    """What every service does first: waits for Kafka as long as it takes, gives its cluster id.

    Raises `FatalError` if a topic is not as the settings want it.
    """
    lifecycle.ready("kafka", False, "not connected yet")
    for name in CHANNELS:
        channel = getattr(settings.channels, name)
        metrics.RETENTION.labels(channel.topic).set(channel.retention_hours * HOUR_SECONDS)
    said = ""
    while True:
        try:
            async with Admin(settings.kafka, client_id=_client_id(settings)) as admin:
                if problems := await _problems(settings, admin):
                    raise FatalError("; ".join(problems))
                cluster_id = await admin.cluster_id()
        except RetryableError as error:
            lifecycle.ready("kafka", False, str(error))
            if said != str(error):
                said = str(error)
                _log.warning("kafka unavailable", reason=said)
            await asyncio.sleep(random.uniform(0, RETRY_SECONDS))  # noqa: S311 - jitter, not a secret
        else:
            lifecycle.ready("kafka", True)
            return cluster_id


async def _problems(settings: Settings, admin: Admin) -> list[str]:
    wanted = specs(settings)
    found = await admin.describe([spec.name for spec in wanted])
    return [problem for spec in wanted for problem in problems_of(spec, found[spec.name], settings.kafka.stream)]


def problems_of(spec: TopicSpec, found: TopicDescription | None, stream: str) -> list[str]:
    """What is wrong with one topic, in words."""
    if found is None:
        return [f"topic {spec.name} does not exist: run `cryptoflow topics create`"]
    problems = []
    if found.partitions != spec.partitions:
        problems.append(
            f"topic {spec.name} has {found.partitions} partitions, the settings say {spec.partitions}: the count is "
            f"fixed for the stream {stream!r}; put {found.partitions} back, or set a new kafka.stream "
            "and new topics"
        )
    if found.replication_factor < spec.replication_factor:
        problems.append(
            f"topic {spec.name} has replication factor {found.replication_factor}, the settings say "
            f"{spec.replication_factor}: reassign its partitions, or lower kafka.replication_factor"
        )
    for name in (*_MINIMA, *_EXACT):
        value, wanted = found.configs.get(name), spec.configs[name]
        if value is not None and not _suits(name, value, wanted):
            least = "at least " if name in _MINIMA else ""
            problems.append(f"topic {spec.name} has {name}={value}, needed is {least}{wanted}: alter the topic")
    return problems


def _suits(name: str, value: str, wanted: str) -> bool:
    if name in _MINIMA:
        return int(value) == _UNLIMITED or int(value) >= int(wanted)
    return value == wanted


async def _visible(admin: Admin, wanted: Sequence[TopicSpec]) -> dict[str, TopicDescription | None]:
    """The topics, once every broker that answers knows their leaders: a new one takes a moment."""
    deadline = time.monotonic() + VISIBLE_SECONDS
    while True:
        found = await admin.describe([spec.name for spec in wanted])
        waiting = [name for name, topic in found.items() if topic is None or not topic.ready]
        if not waiting:
            return found
        if time.monotonic() > deadline:
            raise RetryableError(f"topics without a leader {VISIBLE_SECONDS:g} s after their creation: {waiting}")
        await asyncio.sleep(POLL_SECONDS)


def _client_id(settings: Settings) -> str:
    return f"{settings.cryptoflow.name}-topics"
