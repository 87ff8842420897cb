"""A recorded session of the real venue, played: recorded REST bodies and frames verbatim, then what they lead to.

Each recording has one snapshot per symbol. The first answer for a symbol is that snapshot, byte for byte (as is every
later one until the first diff after it); the others are synthesised from the book at the last event that went out, with
lastUpdateId = its u. Frames go out by event time (E), never by the recorder's clock, which is off in some sessions.

The session's clock begins with the first depth request or SUBSCRIBE. It stands still before a frame that would not fit:
one of a symbol that was subscribed to, beyond its recorded snapshot, while that snapshot has reached nobody.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

import msgspec

from simulator.capture_book import CaptureBook
from simulator.capture_files import Recorded, read_answers, read_events
from simulator.exchange_info import exchange_info
from simulator.feed import Feed
from simulator.instruments import instrument_like
from simulator.markets import MARKETS, MarketName, unknown_symbol

if TYPE_CHECKING:
    from pathlib import Path

    from simulator.book import Answer
    from simulator.clock import EventClock
    from simulator.depth_event import Event
    from simulator.frame_truth import FrameTruth


class CaptureMarket:
    """One market as one or more folders recorded it; a symbol comes from the first folder that has it.

    With `hold` the recorded bodies are served for ever. With `await_all` the session begins when every symbol is
    subscribed to, however long its subscribers take.
    """

    def __init__(
        self,
        market: MarketName,
        clock: EventClock,
        folders: list[Path],
        *,
        hold: bool = False,
        await_all: bool = False,
    ) -> None:
        self.clock = clock
        self.feed = Feed(market)
        self.market = MARKETS[market]
        self.books: dict[str, CaptureBook] = {}
        self.frames: list[tuple[int, CaptureBook, Event]] = []  # ms since the session began, in the order of that
        self._hold = hold
        self._await_all = await_all
        self._info: bytes | None = None
        self._next = 0  # of `frames`
        self._started_ms: int | None = None  # what the clock said when the session was at 0
        for folder in folders:
            self._read(folder)
        if not self.books:
            raise ValueError(f"no depth answer of {market} in {', '.join(str(folder) for folder in folders)}")
        self.frames.sort(key=lambda frame: frame[0])  # stable: a symbol's own order stays

    def symbols(self) -> list[str]:
        """Those with a recorded snapshot."""
        return list(self.books)

    def info(self, weight_limit: int) -> bytes:
        """The recorded exchangeInfo verbatim (its symbols may be more than those with a book), else one made up."""
        if self._info is not None:
            return self._info
        listed = [instrument_like(self.market.name, symbol, *book.sample()) for symbol, book in self.books.items()]
        begin_ms = min(book.begin_ms for book in self.books.values())
        info = exchange_info(self.market.name, listed, weight_limit=weight_limit, server_time_ms=begin_ms)
        return msgspec.json.encode(info)

    def book(self, symbol: str) -> CaptureBook:
        """The rebuilt book of a symbol. Raises `Refusal` for one that was not recorded."""
        if symbol not in self.books:
            raise unknown_symbol()
        return self.books[symbol]

    def answer(self, symbol: str, limit: int) -> Answer:
        """See the module."""
        book = self.book(symbol)
        self._begin()
        self.advance()
        if not self._hold and book.polled:
            book.advance()
        return book.answer(limit)

    def served(self, symbol: str) -> None:
        """From now on the book moves: its recorded body has reached someone whole."""
        self.books[symbol].polled = True

    def advance(self) -> None:
        """Sends every frame whose time has come. Books follow when they are asked for."""
        if self._started_ms is None:
            return
        now_ms = self.clock.now_ms()
        while self._next < len(self.frames):
            at_ms, book, event = self.frames[self._next]
            if at_ms > now_ms - self._started_ms:
                return
            if self._held(book, event):
                self._started_ms = now_ms - at_ms
                return
            self._next += 1
            book.passed += 1
            if book.symbol in self.feed.watched:
                self.feed.publish(event)

    def watch(self, name: str, truth: FrameTruth) -> None:
        """See `MarketSource`. The truth of a symbol begins with its recorded body and holds what went by already."""
        book = next((book for book in self.books.values() if book.symbol.lower() == name), None)
        if book is None:
            return
        if book.symbol not in self.feed.watched:
            self.feed.watched.add(book.symbol)
            truth.base(self.market.name, book.symbol, book.recorded_id, *book.recorded_levels())
            for event in book.events[: book.passed]:
                truth.event(self.market.name, event)
        self._begin()

    def list_symbol(self, symbol: str, status: str | None, truth: FrameTruth) -> None:  # noqa: ARG002
        """A recorded list is what it was."""
        raise ValueError(f"{self.market.name} is a recorded session, {symbol} cannot be listed in it or taken off")

    def progress(self) -> dict[str, object]:
        """Frames in all and passed, whether the session has ended, and whose recorded bodies it waits for."""
        return {
            "frames": len(self.frames),
            "passed": self._next,
            "ended": self._next == len(self.frames),
            "not_served": [book.symbol for book in self.books.values() if not book.polled],
        }

    def _begin(self) -> None:
        if self._started_ms is None and (not self._await_all or self.feed.watched == self.books.keys()):
            self._started_ms = self.clock.now_ms()

    def _held(self, book: CaptureBook, event: Event) -> bool:
        return not book.polled and event.last_id > book.recorded_id and book.symbol in self.feed.watched

    def _read(self, folder: Path) -> None:
        """Takes what this folder has of symbols that no folder before it had."""
        new: dict[str, CaptureBook] = {}
        for recorded in read_answers(folder):
            self._take(recorded, new)
        for event in read_events(folder):
            if event.symbol in new:
                new[event.symbol].events.append(event)
        begin_ms = min((book.begin_ms for book in new.values()), default=0)
        for book in new.values():
            self.frames.extend((event.event_ms - begin_ms, book, event) for event in book.events)
        self.books |= new

    def _take(self, recorded: Recorded, new: dict[str, CaptureBook]) -> None:
        url = urlsplit(recorded.url)
        if url.path == self.market.prefix + "/exchangeInfo":
            self._info = recorded.body.encode()
        elif url.path == self.market.prefix + "/depth":
            query = parse_qs(url.query)
            limit = int(query.get("limit", [str(self.market.default_limit)])[0])
            symbol = query["symbol"][0]
            if symbol not in self.books:
                new.setdefault(symbol, CaptureBook(self.market, symbol, recorded.body.encode(), limit))
