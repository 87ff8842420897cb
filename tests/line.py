"""The whole line under test: simulator, topics, the three services as processes; and the comparison of its two ends.

The judge reads the raw topic and the lake's files itself, with `json` and `float`: it shares no code with the flattener
and the s3writer.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from shared import topics
from shared.kafka import Admin, Record, TopicPartition, read_range
from shared.lake import layout
from shared.lake.store import open_store
from shared.lake.verify import verify
from shared.settings import load
from tests.support import eventually

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from shared.lake.report import Report
    from shared.lake.store import Store
    from shared.messages import Kind
    from shared.settings import Settings
    from tests.processes import Processes, Service, Simulator

SERVICES = ("reader", "flattener", "s3writer")
FLUSH = {"buffer": {"snapshot_flush_interval": "2s", "delta_flush_interval": "2s"}}
ASK_EVERY_SECONDS = 0.2  # a broker, or a store: each time some calls
Origin = tuple[int, int]  # raw partition, raw offset
Row = tuple[Any, ...]
COLUMNS = {
    "fobs": ("side", "price", "quantity", "level", "gap_cause"),
    "fobd": ("type", "side", "price", "quantity", "gap_cause"),
}


@dataclass(frozen=True)
class Line:
    """One configuration, and the processes that run it. Start, stop and kill them one by one or all."""

    settings: Settings
    config: Mapping[str, Any]
    environ: Mapping[str, str]
    processes: Processes
    opened: Store | None = None  # a client of the lake that is there already: each costs a second to make

    async def create_topics(self) -> None:
        """What `cryptoflow topics create` does."""
        await topics.create(self.settings)

    def start(self, service: str, *, ready: bool = True, **environ: str) -> Service:
        """A process of a service, with `environ` in its environment."""
        return self.processes.start(service, self.config, environ={**self.environ, **environ}, ready=ready)

    def raw_topic(self, kind: Kind) -> str:
        """The raw topic of a kind."""
        channels = self.settings.channels
        return channels.raw_fobs.topic if kind == "fobs" else channels.raw_fobd.topic

    async def raw_records(self, kind: Kind = "fobs") -> list[Record]:
        """All records of the raw topic, partition after partition, in offset order."""
        return [record async for record in self._records(self.raw_topic(kind))]

    async def acknowledged(self, more: int, timeout: float = 60.0, kind: Kind = "fobs") -> None:  # noqa: ASYNC109
        """Waits until the raw topic holds so many records more than when it is called."""
        topic = self.raw_topic(kind)
        wanted = sum((await self._ends(topic)).values()) + more

        async def there() -> bool:
            return sum((await self._ends(topic)).values()) >= wanted

        await eventually(there, timeout, f"{wanted} raw records", every_seconds=ASK_EVERY_SECONDS)

    async def holds(self, records: int, timeout: float = 60.0, kind: Kind = "fobs") -> None:  # noqa: ASYNC109
        """Waits until the raw topic holds so many records in all."""
        topic = self.raw_topic(kind)

        async def there() -> bool:
            return sum((await self._ends(topic)).values()) >= records

        await eventually(there, timeout, f"{records} raw records in all", every_seconds=ASK_EVERY_SECONDS)

    async def caught_up(self, timeout: float = 90.0, kind: Kind = "fobs") -> None:  # noqa: ASYNC109
        """Waits until the claims say of every raw record that is there when it is called that it was taken."""
        wanted = await self._ends(self.raw_topic(kind))
        store, stream = self.store, self.settings.kafka.stream

        def done(partition: int) -> int:
            prefix = layout.claims_prefix(kind, stream, partition)
            paths = [entry.path for entry in store.list(prefix) if not entry.path.endswith("origin.json")]
            return json.loads(store.get(max(paths)) or b"{}").get("done_after", -1) if paths else -1

        def all_taken() -> bool:
            return all(done(tp.partition) + 1 >= end for tp, end in wanted.items())

        what = f"the lake has all of {wanted}"
        await eventually(lambda: asyncio.to_thread(all_taken), timeout, what, every_seconds=ASK_EVERY_SECONDS)

    @property
    def store(self) -> Store:
        return self.opened or open_store(self.settings.storage)

    def verify(self, *, strict: bool = True) -> Report:
        return verify(self.store, strict=strict)

    def rows_by_origin(self, kind: Kind = "fobs") -> dict[Origin, list[Row]]:
        """Every row of the stream in the lake, by the raw record it names, in file order."""
        found: dict[Origin, list[Row]] = defaultdict(list)
        store = self.store
        for entry in store.walk(f"{kind}/"):
            parsed = layout.parse_data_path(entry.path)
            if parsed is not None and parsed.stream != self.settings.kafka.stream:
                continue
            body = store.get(entry.path)
            assert body is not None, entry.path
            table = pq.read_table(pa.BufferReader(body))
            columns = ("raw_partition", "raw_offset", *COLUMNS[kind])
            for partition, offset, *row in zip(*(table.column(name).to_pylist() for name in columns), strict=True):
                found[partition, offset].append(tuple(row))
        return found

    async def assert_exactly_once(self, kind: Kind = "fobs") -> Counter[str]:
        """Each raw record's rows lie in the lake once, equal level by level. Gives how many records of each type."""
        rows = self.rows_by_origin(kind)
        types: Counter[str] = Counter()
        for record in await self.raw_records(kind):
            type_ = dict(record.headers)["type"].decode()
            types[type_] += 1
            found = rows.pop((record.partition, record.offset), None)
            assert found == expected_rows(kind, type_, record.value), (
                f"raw record {record.partition}/{record.offset} is not in the lake once, as it is"
            )
        assert not rows, f"rows in the lake of records that the raw topic does not have: {sorted(rows)[:5]}"
        return types

    async def _records(self, topic: str) -> Any:
        begins, ends = await self._bounds(topic)
        for tp, end in sorted(ends.items()):
            async for record in read_range(self.settings.kafka, tp, begins[tp], end - 1, client_id="judge"):
                yield record

    async def _ends(self, topic: str) -> dict[TopicPartition, int]:
        return (await self._bounds(topic))[1]

    async def _bounds(self, topic: str) -> tuple[dict[TopicPartition, int], dict[TopicPartition, int]]:
        async with Admin(self.settings.kafka, client_id="judge") as admin:
            description = (await admin.describe([topic]))[topic]
            assert description is not None, topic
            tps = [TopicPartition(topic, partition) for partition in range(description.partitions)]
            return await admin.beginning_offsets(tps), await admin.end_offsets(tps)


