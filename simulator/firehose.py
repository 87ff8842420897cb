"""A recorded session as a load: the frames of the subscribed symbols again and again, at a rate of their own.

Ids are rewritten so that each symbol's chain holds across laps; E, T and the levels stay. Books are not: an answer is
the recorded body under the id of the last frame that went out, so that it fits the stream by its id and by nothing else.
Sends no faster than its listeners take it.
"""

from __future__ import annotations

import hashlib
import re
import time
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from simulator.capture import CaptureMarket
from simulator.depth_event import Event

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from simulator.book import Answer
    from simulator.capture_book import CaptureBook
    from simulator.clock import EventClock
    from simulator.markets import MarketName

IDS = re.compile(rb'"(?:U|u|pu)":\s*(\d+)')
BURST_SECONDS = 0.1  # what a late wake may catch up
WAITING_BYTES = 1 << 20  # in a listener's buffer: then the next frames wait


class Shot(NamedTuple):
    """One recorded frame, cut around its ids: `texts` has one piece more than `ids`."""

    book: CaptureBook
    event: Event
    texts: list[bytes]
    ids: list[int]


class FirehoseMarket(CaptureMarket):
    """Of `per_second` frames in all. `now` is real time in seconds."""

    def __init__(
        self,
        market: MarketName,
        clock: EventClock,
        folders: list[Path],
        *,
        per_second: float,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(market, clock, folders)
        self._per_second = per_second
        self._now = now
        self._shots = [_cut(book, event) for _, book, event in self.frames]
        self._spans = {symbol: _span(book) for symbol, book in self.books.items()}
        self._sent_ids = {symbol: _first_previous(book) for symbol, book in self.books.items()}
        self._playable = [symbol for symbol, book in self.books.items() if book.events]
        self._at = 0
        self._lap = 0
        self._due_from: float | None = None

    def answer(self, symbol: str, limit: int) -> Answer:  # noqa: ARG002
        """See the module. As many levels as were recorded, whatever `limit` is."""
        book = self.book(symbol)
        recorded = book.answer(book.recorded_limit)
        last_id = self._sent_ids[symbol]
        body = book.body.replace(b"%d" % book.recorded_id, b"%d" % last_id, 1)
        return replace(
            recorded, body=body, sha256=hashlib.sha256(body).hexdigest(), last_update_id=last_id, recorded=False
        )

    def advance(self) -> None:
        """Sends what is due by the rate."""
        listened = {symbol for symbol in self._playable if self.feed.listened(symbol)}
        now = self._now()
        if self._due_from is None or not listened or self.feed.backed_up(WAITING_BYTES):
            self._due_from = now
            return
        self._due_from = max(self._due_from, now - BURST_SECONDS)
        due = int((now - self._due_from) * self._per_second)
        self._due_from += due / self._per_second
        while due > 0:
            shot = self._shots[self._at]
            if shot.event.symbol in listened:
                self._fire(shot)
                due -= 1
            self._at += 1
            if self._at == len(self._shots):
                self._at = 0
                self._lap += 1

    def progress(self) -> dict[str, object]:
        """It never ends."""
        return super().progress() | {
            "passed": self._lap * len(self._shots) + self._at,
            "ended": False,
            "laps": self._lap,
        }

    def _fire(self, shot: Shot) -> None:
        event, texts = shot.event, shot.texts
        span = self._lap * self._spans[event.symbol]
        pieces = [texts[0]]
        for number, text in zip(shot.ids, texts[1:], strict=True):
            pieces += (b"%d" % (number + span), text)
        last_id = event.last_id + span
        previous_id = None if event.previous_id is None else event.previous_id + span
        self._sent_ids[event.symbol] = last_id
        self.feed.publish(
            Event(
                event.symbol,
                event.first_id + span,
                last_id,
                previous_id,
                event.event_ms,
                b"".join(pieces),
                event.head,
                event.tail,
                event.levels,
            )
        )


def _cut(book: CaptureBook, event: Event) -> Shot:
    texts, ids, at = [], [], 0
    for match in IDS.finditer(event.text):
        texts.append(event.text[at : match.start(1)])
        ids.append(int(match[1]))
        at = match.end(1)
    return Shot(book, event, [*texts, event.text[at:]], ids)


def _first_previous(book: CaptureBook) -> int:
    """The id that the first frame follows."""
    if not book.events:
        return book.recorded_id
    first = book.events[0]
    return first.first_id - 1 if first.previous_id is None else first.previous_id


def _span(book: CaptureBook) -> int:
    """By how much ids rise from lap to lap: the first frame then follows the last one."""
    return book.events[-1].last_id - _first_previous(book) if book.events else 0
