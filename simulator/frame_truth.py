"""The truth of the streams: every event, what became of it at every connection, and every book to start from.

JSON lines, by `what`:
 base         the whole book of a symbol when it is first subscribed to (of a capture: the recorded body)
 event        one per event of such a symbol, in order, with the bare text; base and events give the book at any u
 frame        one per event and subscribed connection: when it was handed to the socket, or which fault ate it
 opened, closed, subscribe, unsubscribe   what connections did

"Delivered" means handed to the socket: what a reset destroyed on its way is not known here. Lines are kept in memory
until `flush`. It never decides what is sent.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, BinaryIO

import msgspec

if TYPE_CHECKING:
    from simulator.depth_event import Event
    from simulator.markets import MarketName

Levels = Sequence[tuple[str, str]]  # price and quantity
Fate = tuple["Event", str | None, bool]  # the event, the fault that met it, whether it was handed to the socket
FLUSH_BYTES = 1 << 20


class FrameTruth:
    """The log; without a file it costs nothing."""

    def __init__(self, file: BinaryIO | None = None) -> None:
        self.on = file is not None
        self._file = file
        self._lines: list[bytes] = []
        self._bytes = 0

    def base(self, market: MarketName, symbol: str, last_id: int, bids: Levels, asks: Levels) -> None:
        """Best levels first, as texts."""
        self.note("base", market=market, symbol=symbol, last_id=last_id, bids=bids, asks=asks)

    def event(self, market: MarketName, event: Event) -> None:
        """An event, whether anyone gets it or not."""
        if self.on:
            self.note(
                "event",
                market=market,
                symbol=event.symbol,
                U=event.first_id,
                u=event.last_id,
                pu=event.previous_id,
                E=event.event_ms,
                at_ns=time.time_ns(),
                text=event.text.decode(),
            )

    def frames(self, conn: int, market: MarketName, fates: Sequence[Fate], sent_ns: int) -> None:
        """What became of events at one connection, in the order of the wire."""
        for event, fault, delivered in fates:
            self._write(
                b'{"what":"frame","conn":%d,"market":"%s","symbol":%s,"U":%d,"u":%d,"sent_ns":%d,"fault":%s,'
                b'"delivered":%s}\n'
                % (
                    conn,
                    market.encode(),
                    msgspec.json.encode(event.symbol),
                    event.first_id,
                    event.last_id,
                    sent_ns,
                    msgspec.json.encode(fault),
                    b"true" if delivered else b"false",
                )
            )

    def note(self, what: str, **fields: object) -> None:
        """Any other line."""
        if self.on:
            self._write(msgspec.json.encode({"what": what} | fields) + b"\n")

    def flush(self) -> None:
        """Everything noted so far is in the file."""
        if self._file is not None and self._lines:
            self._file.write(b"".join(self._lines))
            self._file.flush()
            self._lines.clear()
            self._bytes = 0

    def _write(self, line: bytes) -> None:
        self._lines.append(line)
        self._bytes += len(line)
        if self._bytes > FLUSH_BYTES:
            self.flush()