def expected_rows(kind: Kind, type_: str, value: bytes) -> list[Row]:
    """What a raw record has to become, said the plain way: the `COLUMNS` of its kind."""
    content = json.loads(value)
    if type_ == "gap":
        return [(None if kind == "fobs" else "gap", None, None, None, content["cause"])]
    content = content.get("data", content)
    levels = [
        (side, float(price), float(quantity), level)
        for side, names in (("bid", ("bids", "b")), ("ask", ("asks", "a")))
        for name in names
        for level, (price, quantity) in enumerate(content.get(name, ()), 1)
    ]
    if kind == "fobs":
        return [(*level, None) for level in levels]
    return [(type_, *level[:3], None) for level in levels] or [(type_, None, None, None, None)]


def source(url: str, symbols: Mapping[str, list[str]], *, interval_ms: int = 500, limit: int = 100) -> dict[str, Any]:
    """The `source` section: these symbols by market; other markets are off."""
    markets = {}
    for market in ("future", "inverse", "spot"):
        chosen = symbols.get(market, [])
        snapshots = {"enabled": bool(chosen), "interval_ms": interval_ms, "limit": limit, "symbols": chosen}
        markets[market] = {"rest_url": url, "orderbook": {"snapshots": snapshots, "delta": {"enabled": False}}}
    return {"binance": markets}


def stream_source(
    simulator: Simulator,
    symbols: Mapping[str, list[str]],
    *,
    anchor_interval: str = "1h",
    limit: int = 1000,
    polls: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The `source` section: the updates of these symbols by market, and with `polls` their snapshots too."""
    markets = {}
    for market in ("future", "inverse", "spot"):
        chosen = symbols.get(market, [])
        snapshots = {"enabled": bool(chosen and polls), "limit": limit, "symbols": chosen, **(polls or {})}
        delta = {"enabled": bool(chosen), "anchor_interval": anchor_interval, "limit": limit, "symbols": chosen}
        markets[market] = {
            "rest_url": simulator.url,
            "stream_url": simulator.stream_urls[market],
            "orderbook": {"snapshots": snapshots, "delta": delta},
        }
    return {"binance": markets}


def make_line(
    processes: Processes,
    make_config: Callable[..., dict[str, Any]],
    folder: Path,
    *,
    s3: Any = None,
    prefix: str = "",
    **sections: Any,
) -> Line:
    """A line into the S3 store, or with `s3` None into the test's own folder."""
    environ: dict[str, str] = {}
    if s3 is not None:
        environ = s3.environ
        sections["storage"] = {"s3": {"enabled": True, "prefix": prefix}}
    config = make_config(**sections)
    path = folder / "line.yml"
    path.write_text(yaml.safe_dump(config))
    return Line(load(path, environ=environ, dotenv_path=folder / "no.env"), config, environ, processes)
