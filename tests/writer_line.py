"""The s3writer between a real broker and a real store: records in by hand, rows out of the lake, and their comparison."""

import asyncio
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.compute as pc

from services.s3writer.buffer import RECORD_OVERHEAD_BYTES
from shared import topics
from shared.errors import RetryableError
from shared.kafka import Producer
from shared.lake import layout, parquet
from shared.lake.verify import verify
from tests import norm_records
from tests.norm_records import BTC, ETH, NOON_NS
from tests.support import eventually

KEYS = ["raw_partition", "raw_offset", "symbol", "side", "price"]  # of a row, for an order
IDS = ["first_update_id", "update_id", "prev_update_id", "depth_limit"]
COMPARED = {
    "fobs": [*KEYS, "level", "quantity", "recv_ns"],
    "fobd": [*KEYS, "quantity", "recv_ns", "type", *IDS, "gap_cause", "gap_since", "conn"],
}


@dataclass
class Line:
    """The norm topic of one kind and stream, what was put into it, and the lake behind it."""

    settings: object
    store: object
    kind: str = "fobs"
    batches: list = field(default_factory=list)
    raw_next: dict = field(default_factory=dict)  # per partition
    norm_next: dict = field(default_factory=dict)
    sent_bytes: int = 0  # as the s3writer's budget counts them

    @property
    def topic(self):
        return getattr(self.settings.channels, f"norm_{self.kind}").topic

    async def open(self):
        await topics.create(self.settings)
        self.producer = Producer(self.settings.kafka, client_id="test", compression="none")
        await self.producer.start()

    async def close(self):
        await self.producer.stop(5)

    async def send(self, records=1, *, partition=0, messages=3, levels=5):
        """So many new norm records of so many messages each, of two books in turn; of updates also a gap each."""
        futures = []
        for _ in range(records):
            first = self.raw_next.get(partition, 0)
            last = first + messages - 1
            batch = norm_records.rows(
                [(raw, BTC if raw % 2 else ETH, NOON_NS + raw * 1_000_000_000) for raw in range(first, last + 1)],
                kind=self.kind,
                levels=levels,
                partition=partition,
            )
            if self.kind == "fobd":
                last += 1
                gap = norm_records.gap(last, BTC, NOON_NS + last * 1_000_000_000, partition=partition)
                batch = norm_records.joined([batch, gap])
            self.batches.append(batch)
            self.raw_next[partition] = last + 1
            futures.append(await self.send_raw(norm_records.value(batch), first, last, partition=partition))
        return futures

    async def send_raw(self, value, first, last, *, partition=0, headers=None, **more):
        """Any value under the headers of raw offsets first..last, or under any headers; gives its offset."""
        own = norm_records.headers(
            first,
            last,
            partition=partition,
            stream=self.settings.kafka.stream,
            topic=getattr(self.settings.channels, f"raw_{self.kind}").topic,
            **more,
        )
        future = await self.producer.send(
            self.topic, value, partition=partition, headers=own if headers is None else headers
        )
        offset = await future
        self.norm_next[partition] = offset + 1
        self.sent_bytes += len(value) + RECORD_OVERHEAD_BYTES
        return offset

    def sent(self):
        """All rows of the records sent, in one order."""
        return _ordered(pa.Table.from_batches(self.batches) if self.batches else None, self.kind)

    def stored(self):
        """All rows of all files, as a reader that knows nothing of claims sees them, in one order."""
        tables = []
        for entry in self.store.list(f"{self.kind}/"):
            book = layout.parse_data_path(entry.path).book
            table = parquet.decode(self.store.get(entry.path), self.kind)
            tables.append(table.append_column("symbol", pa.array([book.symbol] * table.num_rows)))
        return _ordered(pa.concat_tables(tables) if tables else None, self.kind)

    def stored_rows(self):
        return 0 if (rows := self.stored()) is None else rows.num_rows

    def claims(self, partition=0):
        """Paths of the claim log's objects."""
        prefix = layout.claims_prefix(self.kind, self.settings.kafka.stream, partition)
        return [entry.path for entry in self.store.list(prefix)]

    def verified(self):
        """The lake's proof; asserts that nothing is wrong with it."""
        report = verify(self.store, strict=True)
        assert not report.problems, report.problems
        return report

    def assert_all_stored_once(self):
        assert self.stored().equals(self.sent())
        self.verified()


def _ordered(table, kind):
    if table is None:
        return None
    table = table.select(COMPARED[kind])
    for position, name in enumerate(table.column_names):
        if pa.types.is_dictionary(table.schema.field(name).type):
            table = table.set_column(position, name, pc.cast(table.column(name), pa.string()))
    plain = pa.schema([(name, table.schema.field(name).type) for name in table.column_names])
    return table.cast(plain).sort_by([(name, "ascending") for name in KEYS]).combine_chunks()


async def all_buffered(line, writer):
    """Waits until one writer holds everything that was sent; counting records would count those before a rebalance."""
    await eventually(
        lambda: writer.metric("cryptoflow_writer_buffer_bytes") == line.sent_bytes, what="everything is buffered"
    )


async def all_stored(line):
    """Waits until the lake holds as many rows as were sent. A store that was just started again may not answer yet."""

    def stored():
        try:
            return line.stored_rows() >= line.sent().num_rows
        except RetryableError:
            return False

    await eventually(stored, what="all rows are stored")


async def in_thread(function, *arguments):
    """A blocking call of a test, so that its producer goes on."""
    return await asyncio.to_thread(function, *arguments)
