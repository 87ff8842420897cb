"""A service of ours as a process that is measured: started with settings of its own, asked, stopped in order."""

from __future__ import annotations

import sys
from functools import partial
from typing import TYPE_CHECKING

import psutil

from bench import ours
from bench.accounting import Account, Spent
from bench.reader_figures import samples
from cryptoflow.demo_probe import get, logged_port, metric_sum

if TYPE_CHECKING:
    from collections.abc import Callable

START_SECONDS = 60.0
DRAIN_SECONDS = 120.0
ASSIGNED = "cryptoflow_unknown_version"  # one of each partition that the process holds, from its assignment on


class Service:
    """One process. `name` tells it from others of the same service; `options` are of its command line."""

    def __init__(
        self, place: ours.Place, service: str, chosen: dict[str, str], *options: str, name: str | None = None
    ) -> None:
        self.name = name or service
        self._place = place
        command = [sys.executable, "-m", f"services.{service}", *options]
        self.child = place.children.start(self.name, command, ours.environment(chosen), place.folder)
        self.account = Account(self.child)
        self._url = ""

    @property
    def url(self) -> str:
        """Where it answers; waits until it says so."""
        if not self._url:
            port = self._place.children.wait(self.name, partial(logged_port, self.child), START_SECONDS)
            self._url = f"http://127.0.0.1:{port}"
        return self._url

    def wait_ready(self) -> None:
        self.wait("to be ready", self.ready)

    def wait(self, what: str, condition: Callable[[], object], timeout_seconds: float = START_SECONDS) -> None:
        """Raises `DemoFailed` if it is not so in time."""
        self._place.children.wait(f"the {self.name} {what}", lambda: bool(condition()), timeout_seconds)

    def ready(self) -> bool:
        return get(f"{self.url}/readyz") is not None

    def assigned(self) -> int:
        """Partitions that it holds."""
        return sum(each.name == ASSIGNED for each in samples(self.url))

    def sum(self, metric: str, **labels: str) -> float:
        """Of a metric over what has these labels."""
        return metric_sum(self.url, metric, **labels) or 0.0

    def cpu_seconds(self) -> float:
        """Spent so far."""
        spent = psutil.Process(self.child.process.pid).cpu_times()
        return float(spent.user + spent.system)

    def stop(self) -> Spent:
        """SIGTERM: it ends when it has stored what it took. Raises `DemoFailed` unless it ends well."""
        self.ask_to_stop()
        return self.ended()

    def ask_to_stop(self) -> None:
        self.child.process.terminate()
        self._place.children.forget(self.child)

    def ended(self) -> Spent:
        """Waits for it."""
        return self.account.end(self.name, DRAIN_SECONDS)
