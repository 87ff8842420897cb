"""The flattener between two topics: raw records in by hand, norm records and dead letters out, and their comparison."""

from __future__ import annotations

import json
from dataclasses import dataclass, field

import pyarrow as pa

from shared import topics
from shared.kafka import Admin, Producer, Record, TopicPartition, read_range
from shared.messages import Book, NormHeaders, RawHeaders

RECV_NS = 1_700_000_000_123_456_789
BOOKS = [Book("binance", "future", f"SYM{i}USDT") for i in range(8)]


def body(number: int, levels: int = 3) -> bytes:
    bids = [[f"{number + 100 - i}.5", f"{i + 1}"] for i in range(levels)]
    asks = [[f"{number + 200 + i}.5", f"{i + 1}"] for i in range(levels)]
    return json.dumps(
        {"lastUpdateId": number, "E": 1, "T": 1, "bids": bids, "asks": asks}, separators=(",", ":")
    ).encode()


def frame(book: Book, number: int, levels: int = 3) -> bytes:
    """An update in its wrapper; the first of its bids is removed."""
    bids = [[f"{number + 100 - i}.5", f"{i}"] for i in range(levels)]
    asks = [[f"{number + 200 + i}.5", f"{i + 1}"] for i in range(levels)]
    event = {"e": "depthUpdate", "E": 1, "T": 1, "s": book.symbol, "U": number, "u": number + 1, "pu": number}
    return json.dumps({"stream": "x", "data": event | {"b": bids, "a": asks}}, separators=(",", ":")).encode()


def headers(book: Book, number: int, **changes):
    values = {
        "stream": "main",
        "exchange": book.exchange,
        "market": book.market,
        "symbol": book.symbol,
        "type": "snapshot",
        "recv_ns": RECV_NS + number,
        "conn": "host:1:1",
        "seq": number,
        "limit": 1000,
    }
    return RawHeaders(**(values | changes)).encode()


@dataclass
class Norm:
    """A norm record, decoded."""

    src_first: int
    src_last: int
    headers: NormHeaders
    rows: list[dict] = field(repr=False)


class Topics:
    """Raw records in, norm records and dead letters out, of one configuration and kind."""

    def __init__(self, settings, kind: str = "fobs") -> None:
        self.settings = settings
        self.kind = kind
        raw = getattr(settings.channels, f"raw_{kind}")
        self.raw, self.partitions = raw.topic, raw.partitions
        self.norm = getattr(settings.channels, f"norm_{kind}").topic
        self.dead = settings.channels.dead_letters.topic

    async def create(self) -> None:
        await topics.create(self.settings)

    async def publish(self, records) -> None:
        """(key, value, headers) or (key, value, headers, partition)."""
        producer = Producer(self.settings.kafka, client_id="test")
        await producer.start()
        try:
            sent = [
                await producer.send(
                    self.raw, value, key=key, headers=pairs, partition=partition[0] if partition else None
                )
                for key, value, pairs, *partition in records
            ]
            for future in sent:
                await future
        finally:
            await producer.stop(10)

    async def books(self, count: int, first: int = 0, levels: int = 3) -> None:
        """`count` books, each symbol in turn."""
        await self.publish(
            (book.key, body(number, levels), headers(book, number))
            for number in range(first, first + count)
            for book in [BOOKS[number % len(BOOKS)]]
        )

    async def updates(self, count: int, first: int = 0) -> None:
        """`count` updates, each symbol in turn."""
        await self.publish(
            (book.key, frame(book, number), headers(book, number, type="update", limit=None))
            for number in range(first, first + count)
            for book in [BOOKS[number % len(BOOKS)]]
        )

    async def ends(self, topic: str) -> dict[TopicPartition, int]:
        async with Admin(self.settings.kafka, client_id="test") as admin:
            description = (await admin.describe([topic]))[topic]
            return await admin.end_offsets([TopicPartition(topic, p) for p in range(description.partitions)])

    async def all(self, topic: str) -> dict[int, list[Record]]:
        async with Admin(self.settings.kafka, client_id="test") as admin:
            ends = await self.ends(topic)
            begins = await admin.beginning_offsets(ends)
        return {
            tp.partition: [r async for r in read_range(self.settings.kafka, tp, begins[tp], end - 1, client_id="test")]
            for tp, end in ends.items()
        }

    async def normalised(self) -> dict[int, list[Norm]]:
        found: dict[int, list[Norm]] = {}
        for partition, records in (await self.all(self.norm)).items():
            found[partition] = []
            for record in records:
                decoded = NormHeaders.decode(record.headers)
                assert (decoded.src.topic, decoded.src.partition) == (self.raw, partition)
                with pa.ipc.open_stream(record.value) as reader:
                    rows = reader.read_next_batch().to_pylist()
                found[partition].append(Norm(decoded.src.first, decoded.src.last, decoded, rows))
        return found

    async def covered(self) -> bool:
        """Whether the norm topic covers all that is in the raw topic now."""
        norm = await self.ends(self.norm)
        for tp, end in (await self.ends(self.raw)).items():
            last = norm[TopicPartition(self.norm, tp.partition)] - 1
            if last < 0:
                if end:
                    return False
                continue
            async for record in read_range(
                self.settings.kafka, TopicPartition(self.norm, tp.partition), last, last, client_id="test"
            ):
                if NormHeaders.decode(record.headers).src.last < end - 1:
                    return False
        return True

    async def taken(self) -> dict[tuple[int, int], list[dict]]:
        """Rows by raw record, taken as the design says: those above `done` as it stood before the record."""
        rows: dict[tuple[int, int], list[dict]] = {}
        for partition, records in (await self.normalised()).items():
            done = -1
            for record in records:
                assert record.src_first <= done + 1, "a source hole"
                for row in record.rows:
                    if row["raw_offset"] > done:
                        rows.setdefault((partition, row["raw_offset"]), []).append(row)
                done = max(done, record.src_last)
        return rows

    async def assert_each_once(self) -> int:
        """The levels of every raw record, all books or all updates, are there once. Gives the number of raw records."""
        rows = await self.taken()
        count = 0
        for partition, records in (await self.all(self.raw)).items():
            for record in records:
                content = json.loads(record.value)
                bids, asks = ("bids", "asks") if self.kind == "fobs" else ("b", "a")
                content = content.get("data", content)
                wanted = [
                    (side, float(price), float(quantity))
                    for side, name in (("bid", bids), ("ask", asks))
                    for price, quantity in content[name]
                ]
                found = rows.pop((partition, record.offset))
                assert [(r["side"], r["price"], r["quantity"]) for r in found] == wanted
                assert {r["symbol"] for r in found} == {Book.from_key(record.key).symbol}
                count += 1
        assert not rows
        return count


def maker(server, make_config, make_settings, kind: str = "fobs"):
    """Makes a configuration for services on this broker, and its topics of `kind`."""

    def make(**sections):
        sections = sections | {"kafka": {"bootstrap_servers": server.bootstrap_servers}}
        return make_config(**sections), Topics(make_settings(**sections), kind)

    return make
