"""The registry of venues: one adapter per market of an exchange."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shared.venues.binance import BinanceFuture, BinanceInverse, BinanceSpot

if TYPE_CHECKING:
    from shared.venues.base import Venue

VENUES: dict[tuple[str, str], Venue] = {
    (adapter.exchange, adapter.market): adapter for adapter in (BinanceFuture(), BinanceInverse(), BinanceSpot())
}


def venue(exchange: str, market: str) -> Venue:
    """The adapter of a market. Raises `KeyError` where there is none."""
    return VENUES[exchange, market]
