"""From the queue to Kafka: the only place in the reader that calls the producer of a topic, from one task.

What waits in the queue goes out as one batch per partition, so that a record costs little and batches grow with the
load. A failed send is final for its producer: what it had not acknowledged may or may not be in the topic, so none of
it is sent again. Each symbol with such records gets one gap ``produce`` as the first record of the next producer, which
has a new ``conn``. While Kafka is away the sends wait, the queue fills, and who receives tells what could not be put in.
Never resends, never reorders, never drops in silence.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import defaultdict
from functools import partial
from itertools import count
from typing import TYPE_CHECKING, Protocol

from services.reader.channel import RawRecord
from services.reader.lanes import Lanes
from shared import crash_points, metrics
from shared.errors import RetryableError
from shared.log import get_logger
from shared.messages import Gap
from shared.venues.base import SECOND_NS

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence

    from services.reader.channel import Channel
    from shared.messages import Book, Header, Kind

log = get_logger(__name__)

CLOSE_SECONDS = 3.0
"""What a failed producer gets to close itself."""
ROUND_BYTES = 2 * 1024 * 1024
"""Taken from the queue at a time."""
LINGER_SECONDS = 0.003
"""Waited for company by the first record in an empty queue."""
FRUITLESS_FIRST_SECONDS, FRUITLESS_MAX_SECONDS = 0.2, 5.0
"""Waited at most before a producer that follows one of which Kafka acknowledged nothing; doubled each time."""

Lost = dict["Book", int]


class Producing(Protocol):
    """What is needed of `shared.kafka.Producer`."""

    async def start(self) -> None:
        """Returns when Kafka is there, however long that takes."""

    async def send_batch(
        self, topic: str, partition: int, records: Sequence[tuple[bytes, bytes, list[Header]]]
    ) -> list[tuple[asyncio.Future[int], int]]:
        """A future per batch. Raises `RetryableError`, here or in the futures, once and for all later sends."""

    async def stop(self, timeout_seconds: float) -> None:
        """Bounded."""


class Publisher:
    """Publishes a `Channel` to one topic. `origin` is ``<host>:<process start ns>``, `numbers` those of its conns.

    A conn is what one producer published of one websocket, or of no websocket. `on_lost` is told the books of which a
    failed producer had records that are not known to be in Kafka, after their gaps were published.
    """

    def __init__(
        self,
        channel: Channel,
        make_producer: Callable[[], Producing],
        *,
        kind: Kind,
        topic: str,
        partitions: int,
        dead_letter_topic: str,
        dead_letter_partitions: int,
        stream: str,
        origin: str,
        numbers: Iterator[int] | None = None,
        ready: Callable[[str, bool, str], None] = lambda _what, _ok, _why: None,
        on_lost: Callable[[Collection[Book]], None] = lambda _books: None,
    ) -> None:
        self._channel = channel
        self._make_producer = make_producer
        self._kind = kind
        self._topic = topic
        self._lanes = Lanes(
            topic,
            partitions,
            dead_letter_topic,
            dead_letter_partitions,
            stream=stream,
            origin=origin,
            numbers=numbers or count(1),
        )
        self._ready = ready
        self._on_lost = on_lost
        self._producer: Producing | None = None
        self._unacknowledged: dict[asyncio.Future[int], Sequence[RawRecord]] = {}
        self._lost: Lost = {}  # records of the failed producer that were not acknowledged
        self._failure: BaseException | None = None
        self._fruitless = 0  # producers in a row of which nothing was acknowledged
        self._latency = metrics.LATENCY.labels("published")
        self._produced = metrics.PRODUCED_RECORDS.labels(topic), metrics.PRODUCED_BYTES.labels(topic)
        self._buried = (
            metrics.PRODUCED_RECORDS.labels(dead_letter_topic),
            metrics.PRODUCED_BYTES.labels(dead_letter_topic),
        )
        self._failures_total = metrics.PRODUCER_FAILURES.labels(topic)
        self._unacknowledged_total = metrics.RECORDS_UNACKNOWLEDGED.labels(topic)

    @property
    def unacknowledged_records(self) -> int:
        """Sent, or waiting to be, and not known to be in Kafka."""
        return sum(map(len, self._unacknowledged.values())) + self._channel.waiting_records

    async def run(self) -> None:
        """Publish until the channel is closed and all of it is acknowledged."""
        await self._replace()
        while True:
            if self._failure is not None:
                await self._replace()
            elif records := self._channel.take(ROUND_BYTES):
                await self._send(records)
            elif self._channel.closed and not self._unacknowledged:
                return
            else:
                await self._channel.wait()
                if not self._channel.closed and self._failure is None:
                    await asyncio.sleep(LINGER_SECONDS)

    async def stop(self, timeout_seconds: float) -> None:
        """Close the producer, within a bound."""
        if self._producer is not None:
            await self._producer.stop(timeout_seconds)

    async def _replace(self) -> None:
        """Close the failed producer, start the next, and tell each symbol's loss as its first record."""
        if self._producer is not None:
            self._failures_total.inc()
            self._ready("kafka", False, f"the producer failed: {self._failure}")
            log.warning("producer failed", topic=self._topic, reason=str(self._failure))
            await self._producer.stop(CLOSE_SECONDS)
            self._give_up_unacknowledged()
            self._fruitless += 1
            if (
                self._fruitless > 1
            ):  # Kafka is there and takes nothing: asking it at once and for ever would help nobody
                ceiling_seconds = min(FRUITLESS_FIRST_SECONDS * 2 ** min(self._fruitless, 10), FRUITLESS_MAX_SECONDS)
                await asyncio.sleep(random.uniform(0, ceiling_seconds))  # noqa: S311  # jitter, not a secret
        self._failure = None
        self._producer = None
        producer = self._make_producer()
        await producer.start()
        self._producer = producer
        self._ready("kafka", True, "")
        self._lanes.begin()
        lost, self._lost = self._lost, {}
        if lost:
            await crash_points.passed("reader.in_recovery")
            log.warning("records unacknowledged", topic=self._topic, records=sum(lost.values()), symbols=len(lost))
            await self._send([self._produce_gap(book) for book in lost])
            self._on_lost(lost)

    def _produce_gap(self, book: Book) -> RawRecord:
        lane = self._lanes.of(book)
        gap = Gap(cause="produce", last_id=lane.last_good_id, since_ns=lane.last_good_ns)
        metrics.GAPS.labels(self._kind, book.exchange, book.market, gap.cause).inc()
        record = RawRecord(book, "gap", gap.encode(), time.time_ns())
        self._channel.hold(record)
        return record

    async def _send(self, records: Sequence[RawRecord]) -> None:
        """Each partition's records in their order; partitions one after the other."""
        assert self._producer is not None
        batches: defaultdict[tuple[str, int], list[RawRecord]] = defaultdict(list)
        for record in records:
            batches[self._lanes.place(record)].append(record)
        for (topic, partition), batch in batches.items():
            if self._failure is not None:
                self._lose(batch)
                continue
            encoded = [self._lanes.encode(record) for record in batch]
            await crash_points.passed("reader.before_produce")
            try:
                sent = await self._producer.send_batch(topic, partition, encoded)
            except RetryableError as error:
                # Of a batch that was cut in two the first part may have been queued: it fails with its producer.
                self._failure = self._failure or error
                self._lose(batch)
                continue
            first = 0
            for future, number in sent:
                part = batch[first : first + number]
                first += number
                self._unacknowledged[future] = part
                future.add_done_callback(partial(self._settle, part))
            await crash_points.passed("reader.after_produce")

    def _settle(self, records: Sequence[RawRecord], future: asyncio.Future[int]) -> None:
        if self._unacknowledged.pop(future, None) is None:
            return  # settled before its callback came
        error = None if future.cancelled() else future.exception()
        if future.cancelled() or error is not None:
            self._failure = self._failure or error or RetryableError("a send was cancelled")
            self._lose(records)
        else:
            crash_points.reached("reader.after_ack")
            self._fruitless = 0
            self._channel.settle(records)
            self._count(records)
        self._channel.nudge()

    def _count(self, records: Sequence[RawRecord]) -> None:
        # What is acknowledged together was sent to one topic.
        number, size_bytes = self._produced if records[0].error is None else self._buried
        number.inc(len(records))
        size_bytes.inc(sum([len(record.value) for record in records]))
        now_ns = time.time_ns()
        for record in records:
            if record.type != "gap" and record.error is None:
                lane = self._lanes.of(record.book)
                lane.last_good_ns, lane.last_good_id = record.recv_ns, record.last_id
                self._latency.observe((now_ns - record.recv_ns) / SECOND_NS)

    def _give_up_unacknowledged(self) -> None:
        """What the closed producer left undecided is lost to us: it may be in the topic, and is not sent again."""
        for future, records in list(self._unacknowledged.items()):
            if not future.done():
                future.cancel()
            self._settle(records, future)

    def _lose(self, records: Sequence[RawRecord]) -> None:
        self._channel.settle(records)
        for record in records:
            if record.error is None:
                self._lost[record.book] = self._lost.get(record.book, 0) + 1
        self._unacknowledged_total.inc(len(records))
