"""What is recorded, as messages: how often, how many levels, how large. Pure arithmetic.

Polls follow from the plan. Updates are the market's to send: an assumption, measured once (`check_config_sizes`), stated
in the output and replaced by ``--assume-updates-per-second``.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cryptoflow import check_config_sizes as sizes

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from cryptoflow.check_config_load import Kind, Recorded
    from services.reader.shards import Market
    from shared.settings import MarketSettings, Settings


@dataclass(frozen=True, slots=True)
class Flow:
    """Messages that are alike: of some symbols, so many a second from each, of so many levels. Bytes are of one each."""

    kind: Kind
    symbols: int
    at_least: bool
    per_second: float
    levels: float
    raw_bytes: float
    broker_bytes: float  # without what its batch shares
    norm_row_bytes: float
    file_row_bytes: float
    book_messages_per_second: float  # of the whole book; 0 where another flow is of the same books
    first_row_bytes: float = 0.0  # what each row of the first message in a file costs more

    @property
    def messages_per_second(self) -> float:
        """Of all its symbols."""
        return self.symbols * self.per_second

    @property
    def rows_per_second(self) -> float:
        """Of all its symbols."""
        return self.messages_per_second * max(1.0, self.levels)


@dataclass(frozen=True, slots=True)
class UpdatesAssumed:
    """What is assumed of the updates of some symbols."""

    exchange: str
    market: str
    name: str
    source: str
    symbols: int
    at_least: bool
    updates_per_second: float
    levels: float
    raw_bytes: float


def flows(settings: Settings, what: Iterable[Recorded], updates_per_second: float | None) -> Iterator[Flow]:
    """What each address records, as messages. `updates_per_second`: of every symbol, instead of what was measured."""
    markets = _markets(settings)
    for one in what:
        book = markets[one.exchange, one.market].orderbook
        if one.kind == "fobs":
            yield _books(one, 1000 / book.snapshots.interval_ms, 2 * book.snapshots.limit)
            continue
        yield _books(one, 1 / book.delta.anchor_interval, 2 * book.delta.limit)
        for activity, symbols in _activities(one):
            measured, levels = _pace(activity, book.delta.interval_ms)
            rate = measured if updates_per_second is None else updates_per_second
            yield Flow(
                kind="fobd",
                symbols=symbols,
                at_least=one.at_least,
                per_second=rate,
                levels=levels,
                raw_bytes=sizes.UPDATE_BYTES + levels * activity.raw_level_bytes,
                broker_bytes=sizes.BROKER_RECORD_BYTES + levels * sizes.BROKER_UPDATE_LEVEL_BYTES,
                norm_row_bytes=activity.norm_row_bytes,
                file_row_bytes=activity.file_row_bytes,
                book_messages_per_second=rate + 1 / book.delta.anchor_interval,
            )


def assumed(settings: Settings, what: Iterable[Recorded], updates_per_second: float | None) -> Iterator[UpdatesAssumed]:
    """What `flows` takes of updates, of each market and activity, over all addresses."""
    symbols: dict[tuple[Market, sizes.Activity], int] = defaultdict(int)
    at_least: dict[tuple[Market, sizes.Activity], bool] = defaultdict(bool)
    for one in what:
        if one.kind == "fobd":
            for activity, count in _activities(one):
                symbols[(one.exchange, one.market), activity] += count
                at_least[(one.exchange, one.market), activity] |= one.at_least
    markets = _markets(settings)
    for (market, activity), count in symbols.items():
        rate, levels = _pace(activity, markets[market].orderbook.delta.interval_ms)
        yield UpdatesAssumed(
            *market,
            name=activity.name,
            source=activity.source,
            symbols=count,
            at_least=at_least[market, activity],
            updates_per_second=rate if updates_per_second is None else updates_per_second,
            levels=levels,
            raw_bytes=sizes.UPDATE_BYTES + levels * activity.raw_level_bytes,
        )


def _books(one: Recorded, per_second: float, levels: int) -> Flow:
    """Polls, or the anchors among updates. One among updates shares nothing with its neighbours in the file."""
    poll = one.kind == "fobs"
    return Flow(
        kind=one.kind,
        symbols=one.symbols,
        at_least=one.at_least,
        per_second=per_second,
        levels=levels,
        raw_bytes=sizes.BODY_BYTES + levels * sizes.BODY_LEVEL_BYTES,
        broker_bytes=sizes.BROKER_RECORD_BYTES + levels * sizes.BROKER_BODY_LEVEL_BYTES,
        norm_row_bytes=sizes.NORM_BODY_ROW_BYTES,
        file_row_bytes=sizes.FILE_BODY_ROW_BYTES if poll else sizes.FIRST_BODY_ROW_BYTES,
        book_messages_per_second=per_second if poll else 0.0,
        first_row_bytes=sizes.FIRST_BODY_ROW_BYTES - sizes.FILE_BODY_ROW_BYTES if poll else 0.0,
    )


def _activities(one: Recorded) -> Iterator[tuple[sizes.Activity, int]]:
    others = one.symbols - one.busy
    if one.busy:
        yield sizes.BUSY_SYMBOL, one.busy
    if others or one.at_least:
        yield sizes.OTHER_SYMBOL, others


def _pace(activity: sizes.Activity, interval_ms: int) -> tuple[float, float]:
    """Updates a second, and the levels of one."""
    rate = min(activity.updates_per_second, 1000 / interval_ms) if interval_ms else activity.updates_per_second
    return rate, activity.levels_per_second / rate


def _markets(settings: Settings) -> Mapping[Market, MarketSettings]:
    return {(exchange, market): found for exchange, market, found in settings.source.markets()}
