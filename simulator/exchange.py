"""All markets behind one door: who is listed, which book answers, and what time it is there.

Books are made when first asked for and advanced to the event clock whenever they are looked at. No HTTP here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import msgspec

from simulator.book import Book
from simulator.exchange_info import exchange_info
from simulator.instruments import Instrument, instruments
from simulator.markets import MARKET_NAMES, MARKETS, MarketName, unknown_symbol

if TYPE_CHECKING:
    from collections.abc import Iterable

    from simulator.book import Answer
    from simulator.clock import EventClock
    from simulator.weights import Weights


class MarketSource(Protocol):
    """What a market's answers come from: synthetic books, or a capture."""

    clock: EventClock

    def symbols(self) -> list[str]:
        """Every symbol that has a book."""

    def info(self, weight_limit: int) -> bytes:
        """The exchangeInfo body."""

    def answer(self, symbol: str, limit: int) -> Answer:
        """The depth body of now. Raises `Refusal` for an unknown symbol."""

    def served(self, symbol: str) -> None:
        """An answer for this symbol went out whole, as it was meant."""

    def advance(self) -> None:
        """Brings all books that were ever asked for up to the clock."""


class SyntheticMarket:
    """Seeded books of one market. Listings do not depend on the seed."""

    def __init__(self, market: MarketName, clock: EventClock, *, seed: int, symbols: int) -> None:
        self.clock = clock
        self._market: MarketName = market
        self._seed = seed
        self._start_ms = clock.now_ms()
        self._listed: dict[str, tuple[int, Instrument]] = {
            item.symbol: (slot, item) for slot, item in enumerate(instruments(market, symbols))
        }
        self._books: dict[str, Book] = {}

    def symbols(self) -> list[str]:
        """Those that trade."""
        return [item.symbol for _, item in self._listed.values() if item.status == "TRADING"]

    def info(self, weight_limit: int) -> bytes:
        """Listings never change; the server's time does."""
        listed = [item for _, item in self._listed.values()]
        return msgspec.json.encode(
            exchange_info(self._market, listed, weight_limit=weight_limit, server_time_ms=self.clock.now_ms())
        )

    def book(self, symbol: str) -> Book:
        """The book, advanced to now. Raises `Refusal` for an unknown symbol."""
        book = self._books.get(symbol)
        if book is None:
            if symbol not in self._listed:
                raise unknown_symbol()
            slot, item = self._listed[symbol]
            book = self._books[symbol] = Book(item, seed=self._seed, slot=slot, start_ms=self._start_ms)
        book.advance(self.clock.now_ms())
        return book

    def answer(self, symbol: str, limit: int) -> Answer:
        """See `MarketSource`."""
        return self.book(symbol).answer(limit)

    def served(self, symbol: str) -> None:
        """Nothing depends on it here."""

    def advance(self) -> None:
        """So that a book nobody polled for an hour does not catch up in one request."""
        now_ms = self.clock.now_ms()
        for book in self._books.values():
            book.advance(now_ms)


class Exchange:
    """The three markets and the request accounting they share."""

    def __init__(self, sources: dict[MarketName, MarketSource], weights: Weights) -> None:
        self.sources = sources
        self.weights = weights

    def clocks(self) -> Iterable[EventClock]:
        """Each clock once; markets may share one."""
        return {id(source.clock): source.clock for source in self.sources.values()}.values()

    def info(self, market: MarketName) -> bytes:
        """The exchangeInfo body; its request limit is the one enforced, unless it was recorded."""
        return self.sources[market].info(self.weights.limits[MARKETS[market].group])

    def advance(self) -> None:
        """Brings every book up to its clock."""
        for source in self.sources.values():
            source.advance()


def synthetic(clock: EventClock, *, seed: int, symbols: int) -> dict[MarketName, MarketSource]:
    """All markets synthetic, on one clock."""
    return {name: SyntheticMarket(name, clock, seed=seed, symbols=symbols) for name in MARKET_NAMES}
