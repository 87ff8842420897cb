"""``python -m cryptoflow.demo``: the whole line on one machine, checked against what the exchange served.

    simulator ─REST, websockets─▶ reader ─▶ broker ─▶ flattener ─▶ broker ─▶ s3writer ─▶ ./demo-lake

Every part is a process of its own, as in production; the demo only starts them, watches, stops them in the order of the
data and looks at what lies in the lake. It ends by itself or at Ctrl-C, its exit code tells the truth, and it leaves
nothing running. Each run is a new stream, so a lake that is there already grows and stays provable.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from cryptoflow import demo_broker, demo_report, demo_run
from cryptoflow.demo_line import Line
from cryptoflow.demo_processes import Children, DemoFailed, Interrupted, Interrupts
from cryptoflow.demo_progress import Progress

if TYPE_CHECKING:
    from collections.abc import Sequence

DEFAULT_SECONDS = 60.0
MARKETS = "spot, USDⓈ-M and COIN-M futures, REST and websockets"
PLAIN_WIDTH = 120  # of tables, where there is no terminal to ask
OK, FAILED, STOPPED = 0, 1, 130


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the demo. 0 = all is in the lake and proven; 1 = it is not, and why; 130 = stopped before it could be."""
    arguments = _parser().parse_args(argv)
    console = Console(highlight=False, markup=False, soft_wrap=True)
    if not console.is_terminal:
        console.width = PLAIN_WIDTH
    interrupts = Interrupts()
    try:
        with demo_run.claim(Path.cwd(), arguments.lake.absolute(), console.print) as run:
            return _demo(run, arguments, interrupts, console)
    except Interrupted as stopped:
        console.print(f"\n{stopped}")
        return STOPPED
    except DemoFailed as failed:
        console.print(f"\nFAILED: {failed}")
        if failed.log:
            console.print("".join(f"    {line}\n" for line in failed.log.splitlines()), end="")
        return FAILED


def _demo(run: demo_run.Run, arguments: argparse.Namespace, interrupts: Interrupts, console: Console) -> int:
    with Children(run.folder, interrupts) as children:
        broker = demo_broker.start(
            arguments.broker, arguments.bootstrap_servers, children, run.folder, run.environment()
        )
        try:
            console.print(f"Broker     {broker.words}")
            line = Line(run, broker, children)
            line.start_exchange(arguments.seed)
            console.print(f"Exchange   simulated Binance at {line.exchange_url}: {MARKETS}")
            console.print(f"Lake       {run.lake_words}, stream {run.stream}")
            console.print(f"Logs       {run.folder_words}")
            line.start_services()
            console.print("Services   reader, flattener and s3writer are ready")
            with Progress(run, line, console) as progress:
                progress.show_for(arguments.seconds, interrupts, children)
            console.print(
                "Draining: reader, flattener, s3writer"
                if not interrupts.asked
                else "Ctrl-C: draining the reader, the flattener, the s3writer (again: stop at once)"
            )
            interrupts.draining = True
            line.drain()
        finally:
            broker.close()
    return OK if demo_report.show(run, line.refused_anchors, console) else FAILED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="make demo ARGS=…", description="CryptoFlow on one machine: no Docker, no account, no network."
    )
    add = parser.add_argument
    add(
        "--seconds",
        type=_seconds,
        default=os.environ.get("DEMO_SECONDS") or DEFAULT_SECONDS,
        metavar="N",
        help="how long to record (also DEMO_SECONDS; default: 60)",
    )
    add(
        "--lake", type=Path, default=Path("demo-lake"), metavar="DIR", help="where the lake lies (default: ./demo-lake)"
    )
    add("--bootstrap-servers", metavar="HOST:PORT", help="use this Kafka; the run gets topics of its own there")
    add(
        "--broker",
        choices=("auto", "embedded", "docker"),
        default="auto",
        help="auto: the embedded broker, else a Kafka in Docker",
    )
    add("--seed", type=int, default=1, metavar="N", help="another one, other books (default: 1)")
    return parser


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds")
    return seconds


if __name__ == "__main__":
    sys.exit(main())
