"""One offset commit that carries the epoch it belongs to.

aiokafka's own commit() takes whatever generation the member has when the request leaves, also on its retries: a commit
that waited through a rebalance would be accepted under the new one. Here the broker fences it. Nothing is tried twice.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from aiokafka.errors import KafkaError, NoError, NotCoordinatorForGroupError, for_code
from aiokafka.protocol.commit import OffsetCommitRequest

from shared.kafka.errors import LOST_MEMBERSHIP, OwnershipLost, from_kafka, in_words

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aiokafka import TopicPartition


@dataclass(frozen=True, slots=True)
class Epoch:
    """Who this member was when it was captured. Two are equal only if no rebalance lies between."""

    generation: int
    member_id: str


async def commit(
    coordinator: Any, offsets: Mapping[TopicPartition, int], epoch: Epoch, *, timeout_seconds: float
) -> None:
    """Commits next offsets as the member of `epoch`. Raises `OwnershipLost`, `RetryableError` or `FatalError`."""
    by_topic: dict[str, list[tuple[int, int, str]]] = defaultdict(list)
    for tp, offset in offsets.items():
        by_topic[tp.topic].append((tp.partition, offset, ""))
    request = OffsetCommitRequest(
        coordinator.group_id,
        epoch.generation,
        epoch.member_id,
        OffsetCommitRequest.DEFAULT_RETENTION_TIME,
        list(by_topic.items()),
    )
    try:
        async with asyncio.timeout(timeout_seconds):
            await coordinator.ensure_coordinator_known()
            response = await coordinator._send_req(request)  # noqa: SLF001  # the only way to a commit of one epoch
    except (KafkaError, OSError, TimeoutError) as error:
        raise from_kafka(error, "commit") from error
    for topic, partitions in response.topics:
        for partition, code in partitions:
            kind = for_code(code)
            if kind is NoError:
                continue
            refused = kind()
            if isinstance(refused, LOST_MEMBERSHIP):
                raise OwnershipLost(f"commit of {topic}/{partition}: {in_words(refused)}")
            if kind is NotCoordinatorForGroupError:
                coordinator.coordinator_dead()
            raise from_kafka(refused, f"commit of {topic}/{partition}")
