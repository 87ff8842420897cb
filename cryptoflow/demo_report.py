"""What the demo says at its end: what lies in the lake, whether it is proven, and how to look further."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import duckdb
from rich.table import Table

from cryptoflow.demo_rebuild import rebuild
from cryptoflow.demo_run import SYMBOLS
from cryptoflow.demo_truth import SHOWN_PROBLEMS, compare
from shared.lake.instant import instant_text
from shared.lake.store import open_url
from shared.lake.verify import verify
from shared.messages import KINDS

if TYPE_CHECKING:
    from rich.console import Console

    from cryptoflow.demo_rebuild import Rebuilt
    from cryptoflow.demo_run import Run
    from cryptoflow.demo_truth import Comparison

TOP_LEVELS = 5
TOP_OF_BOOK = """SELECT level,
       max(quantity) FILTER (side = 'bid') AS bid_quantity,
       max(price)    FILTER (side = 'bid') AS bid,
       max(price)    FILTER (side = 'ask') AS ask,
       max(quantity) FILTER (side = 'ask') AS ask_quantity
FROM book
WHERE timestamp = (SELECT max(timestamp) FROM book WHERE side IS NOT NULL) AND level <= {levels}
GROUP BY level ORDER BY level"""
ROWS = """WITH fobs AS (
  SELECT market, symbol, count(DISTINCT (raw_partition, raw_offset)) FILTER (gap_cause IS NULL) AS snapshots,
         count(side) AS levels, count(gap_cause) AS gaps, min(recv_ns) AS first, max(recv_ns) AS last
  FROM read_parquet(?, hive_partitioning = true) GROUP BY ALL
), fobd AS (
  SELECT market, symbol, count(DISTINCT (raw_partition, raw_offset)) FILTER (type = 'update') AS updates,
         count(DISTINCT (raw_partition, raw_offset)) FILTER (type = 'snapshot') AS anchors,
         count(side) AS changes, count(gap_cause) AS changes_gaps, min(recv_ns) AS d_first, max(recv_ns) AS d_last
  FROM read_parquet(?, hive_partitioning = true) GROUP BY ALL
)
SELECT market, symbol, snapshots, levels, updates, anchors, changes, gaps, changes_gaps,
       strftime(make_timestamp(least(first, d_first) // 1000), '%H:%M:%S'),
       strftime(make_timestamp(greatest(last, d_last) // 1000), '%H:%M:%S')
FROM fobs FULL JOIN fobd USING (market, symbol) ORDER BY ALL"""
BOOK = """WITH book AS (
  FROM read_parquet('{lake}/fobs/exchange=binance/market={market}/symbol={symbol}/**/*.parquet', hive_partitioning = true))
"""


def show(run: Run, refused_anchors: int, console: Console) -> bool:
    """Prints it all; whether the lake is proven and equal to what was served. For `refused_anchors` see `compare`."""
    console.print()
    _show_rows(run, console)
    _show_book(run, console)
    proven = _show_verdict(run, console)
    equal = _show_comparison(compare(run, refused_anchors), console)
    rebuilt = rebuild(run)
    rebuilt_equal = _show_rebuilt(rebuilt, console)
    _show_commands(run, rebuilt, console)
    return proven and equal and rebuilt_equal


def _show_rows(run: Run, console: Console) -> None:
    rows = duckdb.execute(ROWS, [f"{run.lake}/{kind}/**/{kind}-{run.stream}-*.parquet" for kind in KINDS]).fetchall()
    table = Table(
        title="In the lake, from this run",
        title_justify="left",
        caption="gap rows: of snapshots + of updates; every run begins with a `start` and ends with a `stop`",
        caption_justify="left",
    )
    names = (
        "market",
        "symbol",
        "snapshots",
        "levels",
        "updates",
        "anchors",
        "their levels",
        "gap rows",
        "first",
        "last (UTC)",
    )
    for name in names:
        table.add_column(name, justify="left" if name in {"market", "symbol"} else "right")
    for market, symbol, *counts, snapshot_gaps, update_gaps, first, last in rows:
        gaps = f"{snapshot_gaps:,} + {update_gaps:,}"
        table.add_row(market, symbol, *(f"{count:,}" for count in counts), gaps, first, last)
    console.print(table)


def _show_book(run: Run, console: Console) -> None:
    market, symbol = "future", SYMBOLS["future"][0]
    query = BOOK.format(lake=run.lake, market=market, symbol=symbol) + TOP_OF_BOOK.format(levels=TOP_LEVELS)
    result = duckdb.execute(query)
    table = Table(title=f"Top of the latest {symbol} book ({market}), by DuckDB", title_justify="left")
    for column in result.description or ():
        table.add_column(column[0], justify="right")
    for row in result.fetchall():
        table.add_row(*map(str, row))
    console.print(table)


def _show_verdict(run: Run, console: Console) -> bool:
    report = verify(open_url(str(run.lake)), strict=True)
    if report.ok:
        console.print(f"lake verify    green: {report}")
    else:
        console.print(f"lake verify    RED: {report}")
        for finding in [*report.problems, *report.losses][:SHOWN_PROBLEMS]:
            console.print(f"    {finding}")
    return report.ok


def _show_comparison(found: Comparison, console: Console) -> bool:
    if not found.equal:
        console.print(
            f"against truth  DIFFERENT: {found.levels:,} levels served, {found.rows:,} rows;"
            f" {found.updates.levels:,} levels of updates sent, {found.updates.rows:,} rows; {len(found.problems)} problems"
        )
        for problem in found.problems[:SHOWN_PROBLEMS]:
            console.print(f"    {problem}")
        return False
    console.print(
        f"against truth  equal: {found.polls:,} completed polls, {found.levels:,} levels served = {found.rows:,} rows,"
        " each once, each price and quantity the float64 of the venue's text"
    )
    updates = found.updates
    console.print(
        f"               equal: {updates.updates:,} updates, {updates.levels:,} levels sent = {updates.rows:,} rows,"
        f" {updates.removals:,} of them removals, each once and in order; {found.anchors:,} anchors"
    )
    if found.in_gaps or updates.on_their_way:
        console.print(
            f"               {found.in_gaps:,} answers and {updates.on_their_way:,} updates more were on their way when the"
            " reader stopped; gap rows say so"
        )
    if updates.in_gaps or found.refused:
        console.print(
            f"               {updates.in_gaps:,} updates are missing where gap rows say so; {found.refused:,} answers came"
            " too late to be anchors"
        )
    return True


def _show_rebuilt(rebuilt: Rebuilt | None, console: Console) -> bool:
    """The last line of the proof; whether it is good, or there was nothing to compare."""
    if rebuilt is None:
        console.print("book from updates  not compared: no poll came between an anchor and the end")
        return True
    (market, symbol), book = rebuilt.choice.name, rebuilt.book
    where = f"{symbol} ({market}) at {instant_text(rebuilt.choice.at_ns)}"
    if rebuilt.problem:
        console.print(f"book from updates  DIFFERENT: {where}: {rebuilt.problem}")
        return False
    console.print(
        f"book from updates  equal: {where}, id {book.update_id}: anchor + {book.updates:,} updates = polled snapshot,"
        f" first {rebuilt.bids:,} bids and {rebuilt.asks:,} asks"
    )
    return True


def _show_commands(run: Run, rebuilt: Rebuilt | None, console: Console) -> None:
    python = _typed(Path(sys.executable), run.base)
    command = Path(sys.executable).with_name("cryptoflow")
    cryptoflow = _typed(command, run.base) if command.exists() else f"{python} -m cryptoflow.cli"
    query = BOOK.format(lake=run.lake_words, market="spot", symbol=SYMBOLS["spot"][0]) + TOP_OF_BOOK.format(
        levels=TOP_LEVELS
    )
    console.print(f"""
Look further:
{cryptoflow} lake verify {run.lake_words}
{cryptoflow} lake watermark {run.lake_words}
{cryptoflow} lake gaps {run.lake_words} --stream {run.stream}""")
    if rebuilt is not None:
        market, symbol = rebuilt.choice.name
        at = instant_text(rebuilt.choice.at_ns)
        console.print(
            f"{cryptoflow} lake book {run.lake_words} --exchange binance --market {market} --symbol {symbol} --at {at}"
            f" --depth {TOP_LEVELS}"
        )
    console.print(f"""\
{cryptoflow} check-config --config {run.folder_words}/config.yml
tail -n 3 {run.folder_words}/*.log
{python} - <<'END'
import duckdb
duckdb.sql(\"\"\"{query}\"\"\").show()
END""")


def _typed(path: Path, base: Path) -> str:
    return str(path.relative_to(base)) if path.is_relative_to(base) else str(path)
