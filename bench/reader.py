"""The reader under load: captured BTC and ETH frames from the simulator, through the reader's process, into Kafka.

    python -m bench.reader [--json] [--minutes 1] [--seconds 10] [--rounds 3] [--broker auto|docker|embedded]

Each round saturates the reader, then a bare websocket client, then a bare Kafka producer, with the same frames: the
first figure is CPU time of the reader's process per frame, beside the sum of the other two. Then cryptofeed with its Kafka
backend gets the same frames from the same exchange, at loads at which its core is not full: it awaits each acknowledgement
before the next send and queues the rest without bound (saturated on a busy machine, it published nothing in a minute). What
counts for it is its CPU time per frame received and parsed, published or not, the best of its loads: more than its due.
Then one reader runs for `--minutes` at half of what a core is to take: latency from socket to acknowledgement, beside how
late an event loop wakes that does nothing, and RSS over time. A gap but for the reader's start, or a repeat, ends the
benchmark: every frame must be published.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
import time
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from bench import environments
from bench.backlog import START_SECONDS, Peak
from bench.contenders import PEERS
from bench.payloads import DELTAS
from bench.reader_figures import anchored, buckets, check, in_words, measured, medians, produced, samples
from cryptoflow import demo_broker
from cryptoflow.demo_probe import get, logged_port, records_in
from cryptoflow.demo_processes import Child, Children, Interrupts
from cryptoflow.demo_run import Run
from shared import topics
from shared.settings import load

if TYPE_CHECKING:
    from collections.abc import Iterator

SATURATING_PER_SECOND = 40_000
LOAD_PER_SECOND = 5_000  # half of what a core is to take
WARM_UP_SECONDS = 3.0
PARTITIONS = 6
TOPIC = "raw-fobd"
SYMBOLS = ["BTCUSDT", "ETHUSDT"]
PEER_SYMBOLS = ["BTC-USDT-PERP", "ETH-USDT-PERP"]
PEER_LOADS_PER_SECOND = (200, 2000)
PEER = "cryptofeed"


Urls = dict[str, Any]  # "rest" and "stream" by market, "control"
NO_EXCHANGE: Urls = {"rest": {}, "stream": {}}


class Line:
    """Simulator → reader → broker, in a folder of its own."""

    def __init__(self, children: Children, run: Run, broker: demo_broker.Broker, options: argparse.Namespace) -> None:
        self._children = children
        self._run = run
        self._broker = broker
        self._options = options

    @contextmanager
    def simulator(self, per_second: float) -> Iterator[Urls]:
        """An exchange that sends so many frames a second in all, or as many as are taken."""
        arguments = ["--captures", str(DELTAS.parent), "--firehose", str(per_second)]
        child = self._start("exchange", sys.executable, "-m", "simulator", *arguments)
        yield self._children.wait("the simulated exchange", lambda: announced(child), START_SECONDS)
        child.kill()
        self._children.forget(child)

    @contextmanager
    def reader(self, exchange: Urls) -> Iterator[tuple[Child, str]]:
        """The reader, both symbols flowing and anchored; afterwards nothing may be missing."""
        self._write_config(exchange)
        profiled = ["-m", "cProfile", "-o", str(self._options.profile.resolve())] if self._options.profile else []
        config = str(self._run.config_path)
        child = self._start("reader", sys.executable, *profiled, "-m", "services.reader", "--config", config)
        url = f"http://127.0.0.1:{self._children.wait('the reader', lambda: logged_port(child), START_SECONDS)}"
        self._children.wait("the reader to be ready", lambda: get(f"{url}/readyz"), START_SECONDS)
        self._children.wait("both anchors", lambda: anchored(url, len(SYMBOLS)), START_SECONDS)
        time.sleep(WARM_UP_SECONDS)
        yield child, url
        check(samples(url), len(SYMBOLS))
        child.terminate(60)
        self._children.forget(child)

    def saturated(self, seconds: float) -> dict[str, float]:
        """Frames a second of CPU time and of time, as fast as the reader takes them."""
        with self.simulator(SATURATING_PER_SECOND) as exchange, self.reader(exchange) as (child, url):
            return measured(child, partial(produced, url), seconds)

    def bare(self, seconds: float) -> dict[str, float]:
        """CPU microseconds per frame of both halves alone."""
        with self.simulator(SATURATING_PER_SECOND) as exchange:
            received = self._bare("receive", f"{exchange['stream']['future']}/stream", str(seconds))
        sent = self._bare("send", self._broker.bootstrap_servers, TOPIC, self._options.compression, str(seconds))
        return {"receive": received, "send": sent}

    def peer(self, per_second: float, seconds: float) -> dict[str, float]:
        """What cryptofeed publishes and receives a second of its CPU time and of time; its books must hold as ours must."""
        with self.simulator(per_second) as exchange:
            urls = [exchange["rest"]["future"], exchange["stream"]["future"]]
            where = [self._broker.bootstrap_servers, TOPIC, *PEER_SYMBOLS]
            before = self._published()
            child = self._start(PEER, str(environments.python(PEER)), str(PEERS / "feed_cryptofeed.py"), *urls, *where)
            self._children.wait("cryptofeed to publish", lambda: self._published() > before, START_SECONDS)
            time.sleep(WARM_UP_SECONDS)
            sent = frames_sent(exchange)
            found = measured(child, self._published, seconds)
            received = frames_sent(exchange) - sent
            if "Missing book update" in (self._run.folder / "cryptofeed.log").read_text():
                raise SystemExit("cryptofeed's chain of ids did not hold: nothing was measured")
            child.kill()
            self._children.forget(child)
        cpu_seconds = found["cpu_us_per_frame"] * found["frames_per_second"] * seconds / 1e6
        return found | {
            "received_frames_per_second": received / seconds,
            "cpu_us_per_received_frame": cpu_seconds / received * 1e6,
        }

    def _published(self) -> float:
        settings = load(self._run.config_path, environ={}, dotenv_path=self._run.folder / "no.env")
        return float(records_in(settings, settings.channels.raw_fobd))

    def steady(self, per_second: float, minutes: float) -> dict[str, Any]:
        """Latency and memory over `minutes`."""
        with self.simulator(per_second) as exchange, self.reader(exchange) as (child, url):
            waiting = self._start("wait", sys.executable, "-m", "bench.bare", "wait", str(minutes * 60))
            before = buckets(samples(url))
            with Peak(child) as peak:
                figures = measured(child, partial(produced, url), minutes * 60)
            after = buckets(samples(url))
            late = self._result(waiting)
        counts = {bound: after[bound] - before[bound] for bound in after}
        tenths = peak.over_time()
        return {
            "offered_per_second": per_second,
            **{name: round(value, 1) for name, value in figures.items()},
            **{f"latency_p{of}_ms": in_words(counts, of / 100) for of in (50, 99)},
            **{f"bare_wait_{name}": round(value, 1) for name, value in late.items()},
            "rss_mib_by_tenths": " ".join(map(str, tenths)),
            "rss_last_over_first_tenth": round(tenths[-1] / tenths[0], 3),
        }

    def _bare(self, *arguments: str) -> float:
        found = self._result(self._start("bare", sys.executable, "-m", "bench.bare", *arguments))
        return found["cpu_seconds"] / found["frames"] * 1e6

    def _result(self, child: Child) -> dict[str, float]:
        child.process.wait()
        self._children.forget(child)
        found: dict[str, float] = json.loads(child.log().splitlines()[-1])
        return found

    def _start(self, name: str, *command: str) -> Child:
        return self._children.start(name, command, self._run.environment(), self._run.folder)

    def _write_config(self, exchange: Urls) -> None:
        self._run.config_path.write_text(
            yaml.safe_dump(config(self._broker.bootstrap_servers, exchange, self._options.compression))
        )


def config(bootstrap: str, exchange: Urls, compression: str) -> dict[str, Any]:
    """Production settings, of the updates of two symbols alone."""

    markets = {
        name: {
            "rest_url": exchange["rest"][name],
            "stream_url": exchange["stream"][name],
            "orderbook": {
                "snapshots": {"enabled": False},
                "delta": {"enabled": name == "future", "interval_ms": 100, "symbols": SYMBOLS},
            },
        }
        for name in exchange["rest"]
    }
    return {
        "kafka": {"bootstrap_servers": bootstrap, "compression": compression},
        "channels": {"raw_fobd": {"topic": TOPIC, "partitions": PARTITIONS, "retention_hours": 1}},
        "source": {"binance": markets},
        "metrics": {"port": 0},
        "logging": {"format": "json"},
    }


def frames_sent(exchange: Urls) -> int:
    """By the simulated exchange, in all."""
    counters = json.loads(get(f"{exchange['control']}/counters") or b"{}")
    return int(counters["stream"]["frames"]["future"])


def announced(simulator: Child) -> Urls | None:
    """Where it listens, by protocol and market; None as long as it has not said so."""
    line, ended, _ = simulator.log().partition("\n")
    return json.loads(line) if ended else None


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="cryptoflow-bench-") as temporary:
        folder = Path(temporary)
        work = Run("main", folder, folder / "lake", folder)
        with Children(folder, Interrupts()) as children:
            choice = arguments.broker
            if choice == "auto" and demo_broker.docker_answers():
                choice = "docker"
            broker = demo_broker.start(choice, None, children, folder, work.environment())
            try:
                work.config_path.write_text(
                    yaml.safe_dump(config(broker.bootstrap_servers, NO_EXCHANGE, arguments.compression))
                )
                asyncio.run(topics.create(load(work.config_path, environ={}, dotenv_path=folder / "no.env")))
                found = _rounds(Line(children, work, broker, arguments), arguments)
            finally:
                broker.close()
            words = broker.words.partition(" at ")[0]
            return {"benchmark": "reader", "broker": words, "compression": arguments.compression} | found


def _rounds(line: Line, arguments: argparse.Namespace) -> dict[str, Any]:
    ours: list[dict[str, float]] = []
    bare: list[dict[str, float]] = []
    peers: dict[float, list[dict[str, float]]] = {load: [] for load in arguments.peer_loads}
    missing = _missing(arguments)
    for _ in range(arguments.rounds):
        ours.append(line.saturated(arguments.seconds))
        bare.append(line.bare(arguments.seconds))
        if not missing:
            for per_second, found in peers.items():
                found.append(line.peer(per_second, arguments.seconds))
    steady = line.steady(arguments.load, arguments.minutes) if arguments.minutes else {}
    if not ours:
        return {"half_load": steady}
    saturated = medians(ours)
    alone = medians(bare)
    result = {
        "rounds": arguments.rounds,
        "saturated": {name: round(value, 1) for name, value in saturated.items()},
        "saturated_cpu_us_per_frame_by_round": " ".join(f"{each['cpu_us_per_frame']:.1f}" for each in ours),
        "bare_cpu_us_per_frame": {name: round(value, 1) for name, value in alone.items()},
        "reader_over_bare_cpu": round(saturated["cpu_us_per_frame"] / sum(alone.values()), 3),
    }
    if missing:
        return result | {PEER: missing, "half_load": steady}
    theirs = {f"offered_{per_second:g}_per_second": medians(found) for per_second, found in peers.items()}
    best = min(each["cpu_us_per_received_frame"] for each in theirs.values())
    rounds = {
        name: " ".join(f"{each['cpu_us_per_received_frame']:.1f}" for each in found)
        for name, found in zip(theirs, peers.values(), strict=True)
    }
    return result | {
        PEER: {
            "does": "parses, keeps each book, publishes updates as JSON of floats, one awaited send each; no gap is told",
            "setup": "BookKafka, acks=1, no whole books between updates, uvloop, no compression, rest default",
            "versions": environments.versions(PEER),
            **{name: {key: round(value, 1) for key, value in each.items()} for name, each in theirs.items()},
            "cpu_us_per_received_frame_by_round": rounds,
        },
        "frames_per_cpu_second_over_frames_cryptofeed_receives": round(best / saturated["cpu_us_per_frame"], 2),
        "half_load": steady,
    }


def _missing(arguments: argparse.Namespace) -> str:
    """Why cryptofeed takes no part; empty if it does."""
    if arguments.no_peer:
        return "left out"
    try:
        environments.python(PEER)
    except environments.NotInstalled as error:
        return str(error)
    return ""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.reader", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")
    parser.add_argument(
        "--rounds", type=int, default=3, help="of reader and alternatives in turn, 0: none (default: %(default)s)"
    )
    parser.add_argument("--seconds", type=float, default=10, help="of each measurement (default: %(default)s)")
    parser.add_argument(
        "--load", type=float, default=LOAD_PER_SECOND, help="frames/s at half load (default: %(default)s)"
    )
    parser.add_argument("--no-peer", action="store_true", help="without cryptofeed: nothing is installed")
    parser.add_argument(
        "--peer-loads", nargs="+", type=float, default=PEER_LOADS_PER_SECOND, metavar="N",
        help="frames/s offered to cryptofeed (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument("--minutes", type=float, default=1, help="at half load, 0: none (default: %(default)s)")
    parser.add_argument(
        "--broker", choices=("auto", "docker", "embedded"), default="auto", help="auto: real Kafka where Docker is"
    )
    parser.add_argument(
        "--compression", choices=("lz4", "zstd", "none"), default=load(None, environ={}).kafka.compression,
        help="kafka.compression, of the bare producer too (default: the setting's, %(default)s)",
    )  # fmt: skip
    parser.add_argument("--profile", type=Path, help="of the reader's last run, for pstats; it slows the reader down")
    arguments = parser.parse_args()
    if DELTAS.exists():
        found = run(arguments)
    else:
        found = {"benchmark": "reader", "skipped": "the captured frames are not here"}
    print(json.dumps(found) if arguments.json else json.dumps(found, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
