"""Binance's three markets: where their paths, weights and budgets differ.

What their answers mean is the same for all and stands in `binance_answers`. Sources: the order-book,
exchange-information and general-info pages of developers.binance.com for USDⓈ-M, COIN-M and spot. Never does I/O, never alters a payload.
"""

from __future__ import annotations

from typing import ClassVar
from urllib.parse import urlencode

from shared.venues.binance_answers import BinanceAnswers
from shared.venues.binance_frames import BinanceFrames
from shared.venues.sequence import ChainedByPrevious, ContiguousIds


class _Binance(BinanceAnswers, BinanceFrames):
    exchange = "binance"
    depth: ClassVar[str]
    instruments_weight = 1

    def depth_path(self, symbol: str, limit: int) -> str:
        return f"{self.depth}?{urlencode({'symbol': symbol, 'limit': limit})}"


class BinanceFuture(_Binance):
    """USDⓈ-M futures, ``https://fapi.binance.com``.

    1. ``limit`` is one of 5, 10, 20, 50 (weight 2), 100 (5), 500 (10), 1000 (20), nothing else.
    2. 2400 weight a minute per address, to be read from ``exchangeInfo.rateLimits``. Since the integration of COIN-M
       and USDⓈ-M on 2026-06-30 both hosts spend the same 2400.
    3. The body names no symbol: ``{"lastUpdateId", "E", "T", "bids", "asks"}``.
    4. Since 2026-04-23 book streams are at ``wss://fstream.binance.com/public``, which is part of ``stream_url``.
    5. ``<symbol>@depth`` is every 250 ms, ``@depth@100ms`` and ``@depth@500ms`` as they say; ``@depth@0ms`` is not
       documented and was seen to work.
    6. 1024 streams a connection (older copies of the page: 200), 24 hours, 10 messages a second. No limit of connection
       attempts is published: spot's 300 in five minutes is taken.
    """

    market = "future"
    shared_weight_group = "binance-futures"
    default_weight_limit = 2400
    depth = "/fapi/v1/depth"
    instruments_path = "/fapi/v1/exchangeInfo"
    sequence = ChainedByPrevious()
    update_intervals_ms = (0, 100, 250, 500)
    plain_interval_ms = 250
    messages_per_second = 10
    weights: ClassVar[dict[int, int]] = {5: 2, 10: 2, 20: 2, 50: 2, 100: 5, 500: 10, 1000: 20}

    def depth_weight(self, limit: int) -> int:
        """As `Venue.depth_weight`; rule 1."""
        if problem := self.check_limit(limit):
            raise ValueError(problem)
        return self.weights[limit]

    def check_limit(self, limit: int) -> str | None:
        """As `Venue.check_limit`; rule 1."""
        if limit in self.weights:
            return None
        return f"limit {limit} is refused by {self.exchange} {self.market}: one of {', '.join(map(str, self.weights))}"


class BinanceInverse(BinanceFuture):
    """COIN-M futures, ``https://dapi.binance.com``: limits, weights and budget as USDⓈ-M.

    The body also has ``symbol`` and ``pair``: a body that names another symbol than the one asked for is foreign.
    """

    market = "inverse"
    depth = "/dapi/v1/depth"
    instruments_path = "/dapi/v1/exchangeInfo"


class BinanceSpot(_Binance):
    """Spot, ``https://api.binance.com``.

    1. ``limit`` is any integer from 1 to 5000; weight 5 up to 100, 25 up to 500, 50 up to 1000, 250 up to 5000.
    2. 6000 weight a minute per address, to be read from ``exchangeInfo.rateLimits``; exchangeInfo itself costs 20.
       (RAW_REQUESTS, 300,000 in 5 minutes, cannot be reached: 6000 weight buys at most 1200 books a minute.)
    3. The body has no times and names no symbol: ``{"lastUpdateId", "bids", "asks"}``.
    4. ``<symbol>@depth`` is every 1000 ms, ``@depth@100ms`` as it says.
    5. 1024 streams a connection, 24 hours, 5 messages a second, 300 connection attempts in five minutes per address;
       ``serverShutdown`` comes before a planned close.
    """

    market = "spot"
    shared_weight_group = "binance-spot"
    default_weight_limit = 6000
    depth = "/api/v3/depth"
    instruments_path = "/api/v3/exchangeInfo"
    sequence = ContiguousIds()
    update_intervals_ms = (100, 1000)
    plain_interval_ms = 1000
    messages_per_second = 5
    instruments_weight = 20
    steps = ((100, 5), (500, 25), (1000, 50), (5000, 250))

    def depth_weight(self, limit: int) -> int:
        """As `Venue.depth_weight`; rule 1."""
        if problem := self.check_limit(limit):
            raise ValueError(problem)
        return next(weight for most, weight in self.steps if limit <= most)

    def check_limit(self, limit: int) -> str | None:
        """As `Venue.check_limit`; rule 1."""
        most = self.steps[-1][0]
        return None if 1 <= limit <= most else f"limit {limit} is refused by binance spot: an integer from 1 to {most}"
