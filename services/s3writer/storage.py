"""The store as the service sees it: calls in threads, each tried again until it answers.

A store that is down is waited for, with full jitter, said once, and shown in /readyz; nothing is lost meanwhile, as
nothing is committed. Only `RetryableError` is waited out: any other error is the caller's.
"""

from __future__ import annotations

import asyncio
import random
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

from shared import metrics
from shared.errors import RetryableError
from shared.log import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable

    from shared.lake.store import Store
    from shared.service import Lifecycle

PARALLEL_CALLS = 16
BACKOFF_FIRST_SECONDS = 0.5
BACKOFF_MAX_SECONDS = 15.0

Answer = TypeVar("Answer")
_log = get_logger(__name__)


class Storage:
    """A `Store` for coroutines."""

    def __init__(self, store: Store, lifecycle: Lifecycle) -> None:
        self.store = store
        self._lifecycle = lifecycle
        self._pool = ThreadPoolExecutor(PARALLEL_CALLS, "store")
        self._waiting = 0  # calls being tried again
        lifecycle.ready("store", False, "not probed yet")

    async def probe(self) -> None:
        """Wait for the store, and make sure that create means put-if-absent. Raises `FatalError` if it does not."""
        await self.call(self.store.probe)
        self._lifecycle.ready("store", True)

    async def call(self, function: Callable[..., Answer], *arguments: object) -> Answer:
        """Run a call of the store in a thread until it answers. A cancelled call may still be applied."""
        loop = asyncio.get_running_loop()
        failures = 0
        answered = True
        try:
            while True:
                try:
                    return await loop.run_in_executor(self._pool, function, *arguments)
                except RetryableError as error:
                    failures += 1
                    self._failed(error, first=failures == 1)
                    ceiling = min(BACKOFF_MAX_SECONDS, BACKOFF_FIRST_SECONDS * 2 ** min(failures - 1, 10))
                    await asyncio.sleep(max(random.uniform(0, ceiling), error.retry_after_seconds or 0))  # noqa: S311
        except asyncio.CancelledError:
            answered = False
            raise
        finally:
            if failures:
                self._ended(answered=answered)

    def close(self) -> None:
        """Start no call that still waits for a thread."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _failed(self, error: RetryableError, *, first: bool) -> None:
        metrics.STORE_FAILURES.inc()
        if first:
            self._waiting += 1
            if self._waiting == 1:
                metrics.STORE_UNAVAILABLE.set(1)
                _log.warning("store unavailable", url=self.store.url, reason=str(error))
        self._lifecycle.ready("store", False, str(error))

    def _ended(self, *, answered: bool) -> None:
        self._waiting -= 1
        if self._waiting == 0:
            metrics.STORE_UNAVAILABLE.set(0)
            if answered:
                _log.info("store recovered", url=self.store.url)
            self._lifecycle.ready("store", True)
