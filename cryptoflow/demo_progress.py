"""What the demo shows while it runs: per symbol what was served and what lies in the lake; a table on a terminal, else lines.

Rows in the lake are counted from the claims, which say exactly what each flush holds. Nothing here decides anything.
"""

from __future__ import annotations

import time
from collections import Counter
from typing import TYPE_CHECKING, Self

import msgspec
from rich.live import Live
from rich.table import Table

from cryptoflow.demo_frames import Served
from shared.lake.claims import Claim
from shared.lake.kinds import is_rows
from shared.lake.layout import CLAIMS_V1, parse_claim_path, parse_data_path
from shared.messages import KINDS

if TYPE_CHECKING:
    from types import TracebackType

    from rich.console import Console

    from cryptoflow.demo_frames import BookName
    from cryptoflow.demo_line import Line
    from cryptoflow.demo_processes import Children, Interrupts
    from cryptoflow.demo_run import Run
    from shared.messages import Kind

REFRESH_SECONDS = 0.5
LINE_SECONDS = 5.0


class Progress:
    """A context manager: what was drawn on the terminal stays there when it ends."""

    def __init__(self, run: Run, line: Line, console: Console) -> None:
        self._run = run
        self._line = line
        self._console = console
        self._live = Live(console=console, auto_refresh=False) if console.is_terminal else None
        self._began = time.monotonic()
        self._printed = self._began
        self._streamed = Served(run.frames_path)
        self._stored: dict[Kind, Counter[BookName]] = {kind: Counter() for kind in KINDS}  # rows
        self._claims: set[str] = set()
        self._files = 0

    def __enter__(self) -> Self:
        if self._live:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        if self._live:
            self._live.stop()

    def show_for(self, seconds: float, interrupts: Interrupts, children: Children) -> None:
        """Until the time is over or the user asks to stop. Raises `DemoFailed` if a part ends meanwhile."""
        while not interrupts.asked and (elapsed := time.monotonic() - self._began) < seconds:
            children.check()
            self._show(elapsed, seconds)
            time.sleep(min(REFRESH_SECONDS, seconds - elapsed))

    def _show(self, elapsed: float, seconds: float) -> None:
        if self._live:
            self._live.update(self._table(elapsed, seconds), refresh=True)
        elif time.monotonic() - self._printed >= LINE_SECONDS:
            self._printed += LINE_SECONDS
            served = self._look()
            snapshots = sum(book["answers"] for market in served.values() for book in market.values())
            self._console.print(
                f"{elapsed:5.0f} s  {snapshots:5,} snapshots and {self._streamed.updates.total():7,} updates served;"
                f" in the lake {self._stored['fobs'].total():10,} + {self._stored['fobd'].total():8,} rows"
                f" in {self._files:,} files"
            )

    def _table(self, elapsed: float, seconds: float) -> Table:
        served = self._look()
        table = Table(title=f"{elapsed:.0f} of {seconds:.0f} s  (Ctrl-C drains and ends)", title_justify="left")
        table.add_column("market")
        table.add_column("symbol")
        for name in ("snapshots served", "rows in the lake", "updates served", "rows in the lake"):
            table.add_column(name, justify="right")
        for market, symbols in served.items():
            for symbol, book in symbols.items():
                key = market, symbol
                snapshots, updates = self._stored["fobs"][key], self._stored["fobd"][key]
                sent = self._streamed.updates[key]
                table.add_row(market, symbol, f"{book['answers']:,}", f"{snapshots:,}", f"{sent:,}", f"{updates:,}")
        return table

    def _look(self) -> dict[str, dict[str, dict[str, int]]]:
        """Brings the counts up to now; what was served over REST is returned."""
        self._streamed.look()
        self._read_claims()
        return self._line.served()

    def _read_claims(self) -> None:
        """Adds what new claims say."""
        for path in sorted((self._run.lake / CLAIMS_V1).glob(f"*/{self._run.stream}/*/*.json")):
            name = path.relative_to(self._run.lake).as_posix()
            parsed = parse_claim_path(name)
            if name in self._claims or parsed is None or parsed.what != "claim":
                continue
            self._claims.add(name)
            for file in msgspec.json.decode(path.read_bytes(), type=Claim).files:
                data = parse_data_path(file.path)
                if data is not None and is_rows(data.kind):
                    self._files += 1
                    self._stored[data.kind][data.book.market, data.book.symbol] += file.rows
