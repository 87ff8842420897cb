"""What a plan asks of the venues from each source address: request weight of polls and anchors, websockets. Pure arithmetic.

Weight is an average over minutes: anchors are spread over their interval, an instrument list is one request in many
minutes. Budgets are the venues' documented ones. Nothing here knows the lake.
"""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from cryptoflow.check_config_sizes import BUSY
from shared.venues import venue

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from services.reader.shards import Market, Shard
    from services.reader.symbols import Selection
    from shared.settings import MarketSettings, Settings

MINUTE_MS = 60_000
FIVE_MINUTES_SECONDS = 300.0
DEFAULT_ROUTE = "default route"

Kind = Literal["fobs", "fobd"]
Group = tuple[str, str]
"""(source address, weight group)"""


@dataclass(frozen=True, slots=True)
class Recorded:
    """What one source address records of one market and kind. `at_least`: what patterns add only the venue knows.

    `busy` of the symbols are named in the configuration and known to move a lot.
    """

    kind: Kind
    address: str
    exchange: str
    market: str
    symbols: int
    busy: int
    at_least: bool


@dataclass(frozen=True, slots=True)
class PollLoad:
    """The snapshots one address asks a market for."""

    address: str
    exchange: str
    market: str
    weight_group: str
    symbols: int
    at_least: bool
    interval_ms: int
    limit: int
    request_weight: int
    weight_per_minute: float


@dataclass(frozen=True, slots=True)
class DeltaLoad:
    """The streams one address has of a market, and the snapshots placed among them.

    A sweep is one snapshot of every symbol, as after a start, within what polls leave of the budget (None: they leave
    nothing). Connections are opened together at a start and, where they live shorter than five minutes, anew.
    """

    address: str
    exchange: str
    market: str
    weight_group: str
    symbols: int
    at_least: bool
    interval_ms: int
    connections: int
    handover_connections: int
    connects_per_five_minutes: int
    venue_connects_per_five_minutes: int
    limit: int
    request_weight: int
    sweep_weight: int
    sweep_minutes: float | None
    anchor_interval_seconds: float
    weight_per_minute: float


@dataclass(frozen=True, slots=True)
class Budget:
    """What all markets of a weight group ask from one source address, and what may be spent there."""

    address: str
    weight_group: str
    at_least: bool
    polls_per_minute: float
    anchors_per_minute: float
    instruments_per_minute: float
    weight_per_minute: float
    venue_weight_per_minute: int
    weight_share: float
    budget_per_minute: int

    @property
    def left_by_polls(self) -> float:
        """Weight a minute for anchors; not above 0 where polls take it all."""
        return self.budget_per_minute - self.polls_per_minute - self.instruments_per_minute


@dataclass(frozen=True, slots=True)
class Load:
    """All of it."""

    polls: tuple[PollLoad, ...]
    deltas: tuple[DeltaLoad, ...]
    budgets: tuple[Budget, ...]


def recorded(shards: Sequence[Shard], assumed: Mapping[Market, int]) -> list[Recorded]:
    """What each shard records. `assumed` symbols of a market are divided evenly among the shards with patterns."""
    sides: tuple[tuple[Kind, list[tuple[str, Mapping[Market, Selection]]]], ...] = (
        ("fobs", [(shard.ip or DEFAULT_ROUTE, shard.snapshots) for shard in shards]),
        ("fobd", [(shard.ip or DEFAULT_ROUTE, shard.deltas) for shard in shards]),
    )
    found = []
    for kind, side in sides:
        for market in dict.fromkeys(market for _, selections in side for market in selections):
            mine = [(address, selections[market]) for address, selections in side if market in selections]
            counts = _counts([selection for _, selection in mine], assumed.get(market))
            for (address, selection), count in zip(mine, counts, strict=True):
                at_least = selection.has_patterns and market not in assumed
                busy = sum(BUSY.fullmatch(symbol) is not None for symbol in selection.explicit)
                found.append(Recorded(kind, address, *market, symbols=count, busy=busy, at_least=at_least))
    return found


