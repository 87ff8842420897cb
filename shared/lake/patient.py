"""A store read with patience, for commands that make many calls: a throttled or lost one must not end them.

Only for readers in threads; a service waits in its event loop instead, and says so in its readiness.
"""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING, TypeVar

from shared.errors import RetryableError

if TYPE_CHECKING:
    from collections.abc import Callable

    from shared.lake.store import Store

ATTEMPTS = 7  # about a minute, unless the store asks for more
BACKOFF_FIRST_SECONDS = 0.5

Answer = TypeVar("Answer")


def tried(call: Callable[[], Answer]) -> Answer:
    """What a call answers; tried `ATTEMPTS` times with full jitter before its `RetryableError` is raised."""
    for attempt in range(1, ATTEMPTS):
        try:
            return call()
        except RetryableError as error:
            ceiling = BACKOFF_FIRST_SECONDS * 2**attempt
            time.sleep(max(random.uniform(0, ceiling), error.retry_after_seconds or 0))  # noqa: S311 - jitter
    return call()


class Patient:
    """The reading verbs of a `Store`, each `tried`. `Store.walk` is patient by itself: only it knows its pages."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def get(self, path: str) -> bytes | None:
        """As `Store.get`."""
        return tried(lambda: self._store.get(path))

    def tail(self, path: str, size_bytes: int) -> bytes | None:
        """As `Store.tail`."""
        return tried(lambda: self._store.tail(path, size_bytes))

    def size(self, path: str) -> int | None:
        """As `Store.size`."""
        return tried(lambda: self._store.size(path))
