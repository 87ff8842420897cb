"""One run of the matrix: a line of its own over the servers of a lane, what is done to it, and how it comes to rest.

The exchange serves three books, polled and streamed, and keeps the truth of what it served. Both kinds have two
partitions. The store is reached through a proxy that can fail; the judge reads the store itself.
"""

from __future__ import annotations

import asyncio
import copy
import random
import signal
import uuid
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

import psutil
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from shared.kafka import TopicPartition
from shared.lake import layout
from tests.config import config_of, merged
from tests.deltas import control
from tests.line import SERVICES, make_line
from tests.processes import Processes
from tests.support import eventually

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from shared.kafka import Record
    from shared.lake.store_s3 import S3Store
    from shared.messages import Kind
    from tests.containers import S3, Kafka
    from tests.line import Line
    from tests.processes import Service, Simulator
    from tests.store_proxy.process import StoreProxy
    from tests.store_proxy.rules import Kind as Fault
    from tests.store_proxy.rules import Verb

SYMBOLS = 3
PARTITIONS = 2
KINDS: tuple[Kind, ...] = ("fobs", "fobd")
QUICK = {"session_timeout_ms": 3000, "heartbeat_interval_ms": 300, "request_timeout_ms": 5000}
FLUSH = {"buffer": {"snapshot_flush_interval": "1s", "delta_flush_interval": "1s"}}
SETTLE_SECONDS = 90.0
NOISE: tuple[tuple[Fault, Verb | None], ...] = (
    ("refuse_before", None),
    ("lose_answer", None),
    ("throttle", None),
    ("slow_down", None),
    ("reset_body", None),
    ("truncate", None),
    ("conflict", "create"),
    ("exists", "create"),
)
Offset = tuple["Kind", int, int]  # kind, raw partition, raw offset


