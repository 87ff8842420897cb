"""A recorded session of the real venue, played: the recorded REST bodies verbatim, then what they would have become.

Each recording has one snapshot per symbol. The first answer for a symbol is that snapshot, byte for byte (as is every
later one until the first diff after it); the others are synthesised from the book rebuilt by event time, with
lastUpdateId = the last applied u. Time comes from the events (E), never from the recorder's clock, which is off in some
sessions. The session's clock begins at the first depth request. Nothing is written and nothing is sent from here.
"""

from __future__ import annotations

import gzip
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

import msgspec

from simulator.capture_book import CaptureBook, DepthEvent
from simulator.exchange_info import exchange_info
from simulator.instruments import instrument_like
from simulator.markets import MARKETS, MarketName, unknown_symbol

if TYPE_CHECKING:
    from pathlib import Path

    from simulator.book import Answer
    from simulator.clock import EventClock


class Recorded(msgspec.Struct):
    """One file of ``http/``."""

    url: str
    body: str


class _Line(msgspec.Struct):
    """One line of ``ws.jsonl``."""

    raw: str


class _Frame(msgspec.Struct):
    """A combined stream's frame."""

    data: msgspec.Raw


_LINES = msgspec.json.Decoder(_Line)
_FRAMES = msgspec.json.Decoder(_Frame)
_EVENTS = msgspec.json.Decoder(DepthEvent)
DEPTH_MARK = b"depthUpdate"


class CaptureMarket:
    """One market as one or more folders recorded it. With `hold` the recorded bodies are served for ever."""

    def __init__(self, market: MarketName, clock: EventClock, folders: list[Path], *, hold: bool = False) -> None:
        self.clock = clock
        self._market = MARKETS[market]
        self._hold = hold
        self._info: bytes | None = None
        self._books: dict[str, CaptureBook] = {}
        for folder in folders:
            for recorded in _recorded(folder):
                self._take(recorded)
            for event in _events(folder):
                book = self._books.get(event.s)
                if book is not None:
                    book.events.append(event)
        if not self._books:
            raise ValueError(f"no depth answer of {market} in {', '.join(str(folder) for folder in folders)}")
        self._begin_ms = min(book.begin_ms for book in self._books.values())
        self._started_ms: int | None = None  # what the clock said at the first depth request

    def symbols(self) -> list[str]:
        """Those with a recorded snapshot."""
        return list(self._books)

    def info(self, weight_limit: int) -> bytes:
        """The recorded exchangeInfo verbatim (its symbols may be more than those with a book), else one made up."""
        if self._info is not None:
            return self._info
        listed = [instrument_like(self._market.name, symbol, *book.sample()) for symbol, book in self._books.items()]
        info = exchange_info(self._market.name, listed, weight_limit=weight_limit, server_time_ms=self._begin_ms)
        return msgspec.json.encode(info)

    def book(self, symbol: str) -> CaptureBook:
        """The rebuilt book of a symbol. Raises `Refusal` for one that was not recorded."""
        if symbol not in self._books:
            raise unknown_symbol()
        return self._books[symbol]

    def event_ms(self) -> int:
        """Event time of the session now: its beginning, until the first depth request starts the clock."""
        now_ms = self.clock.now_ms()
        if self._started_ms is None:
            return self._begin_ms
        return self._begin_ms + now_ms - self._started_ms

    def answer(self, symbol: str, limit: int) -> Answer:
        """See the module."""
        book = self.book(symbol)
        if self._started_ms is None:
            self._started_ms = self.clock.now_ms()
        if not self._hold and book.polled:
            book.advance(self.event_ms())
        return book.answer(limit)

    def served(self, symbol: str) -> None:
        """From now on the book moves: its recorded body has reached someone whole."""
        self._books[symbol].polled = True

    def advance(self) -> None:
        """Books are cheap to catch up, a symbol that was not polled yet must not move."""

    def _take(self, recorded: Recorded) -> None:
        url = urlsplit(recorded.url)
        if url.path == self._market.prefix + "/exchangeInfo":
            self._info = recorded.body.encode()
        elif url.path == self._market.prefix + "/depth":
            query = parse_qs(url.query)
            limit = int(query.get("limit", [str(self._market.default_limit)])[0])
            symbol = query["symbol"][0]
            self._books.setdefault(symbol, CaptureBook(self._market, symbol, recorded.body.encode(), limit))


def captured_markets(folder: Path) -> set[MarketName]:
    """The markets a folder has depth answers of, known from the paths of the recorded urls."""
    return {
        name
        for recorded in _recorded(folder)
        for name, market in MARKETS.items()
        if urlsplit(recorded.url).path == market.prefix + "/depth"
    }


def _recorded(folder: Path) -> list[Recorded]:
    """The HTTP answers of a session, in order. Raises `ValueError` where the folder is no capture."""
    files = sorted((folder / "http").glob("*.json"))
    if not files:
        raise ValueError(f"{folder} is not a capture: it has no http/*.json")
    return [msgspec.json.decode(file.read_bytes(), type=Recorded) for file in files]


def _events(folder: Path) -> list[DepthEvent]:
    """All diff events of a session in recorded order."""
    plain, packed = folder / "ws.jsonl", folder / "ws.jsonl.gz"
    if plain.exists():
        lines = plain.read_bytes().splitlines()
    elif packed.exists():
        lines = gzip.decompress(packed.read_bytes()).splitlines()
    else:
        return []
    return [_EVENTS.decode(_FRAMES.decode(_LINES.decode(line).raw).data) for line in lines if DEPTH_MARK in line]
