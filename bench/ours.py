"""The line itself, raw topic to closed Parquet files: the real flattener and the real s3writer with production settings."""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from bench.accounting import Account, Spent, sparsely
from cryptoflow import demo_broker
from cryptoflow.demo_line import CONSUMED, FLATTENED
from cryptoflow.demo_probe import logged_port, metric_sum, records_in
from cryptoflow.demo_processes import Children, Interrupts
from cryptoflow.demo_run import ROOT
from shared import topics
from shared.settings import Settings, load

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bench.work import Filled
    from shared.messages import Kind

BROKERS = ("auto", "docker", "embedded")
BROKER_HELP = "auto: real Kafka where Docker is"

ASK_SECONDS = 0.25
START_SECONDS = 60.0
RUN_SECONDS = 900.0
DRAIN_SECONDS = 120.0
COMPRESSION = "lz4"  # what every contender can read: mq-bridge's wheel cannot read zstd


@dataclass(frozen=True)
class Place:
    """Where a run happens."""

    children: Children
    bootstrap: str
    broker: str  # in words
    folder: Path
    profiles: Path | None = None  # where our services leave what `pstats` reads; they are slower for it


@contextmanager
def place(choice: str, profiles: Path | None = None) -> Iterator[Place]:
    """A broker and a folder of their own for the block."""
    with tempfile.TemporaryDirectory(prefix="cryptoflow-bench-") as temporary:
        folder = Path(temporary)
        with Children(folder, Interrupts()) as children:
            docker = choice == "docker" or (choice == "auto" and demo_broker.docker_answers())
            broker = demo_broker.start("docker" if docker else "embedded", None, children, folder, environment({}))
            try:
                yield Place(children, broker.bootstrap_servers, broker.words.partition(" at ")[0], folder, profiles)
            finally:
                broker.close()


@dataclass(frozen=True)
class Task:
    """What is to be stored, as which consumer group or stream, and where to."""

    kind: Kind
    topic: str
    name: str
    filled: Filled
    folder: Path

    def arguments(self) -> list[str]:
        """As `bench/peers/task.py` reads them."""
        return [
            self.topic, self.name, self.kind, str(self.filled.messages), str(self.filled.levels), str(self.folder),
        ]  # fmt: skip


def variables(bootstrap: str, stream: str, lake: Path, raw: dict[Kind, str] | None = None) -> dict[str, str]:
    """The settings of a run: topics of its own, but for the raw topics named, which are there."""
    named = {f"CHANNELS__{name.upper()}__TOPIC": f"{stream}-{name.replace('_', '-')}" for name in topics.CHANNELS}
    named |= {f"CHANNELS__RAW_{kind.upper()}__TOPIC": topic for kind, topic in (raw or {}).items()}
    others = {
        "KAFKA__BOOTSTRAP_SERVERS": bootstrap,
        "KAFKA__STREAM": stream,
        "STORAGE__LOCAL__PATH": str(lake),
        "METRICS__PORT": "0",
        "LOGGING__FORMAT": "json",
    }
    return {f"CRYPTOFLOW_{name}": value for name, value in (named | others).items()}


def settings_of(chosen: dict[str, str], folder: Path) -> Settings:
    """Those variables alone, whatever else is set on this machine."""
    return load(None, environ=chosen, dotenv_path=folder / "no.env")


def environment(chosen: dict[str, str]) -> dict[str, str]:
    """Of a process that has them, and no setting of the user's own."""
    foreign = ("CRYPTOFLOW_", "AWS_", "S3_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    return kept | chosen | {"PYTHONPATH": str(ROOT)}


def run(place: Place, task: Task) -> dict[str, Spent]:
    """Takes all that the raw topic holds, both services at once; each ends when it has taken all and stored it."""
    chosen = variables(place.bootstrap, task.name, task.folder, {task.kind: task.topic})
    settings = settings_of(chosen, place.folder)
    asyncio.run(topics.create(settings))
    children = place.children
    started = {}
    for service in ("flattener", "s3writer"):
        profiled = ["-m", "cProfile", "-o", str(place.profiles / f"{service}.pstats")] if place.profiles else []
        command = [sys.executable, *profiled, "-m", f"services.{service}"]
        child = children.start(service, command, environment(chosen), place.folder)
        started[service] = child, Account(child)

    def look() -> None:
        for _, account in started.values():
            account.look()

    def taken(url: str, counter: str, records: int) -> bool | None:
        look()
        return (metric_sum(url, counter) or 0) >= records or None

    spent = {}
    for service, counter in (("flattener", FLATTENED), ("s3writer", CONSUMED)):
        child, account = started[service]
        port = children.wait(service, partial(logged_port, child), START_SECONDS)
        channel = settings.channels.norm_fobs if task.kind == "fobs" else settings.channels.norm_fobd
        records = task.filled.messages if service == "flattener" else records_in(settings, channel)
        asked = partial(taken, f"http://127.0.0.1:{port}", counter, records)
        children.wait(f"{service} to take its records", sparsely(ASK_SECONDS, asked), RUN_SECONDS)
        child.process.terminate()
        children.forget(child)
        spent[service] = account.end(service, DRAIN_SECONDS, look if service == "flattener" else lambda: None)
    return spent
