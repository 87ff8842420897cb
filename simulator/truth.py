"""The truth: what was served, response by response, so that a test can compare byte for byte.

One JSON line per response, written when it has gone out (so a client may hold an answer a moment before its line is
there; /_sim/truth asked after it has it) and flushed at once; optionally every distinct body kept by its SHA-256. The last
`KEPT_ENTRIES` stay in memory for the control API; counters are for ever. It never decides what is served.
"""

from __future__ import annotations

from collections import Counter, deque
from typing import TYPE_CHECKING, TextIO

import msgspec

if TYPE_CHECKING:
    from pathlib import Path

KEPT_ENTRIES = 200_000


class Served(msgspec.Struct, kw_only=True, rename={"last_update_id": "lastUpdateId"}):
    """One response. `sha256` and `bytes` are of the body meant; `sent_bytes` of it were handed to the socket."""

    seq: int
    recv_ns: int  # the request was read
    served_ns: int  # the last byte was written, or the connection given up
    market: str | None
    symbol: str | None
    path: str  # with its query, as sent
    ip: str  # source address of the connection
    limit: int | None  # levels a side served
    weight: int
    used_weight: int
    status: int | None  # null: no status line was sent
    fault: str | None  # kind
    sha256: str | None
    bytes: int
    sent_bytes: int
    last_update_id: int | None
    bids: int | None  # levels in the body, where it is a book
    asks: int | None
    book: bool | None  # a depth answer that a correct reader records; null: it may or may not
    complete: bool  # the whole body was written to the socket
    recorded: bool = False  # served verbatim from a capture


class Truth:
    """The log. `file` and `bodies` (a folder that exists) are optional."""

    def __init__(self, file: TextIO | None = None, bodies: Path | None = None) -> None:
        self._file = file
        self._bodies = bodies
        self._kept: deque[Served] = deque(maxlen=KEPT_ENTRIES)
        self._known_bodies: set[str] = set()
        self._seq = 0
        self._requests: Counter[str] = Counter()
        self._status: Counter[str] = Counter()
        self._faults: Counter[str] = Counter()
        self._levels: Counter[tuple[str, str]] = Counter()
        self._answers: Counter[tuple[str, str]] = Counter()

    def next_seq(self) -> int:
        """Numbers requests in the order they were read."""
        self._seq += 1
        return self._seq

    def add(self, entry: Served, body: bytes | None) -> None:
        """Logs one response."""
        self._kept.append(entry)
        self._requests[entry.path.partition("?")[0]] += 1
        self._status[str(entry.status)] += 1
        if entry.fault is not None:
            self._faults[entry.fault] += 1
        if entry.book and entry.complete:
            key = (str(entry.market), str(entry.symbol))
            self._levels[key] += (entry.bids or 0) + (entry.asks or 0)
            self._answers[key] += 1
        if self._file is not None:
            self._file.write(msgspec.json.encode(entry).decode() + "\n")
            self._file.flush()
        if self._bodies is not None and body is not None and entry.sha256 not in self._known_bodies:
            assert entry.sha256 is not None
            self._known_bodies.add(entry.sha256)
            (self._bodies / entry.sha256).write_bytes(body)

    def entries(self, market: str | None = None, symbol: str | None = None, after: int = 0) -> list[Served]:
        """The kept responses in the order they ended, optionally of one market or symbol, with a seq above `after`."""
        return [
            entry
            for entry in self._kept
            if market in {None, entry.market} and symbol in {None, entry.symbol} and entry.seq > after
        ]

    def counters(self) -> dict[str, object]:
        """Requests by path and status, faults by kind, complete book answers and their levels by market and symbol."""
        books: dict[str, dict[str, dict[str, int]]] = {}
        for (market, symbol), levels in self._levels.items():
            books.setdefault(market, {})[symbol] = {"levels": levels, "answers": self._answers[market, symbol]}
        return {
            "requests": sum(self._requests.values()),
            "by_path": dict(self._requests),
            "by_status": dict(self._status),
            "by_fault": dict(self._faults),
            "levels": sum(self._levels.values()),
            "answers": sum(self._answers.values()),
            "books": books,
        }
