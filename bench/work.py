"""The work of `bench.line`: raw records as the reader publishes them, made of captured or generated payloads, over and over.

A work of N levels has as many whole messages as give at least N; the larger ones begin with the same messages as the smaller.
"""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import dataclass
from itertools import cycle
from typing import TYPE_CHECKING

from bench.payloads import FULL_LEVELS, SIDES, TYPES, Payloads, generated_updates, payloads
from shared.kafka import Producer
from shared.messages import RawHeaders

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from shared.messages import Book, Kind
    from shared.settings import Settings

IN_FLIGHT = 500
MARKET_SYMBOLS = 500
MARKET_FRAMES = 10_000
HOUR_NS = 3_600_000_000_000
STEP_NS = 1_000_000  # the largest work must stay within its hour, as one flush window does


@dataclass(frozen=True)
class Message:
    """What goes into the topic, and how many price levels it names."""

    book: Book
    value: bytes
    levels: int


@dataclass(frozen=True)
class Work:
    """Messages of one kind, repeated to a size."""

    name: str
    kind: Kind
    source: str  # captures or generated
    messages: tuple[Message, ...]

    def of(self, levels: int) -> Iterator[Message]:
        """Messages of so many levels at least."""
        for message in cycle(self.messages):
            if levels <= 0:
                return
            levels -= message.levels
            yield message


def _snapshots() -> Payloads:
    return payloads("fobs")


def _deltas() -> Payloads:
    return payloads("fobd")


def _market() -> Payloads:
    return Payloads("fobd", f"generated, {MARKET_SYMBOLS} symbols", generated_updates(MARKET_FRAMES, MARKET_SYMBOLS))


WORKS: dict[str, Callable[[], Payloads]] = {"snapshots": _snapshots, "deltas": _deltas, "market": _market}


def work(name: str) -> Work:
    """By its name."""
    found = WORKS[name]()
    messages = []
    for book, value in found.values:
        said = json.loads(value)
        said = said.get("data", said)
        messages.append(Message(book, value, sum(len(said[side]) for side in SIDES[found.kind])))
    return Work(name, found.kind, found.source, tuple(messages))


@dataclass(frozen=True)
class Filled:
    """What a topic holds."""

    messages: int
    levels: int
    bytes: int


async def fill(settings: Settings, chosen: Work, levels: int) -> Filled:
    """Publishes it as the reader would: its producer, its headers, its keys."""
    channel = settings.channels.raw_fobs if chosen.kind == "fobs" else settings.channels.raw_fobd
    producer = Producer(settings.kafka, client_id="bench")
    await producer.start()
    waiting: set[asyncio.Future[int]] = set()
    began_ns = time.time_ns() // HOUR_NS * HOUR_NS
    messages = total = size = 0
    for number, message in enumerate(chosen.of(levels)):
        book = message.book
        headers = RawHeaders(
            stream=settings.kafka.stream, exchange=book.exchange, market=book.market, symbol=book.symbol,
            type=TYPES[chosen.kind], recv_ns=began_ns + number * STEP_NS, conn="bench:0:1", seq=number, ip="192.0.2.1",
            limit=FULL_LEVELS if chosen.kind == "fobs" else None,
        )  # fmt: skip
        waiting.add(await producer.send(channel.topic, message.value, key=book.key, headers=headers.encode()))
        if len(waiting) >= IN_FLIGHT:
            done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            for future in done:
                future.result()
        messages, total, size = messages + 1, total + message.levels, size + len(message.value)
    await asyncio.gather(*waiting)
    await producer.stop(10)
    return Filled(messages, total, size)
