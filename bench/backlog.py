"""Memory and cost under backlog: peak RSS and CPU time of the real flattener and s3writer, at 1, 4 and 16 times a backlog.

The raw topic is filled with snapshots of 1000 levels a side before the flattener starts, and the norm topic holds all of
it before the s3writer starts; each is a process of its own with production settings, except that the s3writer's memory
budget is smaller than even the smallest backlog, so that all runs reach it. The figures are the ratios of the largest to
the smallest: of the peaks, and of the CPU time per level from one size to the next, which a start's cost does not touch.

    python -m bench.backlog [--json] [--messages 2000] [--factors 1 4 16] [--broker auto|docker|embedded]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import sys
import tempfile
import threading
import time
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import psutil

from cryptoflow import demo_broker
from cryptoflow.demo_line import CONSUMED, FLATTENED
from cryptoflow.demo_probe import get, logged_port, metric_sum, records_in
from cryptoflow.demo_processes import Child, Children, Interrupts
from cryptoflow.demo_run import ROOT
from shared import topics
from shared.kafka import Producer
from shared.messages import Book, RawHeaders
from shared.settings import Settings, load

if TYPE_CHECKING:
    from collections.abc import Sequence

MESSAGES = 2000  # more than a consumer fetches ahead (2 MiB of each partition), so that the smallest fills it too
FACTORS = (1, 4, 16)
LEVELS = 1000
BODIES = 64  # distinct ones; a body is some 40 KB
SYMBOLS = ("BTCUSDT", "ETHUSDT", "SOLUSDT", "BNBUSDT", "XRPUSDT", "ADAUSDT", "LTCUSDT", "DOTUSDT")
WRITER_BYTES = 32 * 1024 * 1024
IN_FLIGHT = 200
SAMPLE_SECONDS = 0.05
TENTHS = 10
DRAIN_SECONDS = 600.0
START_SECONDS = 60.0


def body(seed: int) -> bytes:
    """A USDⓈ-M depth answer, 1000 levels a side, texts as the venue prints them."""
    rng = random.Random(seed)

    def side(direction: int) -> str:
        price = 6_394_390
        levels = []
        for _ in range(LEVELS):
            price += direction * rng.randint(1, 30) * 10
            levels.append(f'["{price // 100}.{price % 100:02}","{rng.randint(1, 90_000) / 1000:.3f}"]')
        return ",".join(levels)

    return f'{{"lastUpdateId":{10**12 + seed},"E":1700000000000,"T":1700000000000,"bids":[{side(-1)}],"asks":[{side(1)}]}}'.encode()


async def fill(settings: Settings, messages: int) -> None:
    """Publishes `messages` snapshots as the reader would."""
    bodies = [body(seed) for seed in range(BODIES)]
    producer = Producer(settings.kafka, client_id="bench")
    await producer.start()
    waiting: set[asyncio.Future[int]] = set()
    for number in range(messages):
        book = Book("binance", "future", SYMBOLS[number % len(SYMBOLS)])
        headers = RawHeaders(
            stream=settings.kafka.stream, exchange=book.exchange, market=book.market, symbol=book.symbol, type="snapshot",
            recv_ns=time.time_ns(), conn="bench:0:1", seq=number // len(SYMBOLS), limit=LEVELS,
        )  # fmt: skip
        waiting.add(
            await producer.send(
                settings.channels.raw_fobs.topic, bodies[number % BODIES], key=book.key, headers=headers.encode()
            )
        )
        if len(waiting) >= IN_FLIGHT:
            done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            for future in done:
                future.result()
    await asyncio.gather(*waiting)
    await producer.stop(10)


def drained(
    children: Children, service: str, *, counter: str, records: int, folder: Path, environment: dict[str, str]
) -> dict[str, int | float | str]:
    """Runs the service over its backlog of `records` to its end: peak RSS in bytes, seconds from ready to all taken, CPU."""
    child = children.start(service, [sys.executable, "-m", f"services.{service}"], environment, folder)
    url = f"http://127.0.0.1:{children.wait(service, lambda: logged_port(child), START_SECONDS)}"
    with Peak(child) as peak:
        children.wait(f"{service} to be ready", lambda: get(f"{url}/readyz"), START_SECONDS)
        began = time.monotonic()
        children.wait(
            f"{service} to take its backlog", lambda: (metric_sum(url, counter) or 0) >= records, DRAIN_SECONDS
        )
        seconds = time.monotonic() - began
        spent = psutil.Process(child.process.pid).cpu_times()
        child.terminate(60)
    children.forget(child)
    return {
        "records": records,
        "seconds": round(seconds, 2),
        "cpu_seconds": round(spent.user + spent.system, 2),
        "peak_rss_bytes": peak.bytes,
        "rss_mib_by_tenths": " ".join(map(str, peak.over_time())),
    }


class Peak:
    """The highest RSS of a process while the block runs, sampled by a thread."""

    def __init__(self, child: Child) -> None:
        self._process = psutil.Process(child.process.pid)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._sample)
        self._samples: list[int] = []

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _sample(self) -> None:
        with suppress(psutil.NoSuchProcess):
            while not self._over.wait(SAMPLE_SECONDS):
                self._samples.append(self._process.memory_info().rss)

    @property
    def bytes(self) -> int:
        """The highest of all."""
        return max(self._samples)

    def over_time(self) -> list[int]:
        """The highest of each tenth of the run, in MiB: a plateau or a slope."""
        step = max(1, -(-len(self._samples) // TENTHS))
        tenths = [self._samples[first : first + step] for first in range(0, len(self._samples), step)]
        return [max(tenth) // 2**20 for tenth in tenths]


def run(messages: int, factors: Sequence[int], broker_choice: str) -> dict[str, Any]:
    """Both services at every backlog."""
    result: dict[str, Any] = {
        "benchmark": "backlog",
        "messages": messages,
        "factors": list(factors),
        "levels_a_message": 2 * LEVELS,
    }
    with tempfile.TemporaryDirectory(prefix="cryptoflow-bench-") as temporary:
        folder = Path(temporary)
        with Children(folder, Interrupts()) as children:
            docker = broker_choice == "docker" or (broker_choice == "auto" and demo_broker.docker_answers())
            broker = demo_broker.start("docker" if docker else "embedded", None, children, folder, os.environ)
            try:
                result["broker"] = broker.words
                for times in factors:
                    result[f"{times}x"] = _both(children, folder, broker.bootstrap_servers, times, messages * times)
            finally:
                broker.close()
    services = {
        service: [(times, result[f"{times}x"][service]) for times in factors] for service in ("flattener", "s3writer")
    }
    result["peak_rss_last_over_first"] = {
        service: round(found[-1][1]["peak_rss_bytes"] / found[0][1]["peak_rss_bytes"], 3)
        for service, found in services.items()
    }
    result["cpu_ns_per_further_level"] = {
        service: {f"beyond {less[0]}x": _further(less, more, messages * 2 * LEVELS) for less, more in pairwise(found)}
        for service, found in services.items()
    }
    return result


def _further(less: tuple[int, dict[str, Any]], more: tuple[int, dict[str, Any]], levels: int) -> float:
    seconds = more[1]["cpu_seconds"] - less[1]["cpu_seconds"]
    return round(float(1e9 * seconds / (levels * (more[0] - less[0]))), 1)


def _both(children: Children, folder: Path, bootstrap: str, times: int, messages: int) -> dict[str, Any]:
    stream = f"bench_{times}x"
    variables = {
        "CRYPTOFLOW_KAFKA__BOOTSTRAP_SERVERS": bootstrap,
        "CRYPTOFLOW_KAFKA__STREAM": stream,
        "CRYPTOFLOW_CHANNELS__RAW_FOBS__TOPIC": f"{stream}-raw-fobs",
        "CRYPTOFLOW_CHANNELS__NORM_FOBS__TOPIC": f"{stream}-norm-fobs",
        "CRYPTOFLOW_CHANNELS__RAW_FOBD__TOPIC": f"{stream}-raw-fobd",
        "CRYPTOFLOW_CHANNELS__NORM_FOBD__TOPIC": f"{stream}-norm-fobd",
        "CRYPTOFLOW_CHANNELS__DEAD_LETTERS__TOPIC": f"{stream}-dead-letters",
        "CRYPTOFLOW_STORAGE__LOCAL__PATH": str(folder / f"lake-{times}x"),
        "CRYPTOFLOW_WRITER__BUFFER__MAX_BYTES": str(WRITER_BYTES),
        "CRYPTOFLOW_METRICS__PORT": "0",
        "CRYPTOFLOW_LOGGING__FORMAT": "json",
    }
    settings = load(None, environ=variables, dotenv_path=folder / "no.env")
    asyncio.run(_prepare(settings, messages))
    environment = {
        key: value for key, value in os.environ.items() if not key.startswith(("CRYPTOFLOW_", "AWS_", "S3_"))
    }
    environment |= variables | {"PYTHONPATH": str(ROOT)}
    flattener = drained(
        children, "flattener", counter=FLATTENED, records=messages, folder=folder, environment=environment
    )
    records = records_in(settings, settings.channels.norm_fobs)
    return {
        "flattener": flattener,
        "s3writer": drained(
            children, "s3writer", counter=CONSUMED, records=records, folder=folder, environment=environment
        ),
    }


async def _prepare(settings: Settings, messages: int) -> None:
    await topics.create(settings)
    await fill(settings, messages)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.backlog")
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")
    parser.add_argument("--messages", type=int, default=MESSAGES, help="the backlog at 1x (default: %(default)s)")
    parser.add_argument(
        "--factors", nargs="+", type=int, default=FACTORS, help="so many times that (default: %(default)s)"
    )
    parser.add_argument(
        "--broker", choices=("auto", "docker", "embedded"), default="auto", help="auto: real Kafka where Docker is"
    )
    arguments = parser.parse_args()
    found = run(arguments.messages, arguments.factors, arguments.broker)
    print(json.dumps(found) if arguments.json else json.dumps(found, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
