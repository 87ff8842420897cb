"""A consumer's membership in its group: the callbacks aiokafka calls, and an end that does not wait for Kafka.

Decides nothing about records or offsets.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from aiokafka import ConsumerRebalanceListener

from shared.kafka.connection import close_hard

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from aiokafka import AIOKafkaConsumer, TopicPartition


class Listener(ConsumerRebalanceListener):  # type: ignore[misc]  # aiokafka is untyped
    """Two coroutines as aiokafka wants them."""

    def __init__(
        self,
        revoked: Callable[[set[TopicPartition]], Awaitable[None]],
        assigned: Callable[[set[TopicPartition]], Awaitable[None]],
    ) -> None:
        self._revoked = revoked
        self._assigned = assigned

    async def on_partitions_revoked(self, revoked: set[TopicPartition]) -> None:
        """Told at the start of a rebalance."""
        await self._revoked(revoked)

    async def on_partitions_assigned(self, assigned: set[TopicPartition]) -> None:
        """Told at its end."""
        await self._assigned(assigned)


async def stop_hard(client: AIOKafkaConsumer) -> None:
    """Ends a consumer at once. Its own stop() waits for Kafka, and lets a CancelledError of one of its tasks escape."""
    client._closed = True  # noqa: SLF001  # what __del__ looks at before it warns
    owners = (client._coordinator, client._fetcher)  # noqa: SLF001
    names = ("_coordination_task", "_heartbeat_task", "_commit_refresh_task", "_reset_committed_task", "_fetch_task")
    tasks = [getattr(owner, name, None) for owner in owners for name in names]
    if client._fetcher is not None:  # noqa: SLF001
        tasks += client._fetcher._pending_tasks  # noqa: SLF001
    running = [task for task in tasks if task is not None]
    for task in running:
        task.cancel()
    await asyncio.gather(*running, return_exceptions=True)
    await close_hard(client._client)  # noqa: SLF001
