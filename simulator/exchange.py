"""All markets behind one door: who is listed, which book answers, and what time it is there.

Books are made when first asked for and advanced to the event clock whenever they are looked at; every advance, whoever
caused it, goes out through the market's feed. No HTTP here.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

import msgspec

from simulator.book import IDS_PER_MS, Book
from simulator.depth_event import render
from simulator.exchange_info import exchange_info
from simulator.feed import Feed
from simulator.instruments import Instrument, instruments, new_listing
from simulator.markets import MARKET_NAMES, MARKETS, MarketName, unknown_symbol

if TYPE_CHECKING:
    from collections.abc import Iterable

    from simulator.book import Answer
    from simulator.clock import EventClock
    from simulator.frame_truth import FrameTruth
    from simulator.weights import Weights


class MarketSource(Protocol):
    """What a market's answers come from: synthetic books, or a capture."""

    clock: EventClock
    feed: Feed

    def symbols(self) -> list[str]:
        """Every symbol that has a book."""

    def watch(self, name: str, truth: FrameTruth) -> None:
        """Someone subscribes to the symbol `name` (in lower case): from now on its events are rendered and logged."""

    def list_symbol(self, symbol: str, status: str | None, truth: FrameTruth) -> None:
        """Lists it, gives it another status, or takes it off the list (None). Raises `ValueError` where it cannot."""

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
        self.feed = Feed(market)
        self._market: MarketName = market
        self._seed = seed
        self._start_ms = clock.now_ms()
        self._listed: dict[str, tuple[int, Instrument]] = {
            item.symbol: (slot, item) for slot, item in enumerate(instruments(market, symbols))
        }
        self._listed_ms: dict[str, int] = {}  # event time of those listed later
        self._next_slot = len(self._listed)
        self._books: dict[str, Book] = {}

    def symbols(self) -> list[str]:
        """Those that trade."""
        return [item.symbol for _, item in self._listed.values() if item.status == "TRADING"]

    def info(self, weight_limit: int) -> bytes:
        """All listings, whatever their status."""
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
            start_ms = self._listed_ms.get(symbol, self._start_ms)
            book = self._books[symbol] = Book(item, seed=self._seed, slot=slot, start_ms=start_ms)
        self._advance(book)
        return book

    def watch(self, name: str, truth: FrameTruth) -> None:
        """See `MarketSource`."""
        symbol = next((listed for listed in self._listed if listed.lower() == name), None)
        if symbol is None:
            return
        book = self.book(symbol)
        if symbol not in self.feed.watched:
            self.feed.watched.add(symbol)
            truth.base(self._market, symbol, book.last_update_id, *book.levels())

    def list_symbol(self, symbol: str, status: str | None, truth: FrameTruth) -> None:
        """See `MarketSource`. What never traded gets a book that begins now."""
        if status is None:
            self._listed.pop(symbol, None)
            self._books.pop(symbol, None)
            self.feed.watched.discard(symbol)
            return
        known = self._listed.get(symbol)
        if known is not None and known[1].bids:
            slot, item = known
            self.book(symbol).set_status(status, self.clock.now_ms())
            self._listed[symbol] = slot, replace(item, status=status)
            return
        if self._next_slot >= IDS_PER_MS:
            raise ValueError(f"{self._market} lists as many symbols as it can")
        self._listed[symbol] = self._next_slot, new_listing(self._market, symbol, status)
        self._listed_ms[symbol] = self.clock.now_ms()
        self._next_slot += 1
        self._books.pop(symbol, None)
        self.feed.watched.discard(symbol)
        if self.feed.listened(symbol):
            self.watch(symbol.lower(), truth)

    def answer(self, symbol: str, limit: int) -> Answer:
        """See `MarketSource`."""
        return self.book(symbol).answer(limit)

    def served(self, symbol: str) -> None:
        """Nothing depends on it here."""

    def advance(self) -> None:
        """So that streams flow, and a book nobody polled for an hour does not catch up in one request."""
        for book in self._books.values():
            self._advance(book)

    def _advance(self, book: Book) -> None:
        """The only way a book moves: what happened goes out."""
        diffs = book.advance(self.clock.now_ms())
        if diffs and book.instrument.symbol in self.feed.watched:
            for diff in diffs:
                self.feed.publish(render(book.instrument, diff))


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
