"""``python -m bench``: every benchmark as a process of its own, its JSON to bench/out/, and one table of all figures.

python -m bench                  all but those that take half an hour and need Docker: recovery, outage
python -m bench [NAME...]        only these
python -m bench NAME --OPTION …  with options of its own: `python -m bench.NAME --help`
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
from rich.console import Console
from rich.table import Table

from bench import tables

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

BENCHMARKS = {
    "flatten": "levels/s of one core, 1000-level snapshots and updates, beside json + Python rows",
    "reader": "frames/s of one core from websocket to Kafka, beside bare clients; latency and RSS at half the load",
    "s3writer": "rows/s of one core, norm records → Parquet",
    "line": "levels per CPU second from raw topic to Parquet, beside four other ways and the limits; cost as work grows",
    "latency": "ms from the exchange to Kafka and to the lake at a steady load, p50 and p99",
    "scaling": "two flatteners against one, two s3writers against one",
    "window": "peak RSS of one s3writer over a full flush window, 500 symbols at 45,000 rows/s",
    "backlog": "peak RSS and CPU time of each service at 1x, 4x and 16x backlog, snapshots and updates",
    "recovery": "seconds from SIGKILL to flushing again; start on 10, 1,000 and 100,000 claims",
    "outage": "10 minutes without the store, then without Kafka: memory, catching up, the data",
}
ON_REQUEST = {"recovery", "outage"}  # half an hour each, with Docker
ROOT = Path(__file__).resolve().parent.parent
OUT = ROOT / "bench" / "out"
WIDE = 210  # where nobody looks yet, as in a file


def main(arguments: list[str]) -> int:
    options_from = next((at for at, each in enumerate(arguments) if each.startswith("-")), len(arguments))
    names, options = arguments[:options_from], arguments[options_from:]
    unknown = set(names) - BENCHMARKS.keys()
    if unknown:
        sys.stderr.write(f"no benchmark {', '.join(sorted(unknown))}; there are: {', '.join(BENCHMARKS)}\n")
        return 2
    if options and len(names) != 1:
        sys.stderr.write("options belong to one benchmark: name it first\n")
        return 2
    console = Console(highlight=False, width=None if sys.stdout.isatty() else WIDE)
    OUT.mkdir(parents=True, exist_ok=True)
    failed = 0
    for name in names or [name for name in BENCHMARKS if name not in ON_REQUEST]:
        console.print(f"{name}: {BENCHMARKS[name]}")
        began, on = time.monotonic(), machine()
        done = subprocess.run(
            [sys.executable, "-m", f"bench.{name}", "--json", *options], cwd=ROOT, check=False, stdout=subprocess.PIPE
        )
        if done.returncode != 0:
            failed += 1
            console.print(f"  FAILED with {done.returncode}, as said above", markup=False)
            continue
        found = json.loads(done.stdout.decode().strip().splitlines()[-1])
        record = {
            "date": datetime.now(UTC).isoformat(timespec="minutes"),
            "machine": on,
            "seconds": round(time.monotonic() - began, 1),
            "result": found,
        }
        (OUT / f"{name}.json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
        for each in tables.TABLES[name](found) if name in tables.TABLES else [table(found)]:
            console.print(each)
    console.print(f"JSON in {OUT.relative_to(ROOT)}/")
    return 1 if failed else 0


def machine() -> dict[str, Any]:
    """What the figures were measured on, and how busy it was with other things before."""
    return {
        "processor": platform.machine(),
        "model": _model(),
        "cores": os.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30),
        "system": platform.system(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "load_average": [round(each, 1) for each in os.getloadavg()],
    }


def _model() -> str:
    """The processor's name, where the system tells it."""
    told = Path("/proc/cpuinfo")
    lines: Iterable[str] = told.read_text(encoding="utf-8").splitlines() if told.exists() else ()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def table(found: dict[str, Any]) -> Table:
    """Every figure of a benchmark's result, nested names joined by a dot."""
    made = Table(show_header=False)
    made.add_column()
    made.add_column(justify="right")
    for name, value in figures(found):
        made.add_row(
            name, f"{value:,}" if isinstance(value, int | float) and not isinstance(value, bool) else str(value)
        )
    return made


def figures(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for key, below in value.items():
            yield from figures(below, f"{name}.{key}" if name else str(key))
    elif isinstance(value, list):
        for number, below in enumerate(value):
            yield from figures(below, f"{name}.{number}")
    else:
        yield name, value


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
