"""The three Binance markets as the outside sees them: paths, limits, request weights, error texts, body shapes.

Facts and nothing else: no book, no clock, no I/O. The rules are the venue's (USDⓈ-M and COIN-M derivatives
"Order Book", spot "Order book"); the codes are its error-code pages.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import msgspec

MarketName = Literal["future", "inverse", "spot"]
MARKET_NAMES: tuple[MarketName, ...] = get_args(MarketName)
WeightGroup = Literal["binance-futures", "binance-spot"]
WEIGHT_LIMITS: dict[WeightGroup, int] = {"binance-futures": 2400, "binance-spot": 6000}  # per minute and address

FUTURES_LIMITS = (5, 10, 20, 50, 100, 500, 1000)
SPOT_LIMIT_MAX = 5000


@dataclass(frozen=True, slots=True)
class Market:
    """One market: where it answers, and what a request to it weighs."""

    name: MarketName
    prefix: str  # of every path
    group: WeightGroup  # USDⓈ-M and COIN-M share one budget since 2026-06-30
    default_limit: int  # levels a side where the request names none
    info_weight: int
    depth_weights: tuple[tuple[int, int], ...]  # (up to this limit, weight), ascending
    content_type: str

    def depth_weight(self, limit: int) -> int:
        """Weight of one depth request for `limit` levels a side; beyond the table the heaviest."""
        for up_to, weight in self.depth_weights:
            if limit <= up_to:
                return weight
        return self.depth_weights[-1][1]

    def check_limit(self, text: str | None) -> int:
        """The levels a side to serve, from the request's `limit` parameter. Raises `Refusal`."""
        if text is None or text == "":
            return self.default_limit
        if not text.isascii() or not text.isdigit() or len(text) > LIMIT_DIGITS_MAX:
            raise Refusal(400, -1100, ILLEGAL_LIMIT)
        limit = int(text)
        if self.name == "spot":
            if limit == 0:
                raise Refusal(400, -1100, ILLEGAL_LIMIT)
            return min(limit, SPOT_LIMIT_MAX)
        if limit not in FUTURES_LIMITS:
            raise Refusal(400, -4021, f"'{limit}' is not valid depth limit.")
        return limit


LIMIT_DIGITS_MAX = 20
ILLEGAL_LIMIT = "Illegal characters found in parameter 'limit'; legal range is '^[0-9]{1,20}$'."
_FUTURES_WEIGHTS = ((50, 2), (100, 5), (500, 10), (1000, 20))
_SPOT_WEIGHTS = ((100, 5), (500, 25), (1000, 50), (5000, 250))
_JSON = "application/json"

MARKETS: dict[MarketName, Market] = {
    "future": Market("future", "/fapi/v1", "binance-futures", 500, 1, _FUTURES_WEIGHTS, _JSON),
    "inverse": Market("inverse", "/dapi/v1", "binance-futures", 500, 1, _FUTURES_WEIGHTS, _JSON),
    "spot": Market("spot", "/api/v3", "binance-spot", 100, 20, _SPOT_WEIGHTS, _JSON + ";charset=UTF-8"),
}


class Refusal(Exception):
    """The venue says no: HTTP status, its negative error code and its text."""

    def __init__(self, status: int, code: int, text: str, retry_after_seconds: int | None = None) -> None:
        super().__init__(text)
        self.status = status
        self.code = code
        self.text = text
        self.retry_after_seconds = retry_after_seconds

    def body(self) -> bytes:
        """``{"code":…,"msg":…}``."""
        return error_body(self.code, self.text)


def error_body(code: int, text: str) -> bytes:
    """The venue's error object, compact."""
    return msgspec.json.encode({"code": code, "msg": text})


def no_symbol() -> Refusal:
    """A depth request without a symbol."""
    return Refusal(400, -1102, "Mandatory parameter 'symbol' was not sent, was empty/null, or malformed.")


def unknown_symbol() -> Refusal:
    """A symbol the market does not list."""
    return Refusal(400, -1121, "Invalid symbol.")


def unknown_path(market: MarketName, path: str, method: str) -> Refusal:
    """A path below a market's prefix that nothing serves."""
    if market == "spot":
        return Refusal(404, -1000, "Not Found")
    return Refusal(404, -5000, f"Path {path}, Method {method} is invalid")


def depth_body(
    market: MarketName,
    *,
    symbol: str,
    pair: str,
    last_update_id: int,
    event_ms: int,
    transaction_ms: int,
    bids: bytes,
    asks: bytes,
) -> bytes:
    """A depth answer exactly as the market words it. `bids` and `asks` are rendered level lists without brackets."""
    if market == "spot":
        head = b'{"lastUpdateId":%d,' % last_update_id
    elif market == "future":
        head = b'{"lastUpdateId":%d,"E":%d,"T":%d,' % (last_update_id, event_ms, transaction_ms)
    else:
        head = b'{"lastUpdateId":%d,"E":%d,"T":%d,"symbol":%s,"pair":%s,' % (
            last_update_id,
            event_ms,
            transaction_ms,
            msgspec.json.encode(symbol),
            msgspec.json.encode(pair),
        )
    return b'%s"bids":[%s],"asks":[%s]}' % (head, bids, asks)


def event_body(
    market: MarketName,
    *,
    symbol: str,
    pair: str,
    ids: tuple[int, int, int],
    event_ms: int,
    transaction_ms: int,
    bids: bytes,
    asks: bytes,
) -> bytes:
    """A depth event exactly as the market words it. `ids` are U, u and pu; `bids` and `asks` as in `depth_body`."""
    name = msgspec.json.encode(symbol)
    first, last, previous = ids
    if market == "spot":
        head = b'{"e":"depthUpdate","E":%d,"s":%s,"U":%d,"u":%d,' % (event_ms, name, first, last)
        return b'%s"b":[%s],"a":[%s]}' % (head, bids, asks)
    head = b'{"e":"depthUpdate","E":%d,"T":%d,"s":%s,"ps":%s,"U":%d,"u":%d,"pu":%d,' % (
        event_ms,
        transaction_ms,
        name,
        msgspec.json.encode(pair),
        first,
        last,
        previous,
    )
    return b'%s"b":[%s],"a":[%s],"st":%d}' % (head, bids, asks, 1 if market == "future" else 2)
