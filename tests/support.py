"""What every test may lean on: waiting for a condition with a deadline, where the captures are, free ports."""

from __future__ import annotations

import asyncio
import inspect
import os
import socket
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).parents[1]
CAPTURES = ROOT.parent / "shared" / "captures"
needs_captures = pytest.mark.skipif(not CAPTURES.is_dir(), reason="the captures folder ../shared/captures is missing")

TIMEOUT_SECONDS = 30.0
INTERVAL_SECONDS = 0.05


async def eventually(
    condition: Callable[[], Any],
    timeout: float = TIMEOUT_SECONDS,  # noqa: ASYNC109
    what: str = "",
    *,
    every_seconds: float = INTERVAL_SECONDS,
) -> Any:
    """What `condition` (plain or async) returns once that is true; fails after `timeout` seconds with its last value."""
    deadline = time.monotonic() + timeout
    while True:
        value = condition()
        if inspect.isawaitable(value):
            value = await value
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout:g} s: {what or condition.__name__}; last {value!r}")
        await asyncio.sleep(every_seconds)


def eventually_sync(condition: Callable[[], Any], timeout: float = TIMEOUT_SECONDS, what: str = "") -> Any:
    """`eventually` for tests without an event loop."""
    deadline = time.monotonic() + timeout
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout:g} s: {what or condition.__name__}; last {value!r}")
        time.sleep(INTERVAL_SECONDS)
    return value


def free_port() -> int:
    """A port of 127.0.0.1 that nothing listens on now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def unavailable(what: str) -> None:
    """Skips the test naming what is missing; fails it where CI=true promises that it is there."""
    if os.environ.get("CI", "").lower() == "true":
        pytest.fail(f"{what} is missing, and CI=true", pytrace=False)
    pytest.skip(f"{what} is missing")
