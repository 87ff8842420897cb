"""A long outage under load: of the store, then of Kafka, each on a line of its own; memory, restarts, catching up, the data.

Three books are polled and streamed. After a warm-up the server is killed, and started again after `--seconds`. The bounds
of the s3writer's buffers and of the reader's queues are set so low that the outage reaches them: the s3writer stops
fetching, and of the reader's two queues the one for updates runs over while the one for snapshots holds everything. The
figures: RSS of each process before, during and after; bytes held beside their bound; seconds from the server's answer until
the lake has what the topics hold. Afterwards the lake is compared with the raw topics row by row, and the raw topic
with what the exchange made: an update that is in neither has to stand in a gap.

    python -m bench.outage [--json] [--seconds 600] [--what store|kafka|both] [--how kill|pause]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import psutil

from bench.stand import KINDS, Stand, stand

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.processes import Service

SECONDS = 600.0
SYMBOLS = 3
POLLS = {"interval_ms": 10_000, "limit": 500}
FLUSH_SECONDS = 10
# Of the load above some 25,000 bytes a second of updates come to the reader, 6,000 of snapshots; half the updates is a
# bound that an outage of any length reaches in its middle.
BOUND_BYTES_A_SECOND = 13_000
SAMPLE_SECONDS = 1.0
SCRAPE_EVERY = 5  # samples
TENTHS = 10


@dataclass
class Samples:
    """Of one process: (when, RSS), and of what it holds: (when, bytes) by name."""

    rss: list[tuple[float, int]] = field(default_factory=list)
    held: dict[str, list[tuple[float, float]]] = field(default_factory=dict)


class Watch:
    """Samples all processes of a line while the block runs."""

    def __init__(self, running: Mapping[str, Service]) -> None:
        self._running = running
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._sample)
        self.of = {name: Samples() for name in running}

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _sample(self) -> None:
        processes = {name: psutil.Process(service.pid) for name, service in self._running.items()}
        count = 0
        with suppress(psutil.NoSuchProcess):
            while not self._over.wait(SAMPLE_SECONDS):
                for name, process in processes.items():
                    self.of[name].rss.append((time.monotonic(), process.memory_info().rss))
                if count % SCRAPE_EVERY == 0:
                    self._scrape()
                count += 1

    def _scrape(self) -> None:
        writer, reader = self._running["s3writer"], self._running["reader"]
        held = {"s3writer": {"buffers": writer.metric("cryptoflow_writer_buffer_bytes")}, "reader": {}}
        for kind in KINDS:
            held["reader"][f"queue_{kind}"] = reader.metric("cryptoflow_channel_depth_bytes", topic=f"raw-{kind}")
        for name, values in held.items():
            for what, value in values.items():
                self.of[name].held.setdefault(what, []).append((time.monotonic(), value))


def run(what: str, seconds: float, how: str) -> dict[str, Any]:
    """One outage, from empty topics to the comparison."""
    bound = round(BOUND_BYTES_A_SECOND * seconds)
    interval = f"{FLUSH_SECONDS}s"
    buffer = {"snapshot_flush_interval": interval, "delta_flush_interval": interval, "max_bytes": bound}
    with (
        tempfile.TemporaryDirectory(prefix="cryptoflow-bench-") as folder,
        stand(
            Path(folder), symbols=SYMBOLS, polls=POLLS, channels={"buffer_bytes": bound}, writer={"buffer": buffer}
        ) as on,
    ):
        return {"bound_bytes": bound, **asyncio.run(_outage(on, what, seconds, how))}


async def _outage(on: Stand, what: str, seconds: float, how: str) -> dict[str, Any]:
    server = on.s3 if what == "store" else on.kafka
    calm = max(20.0, seconds / 10)
    running = await on.start_all()
    pids = {name: service.pid for name, service in running.items()}
    with Watch(running) as watch:
        await asyncio.sleep(calm)
        down = time.monotonic()
        await asyncio.to_thread(server.kill if how == "kill" else server.pause)
        await asyncio.sleep(seconds)
        await asyncio.to_thread(server.start if how == "kill" else _resume, *(() if how == "kill" else (server,)))
        up = time.monotonic()
        for service in running.values():
            await asyncio.to_thread(service.wait_ready, 120)
        ready = time.monotonic() - up
        if what == "kafka":
            await asyncio.to_thread(_queues_empty, running["reader"])
        queues_empty = time.monotonic() - up
        await on.caught_up()
        caught_up = time.monotonic() - up
        await asyncio.sleep(calm)
    restarts = {name: int(not service.alive or service.pid != pids[name]) for name, service in running.items()}
    await on.end(running)
    found: dict[str, Any] = {
        "seconds": round(up - down, 1),
        "all_ready_after_seconds": round(ready, 1),
        "lake_has_all_after_seconds": round(caught_up, 1),
        "flush_interval_seconds": FLUSH_SECONDS,
        "restarts": restarts,
        "rss_mib": {name: _rss(watch.of[name], down, up, up + caught_up) for name in running},
        "held_bytes": {
            f"{name} {thing}": _held(values, down, up)
            for name in running
            for thing, values in watch.of[name].held.items()
        },
    }
    if what == "kafka":
        found["queues_empty_after_seconds"] = round(queues_empty, 1)
    return found | await on.judged()


def _resume(server: Any) -> None:
    server.resume()
    server.wait()


def _queues_empty(reader: Service) -> None:
    """Waits until no record of the outage waits in the reader."""
    deadline = time.monotonic() + 600
    while reader.metric("cryptoflow_channel_depth_bytes") > BOUND_BYTES_A_SECOND * 10:
        assert time.monotonic() < deadline, f"the reader's queues do not empty\n{reader.tail()}"
        time.sleep(0.5)


def _rss(samples: Samples, down: float, up: float, after: float) -> dict[str, Any]:
    """The highest before, during and after the outage; of each tenth of it; during over before."""

    def highest(begin: float, end: float) -> float:
        return max((rss for at, rss in samples.rss if begin <= at < end), default=0) / 2**20

    step = (up - down) / TENTHS
    before, during = highest(0, down), highest(down, up)
    return {
        "before": round(before, 1),
        "during": round(during, 1),
        "catching_up": round(highest(up, after), 1),
        "after": round(highest(after, float("inf")), 1),
        "during_by_tenths": " ".join(
            str(round(highest(down + n * step, down + (n + 1) * step))) for n in range(TENTHS)
        ),
        "during_over_before": round(during / before, 3),
    }


def _held(values: list[tuple[float, float]], down: float, up: float) -> dict[str, int]:
    return {
        "before": round(max((value for at, value in values if at < down), default=0)),
        "during": round(max((value for at, value in values if down <= at < up), default=0)),
        "after_the_outage": round(max((value for at, value in values if at >= up), default=0)),
        "at_the_end": round(values[-1][1]),
    }


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.outage")
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="of each outage (default: %(default)s)")
    parser.add_argument("--what", choices=("store", "kafka", "both"), default="both")
    parser.add_argument("--how", choices=("kill", "pause"), default="kill", help="SIGKILL, or frozen: nothing answers")
    arguments = parser.parse_args()
    chosen = ("store", "kafka") if arguments.what == "both" else (arguments.what,)
    found: dict[str, Any] = {"benchmark": "outage", "how": arguments.how, "symbols": SYMBOLS}
    for what in chosen:
        found[what] = run(what, arguments.seconds, arguments.how)
    print(json.dumps(found) if arguments.json else json.dumps(found, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
