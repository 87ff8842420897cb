"""One run of the demo: its stream, its folders, its configuration. Nothing is started here.

A run's stream is named after the second it began. Runs into one lake therefore never meet, although an embedded broker
begins each time with the same offsets and the same cluster id. What a killed run left unfinished in a lake cannot be
finished any more (its broker is gone): such a lake is moved aside, never repaired and never deleted.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from cryptoflow.demo_processes import DemoFailed
from shared.lake.kinds import LAKE_KINDS
from shared.lake.layout import CLAIMS_ROOT, INSTRUMENTS_ROOT
from shared.lake.store import open_url
from shared.lake.verify import verify
from shared.messages import KINDS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from cryptoflow.demo_broker import Broker
    from cryptoflow.demo_probe import Announced

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ".demo"
BODIES = "bodies"
FRAMES = "frames.jsonl"
BROKER_DATA = "broker"
KEPT_RUNS = 5
RUNNING = "running"  # held locked by the run it lies in
PARTITIONS = 3
FLUSH_SECONDS = 10
LIMIT = 1000
INTERVAL_MS = 2500
UPDATES_MS = 100
ANCHOR_SECONDS = 30
# Within the venue's real budget: 20 of 2400 a minute for a futures poll or anchor, 50 of 6000 for a spot one, 80 % of it
# spent.
SYMBOLS = {
    "future": ["BTCUSDT", "币安人生USDT"],
    "inverse": ["BTCUSD_PERP"],
    "spot": ["BTCUSDT", "ETHUSDT", "SOLUSDT"],
}
_FOREIGN = ("CRYPTOFLOW_", "AWS_", "S3_", "SHARD_IP")  # a user's own settings are for the user's own deployment


@dataclass(frozen=True, slots=True)
class Run:
    """Where a run lives. `folder` holds its configuration, its logs and the exchange's truth."""

    stream: str
    folder: Path
    lake: Path
    base: Path  # where the user stands

    @property
    def config_path(self) -> Path:
        """The configuration of the three services."""
        return self.folder / "config.yml"

    @property
    def truth_path(self) -> Path:
        """What the exchange served, a JSON line per response."""
        return self.folder / "truth.jsonl"

    @property
    def bodies(self) -> Path:
        """The bodies it served, by SHA-256."""
        return self.folder / BODIES

    @property
    def frames_path(self) -> Path:
        """What it streamed, a JSON line per event, and per event and connection."""
        return self.folder / FRAMES

    @property
    def lake_words(self) -> str:
        """The lake as the user would type it."""
        return _typed(self.lake, self.base)

    @property
    def folder_words(self) -> str:
        """The run's folder as the user would type it."""
        return _typed(self.folder, self.base)

    def environment(self) -> dict[str, str]:
        """For child processes: this project first on the path, no setting of the user's."""
        own = {key: value for key, value in os.environ.items() if not key.startswith(_FOREIGN)}
        path = os.pathsep.join(filter(None, [str(ROOT), own.get("PYTHONPATH")]))
        return own | {"PYTHONPATH": path, "PYTHONUNBUFFERED": "1"}

    def write_config(self, broker: Broker, exchange: Announced) -> None:
        """The configuration of the three services, as a user would write it."""
        topic = "" if broker.own else f"{self.stream}-"
        channels = {
            f"{side}_{kind}": {"topic": f"{topic}{side}-{kind}", "partitions": PARTITIONS, "retention_hours": 24}
            for side in ("raw", "norm")
            for kind in KINDS
        }
        channels["dead_letters"] = {"topic": f"{topic}dead-letters", "partitions": 1, "retention_hours": 24}
        config: dict[str, Any] = {
            "cryptoflow": {"name": "cryptoflow-demo", "environment": "demo"},
            "kafka": {
                "bootstrap_servers": broker.bootstrap_servers,
                "stream": self.stream,
                "session_timeout_ms": 10_000,
                "heartbeat_interval_ms": 1_000,
            },
            "channels": channels,
            "source": {
                "binance": {
                    market: {
                        "rest_url": exchange.rest[market],
                        "stream_url": exchange.stream[market],
                        "orderbook": {
                            "snapshots": {
                                "enabled": True,
                                "interval_ms": INTERVAL_MS,
                                "limit": LIMIT,
                                "symbols": symbols,
                            },
                            "delta": {
                                "enabled": True,
                                "interval_ms": UPDATES_MS,
                                "anchor_interval": f"{ANCHOR_SECONDS}s",
                                "limit": LIMIT,
                                "symbols": symbols,
                            },
                        },
                    }
                    for market, symbols in SYMBOLS.items()
                }
            },
            "storage": {"s3": {"enabled": False}, "local": {"path": str(self.lake)}},
            "writer": {
                "buffer": {
                    "snapshot_flush_interval": f"{FLUSH_SECONDS}s",
                    "delta_flush_interval": f"{FLUSH_SECONDS}s",
                }
            },
            "metrics": {"port": 0},
            "logging": {"format": "json"},
        }
        self.config_path.write_text(yaml.safe_dump(config, allow_unicode=True, sort_keys=False), encoding="utf-8")


