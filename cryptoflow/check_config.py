"""Effective settings with their origins, and what they amount to: request weight, files, requests. Refuses what cannot be.

The arithmetic needs no network: budgets are the venues' documented ones (the running reader learns the real ones).
Secrets are masked. Nothing is started and nothing is written.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from pydantic import SecretStr

from services.reader.shards import plan_shards, read_shards
from shared.config_sources import Keys
from shared.errors import ConfigError
from shared.log import MASK
from shared.settings import Settings
from shared.venues import VENUES, venue

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from services.reader.shards import Shard
    from shared.settings import Loaded, SnapshotSettings

MINUTE_MS = 60_000
DAY_SECONDS = 86_400
PUT_DOLLARS = 0.005 / 1000  # Amazon S3 Standard, list price in us-east-1


@dataclass(frozen=True, slots=True)
class Effective:
    """One key, its value (secrets masked) and where it came from."""

    key: str
    value: Any
    origin: str


@dataclass(frozen=True, slots=True)
class MarketLoad:
    """What one market asks of its venue from one source address."""

    address: str
    exchange: str
    market: str
    weight_group: str
    symbols: int
    interval_ms: int
    limit: int
    request_weight: int
    weight_per_minute: float


@dataclass(frozen=True, slots=True)
class Budget:
    """What all markets of a weight group ask from one source address, and what may be spent there."""

    address: str
    weight_group: str
    weight_per_minute: float
    venue_weight_per_minute: int
    weight_share: float
    budget_per_minute: int


@dataclass(frozen=True, slots=True)
class Output:
    """What the lake receives in a day, at most, from the snapshots."""

    books: int
    rows_per_day: int
    flush_interval_seconds: float
    files_per_day: int
    claims_per_day: int
    put_requests_per_day: int
    put_dollars_per_month: float
    partitions_per_topic: int
    buffer_bytes: int


@dataclass(frozen=True, slots=True)
class Plan:
    """What the settings amount to; `problems` says what of it cannot be, `notes` what may not be meant."""

    markets: tuple[MarketLoad, ...]
    budgets: tuple[Budget, ...]
    output: Output
    problems: tuple[str, ...]
    notes: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        """Plain values, for ``--json``."""
        return asdict(self)


def effective(loaded: Loaded) -> Iterator[Effective]:
    """Every key in the order of config/config.yml."""
    for key in Keys.of(Settings).leaves:
        value: Any = loaded.settings
        for part in key.split("."):
            value = getattr(value, part)
        shown = MASK if isinstance(value, SecretStr) else value
        yield Effective(key, _plain(shown), loaded.origins.get(key, "default"))


def plan(loaded: Loaded) -> Plan:
    """The arithmetic. What a venue or a shard file refuses, or more weight than the budget, is a problem in words."""
    settings = loaded.settings
    problems: list[str] = []
    markets: list[MarketLoad] = []
    enabled = {(exchange, market): found.orderbook.snapshots for exchange, market, found in settings.source.snapshots()}
    for (exchange, market), snapshots in enabled.items():
        if refusal := venue(exchange, market).check_limit(snapshots.limit):
            key = f"source.{exchange}.{market}.orderbook.snapshots.limit"
            problems.append(f"{loaded.origins.get(key, 'default')}: {key}: {refusal}")
    try:
        for shard in _shards(settings, enabled):
            markets += [
                _market_load(shard.ip or "default route", exchange, market, len(symbols), enabled[exchange, market])
                for (exchange, market), symbols in shard.symbols.items()
                if venue(exchange, market).check_limit(enabled[exchange, market].limit) is None
            ]
    except ConfigError as error:
        problems += error.problems
    budgets = tuple(_budgets(settings, markets))
    problems += [
        _too_much(budget, markets) for budget in budgets if budget.weight_per_minute > budget.budget_per_minute
    ]
    return Plan(tuple(markets), budgets, _output(settings), tuple(problems), tuple(_notes(settings)))


def _shards(settings: Settings, enabled: Mapping[tuple[str, str], SnapshotSettings]) -> list[Shard]:
    """As the reader divides the symbols, on all hosts that share the file. Raises `ConfigError`."""
    reader = settings.reader
    content = None if reader.ip_shards_file is None else read_shards(reader.ip_shards_file)
    symbols = {market: snapshots.symbols for market, snapshots in enabled.items()}
    return plan_shards(content, symbols, list(VENUES), shard_ip=reader.shard_ip, local=lambda _: True)


def _market_load(address: str, exchange: str, market: str, symbols: int, snapshots: SnapshotSettings) -> MarketLoad:
    adapter = venue(exchange, market)
    weight = adapter.depth_weight(snapshots.limit)
    return MarketLoad(
        address=address,
        exchange=exchange,
        market=market,
        weight_group=adapter.shared_weight_group,
        symbols=symbols,
        interval_ms=snapshots.interval_ms,
        limit=snapshots.limit,
        request_weight=weight,
        weight_per_minute=symbols * weight * MINUTE_MS / snapshots.interval_ms,
    )


def _budgets(settings: Settings, markets: list[MarketLoad]) -> Iterator[Budget]:
    """A market also asks for its instrument list; the minute in which it does is the one to plan for."""
    groups: dict[tuple[str, str], list[MarketLoad]] = defaultdict(list)
    for load in markets:
        groups[load.address, load.weight_group].append(load)
    for (address, group), loads in groups.items():
        adapters = [venue(load.exchange, load.market) for load in loads]
        limit = min(adapter.default_weight_limit for adapter in adapters)
        asked = sum(load.weight_per_minute for load in loads) + sum(adapter.instruments_weight for adapter in adapters)
        yield Budget(
            address, group, asked, limit, settings.reader.weight_share, int(limit * settings.reader.weight_share)
        )


def _too_much(budget: Budget, markets: list[MarketLoad]) -> str:
    loads = [load for load in markets if (load.address, load.weight_group) == (budget.address, budget.weight_group)]
    parts = " + ".join(
        f"{load.market}: {load.symbols} symbols x weight {load.request_weight} x {MINUTE_MS / load.interval_ms:g}"
        for load in loads
    )
    factor = budget.weight_per_minute / budget.budget_per_minute
    return (
        f"plan: {budget.weight_group} from {budget.address}: asks for {budget.weight_per_minute:,.0f} request weight a minute "
        f"({parts}, and the instrument lists), may spend {budget.budget_per_minute:,} "
        f"({budget.venue_weight_per_minute:,} x reader.weight_share {budget.weight_share:g}): poll {factor:.2f} times less "
        f"often, ask for fewer levels or symbols, or add source addresses"
    )


def _output(settings: Settings) -> Output:
    """Each flush window writes a file per book and a claim per partition that holds any of them."""
    enabled = [found.orderbook.snapshots for _, _, found in settings.source.snapshots()]
    books = sum(len(found.symbols) for found in enabled)
    rows = sum(len(found.symbols) * DAY_SECONDS * 1000 / found.interval_ms * found.limit * 2 for found in enabled)
    buffer = settings.writer.buffer
    windows = DAY_SECONDS / buffer.snapshot_flush_interval
    files = round(sum(len(found.symbols) * min(windows, DAY_SECONDS * 1000 / found.interval_ms) for found in enabled))
    claims = min(files, round(min(books, settings.channels.norm_fobs.partitions) * windows))
    return Output(
        books=books,
        rows_per_day=round(rows),
        flush_interval_seconds=buffer.snapshot_flush_interval,
        files_per_day=files,
        claims_per_day=claims,
        put_requests_per_day=files + claims,
        put_dollars_per_month=round((files + claims) * 30 * PUT_DOLLARS, 2),
        partitions_per_topic=settings.channels.raw_fobs.partitions,
        buffer_bytes=buffer.max_bytes,
    )


def _notes(settings: Settings) -> Iterator[str]:
    if not list(settings.source.snapshots()):
        yield "no market has snapshots enabled: the reader refuses to start"
    s3 = settings.storage.s3
    if s3.bucket is not None and not s3.enabled:
        yield f"storage.s3.bucket is {s3.bucket}, but storage.s3.enabled is false: the lake is {settings.storage.local.path}"


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, bool | int | float):
        return value
    return list(value) if isinstance(value, tuple) else str(value)
