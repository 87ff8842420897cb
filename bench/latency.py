"""Latency from the exchange to Kafka and to the lake, at a steady load that leaves the machine room.

Simulated exchange (its real protocols) → reader → Kafka → flattener → s3writer → local lake, each a process, all settings
at their defaults but the flush intervals, which are short. Of every message of the measured time (`bench.latency_figures`
says what each figure is): when the exchange made it, when the reader had its last byte, when another
consumer could read it on the raw topic and its rows on the norm topic, when the file with its rows was durable. Raw topic
and lake are compared record by record before a figure is given, and no update may be missing.

    python -m bench.latency [--json] [--seconds 60] [--symbols 150] [--polled 20] [--interval 10] [--broker …]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from typing import TYPE_CHECKING, Any

import yaml

from bench import ours
from bench.latency_figures import Found, figures
from bench.reader import announced
from bench.reader_figures import anchored, check, samples
from bench.running import START_SECONDS, Service
from cryptoflow.demo_line import CONSUMED, FLATTENED
from cryptoflow.demo_probe import records_in
from services.s3writer.buffer import window_end
from shared import topics
from shared.messages import KINDS
from simulator.instruments import instruments

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from cryptoflow.demo_processes import Child
    from shared.settings import ChannelSettings, Settings

SECONDS = 60.0
SYMBOLS = 150  # an update each 100 ms: 1,500 frames a second
POLLED = 20
POLL_INTERVAL_MS = 5000
INTERVAL_SECONDS = 10
WARM_UP_SECONDS = 3.0
WEIGHT_LIMIT = 1_000_000  # polls are as dense as asked for
SERVICES = ("reader", "flattener", "s3writer")


class Line:
    """The exchange and our three services."""

    def __init__(self, place: ours.Place, arguments: argparse.Namespace) -> None:
        self._place = place
        self._arguments = arguments
        self.truth = place.folder / "frames.jsonl"
        self.lake = place.folder / "lake"
        self._seen = place.folder / "seen.json"
        self._symbols = [item.symbol for item in instruments("future", arguments.symbols) if item.status == "TRADING"][
            : arguments.symbols
        ]
        self._chosen = ours.variables(place.bootstrap, "latency", self.lake)
        for kind in ("SNAPSHOT", "DELTA"):
            self._chosen[f"CRYPTOFLOW_WRITER__BUFFER__{kind}_FLUSH_INTERVAL"] = f"{arguments.interval}s"
        self.settings: Settings = ours.settings_of(self._chosen, place.folder)

    def run(self) -> Found:
        """All of it: to the end of the measured time, then drained in the order of the data."""
        asyncio.run(topics.create(self.settings))
        watcher = self._watcher()
        exchange, config = self._exchange()
        services = {name: Service(self._place, name, self._chosen, "--config", str(config)) for name in SERVICES}
        for service in services.values():
            service.wait_ready()
        reader = services["reader"]
        reader.wait("to have all anchors", lambda: anchored(reader.url, len(self._symbols)))
        interval = self._arguments.interval
        began_at = window_end(time.time() + WARM_UP_SECONDS, interval)
        ended_at = began_at + self._arguments.seconds
        self._sleep_until(began_at)
        waiting = self._start("wait", "bench.bare", "wait", str(self._arguments.seconds))
        spent = {name: service.cpu_seconds() for name, service in services.items()}
        self._sleep_until(ended_at)
        cores = {
            name: (service.cpu_seconds() - spent[name]) / self._arguments.seconds for name, service in services.items()
        }
        late = self._result(waiting)
        self._sleep_until(ended_at + 1.5 * interval)  # by then its last window is stored, by the interval
        check(samples(reader.url), len(self._symbols))
        self._drain(services)
        watcher.process.terminate()
        watcher.process.wait()
        self._place.children.forget(watcher)
        exchange.terminate(START_SECONDS)
        self._place.children.forget(exchange)
        return Found(
            began_at=began_at,
            ended_at=ended_at,
            interval_seconds=interval,
            cores=cores,
            late=late,
            seen=json.loads(self._seen.read_text()),
            truth=self.truth,
            lake=self.lake,
        )

    def _drain(self, services: dict[str, Service]) -> None:
        services["reader"].stop()
        raw = sum(records_in(self.settings, each) for each in self._channels("raw"))
        flattener, s3writer = services["flattener"], services["s3writer"]
        flattener.wait("to take all records", lambda: flattener.sum(FLATTENED) >= raw)
        flattener.stop()
        norm = sum(records_in(self.settings, each) for each in self._channels("norm"))
        s3writer.wait("to take all records", lambda: s3writer.sum(CONSUMED) >= norm)
        s3writer.stop()

    def _channels(self, side: str) -> Iterator[ChannelSettings]:
        return (getattr(self.settings.channels, f"{side}_{kind}") for kind in KINDS)

    def _sleep_until(self, at: float) -> None:
        while time.time() < at:
            self._place.children.check()
            time.sleep(min(1.0, max(0.0, at - time.time())))

    def _watcher(self) -> Child:
        channels = [*self._channels("raw"), *self._channels("norm")]
        names = [channel.topic for channel in channels]
        child = self._start(
            "watch", "bench.watch", self._place.bootstrap, str(self._seen), str(channels[0].partitions), *names
        )
        self._place.children.wait("the watching consumer", lambda: "watching" in child.log(), START_SECONDS)
        return child

    def _exchange(self) -> tuple[Child, Path]:
        """It, and where the reader is told of it."""
        child = self._start(
            "exchange", "simulator", "--symbols-per-market", str(self._arguments.symbols),
            "--futures-weight-limit", str(WEIGHT_LIMIT), "--truth-frames", str(self.truth),
        )  # fmt: skip
        urls = self._place.children.wait("the simulated exchange", lambda: announced(child), START_SECONDS)
        path = self._place.folder / "config.yml"
        path.write_text(yaml.safe_dump({"source": {"binance": self._markets(urls)}}, allow_unicode=True))
        return child, path

    def _markets(self, urls: dict[str, Any]) -> dict[str, Any]:
        polled = self._symbols[: self._arguments.polled]
        return {
            name: {
                "rest_url": urls["rest"][name],
                "stream_url": urls["stream"][name],
                "orderbook": {
                    "snapshots": {"enabled": name == "future", "interval_ms": POLL_INTERVAL_MS, "symbols": polled},
                    "delta": {"enabled": name == "future", "interval_ms": 100, "symbols": self._symbols},
                },
            }
            for name in urls["rest"]
        }

    def _start(self, name: str, module: str, *arguments: str) -> Child:
        command = [sys.executable, "-m", module, *arguments]
        return self._place.children.start(name, command, ours.environment({}), self._place.folder)

    def _result(self, child: Child) -> dict[str, float]:
        child.process.wait()
        self._place.children.forget(child)
        found: dict[str, float] = json.loads(child.log().splitlines()[-1])
        return found


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    with ours.place(arguments.broker) as place:
        line = Line(place, arguments)
        found = line.run()
        return {
            "benchmark": "latency",
            "broker": place.broker,
            "symbols": arguments.symbols,
            "polled_symbols": f"{arguments.polled} each {POLL_INTERVAL_MS / 1000:g} s",
            "seconds": arguments.seconds,
            "flush_interval_seconds": arguments.interval,
            **asyncio.run(figures(line.settings, found)),
        }


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.latency", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="that are measured (default: %(default)g)")
    parser.add_argument(
        "--symbols", type=int, default=SYMBOLS, help="with an update each 100 ms (default: %(default)s)"
    )
    parser.add_argument("--polled", type=int, default=POLLED, help="of them are polled too (default: %(default)s)")
    parser.add_argument(
        "--interval", type=int, default=INTERVAL_SECONDS, help="between flushes, in seconds (default: %(default)s)"
    )
    parser.add_argument("--broker", choices=ours.BROKERS, default="auto", help=ours.BROKER_HELP)
    arguments = parser.parse_args()
    found = run(arguments)
    print(json.dumps(found) if arguments.json else json.dumps(found, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
