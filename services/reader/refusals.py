"""What the venues refuse of the settings: levels, spacings, streams of a connection and its age. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shared.venues import venue

if TYPE_CHECKING:
    from collections.abc import Iterator

    from shared.settings import ReaderSettings, Settings
    from shared.venues.base import Venue

Refusal = tuple[str, str]
"""(key, why)"""


def refusals(settings: Settings) -> Iterator[Refusal]:
    """Every setting of the enabled markets with which their venue would not serve us."""
    for exchange, market, found in settings.source.snapshots():
        key = f"source.{exchange}.{market}.orderbook.snapshots.limit"
        if problem := venue(exchange, market).check_limit(found.orderbook.snapshots.limit):
            yield key, problem
    for exchange, market, found in settings.source.deltas():
        adapter, delta = venue(exchange, market), found.orderbook.delta
        prefix = f"source.{exchange}.{market}.orderbook.delta"
        if problem := adapter.check_interval(delta.interval_ms):
            yield f"{prefix}.interval_ms", problem
        if problem := adapter.check_limit(delta.limit):
            yield f"{prefix}.limit", problem
        yield from _connections(adapter, settings.reader)


def _connections(adapter: Venue, reader: ReaderSettings) -> Iterator[Refusal]:
    name = f"{adapter.exchange} {adapter.market}"
    if reader.streams_per_connection > adapter.max_streams:
        why = f"{reader.streams_per_connection:,} is refused by {name}: at most {adapter.max_streams:,} a connection"
        yield "reader.streams_per_connection", why
    if reader.max_connection_age >= adapter.max_age_seconds:
        why = (
            f"{reader.max_connection_age:g} s leaves no time for a hand-over: {name} ends a connection after "
            f"{adapter.max_age_seconds:g} s"
        )
        yield "reader.max_connection_age", why