class World:
    """`rng` is the run's own: what a cell draws from it, a run with the same seed draws again."""

    def __init__(self, seed: int, folder: Path, *, kafka: Kafka, s3: S3, proxy: StoreProxy, bucket: S3Store) -> None:
        self.seed = seed
        self.rng = random.Random(seed)
        self.folder = folder
        self.kafka = kafka
        self.s3 = s3
        self.proxy = proxy
        self._bucket = bucket
        self.processes = Processes(folder)
        self.stream = _new_stream()
        self.prefix = f"lakes/{self.stream}"
        self.kept: dict[Offset, Record] = {}  # raw records read before somebody deleted them
        self.poisoned: set[Offset] = set()  # raw records that no flattener can read
        self.planted: set[Offset] = set()  # raw records that no reader sent, and flatteners can read
        self.leaving: list[Service] = []  # they had SIGTERM, and may need the store before they can end
        self.exchange: Simulator
        self.line: Line  # reaches the store through the proxy
        self.direct: Line  # the same, reaching it itself

    async def begin(self, **overrides: Any) -> None:
        """The exchange, the topics, a configuration; `overrides` are merged into that."""
        self.proxy.reseed(self.seed)
        await asyncio.to_thread(self._simulate)
        symbols = (await control(self.exchange, "GET", "symbols"))["future"][:SYMBOLS]
        channels = {f"{side}_{kind}": {"partitions": PARTITIONS} for side in ("raw", "norm") for kind in KINDS}
        sections = {
            "kafka": {"bootstrap_servers": self.kafka.bootstrap_servers, **QUICK},
            "channels": channels,
            "source": self._source(symbols),
            "writer": FLUSH,
        }
        self._sections = merged(sections, overrides)
        await self._lay()

    async def renew(self, **overrides: Any) -> None:
        """A new stream into the same lake, with topics of its own. From now on the judge looks at that alone."""
        self.stream = _new_stream()
        self._sections = merged(self._sections, overrides)
        for remembered in (self.kept, self.poisoned, self.planted):
            remembered.clear()
        await self._lay()

    def configured(self, **overrides: Any) -> Line:
        """The line of this stream as it would be if the configuration were another."""
        return self._make(self.proxy, **overrides)

    async def start(self, service: str, *, crash: str = "", ready: bool = True, **environ: str) -> Service:
        """A service, by default until it is ready. `crash`: a crash point as ``<place>:<nth>:<action>``."""
        more = environ | ({"CRASH_POINT": crash} if crash else {})
        made = await asyncio.to_thread(self.line.start, service, ready=False, **more)
        if ready:
            await asyncio.to_thread(made.wait_ready, SETTLE_SECONDS)
        return made

    async def start_all(self, **crash: str) -> dict[str, Service]:
        """Reader, flattener and s3writer, at once; the one that is to crash is not waited for."""
        made = await asyncio.gather(
            *(self.start(name, crash=crash.get(name, ""), ready=name not in crash) for name in SERVICES)
        )
        return dict(zip(SERVICES, made, strict=True))

    async def replace(self, name: str, *, ready: bool = True) -> Service:
        """Its processes die, leave in order, or die once another is there; gives the other one."""
        old = self.alive(name)
        way = self.rng.choice(("die", "leave", "overlap"))
        if way == "leave":
            self.leaving += old
        for service in old:
            if way == "die":
                service.kill()
            elif way == "leave":
                service.popen.terminate()
        new = await self.start(name, ready=ready)
        for service in old if way == "overlap" else []:
            service.kill()
        return new

    def noise(self, probability: float) -> None:
        """From now on that share of all calls of the store fails in one way or another, its probe at a start excepted."""
        for fault, verb in NOISE:
            chance = probability / len(NOISE)
            self.proxy.rule(fault, verb=verb, path=self.prefix, unless=layout.PROBE_ROOT, probability=chance)

    async def load(self, records: int) -> None:
        """Until so many more raw records of each kind are there, with the reader that runs."""
        await asyncio.gather(*(self.line.acknowledged(records, SETTLE_SECONDS, kind) for kind in KINDS))

    async def flushed(self, claims: int = 1) -> None:
        """Until so many more claims are in the lake."""
        wanted = await asyncio.to_thread(self.claims) + claims
        await eventually(lambda: asyncio.to_thread(lambda: self.claims() >= wanted), SETTLE_SECONDS, "claims are made")

    def claims(self) -> int:
        """How many claims the lake has."""
        entries = self.direct.store.walk(layout.CLAIMS_V1 + "/")
        return sum(not entry.path.endswith("origin.json") for entry in entries)

    async def keep(self) -> None:
        """Remember the raw records that are there now, so that they can be judged after they are deleted."""
        for kind in KINDS:
            for record in await self.line.raw_records(kind):
                self.kept[kind, record.partition, record.offset] = record

    def alive(self, name: str) -> list[Service]:
        """The processes of a service that run and are not frozen."""
        services = [p for p in self.processes.all if p.name.startswith(f"{name}-") and p.alive]
        return [p for p in services if psutil.Process(p.pid).status() != psutil.STATUS_STOPPED]  # type: ignore[misc]

    async def settle(self) -> None:
        """The fault is over: the reader ends in order, the rest catches up and ends in order."""
        for process in self.processes.all:
            if process.alive:
                process.resume()
        self.proxy.lift()
        for server in (self.kafka, self.s3):
            await asyncio.to_thread(server.recover)
        for service in self.leaving:
            if service.popen.poll() != -signal.SIGKILL:
                code = await asyncio.to_thread(service.wait)
                assert code == 0, f"{service.name} was to drain, and ended with {code}\n{service.tail()}"
        for name in SERVICES:
            if not self.alive(name):
                await self.start(name)
        await self.load(10)
        await self.end(self.alive("reader"))
        await asyncio.gather(*(self.direct.caught_up(SETTLE_SECONDS, kind) for kind in KINDS))
        await self.end([*self.alive("flattener"), *self.alive("s3writer")])

    async def end(self, services: Iterable[Service]) -> None:
        """SIGTERM; each has to drain and say so with exit code 0."""
        services = list(services)
        codes = await asyncio.gather(*(asyncio.to_thread(service.terminate) for service in services))
        for service, code in zip(services, codes, strict=True):
            assert code == 0, f"{service.name} ended with {code}\n{service.tail()}"

    async def limit_messages(self, topic: str, most_bytes: int) -> None:
        """What a topic takes, in bytes a batch."""
        admin = AIOKafkaAdminClient(bootstrap_servers=self.kafka.bootstrap_servers)
        await admin.start()
        try:
            limit = {"max.message.bytes": str(most_bytes)}
            await admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic, limit)])
        finally:
            await admin.close()

    def partitions(self, side: Literal["raw", "norm"], kind: Kind) -> list[TopicPartition]:
        """Of a topic of this run."""
        topic = getattr(self.line.settings.channels, f"{side}_{kind}").topic
        return [TopicPartition(topic, partition) for partition in range(PARTITIONS)]

    def group(self, service: Literal["flattener", "s3writer"]) -> str:
        """The name of a consumer group of this run."""
        return f"{self.line.settings.cryptoflow.name}-{service}-{self.line.settings.kafka.stream}"

    @property
    def truth_frames(self) -> Path:
        """Every event of the exchange, and its fate."""
        return self.folder / "frames.jsonl"

    @property
    def truth_answers(self) -> Path:
        """Every response of the exchange."""
        return self.folder / "answers.jsonl"

    async def _lay(self) -> None:
        lake = copy.copy(self._bucket)
        lake._prefix = f"{self.prefix}/"
        self.line, self.direct = self._make(self.proxy), replace(self._make(self.s3), opened=lake)
        await self.line.create_topics()

    def _make(self, store: S3 | StoreProxy, **overrides: Any) -> Line:
        def config(**sections: Any) -> dict[str, Any]:
            return config_of(self.stream, self.folder, **merged(sections, overrides))

        return make_line(self.processes, config, self.folder, s3=store, prefix=self.prefix, **self._sections)

    def _simulate(self) -> None:
        limits = ("--futures-weight-limit", "1000000", "--connects-per-five-minutes", "100000")
        truth = ("--truth-frames", str(self.truth_frames), "--truth", str(self.truth_answers))
        self.exchange = self.processes.simulate("--symbols-per-market", str(SYMBOLS), *limits, *truth)

    def _source(self, symbols: list[str]) -> dict[str, Any]:
        future = {
            "rest_url": self.exchange.url,
            "stream_url": self.exchange.stream_urls["future"],
            "orderbook": {
                "snapshots": {"enabled": True, "interval_ms": 200, "limit": 20, "symbols": symbols},
                "delta": {"enabled": True, "anchor_interval": "5s", "limit": 100, "symbols": symbols},
            },
        }
        off = {"orderbook": {"snapshots": {"enabled": False}, "delta": {"enabled": False}}}
        return {"binance": {"future": future, "inverse": off, "spot": off}}


def _new_stream() -> str:
    return f"m{uuid.uuid4().hex[:12]}"
