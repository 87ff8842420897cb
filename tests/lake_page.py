"""docs/reading-the-lake.md as tests need it: its snippets, and the lake that they speak of.

A fence says who runs its snippet: the language alone where a local lake is enough, and a word for what else it needs
(`spark`, `s3`); `untested` where no test can.
"""

from __future__ import annotations

import re
import subprocess
import sys
from typing import TYPE_CHECKING

from shared.lake import layout
from shared.lake.instruments import store_if_changed
from shared.venues.instruments import Instrument
from tests.lakes import BTC, CHINESE, ETH, HOUR_0, HOUR_1, ODD, FobdRows, Line, fobd_line
from tests.support import ROOT

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from shared.lake.store import Store

PAGE = ROOT / "docs" / "reading-the-lake.md"
FOBS_COUNTS = {BTC.symbol: 60, ETH.symbol: 20, CHINESE.symbol: 40, ODD.symbol: 20}
SNIPPETS = re.findall(r"^```(.+)\n((?:.*\n)*?)```$", PAGE.read_text(), re.MULTILINE)


def snippets(info: str) -> list[str]:
    """Those whose fence says so."""
    return [text for told, text in SNIPPETS if told == info]


def snippet(info: str, part: str) -> str:
    """The one of them that has `part` in it."""
    (text,) = (text for text in snippets(info) if part in text)
    return text


def run_python(text: str, folder: Path, environ: Mapping[str, str] | None = None) -> str:
    """What the snippet prints, run as it stands, in a folder."""
    ran = subprocess.run(
        [sys.executable, "-W", "error::FutureWarning", "-c", text],
        cwd=folder,
        env={"PYTHONPATH": str(ROOT), "PATH": "", "PYTHONIOENCODING": "utf-8", **(environ or {})},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def add_snapshots(store: Store) -> None:
    """Snapshots of four books over two hours, in two partitions: `FOBS_COUNTS`."""
    line = Line(store)
    line.flush((BTC, HOUR_0), (ETH, HOUR_0), (CHINESE, HOUR_0))
    line.flush((BTC, HOUR_0), (BTC, HOUR_1), (CHINESE, HOUR_1))
    Line(store, partition=1).flush((ODD, HOUR_1))


def add_rests(root: Path) -> None:
    """All that lies beside the data in a local lake that had crashes."""
    (root / layout.TEMPORARY_ROOT / "0123").write_bytes(b"half")
    (root / layout.PROBE_ROOT).mkdir()
    (root / layout.PROBE_ROOT / "4567").write_bytes(b"probe")


def add_deltas(store: Store, gap_at: int | None = None) -> None:
    """What the page's books are about: an anchor at 2 s, updates each second (repeats, one that straddles), a stop."""
    rows, line = FobdRows(), fobd_line(store)
    rows.update(2, 5, 1, [(100.0, 9.0)], [])
    rows.anchor(10, [(100.0 - n, 1.0 + n) for n in range(8)], [(101.0 + n, 2.0 + n) for n in range(3)], limit=8)
    rows.update(6, 9, 5, [(100.0, 7.0)], [(101.0, 7.0)])
    rows.update(8, 12, 9, [(100.0, 0.0), (99.5, 4.0), (50.0, 1.0)], [(200.0, 0.0)])
    rows.update(0, 0, 0)
    for number in range(12, 60):
        line.write((BTC, rows.take()))
        if rows.recv_ns == gap_at:
            rows.gap("disconnect", last=number)
        rows.update(
            number + 1, number + 1, number, [(90.0 + number % 7, number % 3)], [(101.0 + number % 5, number % 4)]
        )
    rows.gap("stop", since=rows.recv_ns)
    line.write((BTC, rows.take()))


def add_instruments(store: Store) -> None:
    """Two listings, an hour apart."""
    for status, hour in (("TRADING", HOUR_0), ("BREAK", HOUR_1)):
        store_if_changed(store, "binance", "future", [Instrument(symbol="BTCUSDT", status=status)], hour * 1000)
