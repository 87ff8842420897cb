"""Flatteners on one raw partition: real cutting and publishing, the group's commits, and a Kafka that acknowledges on demand.

A producer sends in order and fails as a whole, as an idempotent one does. What a dead flattener had sent may still land,
later than anything else.
"""

from contextlib import suppress
from dataclasses import dataclass, field

import pyarrow as pa

from services.flattener.ceiling import Ceiling
from services.flattener.partition import Partition
from services.flattener.publish import Publisher
from services.s3writer.take import Taker, rows_above
from shared.errors import FatalError
from shared.kafka import ProducerFailed, Record, TopicPartition
from shared.messages import NormHeaders
from tests.flattener_line import BOOKS, body, headers

RAW = TopicPartition("raw-fobs", 0)
NORM, DEAD = "norm-fobs", "dead-letters"


@dataclass(eq=False)
class Sending:
    """One record on its way; `future` says how it ends."""

    topic: str
    value: bytes
    headers: list
    future: object


@dataclass
class Wire:
    """The `Producer` of one flattener, as its callers see it."""

    loop: object
    sendings: list = field(default_factory=list)
    failed: bool = False

    async def send(self, topic, value, *, headers, **_where):
        if self.failed:
            raise ProducerFailed("a send failed before")
        self.sendings.append(Sending(topic, value, list(headers), self.loop.create_future()))
        return self.sendings[-1].future

    def fail(self):
        self.failed = True
        for sending in self.sendings:
            if not sending.future.done():
                sending.future.set_exception(ProducerFailed("no answer"))


class Flattener:
    """One process that holds the partition, or believes so."""

    def __init__(self, loop, position, max_rows):
        self.position = position  # of fetching
        self.wire = Wire(loop)
        publisher = Publisher(
            self.wire, kind="fobs", norm_topic=NORM, dead_letter_topic=DEAD, stream="main", ceiling=Ceiling(1.0)
        )
        self.partition = Partition(
            RAW,
            kind="fobs",
            position=position,
            group="group",
            publisher=publisher,
            max_rows=max_rows,
            max_wait_seconds=0.2,
            on_acked=lambda: None,
            clock=loop.time,
        )
        self.task = loop.create_task(self.partition.run())
        self.task.add_done_callback(_ended)


class RawLine:
    """The raw topic, the norm topic, and the group between them."""

    def __init__(self, loop):
        self.loop = loop
        self.raw = []
        self.beginning = 0
        self.norm = []
        self.committed = None
        self.flatteners = []
        self.landing_late = []

    def publish(self, value=None):
        """The next book, or any bytes instead."""
        offset = len(self.raw)
        book = BOOKS[offset % 2]
        value = body(offset, 1) if value is None else value
        self.raw.append(Record(RAW.topic, 0, offset, 0, book.key, value, tuple(headers(book, offset))))

    def assign(self, max_rows):
        position = self.beginning if self.committed is None else self.committed
        self.flatteners.append(Flattener(self.loop, position, max_rows))
        return self.flatteners[-1]

    def fetch(self, flattener, count):
        if flattener.position < self.beginning:
            flattener.position = self.beginning
            flattener.partition.lose(self.beginning)
        flattener.partition.add(self.raw[flattener.position : flattener.position + count])
        flattener.position = min(flattener.position + count, len(self.raw))
        self.loop.settle()

    def land(self, flattener):
        """The first record on the way is in the topic, and said to be."""
        sending = flattener.wire.sendings.pop(0)
        self._append(sending)
        if not sending.future.done():
            sending.future.set_result(0)
        self.loop.settle()

    def fail(self, flattener, landed):
        """A send gets no answer, so all do; whether they land stays open."""
        sendings = flattener.wire.sendings
        flattener.wire.fail()
        self.loop.settle()
        if landed:
            self._append(sendings[0])
        if flattener.task.done():  # else it lives on, and has to answer for what it commits
            self._bury(flattener, sendings[1:] if landed else sendings)

    def kill(self, flattener):
        flattener.task.cancel()
        self.loop.settle()
        self._bury(flattener, flattener.wire.sendings)

    def land_late(self, sending):
        self.landing_late.remove(sending)
        self._append(sending)

    def _bury(self, flattener, sendings):
        self.landing_late += sendings
        self.flatteners.remove(flattener)

    def _append(self, sending):
        if sending.topic == NORM:
            self.norm.append(sending)

    def taken(self):
        """Raw offsets of the rows that a writer takes, in order, and those that it was told are lost or left out."""
        taker, rows, holes = Taker(), [], []
        for sending in self.norm:
            found = NormHeaders.decode(tuple(sending.headers))
            with pa.ipc.open_stream(sending.value) as reader:
                batch = reader.read_next_batch()
            taken = taker.take(found.src, lost=found.lost, newest_recv_ns=None)
            if taken.hole:
                holes += range(taken.hole[0], taken.hole[1] + 1)
            if not taken.dropped:
                rows += dict.fromkeys(rows_above(batch, taken.above).column("raw_offset").to_pylist())
        assert {*rows, *holes} == set(range(taker.done + 1)), "left out without a word"
        return rows, holes


def _ended(task):
    with suppress(FatalError):
        if not task.cancelled():
            task.result()
