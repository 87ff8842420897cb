"""What the demo says at its end: what lies in the lake, whether it is proven, and how to look further."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import duckdb
from rich.table import Table

from cryptoflow.demo_run import SYMBOLS
from cryptoflow.demo_truth import SHOWN_PROBLEMS, compare
from shared.lake.store import open_url
from shared.lake.verify import verify

if TYPE_CHECKING:
    from rich.console import Console

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
BOOK = """WITH book AS (
  FROM read_parquet('{lake}/fobs/exchange=binance/market={market}/symbol={symbol}/**/*.parquet', hive_partitioning = true))
"""


def show(run: Run, console: Console) -> bool:
    """Prints it all; whether the lake is proven and equal to what was served."""
    console.print()
    _show_rows(run, console)
    _show_book(run, console)
    proven = _show_verdict(run, console)
    equal = _show_comparison(compare(run), console)
    _show_commands(run, console)
    return proven and equal


def _show_rows(run: Run, console: Console) -> None:
    files = f"{run.lake}/fobs/**/fobs-{run.stream}-*.parquet"
    rows = duckdb.execute(
        """SELECT market, symbol, count(DISTINCT (raw_partition, raw_offset)) FILTER (gap_cause IS NULL) AS snapshots,
                  count(side) AS levels, count(gap_cause) AS gaps, strftime(make_timestamp(min(recv_ns) // 1000), '%H:%M:%S'),
                  strftime(make_timestamp(max(recv_ns) // 1000), '%H:%M:%S')
           FROM read_parquet(?, hive_partitioning = true) GROUP BY ALL ORDER BY ALL""",
        [files],
    ).fetchall()
    table = Table(title="In the lake, from this run", title_justify="left")
    for name in ("market", "symbol", "snapshots", "rows of levels", "gap rows", "first", "last (UTC)"):
        table.add_column(name, justify="left" if name in {"market", "symbol"} else "right")
    for market, symbol, snapshots, levels, gaps, first, last in rows:
        table.add_row(market, symbol, f"{snapshots:,}", f"{levels:,}", f"{gaps:,}", first, last)
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
    if found.problems or found.rows != found.levels:
        console.print(
            f"against truth  DIFFERENT: {found.levels:,} levels served, {found.rows:,} rows; {len(found.problems)} problems"
        )
        for problem in found.problems[:SHOWN_PROBLEMS]:
            console.print(f"    {problem}")
        return False
    console.print(
        f"against truth  equal: {found.polls:,} completed polls, {found.levels:,} levels served = {found.rows:,} rows,"
        " each once, each price and quantity the float64 of the venue's text"
    )
    if found.in_gaps:
        console.print(
            f"               {found.in_gaps} more were served while the reader stopped; their gap rows say so"
        )
    return True


def _show_commands(run: Run, console: Console) -> None:
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
{cryptoflow} check-config --config {run.folder_words}/config.yml
tail -n 3 {run.folder_words}/*.log
{python} - <<'END'
import duckdb
duckdb.sql(\"\"\"{query}\"\"\").show()
END""")


def _typed(path: Path, base: Path) -> str:
    return str(path.relative_to(base)) if path.is_relative_to(base) else str(path)
