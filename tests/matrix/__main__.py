"""``python -m tests.matrix``: seeded runs of the fault matrix on real Kafka and a real store, and a table of them.

    python -m tests.matrix                           ten minutes, from a random seed
    python -m tests.matrix --runs 200 --seed 1       two hundred runs
    python -m tests.matrix --seed 17 --runs 1        that run again
    python -m tests.matrix --cell "crash s3writer"   only cells with these words in their names

Exit code 1 if a run lost or doubled anything, or did not come to rest.
"""

from __future__ import annotations

import argparse
import asyncio
import secrets
import signal
import sys
import time
from contextlib import ExitStack
from itertools import count
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from tests.matrix.cells import all_cells
from tests.matrix.runs import Run, cell_of, lane, play

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.matrix.cells import Cell
    from tests.matrix.runs import Lane

MINUTES = 10.0


def main(argv: list[str]) -> int:
    arguments = parser().parse_args(argv)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # it too leaves no process and no container behind
    console = Console(highlight=False)
    if arguments.list:
        for cell in all_cells():
            console.print(cell.name)
        return 0
    seed = secrets.randbelow(1_000_000) if arguments.seed is None else arguments.seed
    until = time.monotonic() + arguments.minutes * 60 if arguments.runs is None else float("inf")
    todo = chosen(seed, arguments.cell, arguments.runs)
    console.print(f"seed {seed}, {arguments.jobs} at a time; again: make soak ARGS='--seed {seed} …'")
    done: list[Run] = []

    async def work(on: Lane) -> None:
        for number, cell in todo:
            if time.monotonic() > until:
                return
            run = await play(number, cell, on)
            done.append(run)
            tell(console, run, arguments.cell)

    async def work_all(lanes: list[Lane]) -> None:
        me = asyncio.current_task()
        assert me is not None
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, me.cancel)
        await asyncio.gather(*map(work, lanes))

    stopped = False
    try:
        with ExitStack() as stack:
            asyncio.run(work_all([stack.enter_context(lane()) for _ in range(arguments.jobs)]))
    except (KeyboardInterrupt, asyncio.CancelledError):
        stopped = True
    console.print(table(done))
    return 1 if stopped or any(run.failure for run in done) else 0


def chosen(seed: int, words: str, runs: int | None) -> Iterator[tuple[int, Cell]]:
    """Seeds from `seed` on, and the cells they play; with `words` only those cells."""
    seeds = count(seed) if runs is None else iter(range(seed, seed + runs))
    if not words:
        return ((number, cell_of(number)) for number in seeds)
    cells = [cell for cell in all_cells() if words in cell.name]
    if not cells:
        raise SystemExit(f"no cell has {words!r} in its name; --list names them all")
    return ((number, cells[number % len(cells)]) for number in seeds)


def tell(console: Console, run: Run, words: str) -> None:
    """One line of a run that stood; how to repeat it of one that did not."""
    found = run.judgement
    if found is not None:
        console.print(
            f"{run.seed:>7} {run.cell.name:<48} {run.seconds:5.1f} s  {found.records:>5} records, {found.rows:>6} rows,"
            f" {found.lost} declared lost, {found.gaps} gaps: {found.verdict}",
            soft_wrap=True,
        )
        return
    again = f'make soak ARGS="--seed {run.seed} --runs 1' + (f" --cell '{words}'" if words else "") + '"'
    console.print(f"{run.seed:>7} {run.cell.name:<48} {run.seconds:5.1f} s  FAILED", markup=False)
    console.print(f"{run.failure}\nagain: {again}", markup=False, soft_wrap=True)


def table(runs: list[Run]) -> Table:
    """By kind of fault: runs, failures, and what was compared."""
    made = Table(title="fault matrix")
    for name in ("faults", "cells", "runs", "failed", "raw records", "rows", "declared lost", "gaps"):
        made.add_column(name, justify="left" if name == "faults" else "right")
    groups = sorted({run.cell.group for run in runs})
    for group in [*groups, "all"]:
        mine = [run for run in runs if group in {run.cell.group, "all"}]
        found = [run.judgement for run in mine if run.judgement is not None]
        figures = (
            len({run.cell.name for run in mine}),
            len(mine),
            sum(bool(run.failure) for run in mine),
            sum(each.records for each in found),
            sum(each.rows for each in found),
            sum(each.lost for each in found),
            sum(each.gaps for each in found),
        )
        made.add_row(group, *(f"{figure:,}" for figure in figures), end_section=group == (groups or [""])[-1])
    return made


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        prog="python -m tests.matrix", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument("--seed", type=int, help="the first run's; each has the next one (default: random, printed)")
    made.add_argument("--runs", type=int, help="so many, however long they take")
    made.add_argument("--minutes", type=float, default=MINUTES, help="without --runs: begin none later (default: 10)")
    made.add_argument("--jobs", type=int, default=1, help="runs at a time, each with servers of its own (default: 1)")
    made.add_argument("--cell", default="", metavar="WORDS", help="only cells whose names hold these words")
    made.add_argument("--list", action="store_true", help="name the cells, and do nothing")
    return made


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
