"""Back-pressure from the queue to the websockets: stop reading, then close, then wait until half of it is free.

While the queue is full the sockets are not read, which the venue's TCP notices; after `PATIENCE_SECONDS` of that a venue
would close them anyway, so they are closed here, in order, and every symbol's hole is an ``overflow``. Never drops a frame.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from shared import metrics
from shared.log import get_logger

if TYPE_CHECKING:
    from services.reader.channel import Channel

PATIENCE_SECONDS = 5.0
RESUME_SHARE = 0.5

log = get_logger(__name__)


class Pressure:
    """What all websockets in front of one queue share."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._overflowed = False

    @property
    def overflowed(self) -> bool:
        """Whether connections must be closed, and none opened."""
        if self._overflowed and self._channel.held_bytes < self._channel.limit_bytes * RESUME_SHARE:
            self._overflowed = False
            log.info("queue has room again", held_bytes=self._channel.held_bytes)
        return self._overflowed

    async def relief(self) -> bool:
        """Returns once frames can be taken, at once as a rule; False if that takes too long: the connection must end."""
        if not self._channel.full:
            return True
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                await self._channel.drained(self._channel.limit_bytes)
        except TimeoutError:
            if not self._overflowed:
                self._overflowed = True
                metrics.OVERFLOWS.inc()
                log.warning("queue full", held_bytes=self._channel.held_bytes, limit_bytes=self._channel.limit_bytes)
            return False
        return not self._overflowed
