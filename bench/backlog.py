"""Memory and cost under backlog: peak RSS and CPU time of the real flattener and s3writer, at 1, 4 and 16 times a backlog.

Of snapshots, 1000 levels a side, and of updates. The raw topic is filled before the flattener starts, and the norm topic
holds all of it before the s3writer starts; each is a process of its own with production settings, except that the
s3writer's memory budget is smaller than even the smallest backlog: that one already fills all that is bounded, so what the
larger ones need more would be growth. The figures are the ratios of the largest to the smallest: of the peaks, and of the
CPU time per level from one size to the next, which a start's cost does not touch. Every level must have been flattened and
every row stored.

    python -m bench.backlog [--json] [--works snapshots deltas] [--levels 4000000] [--factors 1 4 16] [--broker ...]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import shutil
import sys
import threading
import time
from contextlib import suppress
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Self

import psutil

from bench import ours
from bench.running import Service
from bench.stored import rows_in
from bench.work import Filled, Message, Work, fill, work
from cryptoflow.demo_line import CONSUMED, FLATTENED
from cryptoflow.demo_probe import records_in
from shared import topics
from shared.messages import Book

if TYPE_CHECKING:
    from collections.abc import Callable

    from cryptoflow.demo_processes import Child
    from shared.settings import Settings

LEVELS_AT_ONE = 4_000_000  # more than a consumer fetches ahead (2 MiB of each partition) and than the s3writer's budget
FACTORS = (1, 4, 16)
LEVELS = 1000
BODIES = 64  # distinct ones; a body is some 40 KB
SYMBOLS = ("BTCUSDT", "ETHUSDT", "SOLUSDT", "BNBUSDT", "XRPUSDT", "ADAUSDT", "LTCUSDT", "DOTUSDT")
WRITER_BYTES = 8 * 1024 * 1024
SAMPLE_SECONDS = 0.05
TENTHS = 10
DRAIN_SECONDS = 900.0
START_SECONDS = 60.0
FLATTENED_LEVELS = "cryptoflow_flattened_levels_total"
FLATTENED_ROWS = "cryptoflow_flattened_rows_total"


def snapshots() -> Work:
    """More distinct bodies than the captured ones: what compresses to nothing would fill nothing."""
    messages = (
        Message(Book("binance", "future", SYMBOLS[seed % len(SYMBOLS)]), body(seed), 2 * LEVELS)
        for seed in range(BODIES)
    )
    return Work("snapshots", "fobs", "generated", tuple(messages))


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


WORKS: dict[str, Callable[[], Work]] = {
    "snapshots": snapshots,
    "deltas": lambda: work("deltas"),
    "market": lambda: work("market"),
}
DEFAULT_WORKS = ("snapshots", "deltas")


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
                if rss := self._process.memory_info().rss:  # 0 once it has ended
                    self._samples.append(rss)

    @property
    def bytes(self) -> int:
        """The highest of all."""
        return max(self._samples)

    def over_time(self) -> list[int]:
        """The highest of each tenth of the run, in MiB: a plateau or a slope."""
        step = max(1, -(-len(self._samples) // TENTHS))
        tenths = [self._samples[first : first + step] for first in range(0, len(self._samples), step)]
        return [max(tenth) // 2**20 for tenth in tenths]


class Backlog:
    """One backlog of a work, taken by both services, one after the other."""

    def __init__(self, place: ours.Place, chosen: Work, times: int, levels: int) -> None:
        stream = f"backlog_{chosen.name}_{times}"
        self._place = place
        self._work = chosen
        self._lake = place.folder / stream
        self._variables = ours.variables(place.bootstrap, stream, self._lake)
        self._variables["CRYPTOFLOW_WRITER__BUFFER__MAX_BYTES"] = str(WRITER_BYTES)
        self._settings: Settings = ours.settings_of(self._variables, place.folder)
        self._levels = levels

    def run(self) -> dict[str, Any]:
        """What each needed. Raises `SystemExit` unless each did all of it."""
        filled = asyncio.run(self._fill())
        rows: list[float] = []

        def flattened(service: Service) -> None:
            levels = service.sum(FLATTENED_LEVELS)
            rows.append(service.sum(FLATTENED_ROWS))
            if levels != filled.levels:
                raise SystemExit(f"{levels:g} of {filled.levels} levels were flattened: nothing was measured")

        flattener = self._drained("flattener", FLATTENED, filled.messages, flattened)
        channels = self._settings.channels
        records = records_in(self._settings, channels.norm_fobs if self._work.kind == "fobs" else channels.norm_fobd)
        s3writer = self._drained("s3writer", CONSUMED, records)
        if rows_in(self._lake) != rows[0]:
            raise SystemExit(f"{rows_in(self._lake)} of {rows[0]:g} rows were stored: nothing was measured")
        shutil.rmtree(self._lake)
        return {"levels": filled.levels, "flattener": flattener, "s3writer": s3writer}

    async def _fill(self) -> Filled:
        await topics.create(self._settings)
        return await fill(self._settings, self._work, self._levels)

    def _drained(
        self, name: str, counter: str, records: int, look: Callable[[Service], None] = lambda _: None
    ) -> dict[str, int | float | str]:
        """Runs the service over its backlog of `records` to its end: peak RSS in bytes, seconds from ready to all taken, CPU."""
        service = Service(self._place, name, self._variables)
        with Peak(service.child) as peak:
            service.wait_ready()
            began = time.monotonic()
            service.wait("to take its backlog", lambda: service.sum(counter) >= records, DRAIN_SECONDS)
            seconds = time.monotonic() - began
            look(service)
            spent = service.stop()
        return {
            "records": records,
            "seconds": round(seconds, 2),
            "cpu_seconds": round(spent.cpu_seconds, 2),
            "peak_rss_bytes": spent.peak_rss_bytes,
            "rss_mib_by_tenths": " ".join(map(str, peak.over_time())),
        }


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Both services at every backlog of every work."""
    with ours.place(arguments.broker) as place:
        result: dict[str, Any] = {"benchmark": "backlog", "broker": place.broker}
        for name in arguments.works:
            chosen = WORKS[name]()
            found = {
                times: Backlog(place, chosen, times, arguments.levels * times).run() for times in arguments.factors
            }
            result[name] = {f"{times}x": each for times, each in found.items()} | _growth(found)
    return result


