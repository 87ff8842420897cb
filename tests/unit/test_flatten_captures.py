"""Flatten real traffic: every depth update of every recorded session of Binance, level by level, as `json` reads it."""

from __future__ import annotations

import gzip
import json
from itertools import islice
from typing import TYPE_CHECKING

import pytest

from services.flattener.flatten import flatten_fobd
from services.flattener.message import read
from shared.kafka import Record
from shared.messages import Book, RawHeaders
from shared.venues.levels import LevelParser
from tests.support import CAPTURES, needs_captures

if TYPE_CHECKING:
    from collections.abc import Iterator

MARKETS = {"binance_usdm": "future", "binance_coinm": "inverse", "binance_spot": "spot"}
FOLDERS = sorted(path for path in CAPTURES.glob("binance_*") if path.is_dir())
BATCH = 200
NAMES = ("raw_offset", "symbol", "side", "price", "quantity", "first_update_id", "update_id", "prev_update_id")


def records(folder) -> Iterator[tuple[Record, dict]]:
    market = MARKETS[folder.name.partition("__")[0]]
    path = next(folder.glob("ws.jsonl*"))
    with gzip.open(path, "rt") if path.suffix == ".gz" else path.open() as lines:
        for offset, line in enumerate(line for line in lines if "depthUpdate" in line):
            frame = json.loads(line)
            event = json.loads(frame["raw"])
            event = event.get("data", event)
            book = Book("binance", market, event["s"])
            headers = RawHeaders(
                stream="main", exchange=book.exchange, market=book.market, symbol=book.symbol, type="update",
                recv_ns=frame["recv_ns"], conn="host:1:1", seq=offset,
            )  # fmt: skip
            value = frame["raw"].encode()
            yield Record("raw-fobd", 0, offset, 0, book.key, value, tuple(headers.encode())), event


def plainly(offset: int, event: dict) -> list[tuple]:
    ids = event["U"], event["u"], event.get("pu")
    levels = [("bid", *level) for level in event["b"]] + [("ask", *level) for level in event["a"]]
    return [(offset, event["s"], side, float(price), float(quantity), *ids) for side, price, quantity in levels]


@needs_captures
@pytest.mark.parametrize("folder", FOLDERS, ids=lambda path: path.name)
def test_every_level_of_every_recorded_update_comes_out_once_in_order(folder):
    parser, updates = LevelParser(), 0
    frames = records(folder)
    while batch := list(islice(frames, BATCH)):
        updates += len(batch)
        flattened = flatten_fobd([read("fobd", record) for record, _ in batch], parser)
        assert flattened.poison == []
        columns = (flattened.batch.column(name).to_pylist() for name in NAMES)
        wanted = [row for record, event in batch for row in plainly(record.offset, event)]
        assert list(zip(*columns, strict=True)) == wanted
    assert updates
