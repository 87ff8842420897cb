"""What the flattener is measured with: real answers and frames of Binance where the captures are at hand, else generated."""

from __future__ import annotations

import gzip
import json
import random
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shared.config_models import ProcessorSettings
from shared.kafka import Record
from shared.messages import Book, RawHeaders, RawHeadersOf

if TYPE_CHECKING:
    from collections.abc import Iterator

    from shared.messages import Kind, RecordType

CAPTURES = Path(__file__).parents[2] / "shared" / "captures"
DELTAS = CAPTURES / "binance_usdm__20240718_btc_eth" / "ws.jsonl.gz"
BATCH_ROWS = ProcessorSettings().batch_size
FULL_LEVELS = 1000
RECV_NS = 1_700_000_000_123_456_789
FRAMES = 4000
EVERY = 4  # of the captured frames: quiet and busy minutes alike
GENERATED_BOOKS = 16
MARKETS = {"fapi": "future", "dapi": "inverse", "api": "spot"}
TYPES: dict[Kind, RecordType] = {"fobs": "snapshot", "fobd": "update"}
SIDES = {"fobs": ("bids", "asks"), "fobd": ("b", "a")}


@dataclass(frozen=True)
class Payloads:
    """Verbatim values with their books."""

    kind: Kind
    source: str  # captures or generated
    values: list[tuple[Book, bytes]]

    def batches(self) -> list[list[Record]]:
        """As raw records, as the reader writes them, as many at a time as a norm record takes."""
        result: list[list[Record]] = [[]]
        rows = 0
        for offset, (book, value) in enumerate(self.values):
            headers = RawHeaders(
                stream="main", exchange=book.exchange, market=book.market, symbol=book.symbol, type=TYPES[self.kind],
                recv_ns=RECV_NS + offset, conn="host:1700000000000000000:1", seq=offset, ip="192.0.2.1",
                limit=FULL_LEVELS if self.kind == "fobs" else None,
            )  # fmt: skip
            found = json.loads(value)
            levels = sum(len(found.get("data", found)[name]) for name in SIDES[self.kind])
            if rows + levels > BATCH_ROWS:
                result.append([])
                rows = 0
            rows += levels
            pairs = RawHeadersOf(headers).encode(headers.recv_ns, offset) if self.kind == "fobd" else headers.encode()
            result[-1].append(Record(f"raw-{self.kind}", 0, offset, 0, book.key, value, tuple(pairs)))
        return result


def payloads(kind: Kind, *, only_generated: bool = False) -> Payloads:
    """Of one kind: snapshots of 1000 levels a side, or updates."""
    found = [] if only_generated else list(_captured_books() if kind == "fobs" else _captured_updates())
    if found:
        return Payloads(kind, "captures", found)
    return Payloads(kind, "generated", _generated_books() if kind == "fobs" else generated_updates())


def generated_updates(count: int = FRAMES, symbols: int = 2) -> list[tuple[Book, bytes]]:
    """Frames of these symbols in turn with as many levels as captured ones, half of them removed."""
    random_ = random.Random(1)
    found = []
    for number in range(count):
        index, last_id = number % symbols, 10**12 + 1000 * number
        counts = [min(500, int(random_.lognormvariate(2.6, 1))) for _ in range(2)]
        bids, asks = (
            [_level(random_, index, sign * n, removed=random_.random() < 0.5) for n in range(1, count + 1)]
            for sign, count in zip((-1, 1), counts, strict=True)
        )
        event: dict[str, Any] = {"e": "depthUpdate", "E": 1_700_000_000_001 + number, "T": 1_700_000_000_000 + number}
        event |= {"s": _book(index).symbol, "U": last_id - 500, "u": last_id, "pu": last_id - 900}
        frame = {"stream": "x@depth@0ms", "data": event | {"b": bids, "a": asks}}
        found.append((_book(index), _text(frame)))
    return found


def _captured_books() -> Iterator[tuple[Book, bytes]]:
    """Real answers of Binance's three markets with 1000 levels on a side."""
    for path in sorted(CAPTURES.glob("binance_*/http/*depth*.json")):
        answer = json.loads(path.read_text())
        market = MARKETS[answer["url"].split("/")[2].partition(".")[0]]
        symbol = answer["url"].partition("symbol=")[2].partition("&")[0]
        body = answer["body"]
        if any(len(levels) == FULL_LEVELS for levels in (json.loads(body)[name] for name in SIDES["fobs"])):
            yield Book("binance", market, symbol), body.encode()


def _captured_updates() -> Iterator[tuple[Book, bytes]]:
    """Frames of BTCUSDT and ETHUSDT, 42 levels each on average, from all of eight minutes."""
    if not DELTAS.exists():
        return
    with gzip.open(DELTAS, "rt", encoding="utf-8") as lines:
        frames = (json.loads(line)["raw"] for line in lines if "depthUpdate" in line)
        for frame in islice(frames, 0, None, EVERY):
            yield Book("binance", "future", json.loads(frame)["data"]["s"]), frame.encode()


def _generated_books() -> list[tuple[Book, bytes]]:
    """Books at prices and tick sizes as futures have."""
    random_ = random.Random(1)
    found = []
    for index in range(GENERATED_BOOKS):
        bids, asks = ([_level(random_, index, sign * n) for n in range(1, FULL_LEVELS + 1)] for sign in (-1, 1))
        book: dict[str, Any] = {"lastUpdateId": 10**12 + index, "E": 1_700_000_000_001, "T": 1_700_000_000_000}
        found.append((_book(index), _text(book | {"bids": bids, "asks": asks})))
    return found


def _level(random_: random.Random, index: int, steps: int, *, removed: bool = False) -> list[str]:
    tick, middle = [(0.1, 600_000), (0.01, 350_000), (0.0001, 12_000), (0.001, 60_000)][index % 4]
    digits = len(str(tick)) - 2
    return [f"{(middle + steps) * tick:.{digits}f}", "0.000" if removed else f"{random_.lognormvariate(1, 2):.3f}"]


def _book(index: int) -> Book:
    return Book("binance", "future", f"SYM{index}USDT")


def _text(value: dict[str, Any]) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()
