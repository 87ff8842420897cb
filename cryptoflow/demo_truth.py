"""Compares what lies in the lake with what the exchange served: message by message, level by level, bit by bit.

Every book that was served whole must lie in the lake exactly once, each price and quantity being the float64 of the
venue's text, or else inside a gap row of its symbol (a poll cut off by the stop is such a one). What lies in the lake must have been served.
"""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from shared.lake.layout import parse_data_path

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from cryptoflow.demo_run import Run

BookName = tuple[str, str]  # market, symbol
Side = tuple[np.ndarray, np.ndarray]  # prices, quantities, best first
SHOWN_PROBLEMS = 5


class Answer(msgspec.Struct, rename={"last_update_id": "lastUpdateId"}):
    """A line of the exchange's truth."""

    market: str | None
    symbol: str | None
    sha256: str | None
    served_ns: int
    last_update_id: int | None
    bids: int | None
    asks: int | None
    book: bool
    complete: bool


@dataclass(slots=True)
class Comparison:
    """`polls` and `levels` were served whole; `rows` of levels were found. Equal where `problems` is empty."""

    polls: int = 0
    levels: int = 0
    rows: int = 0
    gap_rows: int = 0
    in_gaps: int = 0  # polls served whole but not taken any more, and covered by a gap row
    problems: list[str] = field(default_factory=list)


def compare(run: Run) -> Comparison:
    """Reads the lake of this run's stream, and the truth."""
    result = Comparison()
    served = _served(run.truth_path)
    stored = _files(run.lake, run.stream)
    for name in sorted(served.keys() | stored.keys()):
        _compare_book(name, served.get(name, []), stored.get(name, []), run.bodies, result)
    return result


def _served(path: Path) -> dict[BookName, list[Answer]]:
    found: dict[BookName, list[Answer]] = defaultdict(list)
    with path.open("rb") as lines:
        for line in lines:
            answer = msgspec.json.decode(line, type=Answer)
            if answer.book and answer.complete and answer.market and answer.symbol:
                found[answer.market, answer.symbol].append(answer)
    return found


def _files(lake: Path, stream: str) -> dict[BookName, list[Path]]:
    found: dict[BookName, list[Path]] = defaultdict(list)
    for path in sorted(lake.glob(f"fobs/**/fobs-{stream}-*.parquet")):
        parsed = parse_data_path(path.relative_to(lake).as_posix())
        if parsed is not None:
            found[parsed.book.market, parsed.book.symbol].append(path)
    return found


def _compare_book(name: BookName, served: list[Answer], files: list[Path], bodies: Path, result: Comparison) -> None:
    wanted: dict[int, list[Answer]] = defaultdict(list)
    for answer in served:
        wanted[answer.last_update_id or 0].append(answer)
    table = pa.concat_tables([pq.ParquetFile(path).read() for path in files]) if files else None
    if table is not None:
        gaps = table.filter(pc.is_valid(table["gap_cause"]))
        result.gap_rows += gaps.num_rows
        for update_id, bids, asks in _messages(table.filter(pc.is_null(table["gap_cause"]))):
            result.rows += len(bids[0]) + len(asks[0])
            waiting = wanted.get(update_id)
            if not waiting:
                result.problems.append(f"{name}: book {update_id} lies in the lake more often than it was served")
                continue
            answer = waiting.pop()
            body = json.loads((bodies / str(answer.sha256)).read_bytes())
            if not (_exact(bids, body["bids"]) and _exact(asks, body["asks"])):
                result.problems.append(f"{name}: book {update_id} differs from what was served")
    missing = {id(answer) for answers in wanted.values() for answer in answers}
    covered = _covered(table)
    for answer in served:
        if id(answer) not in missing:
            result.polls += 1
            result.levels += (answer.bids or 0) + (answer.asks or 0)
        elif any(since <= answer.served_ns <= until for since, until in covered):
            result.in_gaps += 1
        else:
            result.problems.append(
                f"{name}: book {answer.last_update_id} was served and lies neither in the lake nor in a gap"
            )


def _exact(side: Side, served: list[list[str]]) -> bool:
    """Whether these are the float64 of the served texts, in the served order."""
    found = zip(side[0].tolist(), side[1].tolist(), strict=True)
    return list(found) == [(float(price), float(quantity)) for price, quantity in served]


def _messages(table: pa.Table) -> Iterator[tuple[int, Side, Side]]:
    """(last update id, bids, asks) of each message, in the order of offsets."""
    keys = [("raw_partition", "ascending"), ("raw_offset", "ascending"), ("side", "descending"), ("level", "ascending")]
    table = table.sort_by(keys)  # "bid" after "ask", so descending puts bids first
    offsets = table["raw_offset"].to_numpy()
    partitions = table["raw_partition"].to_numpy()
    starts = np.flatnonzero((np.diff(offsets, prepend=-1) != 0) | (np.diff(partitions, prepend=-1) != 0))
    is_bid = pc.fill_null(pc.equal(table["side"], "bid"), fill_value=False).to_numpy()
    is_ask = pc.fill_null(pc.equal(table["side"], "ask"), fill_value=False).to_numpy()
    prices = table["price"].to_numpy()
    quantities = table["quantity"].to_numpy()
    ids = table["last_update_id"].to_numpy()
    for first, last in zip(starts, [*starts[1:], len(offsets)], strict=True):
        rows = slice(first, last)
        bids, asks = is_bid[rows], is_ask[rows]
        yield (
            int(ids[first]),
            (prices[rows][bids], quantities[rows][bids]),
            (prices[rows][asks], quantities[rows][asks]),
        )


def _covered(table: pa.Table | None) -> list[tuple[int, int]]:
    """The times that gap rows say nothing is known of: ns since the epoch, from and until."""
    if table is None:
        return []
    gaps = table.filter(pc.is_valid(table["gap_cause"])).select(["gap_since", "recv_ns"])
    since = pc.multiply(pc.fill_null(gaps["gap_since"].cast(pa.int64()), 0), 1000).to_pylist()
    return list(zip(since, gaps["recv_ns"].to_pylist(), strict=True))
