"""The work of `bench.line`: raw records as the reader publishes them, made of captured, generated or simulated payloads, over and over.

A work of N levels has as many whole messages as give at least N; the larger ones begin with the same messages as the smaller.
"""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import dataclass
from itertools import cycle, islice
from typing import TYPE_CHECKING

from bench import market
from bench.payloads import FULL_LEVELS, SIDES, TYPES, Payloads, payloads
from shared.kafka import Producer, partition_for
from shared.messages import RawHeaders, RawHeadersOf

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from shared.messages import Book, Header, Kind
    from shared.settings import Settings

BATCH_MESSAGES = 1000  # of a partition at a time; as many batches as they need
MARKET_SYMBOLS = 500
MARKET_FRAMES = 50_000  # ten seconds of it
HOUR_NS = 3_600_000_000_000
STEP_NS = (
    200_000  # 5,000 a second, as the market has; the largest work must stay within its hour, as one flush window does
)


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
    source: str
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
    frames = islice(market.frames(MARKET_SYMBOLS), MARKET_FRAMES)
    return Payloads("fobd", f"simulated, {MARKET_SYMBOLS} symbols", [(frame.book, frame.value) for frame in frames])


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
    """Publishes it as the reader would: its producer, its batches, its headers, its keys."""
    channel = settings.channels.raw_fobs if chosen.kind == "fobs" else settings.channels.raw_fobd
    producer = Producer(settings.kafka, client_id="bench")
    await producer.start()
    headers = {message.book: _headers(settings.kafka.stream, chosen.kind, message.book) for message in chosen.messages}
    places = {book: partition_for(book.key, channel.partitions) for book in headers}
    batches: list[list[tuple[bytes, bytes, list[Header]]]] = [[] for _ in range(channel.partitions)]
    sent: list[asyncio.Future[int]] = []
    began_ns = time.time_ns() // HOUR_NS * HOUR_NS
    messages = total = size = 0

    async def send(partition: int) -> None:
        sent.extend(future for future, _ in await producer.send_batch(channel.topic, partition, batches[partition]))
        batches[partition].clear()

    for number, message in enumerate(chosen.of(levels)):
        book, place = message.book, places[message.book]
        batches[place].append((book.key, message.value, headers[book].encode(began_ns + number * STEP_NS, number)))
        if len(batches[place]) == BATCH_MESSAGES:
            await send(place)
        messages, total, size = messages + 1, total + message.levels, size + len(message.value)
    for partition in range(channel.partitions):
        await send(partition)
    await asyncio.gather(*sent)
    await producer.stop(10)
    return Filled(messages, total, size)


def _headers(stream: str, kind: Kind, book: Book) -> RawHeadersOf:
    return RawHeadersOf(
        RawHeaders(
            stream=stream, exchange=book.exchange, market=book.market, symbol=book.symbol, type=TYPES[kind],
            recv_ns=0, conn="bench:0:1", seq=0, ip="192.0.2.1", limit=FULL_LEVELS if kind == "fobs" else None,
        )
    )  # fmt: skip