def load(settings: Settings, what: Iterable[Recorded]) -> Load:
    """The arithmetic. What a venue refuses has no price and is left out: `refusals` says so."""
    markets = {(exchange, market): found for exchange, market, found in settings.source.markets()}
    what = [one for one in what if _has_price(one, markets[one.exchange, one.market])]
    polls = [_polls(one, markets[one.exchange, one.market]) for one in what if one.kind == "fobs"]
    deltas = [one for one in what if one.kind == "fobd"]
    groups: dict[Group, set[Market]] = defaultdict(set)
    for one in what:
        groups[one.address, venue(one.exchange, one.market).shared_weight_group].add((one.exchange, one.market))
    budgets: list[Budget] = []
    loads: list[DeltaLoad] = []
    for group, of_group in groups.items():
        mine = [one for one in deltas if one.address == group[0] and (one.exchange, one.market) in of_group]
        left = _budget(settings, group, of_group, polls, []).left_by_polls
        anchored = [_deltas(settings, one, markets[one.exchange, one.market], left) for one in mine]
        budgets.append(_budget(settings, group, of_group, polls, anchored))
        loads += anchored
    return Load(tuple(polls), tuple(loads), tuple(budgets))


def _counts(selections: Sequence[Selection], assumed: int | None) -> list[int]:
    counts = [len(selection.explicit) for selection in selections]
    patterned = [place for place, selection in enumerate(selections) if selection.has_patterns]
    more = max(0, (assumed or 0) - sum(counts))
    for number, place in enumerate(patterned):
        counts[place] += (more + number) // len(patterned)
    return counts


def _has_price(one: Recorded, found: MarketSettings) -> bool:
    limit = found.orderbook.snapshots.limit if one.kind == "fobs" else found.orderbook.delta.limit
    return venue(one.exchange, one.market).check_limit(limit) is None


def _polls(one: Recorded, found: MarketSettings) -> PollLoad:
    adapter, snapshots = venue(one.exchange, one.market), found.orderbook.snapshots
    weight = adapter.depth_weight(snapshots.limit)
    return PollLoad(
        address=one.address,
        exchange=one.exchange,
        market=one.market,
        weight_group=adapter.shared_weight_group,
        symbols=one.symbols,
        at_least=one.at_least,
        interval_ms=snapshots.interval_ms,
        limit=snapshots.limit,
        request_weight=weight,
        weight_per_minute=one.symbols * weight * MINUTE_MS / snapshots.interval_ms,
    )


def _deltas(settings: Settings, one: Recorded, found: MarketSettings, left: float) -> DeltaLoad:
    adapter, delta, reader = venue(one.exchange, one.market), found.orderbook.delta, settings.reader
    connections = math.ceil(one.symbols / reader.streams_per_connection)
    weight = adapter.depth_weight(delta.limit)
    sweep = one.symbols * weight
    return DeltaLoad(
        address=one.address,
        exchange=one.exchange,
        market=one.market,
        weight_group=adapter.shared_weight_group,
        symbols=one.symbols,
        at_least=one.at_least,
        interval_ms=delta.interval_ms,
        connections=connections,
        handover_connections=2 * connections,
        connects_per_five_minutes=math.ceil(connections * max(1.0, FIVE_MINUTES_SECONDS / reader.max_connection_age)),
        venue_connects_per_five_minutes=adapter.connects_per_five_minutes,
        limit=delta.limit,
        request_weight=weight,
        sweep_weight=sweep,
        sweep_minutes=sweep / left if left > 0 else None,
        anchor_interval_seconds=delta.anchor_interval,
        weight_per_minute=sweep * 60 / delta.anchor_interval,
    )


def _budget(
    settings: Settings, group: Group, markets: Iterable[Market], polls: Sequence[PollLoad], deltas: Sequence[DeltaLoad]
) -> Budget:
    adapters = [venue(*market) for market in sorted(markets)]
    limit = min(adapter.default_weight_limit for adapter in adapters)
    reader = settings.reader
    mine = [one for one in polls if (one.address, one.weight_group) == group]
    polled = sum(one.weight_per_minute for one in mine)
    anchored = sum(one.weight_per_minute for one in deltas)
    listed = sum(adapter.instruments_weight for adapter in adapters) * 60 / reader.instruments_interval
    return Budget(
        address=group[0],
        weight_group=group[1],
        at_least=any(one.at_least for one in mine) or any(one.at_least for one in deltas),
        polls_per_minute=polled,
        anchors_per_minute=anchored,
        instruments_per_minute=listed,
        weight_per_minute=polled + anchored + listed,
        venue_weight_per_minute=limit,
        weight_share=reader.weight_share,
        budget_per_minute=int(limit * reader.weight_share),
    )