def _growth(found: dict[int, dict[str, Any]]) -> dict[str, Any]:
    runs = list(found.values())
    services = ("flattener", "s3writer")
    return {
        "peak_rss_last_over_first": {
            service: round(runs[-1][service]["peak_rss_bytes"] / runs[0][service]["peak_rss_bytes"], 3)
            for service in services
        },
        "cpu_ns_per_further_level": {
            service: {f"beyond {less}x": _further(found[less], found[more], service) for less, more in pairwise(found)}
            for service in services
        },
    }


def _further(less: dict[str, Any], more: dict[str, Any], service: str) -> float:
    seconds = more[service]["cpu_seconds"] - less[service]["cpu_seconds"]
    return round(float(1e9 * seconds / (more["levels"] - less["levels"])), 1)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.backlog", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")
    parser.add_argument("--works", nargs="+", choices=WORKS, default=DEFAULT_WORKS, help="default: %(default)s")
    parser.add_argument("--levels", type=int, default=LEVELS_AT_ONE, help="the backlog at 1x (default: %(default)s)")
    parser.add_argument(
        "--factors", nargs="+", type=int, default=FACTORS, help="so many times that (default: %(default)s)"
    )
    parser.add_argument("--broker", choices=ours.BROKERS, default="auto", help=ours.BROKER_HELP)
    arguments = parser.parse_args()
    found = run(arguments)
    print(json.dumps(found) if arguments.json else json.dumps(found, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
