"""The whole line, raw topic to closed Parquet files, beside others on the same records of the same Kafka.

Three works: captured snapshots of 1000 levels a side, captured BTC and ETH updates, updates of a simulated market of 500
symbols; each at 1, 4 and 16 times `--levels`. Every round runs all contenders in turn, each in a process of its own that
is started, stores everything and ends; its cost is what the system says of the process, less what a start alone costs.
What each stored is read back: all levels, each with the price, quantity and record that the others found, or nothing is
said of it. Who stores a message a row stores its levels as texts inside of it, and says so. Bytes a
level are small where few captured messages come again and again: compare them within a work only.

    python -m bench.line [--json] [--rounds 3] [--levels 250000] [--works snapshots deltas market] [--only NAME...]
"""

from __future__ import annotations

import argparse
import asyncio
import importlib.metadata
import json
import shutil
import sys
from dataclasses import dataclass, field
from itertools import count, islice
from pathlib import Path
from typing import Any

from bench import contenders, environments, limits, ours
from bench.contenders import CONTENDERS, OURS, Contender
from bench.line_figures import Run, figures, growth, ratios, starts
from bench.line_figures import limits as limit_figures
from bench.ours import Place, Task
from bench.stored import Stored, look
from bench.work import WORKS, Filled, Work, fill, work
from cryptoflow.demo_processes import DemoFailed
from shared import topics

SIZES = (1, 4, 16)
OWN_PACKAGES = ("aiokafka", "numpy", "pyarrow", "pysimdjson", "uvloop")


@dataclass
class Bench:
    """One work, its topics, and every run over them."""

    place: Place
    work: Work
    levels: int
    own_python: bool
    numbers: Any  # of the runs of all works: no two share a name
    filled: dict[int, Filled] = field(default_factory=dict)
    runs: list[Run] = field(default_factory=list)
    limits: list[dict[str, float]] = field(default_factory=list)
    fingerprints: dict[int, int] = field(default_factory=dict)

    def topic(self, size: int) -> str:
        """Where so many times of the work lie; size 0 is a single message."""
        return f"line_{self.work.name}_{size}-raw-{self.work.kind}"

    def fill(self, size: int) -> None:
        """Once for all rounds."""
        chosen = ours.variables(self.place.bootstrap, f"line_{self.work.name}_{size}", self.place.folder / "none")
        chosen["CRYPTOFLOW_KAFKA__COMPRESSION"] = ours.COMPRESSION
        settings = ours.settings_of(chosen, self.place.folder)

        async def made() -> Filled:
            await topics.create(settings)
            return await fill(settings, self.work, max(1, size * self.levels))

        self.filled[size] = asyncio.run(made())

    def run(self, contender: Contender, size: int) -> None:
        """One run, what it stored checked; ours at the smallest size shows the limits as well."""
        folder = self.place.folder / "stored"
        folder.mkdir()
        filled = self.filled[size]
        task = Task(self.work.kind, self.topic(size), f"run_{next(self.numbers)}", filled, folder)
        parts = contenders.run(contender, self.place, task, own_python=self.own_python)
        stored = look(folder) if contender.stores else None
        if stored:
            self._check(contender, size, stored)
        if contender.name == OURS and size == SIZES[0]:
            values = [message.value for message in islice(self.work.of(size * self.levels), filled.messages)]
            self.limits.append(limits.measure(values, folder, self.place.folder))
        self.runs.append(Run(contender.name, size, filled, parts, stored))
        shutil.rmtree(folder)

    def _check(self, contender: Contender, size: int, stored: Stored) -> None:
        filled = self.filled[size]
        if stored.levels != filled.levels:
            raise SystemExit(f"{contender.name} stored {stored.levels} of {filled.levels} levels: nothing was measured")
        if stored.fingerprint is None:
            if stored.rows != filled.messages:
                raise SystemExit(f"{contender.name} stored {stored.rows} of {filled.messages} messages")
        elif self.fingerprints.setdefault(size, stored.fingerprint) != stored.fingerprint:
            raise SystemExit(f"{contender.name} stored other prices or quantities than the one before it")

    def result(self, start: dict[str, float]) -> dict[str, Any]:
        """Its figures."""
        found = figures(self.runs, start)
        result: dict[str, Any] = {
            "kind": self.work.kind,
            "source": self.work.source,
            "contenders": found,
            "ours": ratios(found, "levels"),
            "ours_in_rows": ratios(found, "rows"),
            "limits": limit_figures(self.limits, self.filled[SIZES[0]].levels, found)
            if SIZES[0] in self.filled
            else {},
        }
        return result | {"growth": growth(self.runs)}


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """All works."""
    chosen = [each for each in CONTENDERS if not arguments.only or each.name in arguments.only]
    left_out = {} if arguments.own_python else _install(chosen)
    chosen = [each for each in chosen if each.name not in left_out]
    with ours.place(arguments.broker, arguments.profiles) as place:
        found = _works(place, chosen, arguments)
    return {
        "benchmark": "line",
        "broker": place.broker,
        "raw_compression": ours.COMPRESSION,
        "rounds": arguments.rounds,
        "versions": _versions(chosen, own_python=arguments.own_python),
        "left_out": left_out,
        "works": found,
    }


