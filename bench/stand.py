"""A whole line to be made to suffer: an exchange, real Kafka, a real S3 store, the three services as processes.

The servers, the processes and the comparison of the line's two ends are those of the tests (`tests.containers`,
`tests.processes`, `tests.line`); the settings are the production ones but for what is given. It needs Docker.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

os.environ.setdefault("TESTCONTAINERS_RYUK_DISABLED", "true")  # read at import; `tests.containers` cleans up by itself
if "DOCKER_HOST" not in os.environ:
    os.environ.setdefault("TESTCONTAINERS_CONNECTION_MODE", "docker_host")
    os.environ.setdefault("TESTCONTAINERS_HOST_OVERRIDE", "127.0.0.1")

from tests import containers
from tests.deltas import Truth, control, judge
from tests.line import SERVICES, Line, make_line, stream_source
from tests.processes import Processes

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from shared.messages import Kind
    from tests.processes import Service, Simulator

KINDS: tuple[Kind, ...] = ("fobs", "fobd")
CHANNELS = ("raw_fobs", "norm_fobs", "raw_fobd", "norm_fobd", "dead_letters")
PARTITIONS = 2
STREAM = "bench"
CATCH_UP_SECONDS = 900.0


@dataclass(frozen=True)
class Stand:
    """The servers and the line of one measurement."""

    kafka: containers.Kafka
    s3: containers.S3
    line: Line
    exchange: Simulator
    folder: Path

    def start(self, service: str) -> Service:
        """A process of a service; it is not waited for."""
        return self.line.start(service, ready=False)

    async def start_all(self) -> dict[str, Service]:
        """Reader, flattener and s3writer, ready."""
        running = {name: self.start(name) for name in SERVICES}
        for service in running.values():
            await asyncio.to_thread(service.wait_ready, 120)
        return running

    async def caught_up(self) -> float:
        """Seconds until the lake has every raw record that is in Kafka now."""
        began = time.monotonic()
        await asyncio.gather(*(self.line.caught_up(CATCH_UP_SECONDS, kind) for kind in KINDS))
        return time.monotonic() - began

    async def end(self, running: Mapping[str, Service]) -> None:
        """The line ends in order, everything stored. Raises `AssertionError` for an exit code that is not 0."""
        await _end(running["reader"])
        await self.caught_up()
        await asyncio.gather(*(_end(running[name]) for name in SERVICES[1:]))

    async def judged(self) -> dict[str, Any]:
        """Lake against raw topics, row by row; raw topic against what the exchange made. Raises `AssertionError`."""
        report = await asyncio.to_thread(self.line.verify)
        assert report.verdict == "complete", str(report)
        gaps: Counter[str] = Counter()
        found: dict[str, Any] = {"verify": report.verdict, "rows": sum(line.rows for line in report.lines)}
        for kind in KINDS:
            types = await self.line.assert_exactly_once(kind)
            found[f"raw_records_{kind}"] = types.total()
            for record in await self.line.raw_records(kind):
                if dict(record.headers)["type"] == b"gap":
                    gaps[f"{kind} {json.loads(record.value)['cause']}"] += 1
        await control(self.exchange, "POST", "flush")
        verdict = judge(await self.line.raw_records("fobd"), Truth.read(self.folder / "frames.jsonl"))
        untold = [hole for hole in verdict.holes if hole.lost and not hole.gaps]
        assert not untold, f"updates lost and not told: {untold[:3]}"
        found["updates_published"] = verdict.updates
        found["updates_lost_and_told"] = sum(len(hole.lost) for hole in verdict.holes)
        found["updates_lost_and_untold"] = 0
        found["gaps"] = dict(sorted(gaps.items()))
        return found


@contextmanager
def stand(folder: Path, *, symbols: int, polls: Mapping[str, Any], **sections: Any) -> Iterator[Stand]:
    """A stand of its own for the block; `sections` are settings beside those that name its servers and topics."""
    processes = Processes(folder)
    try:
        with containers.kafka() as kafka, containers.s3() as s3:
            frames = str(folder / "frames.jsonl")
            exchange = processes.simulate("--symbols-per-market", str(symbols), "--truth-frames", frames)
            names = asyncio.run(control(exchange, "GET", "symbols"))["future"][:symbols]
            base: dict[str, Any] = {
                "cryptoflow": {"name": STREAM},
                "kafka": {"bootstrap_servers": kafka.bootstrap_servers, "stream": STREAM},
                "channels": {name: {"partitions": PARTITIONS} for name in CHANNELS},
                "source": stream_source(exchange, {"future": names}, polls=polls),
                "logging": {"format": "json"},
            }
            for name, section in sections.items():
                base[name] = {**base.get(name, {}), **section}
            line = make_line(processes, lambda **more: base | more, folder, s3=s3, prefix="lake")
            asyncio.run(line.create_topics())
            yield Stand(kafka, s3, line, exchange, folder)
    finally:
        processes.end()


async def _end(service: Service) -> None:
    code = await asyncio.to_thread(service.terminate)
    assert code == 0, f"{service.name} ended with {code}\n{service.tail()}"


def logged_at(service: Service, event: str, **keys: Any) -> float | None:
    """When it first logged this event with these keys, seconds since the epoch; None as long as it has not."""
    for line in service.logged(event):
        if keys.items() <= line.items():
            return datetime.fromisoformat(line["timestamp"]).timestamp()
    return None
