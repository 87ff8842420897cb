"""The memory of a full flush window: one s3writer takes 300 s of 500 symbols at 45,000 rows a second, and flushes them at once.

The norm topic is filled with what the flattener makes of the simulated market at this rate (`bench.norm`). The s3writer then takes all of it as fast as it can, waits for its window to end, and flushes
all partitions; every setting is at its default but the flush interval, which is only long enough to take all. So part of
it is flushed before, where it is more than the default budget. What is stored is read back: every level with its price,
quantity and record.

    python -m bench.window [--json] [--seconds 300] [--rows-per-second 45000] [--interval 60] [--max-bytes N]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from typing import TYPE_CHECKING, Any

from bench import norm, ours
from bench.running import Service
from bench.stored import look
from bench.work import MARKET_SYMBOLS
from cryptoflow.demo_line import CONSUMED
from services.s3writer.buffer import TRIGGERS, window_end
from shared import topics

if TYPE_CHECKING:
    from shared.settings import Settings

STREAM = "window"
SECONDS = 300.0
ROWS_PER_SECOND = 45_000
INTERVAL_SECONDS = 60
FLUSH_SECONDS = 300.0
FLUSHES = "cryptoflow_flushes_total"
AIM_MIB = 1024


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    with ours.place(arguments.broker) as place:
        lake = place.folder / "lake"
        chosen = ours.variables(place.bootstrap, STREAM, lake)
        chosen["CRYPTOFLOW_WRITER__BUFFER__DELTA_FLUSH_INTERVAL"] = f"{arguments.interval}s"
        if arguments.max_bytes is not None:
            chosen["CRYPTOFLOW_WRITER__BUFFER__MAX_BYTES"] = str(arguments.max_bytes)
        settings = ours.settings_of(chosen, place.folder)
        rows = round(arguments.seconds * arguments.rows_per_second)
        poured = asyncio.run(_poured(settings, rows, arguments.rows_per_second))
        found = _flushed(place, chosen, settings, poured)
        stored = look(lake)
        if (stored.levels, stored.fingerprint) != (poured.levels, poured.fingerprint):
            raise SystemExit(f"{stored.levels} of {poured.levels} levels were stored, or others: nothing was measured")
        return {
            "benchmark": "window",
            "broker": place.broker,
            "symbols": MARKET_SYMBOLS,
            "partitions": settings.channels.norm_fobd.partitions,
            "window_seconds": arguments.seconds,
            "rows_per_second": arguments.rows_per_second,
            "rows": poured.rows,
            "norm_records": poured.records,
            "norm_bytes_per_row": round(poured.bytes / poured.rows, 2),
            "norm_mib": round(poured.bytes / 2**20),
            "budget_mib": round(settings.writer.buffer.max_bytes / 2**20),
            "files": stored.files,
            "stored_bytes_per_row": round(stored.bytes / stored.rows, 2),
            **found,
            "aim_mib": AIM_MIB,
        }


async def _poured(settings: Settings, rows: int, rows_per_second: float) -> norm.Poured:
    await topics.create(settings)
    return await norm.pour(settings, MARKET_SYMBOLS, rows, rows_per_second)


def _flushed(place: ours.Place, chosen: dict[str, str], settings: Settings, poured: norm.Poured) -> dict[str, Any]:
    interval = settings.writer.buffer.delta_flush_interval
    time.sleep(window_end(time.time(), interval) - time.time())  # all of it is to be taken in one window
    writer = Service(place, "s3writer", chosen)
    writer.wait_ready()
    before = _rss_mib(writer)
    writer.wait("to take all records", lambda: writer.sum(CONSUMED) >= poured.records, interval)
    taken = _rss_mib(writer)
    taken_seconds = writer.cpu_seconds()
    ended_at = window_end(time.time(), interval)
    count = settings.channels.norm_fobd.partitions
    writer.wait("to flush", lambda: writer.sum(FLUSHES, trigger="interval") >= count, interval + FLUSH_SECONDS)
    flushes = {trigger: int(writer.sum(FLUSHES, trigger=trigger)) for trigger in TRIGGERS}
    flush_seconds = max(path.stat().st_ctime for path in (place.folder / "lake").rglob("*.parquet")) - ended_at
    spent = writer.stop()
    if flushes["interval"] != count:
        raise SystemExit(f"{flushes}: not one window; nothing was measured")
    return {
        "flushes": " ".join(f"{trigger} {number}" for trigger, number in flushes.items() if number),
        "rss_mib_started": before,
        "rss_mib_buffered_peak": taken,
        "rss_mib_flushed_peak": round(spent.peak_rss_bytes / 2**20),
        "cpu_seconds_to_take": round(taken_seconds, 1),
        "cpu_seconds_in_all": round(spent.cpu_seconds, 1),
        "seconds_from_window_end_to_last_file": round(flush_seconds, 1),
    }


def _rss_mib(writer: Service) -> int:
    """The most so far."""
    writer.account.look()
    return round(writer.account.peak_bytes / 2**20)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.window", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="of the window (default: %(default)g)")
    parser.add_argument(
        "--rows-per-second", type=float, default=ROWS_PER_SECOND, help="that it received (default: %(default)s)"
    )
    parser.add_argument(
        "--interval", type=int, default=INTERVAL_SECONDS, help="the s3writer's, in seconds (default: %(default)s)"
    )
    parser.add_argument(
        "--max-bytes", type=int, help="the s3writer's budget (default: its own, which is less than such a window)"
    )
    parser.add_argument("--broker", choices=ours.BROKERS, default="auto", help=ours.BROKER_HELP)
    arguments = parser.parse_args()
    found = run(arguments)
    print(json.dumps(found) if arguments.json else json.dumps(found, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