def _works(place: Place, chosen: list[Contender], arguments: argparse.Namespace) -> dict[str, Any]:
    numbers = count()
    benches = [Bench(place, work(name), arguments.levels, arguments.own_python, numbers) for name in arguments.works]
    # What a start costs depends on no work: it is measured with the first.
    for number, bench in enumerate(benches):
        for size in [*([0] if number == 0 else []), *_sizes(chosen, arguments.largest)]:
            bench.fill(size)
        for repeat in range(arguments.rounds):
            turn = repeat % len(chosen)
            for contender in [*chosen[turn:], *chosen[:turn]]:
                for size in bench.filled:
                    if size <= contender.size and (
                        size in {0, min(contender.size, arguments.largest)} or contender.name == OURS
                    ):
                        bench.run(contender, size)
                        _say(bench.runs[-1], bench.work.name)
    start = starts(benches[0].runs)
    return {bench.work.name: bench.result(start) for bench in benches}


def _sizes(chosen: list[Contender], largest: int) -> list[int]:
    own = {size for size in SIZES if size <= largest} if any(each.name == OURS for each in chosen) else set()
    return sorted(own | {min(each.size, largest) for each in chosen})


def _say(run_: Run, name: str) -> None:
    spent = run_.spent
    sys.stderr.write(
        f"{name} {run_.size}x {run_.contender}: {run_.filled.levels:,} levels, {spent.cpu_seconds:.2f} CPU s,"
        f" {spent.wall_seconds:.2f} s, {spent.peak_rss_bytes / 2**20:.0f} MiB\n"
    )


def _install(chosen: list[Contender]) -> dict[str, str]:
    """Those that cannot be had here, and why."""
    left_out = {}
    for contender in chosen:
        try:
            if contender.environment:
                environments.python(contender.environment)
        except environments.NotInstalled as error:
            left_out[contender.name] = str(error)
    return left_out


def _versions(chosen: list[Contender], *, own_python: bool) -> dict[str, dict[str, str]]:
    found = {OURS: {name: importlib.metadata.version(name) for name in OWN_PACKAGES}}
    if not own_python:
        for name in sorted({each.environment for each in chosen if each.environment}):
            found[name] = environments.versions(name)
    return found


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.line", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")
    parser.add_argument("--rounds", type=int, default=3, help="of all contenders in turn (default: %(default)s)")
    parser.add_argument("--levels", type=int, default=250_000, help="the work at 1x (default: %(default)s)")
    parser.add_argument(
        "--largest", type=int, choices=SIZES, default=SIZES[-1], help="no work above (default: %(default)s)"
    )
    parser.add_argument("--works", nargs="+", choices=WORKS, default=list(WORKS), help="default: all")
    parser.add_argument("--only", nargs="+", choices=[each.name for each in CONTENDERS], help="default: all")
    parser.add_argument("--own-python", action="store_true", help="peers run in this environment: nothing is installed")
    parser.add_argument("--profiles", type=Path, help="a folder for profiles of our services' last run, for pstats")
    parser.add_argument("--broker", choices=ours.BROKERS, default="auto", help=ours.BROKER_HELP)
    arguments = parser.parse_args()
    try:
        found = run(arguments)
    except DemoFailed as error:
        sys.stderr.write(f"{error}\n{error.log}\n")
        return 1
    print(json.dumps(found) if arguments.json else json.dumps(found, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
