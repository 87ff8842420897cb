"""The project's own programs as real processes: services and the simulator, started, signalled, and surely ended."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from typing import TYPE_CHECKING, Any

import yaml
from prometheus_client.parser import text_string_to_metric_families

from tests.support import ROOT, eventually_sync

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

TAIL_LINES = 60


def clean_environ(more: Mapping[str, str] | None = None) -> dict[str, str]:
    """This environment without what would configure a service, plus `more`."""
    foreign = ("CRYPTOFLOW_", "AWS_", "S3_", "SHARD_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    return kept | {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"} | dict(more or {})


class Process:
    """``python -m MODULE``: stdout and stderr go to `log_path`."""

    def __init__(self, name: str, folder: Path, command: list[str], environ: Mapping[str, str] | None = None) -> None:
        self.name = name
        self.log_path = folder / f"{name}.log"
        self.out_path = folder / f"{name}.out"
        with self.log_path.open("ab") as log, self.out_path.open("ab") as out:
            self.popen = subprocess.Popen(
                [sys.executable, "-m", *command],
                cwd=folder,
                env=clean_environ(environ),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=log,
            )

    @property
    def pid(self) -> int:
        return self.popen.pid

    @property
    def alive(self) -> bool:
        return self.popen.poll() is None

    def pause(self) -> None:
        """SIGSTOP."""
        self.popen.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT."""
        self.popen.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """SIGKILL, and its end."""
        self.popen.kill()
        self.popen.wait()

    def terminate(self, timeout: float = 40.0) -> int:
        """SIGTERM; gives the exit code. A service drains within 30 s."""
        self.popen.terminate()
        return self.wait(timeout)

    def wait(self, timeout: float = 40.0) -> int:
        """The exit code, once it has ended by itself."""
        try:
            return self.popen.wait(timeout)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self.name} did not end within {timeout:g} s\n{self.tail()}") from None

    def tail(self) -> str:
        """The latest lines it wrote."""
        return "".join(self.log_path.read_text(errors="replace").splitlines(keepends=True)[-TAIL_LINES:])

    def logged(self, event: str) -> list[dict[str, Any]]:
        """The log lines with this event name."""
        return [line for line in self._lines() if line.get("event") == event]

    def wait_logged(self, event: str, timeout: float = 30.0) -> dict[str, Any]:
        """The first log line with this event name; fails if the process ends without it."""

        def found() -> list[dict[str, Any]]:
            ended = not self.alive
            lines = self.logged(event)
            assert lines or not ended, f"{self.name} ended with {self.popen.returncode}, no {event!r}\n{self.tail()}"
            return lines

        return eventually_sync(found, timeout, f"{self.name} logs {event!r}")[0]

    def _lines(self) -> list[dict[str, Any]]:
        texts = self.log_path.read_text(errors="replace").splitlines()
        return [json.loads(text) for text in texts if text.startswith("{") and text.endswith("}")]


class Service(Process):
    """One of the three services, on a metrics port of its own choice."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.wait_logged('http listening', 60.0)['port']}"

    def ready(self) -> bool:
        """Whether /readyz says 200."""
        assert self.alive, f"{self.name} ended with {self.popen.returncode}\n{self.tail()}"
        return self._get("/readyz") is not None

    def wait_ready(self, timeout: float = 60.0) -> None:
        eventually_sync(self.ready, timeout, f"{self.name} is ready")

    def metric(self, name: str, **labels: str) -> float:
        """The sum of the samples of `name` that carry these labels; 0 where there are none."""
        total = 0.0
        for family in text_string_to_metric_families(self._get("/metrics") or ""):
            for sample in family.samples:
                if sample.name == name and labels.items() <= sample.labels.items():
                    total += sample.value
        return total

    def _get(self, path: str) -> str | None:
        try:
            with urllib.request.urlopen(self.url + path, timeout=5) as answer:
                return bytes(answer.read()).decode()
        except urllib.error.HTTPError as error:
            error.close()
            return None
        except OSError:
            return None


class Simulator(Process):
    """The exchange. `url` is the same for all three markets; `control` is its own API."""

    @property
    def announced(self) -> dict[str, Any]:
        def line() -> str:
            assert self.alive, f"the simulator ended with {self.popen.returncode}\n{self.tail()}"
            return self.out_path.read_text()

        return dict(json.loads(eventually_sync(lambda: line().endswith("\n") and line(), what="the simulator listens")))

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.announced['port']}"

    @property
    def stream_urls(self) -> dict[str, str]:
        """By market, as `stream_url` takes them."""
        return dict(self.announced["stream"])

    @property
    def control(self) -> str:
        return str(self.announced["control"])


class Processes:
    """Everything a test started; all of it has ended when the test has."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.all: list[Process] = []

    def start(
        self, service: str, config: Mapping[str, Any], *, environ: Mapping[str, str] | None = None, ready: bool = True
    ) -> Service:
        """``python -m services.SERVICE`` with `config` (nested, as in config.yml; no secrets); `environ` on top."""
        name = f"{service}-{len(self.all)}"
        path = self._folder / f"{name}.yml"
        own = {**config, "metrics": {**config.get("metrics", {}), "port": 0}}
        path.write_text(yaml.safe_dump(own))
        process = Service(name, self._folder, [f"services.{service}", "--config", str(path)], environ)
        self.all.append(process)
        if ready:
            process.wait_ready()
        return process

    def simulate(self, *arguments: str) -> Simulator:
        """``python -m simulator --port 0 ARGUMENTS``."""
        name = f"simulator-{len(self.all)}"
        process = Simulator(name, self._folder, ["simulator", "--port", "0", *arguments])
        self.all.append(process)
        assert process.announced
        return process

    def report(self) -> list[tuple[str, str]]:
        """(title, latest log lines) of every process."""
        return [(f"{process.name}: exit {process.popen.poll()}", process.tail()) for process in self.all]

    def end(self) -> None:
        """Kills whatever still runs."""
        for process in self.all:
            if process.alive:
                process.kill()
