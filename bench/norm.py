"""Norm records of the simulated market, as the flattener makes them at a rate of rows, ready to be published.

The flattener's own code makes those of the first minute, each partition cut as it is at that rate; minutes after it are
the same records with times, ids and offsets moved on, as making them anew would take minutes. So prices and quantities
come again, and files are a little smaller for it.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from itertools import count
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from bench import market
from bench.stored import levels_of
from services.flattener.cut import Cut, Cutter
from services.flattener.flatten import encode
from services.flattener.message import read
from services.flattener.normalise import Normaliser
from shared.kafka import Producer, Record, partition_for
from shared.messages import NormHeaders, RawHeaders, RawHeadersOf, SourceRange

if TYPE_CHECKING:
    from collections.abc import Iterator

    from shared.settings import Settings

MINUTE_SECONDS = 60
HOUR_NS = 3_600_000_000_000
IDS = ("first_update_id", "update_id", "prev_update_id")
TIMES = ("timestamp", "event_time", "transaction_time")
IDS_A_SECOND = 1_024_000  # as the simulated exchange counts


@dataclass(frozen=True)
class NormRecord:
    """One, before its encoding: raw offsets `first` to `last` of a partition."""

    partition: int
    first: int
    last: int
    batch: pa.RecordBatch


@dataclass
class Poured:
    """What was published; `levels` and `fingerprint` as `bench.stored` finds them."""

    records: int = 0
    rows: int = 0
    bytes: int = 0
    levels: int = 0
    fingerprint: int = 0


@dataclass
class _Partition:
    """The flattener's way of one raw partition, without Kafka."""

    number: int
    topic: str
    cutter: Cutter
    normaliser: Normaliser = field(default_factory=lambda: Normaliser("fobd"))
    next_offset: int = 0

    def add(self, frame: market.Frame, headers: RawHeadersOf, recv_ns: int) -> Iterator[NormRecord]:
        """A message of now; the records that were due before it."""
        cut = self.cutter.take(recv_ns / 1e9)
        offset, self.next_offset = self.next_offset, self.next_offset + 1
        encoded = tuple(headers.encode(recv_ns, offset))
        record = Record(self.topic, self.number, offset, recv_ns // 1_000_000, frame.book.key, frame.value, encoded)
        self.cutter.add(read("fobd", record), recv_ns / 1e9)
        if cut is not None:
            yield from self._records(cut)

    def rest(self) -> Iterator[NormRecord]:
        while (cut := self.cutter.take(0.0, at_once=True)) is not None:
            yield from self._records(cut)

    def _records(self, cut: Cut) -> Iterator[NormRecord]:
        for piece in self.normaliser.pieces(cut):
            yield NormRecord(self.number, piece.cut.first, piece.cut.last, piece.flattened.batch)


def minute(settings: Settings, symbols: int, rows: int, rows_per_second: float) -> list[NormRecord]:
    """So many rows at least, received from the full hour on."""
    processor, channel = settings.processor, settings.channels.raw_fobd
    cutters = [
        Cutter(0, max_rows=processor.batch_size, max_wait_seconds=processor.batch_timeout)
        for _ in range(channel.partitions)
    ]
    partitions = [_Partition(number, channel.topic, cutter) for number, cutter in enumerate(cutters)]
    headers: dict[bytes, tuple[_Partition, RawHeadersOf]] = {}
    began_ns, given = time.time_ns() // HOUR_NS * HOUR_NS, 0
    found: list[NormRecord] = []
    for frame in market.frames(symbols):
        if given >= rows:
            break
        key = frame.book.key
        if key not in headers:
            headers[key] = partitions[partition_for(key, channel.partitions)], _headers(settings.kafka.stream, frame)
        partition, of_book = headers[key]
        found += partition.add(frame, of_book, began_ns + int(given / rows_per_second * 1e9))
        given += frame.levels
    return found + [record for partition in partitions for record in partition.rest()]


async def pour(settings: Settings, symbols: int, rows: int, rows_per_second: float) -> Poured:
    """So many rows at least into the norm topic, as if received at that rate."""
    first = minute(settings, symbols, min(rows, round(MINUTE_SECONDS * rows_per_second)), rows_per_second)
    offsets = {record.partition: record.last + 1 for record in first}  # of the last record of each
    topic = settings.channels.norm_fobd.topic
    producer = Producer(settings.kafka, client_id="bench", compression="none")
    await producer.start()
    poured = Poured()
    for lap in count():
        for record in first:
            if poured.rows >= rows and lap:
                break
            moved = offsets[record.partition] * lap
            batch = _later(record.batch, MINUTE_SECONDS * lap, moved)
            value = encode(batch)
            src = SourceRange(
                settings.channels.raw_fobd.topic, record.partition, record.first + moved, record.last + moved
            )
            headers = NormHeaders(stream=settings.kafka.stream, src=src).encode()
            await producer.send(topic, value, partition=record.partition, headers=headers)
            levels, fingerprint = levels_of(pa.Table.from_batches([batch]))
            poured.records, poured.rows = poured.records + 1, poured.rows + batch.num_rows
            poured.bytes, poured.levels = poured.bytes + len(value), poured.levels + levels
            poured.fingerprint = (poured.fingerprint + fingerprint) % 2**64
        if poured.rows >= rows:
            break
    await producer.stop(60)
    return poured


def _later(batch: pa.RecordBatch, seconds: int, offsets: int) -> pa.RecordBatch:
    if not seconds:
        return batch
    moved = dict(zip(batch.schema.names, batch.columns, strict=True))
    moved |= {name: pc.add(moved[name], pa.scalar(seconds * 1_000_000, pa.duration("us"))) for name in TIMES}
    moved |= {name: pc.add(moved[name], seconds * IDS_A_SECOND) for name in IDS}
    moved["recv_ns"] = pc.add(moved["recv_ns"], seconds * 1_000_000_000)
    moved["raw_offset"] = pc.add(moved["raw_offset"], offsets)
    return pa.RecordBatch.from_arrays(list(moved.values()), schema=batch.schema)


def _headers(stream: str, frame: market.Frame) -> RawHeadersOf:
    book = frame.book
    return RawHeadersOf(
        RawHeaders(
            stream=stream, exchange=book.exchange, market=book.market, symbol=book.symbol, type="update", recv_ns=0,
            conn="bench:0:1", seq=0, ip="192.0.2.1",
        )
    )  # fmt: skip