@contextmanager
def claim(base: Path, lake: Path, say: Callable[[str], None]) -> Iterator[Run]:
    """A new run into `lake`, which no other run may use meanwhile. Raises `DemoFailed` if one does."""
    runs = base / FOLDER
    runs.mkdir(exist_ok=True)
    with (runs / f"{lake.name}.lock").open("w") as lock, ExitStack() as after:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise DemoFailed(
                f'Another demo is writing to {_typed(lake, base)}. Wait for it, or name another lake: make demo ARGS="--lake other-lake"'
            ) from error
        after.callback(_tidy, runs)
        _make_way(lake, base, say)
        run = _new(runs, lake, base)
        with (run.folder / RUNNING).open("w") as running:
            fcntl.flock(running, fcntl.LOCK_EX)
            yield run


def _new(runs: Path, lake: Path, base: Path) -> Run:
    while True:
        stream = f"demo_{datetime.now(UTC):%Y%m%d_%H%M%S}"
        try:
            (runs / stream).mkdir()
        except FileExistsError:  # another run began in the same second
            time.sleep(1)
        else:
            return Run(stream, runs / stream, lake, base)


def _make_way(lake: Path, base: Path, say: Callable[[str], None]) -> None:
    """Leaves a lake that is proven where it is, moves one that is not aside, and refuses what is no lake."""
    if not lake.exists():
        return
    foreign = {path.name for path in lake.iterdir()} - {CLAIMS_ROOT, INSTRUMENTS_ROOT, *LAKE_KINDS}
    if foreign:
        raise DemoFailed(
            f"{_typed(lake, base)} is no lake (there is {min(foreign)!r} in it): name another place with --lake"
        )
    if verify(open_url(str(lake)), strict=True).verdict not in {"complete", "empty"}:
        aside = lake.with_name(f"{lake.name}-{datetime.now(UTC):%Y%m%d_%H%M%S}")
        lake.rename(aside)
        say(
            f"The older {_typed(lake, base)} was left unfinished by a run that was killed: moved to {_typed(aside, base)}"
        )


def _tidy(runs: Path) -> None:
    """Drops what is bulky of runs that are over, killed ones included, and all of the older ones."""
    over = [folder for folder in sorted(runs.glob("demo_*")) if _is_over(folder)]
    for folder in over[:-KEPT_RUNS]:
        shutil.rmtree(folder, ignore_errors=True)
    for folder in over[-KEPT_RUNS:]:
        for bulky in (folder / BROKER_DATA, folder / BODIES):
            shutil.rmtree(bulky, ignore_errors=True)
        (folder / FRAMES).unlink(missing_ok=True)


def _is_over(folder: Path) -> bool:
    try:
        with (folder / RUNNING).open("r+") as running:
            fcntl.flock(running, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:  # locked by a run, or a run is about to make it
        return False
    return True


def _typed(path: Path, base: Path) -> str:
    return str(path.relative_to(base)) if path.is_relative_to(base) else str(path)
