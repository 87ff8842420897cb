"""What is listed: per market a deterministic list of instruments with real tick and lot sizes.

The list does not depend on the seed (the seed moves books, not listings). Nothing here knows a book.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from simulator.markets import MarketName

PERPETUAL_DELIVERY_MS = 4_133_404_800_000
QUARTERS = (("261225", "CURRENT_QUARTER", 1_798_185_600_000), ("270326", "NEXT_QUARTER", 1_806_048_000_000))


@dataclass(frozen=True, slots=True)
class Instrument:
    """One listing. Price = tick · `tick_units` / 10^`price_decimals`; quantity likewise from lots."""

    market: MarketName
    symbol: str
    pair: str
    base: str
    quote: str
    price_decimals: int  # digits after the point in every price text
    tick_units: int  # tick size in units of the last decimal
    quantity_decimals: int
    lot_units: int
    mid_tick: int  # where the book starts, in ticks
    typical_lots: int  # of one level near the front
    bids: int  # levels a side the book keeps near to
    asks: int
    contract_type: str = "PERPETUAL"
    delivery_ms: int = PERPETUAL_DELIVERY_MS
    contract_size_usd: int = 0  # COIN-M
    status: str = "TRADING"

    @property
    def tick_size(self) -> str:
        """As the filter prints it."""
        return decimal_text(self.tick_units, self.price_decimals)

    @property
    def lot_size(self) -> str:
        """As the filter prints it."""
        return decimal_text(self.lot_units, self.quantity_decimals)

    def level(self, tick: int, lots: int) -> bytes:
        """A price level as every body and event words it; 0 lots keep their decimals."""
        price = decimal_text(tick * self.tick_units, self.price_decimals)
        quantity = decimal_text(lots * self.lot_units, self.quantity_decimals)
        return f'["{price}","{quantity}"]'.encode()


# base, price in USD, decimals of the USDⓈ-M price, tick in last decimals, decimals of the quantity
_COINS: tuple[tuple[str, float, int, int, int], ...] = (
    ("BTC", 63_943.90, 2, 10, 3),
    ("ETH", 3_424.98, 2, 1, 3),
    ("SUSHI", 7.611, 4, 10, 0),
    ("AKRO", 0.01731, 5, 1, 0),
    ("KEEP", 0.2463, 4, 1, 0),
    ("币安人生", 0.18642, 5, 1, 0),
    ("BNB", 578.42, 3, 10, 2),
    ("SOL", 158.31, 4, 100, 0),
    ("XRP", 0.5659, 4, 1, 1),
    ("DOGE", 0.12345, 5, 1, 0),
    ("ADA", 0.4321, 5, 10, 0),
    ("LINK", 15.068, 3, 1, 2),
    ("LTC", 84.21, 2, 1, 3),
    ("BCH", 427.90, 2, 1, 3),
    ("DOT", 6.284, 3, 1, 1),
    ("AVAX", 27.813, 4, 10, 0),
    ("TRX", 0.05346, 5, 1, 0),
    ("ETC", 42.251, 3, 1, 2),
    ("EOS", 3.467, 3, 1, 1),
    ("ATOM", 8.713, 3, 1, 2),
    ("FIL", 5.612, 3, 1, 1),
    ("NEAR", 5.1230, 4, 10, 0),
    ("APT", 7.81200, 5, 100, 1),
    ("ARB", 0.781200, 6, 100, 1),
    ("OP", 1.7813000, 7, 1000, 1),
    ("UNI", 9.812, 4, 10, 0),
    ("AAVE", 98.12, 3, 10, 1),
    ("XLM", 0.09731, 5, 1, 0),
    ("ICP", 10.412, 3, 1, 0),
    ("INJ", 25.123, 4, 10, 1),
    ("SUI", 0.812300, 6, 100, 1),
    ("SEI", 0.38210, 5, 10, 0),
    ("TIA", 6.12310, 7, 1000, 0),
    ("WLD", 2.34120, 7, 1000, 0),
    ("1000PEPE", 0.0123400, 7, 1, 0),
    ("1000SHIB", 0.017650, 6, 1, 0),
    ("BAT", 1.2241, 4, 1, 1),
    ("CTK", 1.01, 5, 10, 0),
    ("NEO", 45.123, 3, 1, 2),
    ("SAND", 0.71230, 5, 1, 0),
    ("CHR", 0.4321, 4, 1, 0),
    ("KAVA", 0.5123, 4, 1, 1),
)
_THIN = {"KEEP": (400, 612), "AKRO": (609, 763), "币安人生": (212, 187), "BCH": (451, 536)}
_DEEP_SPOT = {"BTC", "ETH"}
KNOWN_QUOTES = ("USDT", "USDC", "BUSD", "USD", "BTC", "ETH", "EUR", "BNB")
TYPICAL_USD = 4000  # in one level near the front
MIN_MID_TICKS = 1500  # room for a whole bid side above zero
UNLISTED_STATUS = {"future": ("LUNAUSDT", "SETTLING"), "inverse": ("", ""), "spot": ("BCCUSDT", "BREAK")}


def instruments(market: MarketName, count: int) -> list[Instrument]:
    """`count` listings (the first ones always the same), plus where the market has them one that does not trade."""
    listed = [_instrument(market, index) for index in range(count)]
    symbol, status = UNLISTED_STATUS[market]
    if symbol:
        listed.append(
            _listing(market, symbol, (symbol.removesuffix("USDT"), 1.0, 4, 1, 0), levels=(0, 0), status=status)
        )
    return listed


def new_listing(market: MarketName, symbol: str, status: str) -> Instrument:
    """A listing that no table knows, with a price made from its name. Raises `ValueError` for an impossible symbol."""
    pair, _, term = symbol.partition("_")
    quote = next((known for known in KNOWN_QUOTES if pair.endswith(known) and pair != known), "")
    if not quote or (market == "inverse") != bool(term):
        raise ValueError(
            f"{symbol!r} is no symbol of {market}: it needs a base, one of {', '.join(KNOWN_QUOTES)}, _PERP"
        )
    seed = zlib.crc32(symbol.encode())
    item = _listing(
        market,
        symbol,
        (pair.removesuffix(quote), 0.5 + seed % 9973 / 100, 4, 1, seed % 3),
        levels=(1050 + seed % 300, 1050 + seed % 250),
        contract_type="PERPETUAL" if market != "inverse" or term == "PERP" else "CURRENT_QUARTER",
        status=status,
    )
    return replace(item, quote=quote)


def instrument_like(market: MarketName, symbol: str, price: str, quantity: str) -> Instrument:
    """A listing guessed from a symbol and the texts of one level: tick and lot are one unit of the last decimal."""
    pair = symbol.partition("_")[0]
    quote = next((known for known in KNOWN_QUOTES if pair.endswith(known) and pair != known), "")
    return Instrument(
        market=market,
        symbol=symbol,
        pair=pair if market == "inverse" else symbol,
        base=pair.removesuffix(quote),
        quote=quote,
        price_decimals=len(price.partition(".")[2]),
        tick_units=1,
        quantity_decimals=len(quantity.partition(".")[2]),
        lot_units=1,
        mid_tick=0,
        typical_lots=0,
        bids=0,
        asks=0,
        contract_type="PERPETUAL" if market == "future" or symbol.endswith("_PERP") else "CURRENT_QUARTER",
        contract_size_usd=(100 if pair == "BTCUSD" else 10) if market == "inverse" else 0,
    )


def decimal_text(units: int, decimals: int) -> str:
    """An integer of the last decimal as a decimal string with fixed decimals: (123, 2) → ``1.23``."""
    if decimals == 0:
        return str(units)
    scale = 10**decimals
    return f"{units // scale}.{units % scale:0{decimals}d}"


def _instrument(market: MarketName, index: int) -> Instrument:
    """The `index`-th listing: the coins of the table first, then made-up ones; COIN-M adds two quarters per coin."""
    if market != "inverse":
        coin = _coin(index)
        return _listing(market, coin[0] + "USDT", coin, levels=_levels(market, coin[0], index))
    coin = _coin(index // 3)
    levels = _levels(market, coin[0], index)
    if index % 3 == 0:
        return _listing(market, f"{coin[0]}USD_PERP", coin, levels=levels)
    date, contract_type, delivery_ms = QUARTERS[index % 3 - 1]
    return _listing(
        market, f"{coin[0]}USD_{date}", coin, levels=levels, contract_type=contract_type, delivery_ms=delivery_ms
    )


def _coin(index: int) -> tuple[str, float, int, int, int]:
    if index < len(_COINS):
        return _COINS[index]
    return (f"SIM{index:04d}", 0.5 + (index * 7919 % 9973) / 100, 4, 1, index % 3)


def _levels(market: MarketName, base: str, index: int) -> tuple[int, int]:
    if base in _THIN:
        return _THIN[base]
    if market == "spot" and base in _DEEP_SPOT:
        return (5200, 5100)
    if market == "inverse" and index % 3:
        return (700 + index * 37 % 400, 650 + index * 53 % 450)
    return (1050 + index * 37 % 300, 1050 + index * 53 % 300)


def _listing(
    market: MarketName,
    symbol: str,
    coin: tuple[str, float, int, int, int],
    *,
    levels: tuple[int, int],
    contract_type: str = "PERPETUAL",
    delivery_ms: int = PERPETUAL_DELIVERY_MS,
    status: str = "TRADING",
) -> Instrument:
    base, price, price_decimals, tick_units, quantity_decimals = coin
    lot_units = 1
    if market == "spot":  # padded to eight decimals, the tick and the lot stay what they are
        tick_units *= 10 ** (8 - price_decimals)
        lot_units = 10 ** (8 - quantity_decimals)
        price_decimals = quantity_decimals = 8
    if market == "inverse":
        quantity_decimals = 0
    mid_tick = round(price * 10**price_decimals / tick_units)
    needed = max(MIN_MID_TICKS, 3 * levels[0])
    while mid_tick < needed and tick_units % 10 == 0:
        tick_units //= 10
        mid_tick *= 10
    contract_size_usd = (100 if base == "BTC" else 10) if market == "inverse" else 0
    lot_usd = contract_size_usd or price * lot_units / 10**quantity_decimals
    return Instrument(
        market=market,
        symbol=symbol,
        pair=f"{base}USD" if market == "inverse" else symbol,
        base=base,
        quote="USD" if market == "inverse" else "USDT",
        price_decimals=price_decimals,
        tick_units=tick_units,
        quantity_decimals=quantity_decimals,
        lot_units=lot_units,
        mid_tick=max(mid_tick, needed),
        typical_lots=max(2, round(TYPICAL_USD / lot_usd)),
        bids=levels[0],
        asks=levels[1],
        contract_type=contract_type,
        delivery_ms=delivery_ms,
        contract_size_usd=contract_size_usd,
        status=status,
    )
