"""What a child process cost from its start to its end, by the system's own account of it."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import psutil

from cryptoflow.demo_processes import DemoFailed

if TYPE_CHECKING:
    from collections.abc import Callable

    from cryptoflow.demo_processes import Child

LOOK_SECONDS = 0.02

_T = TypeVar("_T")


@dataclass(frozen=True)
class Spent:
    """Of one process or of several: wall time of the longest, CPU time and peak memory of all together."""

    wall_seconds: float
    cpu_seconds: float
    peak_rss_bytes: int

    def __add__(self, other: Spent) -> Spent:
        return Spent(
            max(self.wall_seconds, other.wall_seconds),
            self.cpu_seconds + other.cpu_seconds,
            self.peak_rss_bytes + other.peak_rss_bytes,
        )


class Account:
    """Of one child, begun as it starts. It reaps the child itself: only so the system tells all its CPU time."""

    def __init__(self, child: Child) -> None:
        self._child = child
        self._began = time.monotonic()
        self.peak_bytes = 0

    def look(self) -> None:
        """Takes its peak memory so far; the account of the dead would count what its parent was when it forked."""
        with suppress(OSError, psutil.NoSuchProcess):
            self.peak_bytes = max(self.peak_bytes, _peak_bytes(self._child.process.pid))

    def end(self, what: str, timeout_seconds: float, while_running: Callable[[], object] = lambda: None) -> Spent:
        """Waits for it. Raises `DemoFailed` unless it ends in time and well."""
        deadline = time.monotonic() + timeout_seconds
        pid = self._child.process.pid
        while True:
            ended, status, usage = os.wait4(pid, os.WNOHANG)
            if ended:
                break
            self.look()
            while_running()
            if time.monotonic() > deadline:
                raise DemoFailed(f"{what}: not within {timeout_seconds:.0f} s", self._child.tail())
            time.sleep(LOOK_SECONDS)
        self._child.process.returncode = code = os.waitstatus_to_exitcode(status)
        if code != 0:
            raise DemoFailed(f"{what} ended with {code}", self._child.tail())
        wall_seconds = time.monotonic() - self._began
        return Spent(wall_seconds, usage.ru_utime + usage.ru_stime, self.peak_bytes)


def _peak_bytes(pid: int) -> int:
    status = Path(f"/proc/{pid}/status")
    if status.exists():
        lines = (line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return sum(int(line.split()[1]) * 1024 for line in lines)  # one, or none once it has ended
    found: int = psutil.Process(pid).memory_info().rss
    return found


def sparsely(seconds: float, condition: Callable[[], _T | None]) -> Callable[[], _T | None]:
    """The condition, asked no more often than that: an answer costs the process that is measured."""
    next_at = 0.0

    def asked() -> _T | None:
        nonlocal next_at
        if time.monotonic() < next_at:
            return None
        next_at = time.monotonic() + seconds
        return condition()

    return asked
