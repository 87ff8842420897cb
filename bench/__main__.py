"""``python -m bench``: every benchmark as a process of its own, its JSON to bench/out/, and one table of all figures.

python -m bench                  all but those that take half an hour and need Docker: recovery, outage
python -m bench [NAME...]        only these
"""

from __future__ import annotations

import json
import platform
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Iterator

BENCHMARKS = {
    "flatten": "levels/s of one core, 1000-level snapshots and updates, beside json + Python rows",
    "reader": "frames/s of one core from websocket to Kafka, beside bare clients; latency and RSS at half the load",
    "s3writer": "rows/s of one core, norm records → Parquet",
    "backlog": "peak RSS of each service at 1x and 10x backlog",
    "recovery": "seconds from SIGKILL to flushing again; start on 10, 1,000 and 100,000 claims",
    "outage": "10 minutes without the store, then without Kafka: memory, catching up, the data",
}
ON_REQUEST = {"recovery", "outage"}  # half an hour each, with Docker
ROOT = Path(__file__).resolve().parent.parent
OUT = ROOT / "bench" / "out"


def main(names: list[str]) -> int:
    unknown = set(names) - BENCHMARKS.keys()
    if unknown:
        sys.stderr.write(f"no benchmark {', '.join(sorted(unknown))}; there are: {', '.join(BENCHMARKS)}\n")
        return 2
    console = Console(highlight=False)
    OUT.mkdir(parents=True, exist_ok=True)
    failed = 0
    for name in names or [name for name in BENCHMARKS if name not in ON_REQUEST]:
        console.print(f"{name}: {BENCHMARKS[name]}")
        began = time.monotonic()
        done = subprocess.run(
            [sys.executable, "-m", f"bench.{name}", "--json"], cwd=ROOT, check=False, capture_output=True
        )
        if done.returncode != 0:
            failed += 1
            console.print(f"  FAILED\n{done.stderr.decode(errors='replace')}", markup=False)
            continue
        found = json.loads(done.stdout.decode().strip().splitlines()[-1])
        record = {"machine": machine(), "seconds": round(time.monotonic() - began, 1), "result": found}
        (OUT / f"{name}.json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
        console.print(table(found))
    console.print(f"JSON in {OUT.relative_to(ROOT)}/")
    return 1 if failed else 0


def machine() -> dict[str, str]:
    """What the figures were measured on."""
    return {"processor": platform.machine(), "system": platform.system(), "python": platform.python_version()}


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
