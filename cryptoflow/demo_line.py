"""The parts of the demo's line: started in the order that loses nothing, drained in the order of the data.

Whether a part is ready, and whether the next may stop, is asked of the parts themselves (/readyz, /metrics) and of Kafka.
"""

from __future__ import annotations

import json
import sys
from functools import partial
from typing import TYPE_CHECKING

from cryptoflow.demo_probe import announced, get, logged_port, metric_sum, records_in
from cryptoflow.demo_processes import Child, Children, DemoFailed
from shared.messages import KINDS
from shared.service import DRAIN_SECONDS
from shared.settings import load

if TYPE_CHECKING:
    from cryptoflow.demo_broker import Broker
    from cryptoflow.demo_probe import Announced
    from cryptoflow.demo_run import Run

EXCHANGE_START_SECONDS = 30.0
EXCHANGE_STOP_SECONDS = 10.0
OWN_TOPICS_SECONDS = 60.0
NAMED_TOPICS_SECONDS = 15.0  # it was there before, so it answers soon or not at all
READY_SECONDS = 60.0
CATCH_UP_SECONDS = 120.0
FLATTENED = "cryptoflow_flattened_messages_total"
CONSUMED = "cryptoflow_consumed_records_total"
ANCHORS = "cryptoflow_anchors_total"
LISTED_PER_MARKET = 8
SERVICES = ("s3writer", "flattener", "reader")


class Line:
    """Exchange, reader, flattener, s3writer."""

    def __init__(self, run: Run, broker: Broker, children: Children) -> None:
        self._run = run
        self._broker = broker
        self._children = children
        self._services: dict[str, Child] = {}
        self._urls: dict[str, str] = {}
        self._exchange: Child
        self._announced: Announced
        self.exchange_url = ""
        self.refused_anchors = 0  # snapshots that came too late to be placed among the updates: known once drained

    def start_exchange(self, seed: int) -> None:
        """Until it serves. Raises `DemoFailed` if it does not."""
        self._exchange = self._module(
            "exchange", "simulator", "--port", "0", "--seed", str(seed), "--symbols-per-market", str(LISTED_PER_MARKET),
            "--truth", str(self._run.truth_path), "--truth-bodies", str(self._run.bodies),
            "--truth-frames", str(self._run.frames_path),
        )  # fmt: skip
        self._announced = self._children.wait(
            "the simulated exchange", lambda: announced(self._exchange), EXCHANGE_START_SECONDS
        )
        self.exchange_url = f"http://127.0.0.1:{self._announced.port}"

    def start_services(self) -> None:
        """Topics, then all three at once, until each says it is ready. Raises `DemoFailed` for the first that does not."""
        self._run.write_config(self._broker, self._announced)
        self._create_topics()
        for service in SERVICES:
            self._services[service] = self._module(
                service, f"services.{service}", "--config", str(self._run.config_path)
            )
        for service in SERVICES:
            self._children.wait(f"the {service} to be ready", partial(self._ready, service), READY_SECONDS)

    def drain(self) -> None:
        """Each service ends by itself, in the order of the data, when it has taken all that the one before it left."""
        settings = load(self._run.config_path, environ={}, dotenv_path=self._run.folder / "none.env")
        channels = settings.channels
        raw = dict(zip(KINDS, (channels.raw_fobs, channels.raw_fobd), strict=True))
        self.refused_anchors = int(metric_sum(self._urls["reader"], ANCHORS, outcome="stale") or 0)
        self._stop("reader")
        for kind, channel in raw.items():
            self._take_all("flattener", FLATTENED, records_in(settings, channel), kind=kind)
        self._stop("flattener")
        for channel in (channels.norm_fobs, channels.norm_fobd):
            self._take_all("s3writer", CONSUMED, records_in(settings, channel), topic=channel.topic)
        self._stop("s3writer")
        self._stop_exchange()

    def served(self) -> dict[str, dict[str, dict[str, int]]]:
        """What the exchange has served so far: market → symbol → answers, levels."""
        counters = json.loads(get(f"{self.exchange_url}/_sim/counters") or b"{}")
        books: dict[str, dict[str, dict[str, int]]] = counters.get("books", {})
        return books

    def _module(self, name: str, module: str, *arguments: str) -> Child:
        command = [sys.executable, "-m", module, *arguments]
        return self._children.start(name, command, self._run.environment(), self._run.folder)

    def _create_topics(self) -> None:
        child = self._module("topics", "cryptoflow.cli", "topics", "create", "--config", str(self._run.config_path))
        others = [other for other in self._children if other is not child]
        seconds = OWN_TOPICS_SECONDS if self._broker.own else NAMED_TOPICS_SECONDS
        try:
            self._children.wait("the topics", lambda: child.exit_code is not None, seconds, *others)
        except DemoFailed as error:
            raise DemoFailed(f"{self._broker.words} does not answer: {error}", child.tail()) from error
        self._children.forget(child)
        if child.exit_code != 0:
            raise DemoFailed(f"the topics could not be created on {self._broker.words}", child.tail())

    def _ready(self, service: str) -> bool:
        if service not in self._urls:
            port = logged_port(self._services[service])
            if port is None:
                return False
            self._urls[service] = f"http://127.0.0.1:{port}"
        return get(f"{self._urls[service]}/readyz") is not None

    def _stop(self, service: str) -> None:
        child = self._services[service]
        child.check()
        child.terminate(DRAIN_SECONDS + 10)
        self._children.forget(child)

    def _stop_exchange(self) -> None:
        """Last, so that its truth is whole."""
        self._exchange.terminate(EXCHANGE_STOP_SECONDS)
        self._children.forget(self._exchange)

    def _take_all(self, service: str, counter: str, records: int, **labels: str) -> None:
        """Waits until it has taken every record of a topic, which nobody writes to any more."""

        def all_taken() -> bool:
            return (metric_sum(self._urls[service], counter, **labels) or 0) >= records

        self._children.wait(f"the {service} to take what is left", all_taken, CATCH_UP_SECONDS)
