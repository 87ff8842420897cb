"""The exchangeInfo answer of a market, fields and their order as the venue gives them (fewer filters than it has)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from simulator.instruments import Instrument
    from simulator.markets import MarketName

ONBOARD_MS = 1_569_398_400_000


def exchange_info(
    market: MarketName, listed: list[Instrument], *, weight_limit: int, server_time_ms: int
) -> dict[str, Any]:
    """The market's exchangeInfo object, fields and their order as the venue gives them."""
    weight = {"rateLimitType": "REQUEST_WEIGHT", "interval": "MINUTE", "intervalNum": 1, "limit": weight_limit}
    head: dict[str, Any] = {"timezone": "UTC", "serverTime": server_time_ms}
    if market == "future":
        head["futuresType"] = "U_MARGINED"
    if market == "spot":
        raw = {"rateLimitType": "RAW_REQUESTS", "interval": "MINUTE", "intervalNum": 5, "limit": 300_000}
        orders = {"rateLimitType": "ORDERS", "interval": "SECOND", "intervalNum": 10, "limit": 100}
        head["rateLimits"] = [weight, orders, raw]
    else:
        head["rateLimits"] = [
            weight,
            {"rateLimitType": "ORDERS", "interval": "MINUTE", "intervalNum": 1, "limit": 1200},
        ]
    head["exchangeFilters"] = []
    if market == "future":
        head["assets"] = [{"asset": "USDT", "marginAvailable": True, "autoAssetExchange": "-10000"}]
    row = _spot_symbol if market == "spot" else _futures_symbol
    head["symbols"] = [row(item) for item in listed]
    return head


def _futures_symbol(item: Instrument) -> dict[str, Any]:
    inverse = item.market == "inverse"
    margin = item.base if inverse else item.quote
    row: dict[str, Any] = {
        "symbol": item.symbol,
        "pair": item.pair,
        "contractType": item.contract_type,
        "deliveryDate": item.delivery_ms,
        "onboardDate": ONBOARD_MS,
        "contractStatus" if inverse else "status": item.status,
    }
    if inverse:
        row["contractSize"] = item.contract_size_usd
    return row | {
        "marginAsset": margin,
        "maintMarginPercent": "2.5000",
        "requiredMarginPercent": "5.0000",
        "baseAsset": item.base,
        "quoteAsset": item.quote,
        "pricePrecision": item.price_decimals,
        "quantityPrecision": item.quantity_decimals,
        "baseAssetPrecision": 8,
        "quotePrecision": 8,
        "underlyingType": "COIN",
        "underlyingSubType": [],
        "filters": [
            {
                "minPrice": item.tick_size,
                "maxPrice": "1000000",
                "filterType": "PRICE_FILTER",
                "tickSize": item.tick_size,
            },
            {"stepSize": item.lot_size, "filterType": "LOT_SIZE", "maxQty": "1000000", "minQty": item.lot_size},
        ],
        "orderTypes": ["LIMIT", "MARKET", "STOP"],
        "timeInForce": ["GTC", "IOC", "FOK", "GTX"],
    }


def _spot_symbol(item: Instrument) -> dict[str, Any]:
    return {
        "symbol": item.symbol,
        "status": item.status,
        "baseAsset": item.base,
        "baseAssetPrecision": 8,
        "quoteAsset": item.quote,
        "quotePrecision": 8,
        "quoteAssetPrecision": 8,
        "orderTypes": ["LIMIT", "LIMIT_MAKER", "MARKET"],
        "isSpotTradingAllowed": True,
        "filters": [
            {
                "filterType": "PRICE_FILTER",
                "minPrice": item.tick_size,
                "maxPrice": "1000000.00000000",
                "tickSize": item.tick_size,
            },
            {
                "filterType": "LOT_SIZE",
                "minQty": item.lot_size,
                "maxQty": "9000000.00000000",
                "stepSize": item.lot_size,
            },
        ],
        "permissions": ["SPOT"],
    }
