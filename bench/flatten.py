"""How fast the flattener is on one core, beside the plain way and beside a parser that does nothing with what it parsed.

That parser leaves prices and quantities the strings they are; the second one has them ready as numbers, and reads those.

    python -m bench.flatten [--json] [--repeats N] [--generated] [--only snapshots|deltas]

All ways run in turn, again and again, over the same payloads, in one process; each figure is the median of its runs, in
CPU time of the thread, so that a busy machine disturbs them alike. Before it measures, it checks that the results agree.
"""

from __future__ import annotations

import argparse
import json
import platform
import re
import statistics
import sys
import time
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import simdjson

from bench.payloads import payloads
from bench.plain import flatten_plainly
from services.flattener.flatten import encode
from services.flattener.message import read
from services.flattener.normalise import FLATTEN
from shared.venues.levels import LevelParser

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import pyarrow as pa

    from shared.kafka import Record
    from shared.messages import Kind

PARTS: dict[str, Kind] = {"snapshots": "fobs", "deltas": "fobd"}
T = TypeVar("T")
LEVEL_NUMBER = re.compile(rb'"([0-9.]+)"[],]')
LARGE_BLOCK_BYTES = 8 * 1024 * 1024
PLAIN_EVERY = 8  # the plain way is that much slower: it runs in every so manieth round
PARSE_ONLY, NUMBERS, FLAT, NORM, PLAIN = (
    "simdjson, parse only",
    "simdjson, the numbers alone",
    "flatten, to a record batch",
    "flatten, to a norm value (lz4)",
    "plain, to a record batch",
)


def each(way: Callable[[T], object], work: Sequence[T]) -> Callable[[], None]:
    """All of the work in turn; what comes of it is let go at once, as the service does."""

    def all_() -> None:
        for one in work:
            way(one)

    return all_


def measure(ways: dict[str, Callable[[], object]], repeats: int, rare: set[str]) -> dict[str, float]:
    """Median nanoseconds of CPU of each way, run in turn."""
    spent: dict[str, list[int]] = {name: [] for name in ways}
    for run in range(repeats):
        for name, way in ways.items():
            if name in rare and run % PLAIN_EVERY:
                continue
            started = time.thread_time_ns()
            way()
            spent[name].append(time.thread_time_ns() - started)
    return {name: statistics.median(times) for name, times in spent.items()}


def run(kind: Kind, repeats: int, *, only_generated: bool = False) -> dict[str, Any]:
    """Checks, measures, and gives levels a second by way, and the ratios between them."""
    # As a service's fetches do: glibc returns each column's memory and asks for it again until a large block was freed.
    bytearray(LARGE_BLOCK_BYTES)
    chosen = payloads(kind, only_generated=only_generated)
    work = chosen.batches()
    flatten, parser, bare = FLATTEN[kind], LevelParser(), simdjson.Parser()

    def ours(records: Sequence[Record]) -> pa.RecordBatch:
        return flatten([read(kind, record) for record in records], parser).batch

    def read_numbers(document: bytes) -> None:
        parsed: Any = bare.parse(document)
        parsed.as_buffer(of_type="d")

    levels = 0
    for records in work:
        batch, plain = ours(records), flatten_plainly(kind, records)
        if batch.to_pylist() != plain.to_pylist():
            raise SystemExit("the two ways do not give the same rows: nothing was measured")
        levels += batch.num_rows
    ways: dict[str, Callable[[], object]] = {
        PARSE_ONLY: each(bare.parse, [value for _, value in chosen.values]),
        NUMBERS: each(read_numbers, [b"[%b]" % b",".join(LEVEL_NUMBER.findall(value)) for _, value in chosen.values]),
        FLAT: each(ours, work),
        NORM: each(lambda records: encode(ours(records)), work),
        PLAIN: each(partial(flatten_plainly, kind), work),
    }
    spent = measure(ways, repeats, {PLAIN})
    rates = {name: levels / nanoseconds * 1e9 for name, nanoseconds in spent.items()}
    return {
        "messages": len(chosen.values),
        "source": chosen.source,
        "levels": levels,
        "repeats": repeats,
        "python": platform.python_version(),
        "levels_per_second_per_core": {name: round(rate) for name, rate in rates.items()},
        "messages_per_second_per_core": round(len(chosen.values) / spent[FLAT] * 1e9),
        "flatten_over_plain": round(rates[FLAT] / rates[PLAIN], 2),
        "flatten_over_parse_only": round(rates[FLAT] / rates[PARSE_ONLY], 3),
        "flatten_over_numbers_alone": round(rates[FLAT] / rates[NUMBERS], 3),
    }


def main() -> int:
    arguments = argparse.ArgumentParser(prog="python -m bench.flatten", description=(__doc__ or "").partition("\n")[0])
    arguments.add_argument("--json", action="store_true", help="print JSON")
    arguments.add_argument("--repeats", type=int, default=41, help="rounds (default 41)")
    arguments.add_argument(
        "--generated", action="store_true", help="generated payloads even where captures are at hand"
    )
    arguments.add_argument("--only", choices=PARTS, help="one of both (default: both)")
    chosen = arguments.parse_args()
    parts = [chosen.only] if chosen.only else list(PARTS)
    results = {part: run(PARTS[part], chosen.repeats, only_generated=chosen.generated) for part in parts}
    if chosen.json:
        print(json.dumps(results))
        return 0
    for part, result in results.items():
        print(
            f"{part}: {result['messages']:,} messages ({result['source']}), {result['levels']:,} levels,"
            f" {result['repeats']} rounds"
        )
        for name, rate in result["levels_per_second_per_core"].items():
            print(f"  {name:32} {rate / 1e6:8.2f} M levels/s per core")
        print(
            f"  flatten is {result['flatten_over_plain']} x plain, {result['flatten_over_parse_only']} x parse only,"
            f" {result['flatten_over_numbers_alone']} x the numbers alone:"
            f" {result['messages_per_second_per_core']:,} messages/s"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
