"""How fast the flattener is on one core, beside the plain way and beside a parser that does nothing with what it parsed.

    python -m bench.flatten [--json] [--repeats N] [--generated]

All ways run in turn, again and again, over the same payloads, in one process; each figure is the median of its runs, in
CPU time of the thread, so that a busy machine disturbs them alike. Before it measures, it checks that the results agree.
"""

from __future__ import annotations

import argparse
import json
import platform
import random
import statistics
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import simdjson

from bench.plain import flatten_plainly
from services.flattener.flatten import encode, flatten_fobs
from services.flattener.message import read
from shared.kafka import Record
from shared.messages import Book, RawHeaders
from shared.venues.levels import LevelParser

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import pyarrow as pa

CAPTURES = Path(__file__).parents[2] / "shared" / "captures"
BATCH_ROWS = 8192
PLAIN_EVERY = 8  # the plain way is that much slower: it runs in every so manieth round
FULL_LEVELS = 1000
RECV_NS = 1_700_000_000_123_456_789


def captured() -> list[tuple[Book, bytes]]:
    """Real answers of Binance's three markets with 1000 levels on a side; none where the captures are absent."""
    markets = {"fapi": "future", "dapi": "inverse", "api": "spot"}
    found = []
    for path in sorted(CAPTURES.glob("binance_*/http/*depth*.json")):
        answer = json.loads(path.read_text())
        market = markets[answer["url"].split("/")[2].partition(".")[0]]
        symbol = answer["url"].partition("symbol=")[2].partition("&")[0]
        body = answer["body"]
        if any(len(levels) == FULL_LEVELS for levels in (json.loads(body)[name] for name in ("bids", "asks"))):
            found.append((Book("binance", market, symbol), body.encode()))
    return found


def generated(count: int = 16) -> list[tuple[Book, bytes]]:
    """Books of 1000 levels a side at prices and tick sizes as futures have."""
    random_ = random.Random(1)
    found = []
    for index in range(count):
        tick, middle = [(0.1, 600_000), (0.01, 350_000), (0.0001, 12_000), (0.001, 60_000)][index % 4]
        digits = len(str(tick)) - 2
        sides = [
            [
                [f"{(middle + sign * n) * tick:.{digits}f}", f"{random_.lognormvariate(1, 2):.3f}"]
                for n in range(1, 1001)
            ]
            for sign in (-1, 1)
        ]
        book: dict[str, Any] = {"lastUpdateId": 10**12 + index, "E": 1_700_000_000_001, "T": 1_700_000_000_000}
        book |= {"bids": sides[0], "asks": sides[1]}
        found.append((Book("binance", "future", f"SYM{index}USDT"), json.dumps(book, separators=(",", ":")).encode()))
    return found


def batches(payloads: Sequence[tuple[Book, bytes]]) -> list[list[Record]]:
    """The payloads as raw records, as many at a time as a norm record takes."""
    result: list[list[Record]] = [[]]
    rows = 0
    for offset, (book, body) in enumerate(payloads):
        headers = RawHeaders(
            stream="main", exchange=book.exchange, market=book.market, symbol=book.symbol, type="snapshot",
            recv_ns=RECV_NS + offset, conn="host:1:1", seq=offset, limit=FULL_LEVELS,
        )  # fmt: skip
        levels = sum(len(side) for side in (json.loads(body)[name] for name in ("bids", "asks")))
        if rows + levels > BATCH_ROWS:
            result.append([])
            rows = 0
        rows += levels
        result[-1].append(Record("raw-fobs", 0, offset, 0, book.key, body, tuple(headers.encode())))
    return result


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


def run(repeats: int, *, only_generated: bool = False) -> dict[str, Any]:
    """Checks, measures, and gives levels a second by way, and the ratios between them."""
    payloads = [] if only_generated else captured()
    source = "captures" if payloads else "generated"
    payloads = payloads or generated()
    work = batches(payloads)
    parser, bare = LevelParser(), simdjson.Parser()

    def ours(records: Sequence[Record]) -> pa.RecordBatch:
        return flatten_fobs([read("fobs", record) for record in records], parser).batch

    def parse_only() -> None:
        for _, body in payloads:
            document = bare.parse(body)
            del document

    levels = 0
    for records in work:
        batch, plain = ours(records), flatten_plainly(records)
        if batch.to_pylist() != plain.to_pylist():
            raise SystemExit("the two ways do not give the same rows: nothing was measured")
        levels += batch.num_rows
    ways: dict[str, Callable[[], object]] = {
        "simdjson, parse only": parse_only,
        "flatten, to a record batch": lambda: [ours(records) for records in work],
        "flatten, to a norm value (lz4)": lambda: [encode(ours(records)) for records in work],
        "plain, to a record batch": lambda: [flatten_plainly(records) for records in work],
    }
    spent = measure(ways, repeats, {"plain, to a record batch"})
    rates = {name: levels / nanoseconds * 1e9 for name, nanoseconds in spent.items()}
    flatten = rates["flatten, to a record batch"]
    return {
        "payloads": len(payloads),
        "source": source,
        "levels": levels,
        "repeats": repeats,
        "python": platform.python_version(),
        "levels_per_second_per_core": {name: round(rate) for name, rate in rates.items()},
        "flatten_over_plain": round(flatten / rates["plain, to a record batch"], 2),
        "flatten_over_parse_only": round(flatten / rates["simdjson, parse only"], 3),
    }


def main() -> int:
    arguments = argparse.ArgumentParser(prog="python -m bench.flatten", description=(__doc__ or "").partition("\n")[0])
    arguments.add_argument("--json", action="store_true", help="print JSON")
    arguments.add_argument("--repeats", type=int, default=41, help="rounds (default 41)")
    arguments.add_argument("--generated", action="store_true", help="generated books even where captures are at hand")
    chosen = arguments.parse_args()
    result = run(chosen.repeats, only_generated=chosen.generated)
    if chosen.json:
        print(json.dumps(result))
        return 0
    print(f"{result['payloads']} books ({result['source']}), {result['levels']:,} levels, {result['repeats']} rounds")
    for name, rate in result["levels_per_second_per_core"].items():
        print(f"  {name:32} {rate / 1e6:8.2f} M levels/s per core")
    print(f"  flatten is {result['flatten_over_plain']} x plain, {result['flatten_over_parse_only']} x parse only")
    return 0


if __name__ == "__main__":
    sys.exit(main())
