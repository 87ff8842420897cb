"""Notices what aiokafka hides from a consumer: that no fetch is answered any more, and that its own tasks have died.

In an outage aiokafka's getmany returns nothing, for ever, without an error; after an error it did not expect its fetch
task is gone and getmany does the same.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from shared.errors import FatalError

if TYPE_CHECKING:
    from collections.abc import Collection

    from aiokafka import AIOKafkaConsumer, TopicPartition

    from shared.kafka.connection import Outage

SILENCE_SECONDS = 10.0  # no answer to any fetch for so long is an outage; an idle partition is answered twice a second


class Silence:
    """Watches one consumer; told after every fetch."""

    def __init__(self, outage: Outage) -> None:
        self._outage = outage
        self._answered_ms = 0
        self._since: float | None = None

    def watch(self, client: AIOKafkaConsumer, waiting: Collection[TopicPartition], *, handed: bool) -> None:
        """`waiting`: not paused; `handed`: this fetch had records. Raises `FatalError` if the client has broken down."""
        for task in (client._fetcher._fetch_task, client._coordinator._coordination_task):  # noqa: SLF001
            if task.done():
                reason = None if task.cancelled() else task.exception()
                raise FatalError(f"the Kafka consumer broke down: {reason or 'its task ended'}")
        newest_ms = max((client.last_poll_timestamp(tp) or 0 for tp in waiting), default=0)
        now = time.monotonic()
        if handed or newest_ms > self._answered_ms:
            self._answered_ms, self._since = newest_ms, None
            self._outage.end()
        elif not waiting:
            self._since = None
        elif self._since is None:
            self._since = now
        elif now - self._since > SILENCE_SECONDS:
            self._outage.begin(f"no answer to a fetch for {SILENCE_SECONDS:g} s")
