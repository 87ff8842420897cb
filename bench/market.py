"""A market of many symbols: what the simulated exchange would send of it, without its sockets and faster than its clock."""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING, NamedTuple

from shared.messages import Book
from simulator.book import Book as SimulatedBook
from simulator.depth_event import render
from simulator.instruments import instruments

if TYPE_CHECKING:
    from collections.abc import Iterator

START_MS = 1_700_000_000_000
STEP_MS = 100
SEED = 1


class Frame(NamedTuple):
    """One message of a combined stream."""

    book: Book
    value: bytes
    levels: int


def frames(symbols: int) -> Iterator[Frame]:
    """Of futures, one each 100 ms and symbol, in the order of their time; they never end."""
    listed = [item for item in instruments("future", symbols) if item.status == "TRADING"]
    simulated = [SimulatedBook(item, seed=SEED, slot=slot, start_ms=START_MS) for slot, item in enumerate(listed)]
    books = [Book("binance", "future", item.symbol) for item in listed]
    names = [f"{item.symbol.lower()}@depth@100ms" for item in listed]
    for at_ms in count(START_MS + STEP_MS, STEP_MS):
        diffs = [(diff, slot) for slot, each in enumerate(simulated) for diff in each.advance(at_ms)]
        for diff, slot in sorted(diffs, key=lambda found: found[0].transaction_ms):
            event = render(listed[slot], diff)
            yield Frame(books[slot], event.payload(names[slot]), event.levels)
