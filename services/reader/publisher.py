"""From the queue to Kafka: the only place in the reader that calls the producer, from one task.

A failed send is final for its producer: what it had not acknowledged may or may not be in the topic, so none of it is
sent again. Each symbol with such records gets one gap ``produce`` as the first record of the next producer, which has a
new ``conn``. While Kafka is away the sends wait, the queue fills, and the pollers tell what they could not put in it.
Never resends, never reorders, never drops in silence.
"""

from __future__ import annotations

import time
from collections import defaultdict
from functools import partial
from typing import TYPE_CHECKING, Protocol

from services.reader.channel import RawRecord
from shared import metrics
from shared.errors import RetryableError
from shared.log import get_logger
from shared.messages import Gap, RawHeaders
from shared.venues.base import SECOND_NS

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Sequence

    from services.reader.channel import Channel
    from shared.messages import Book, Header

log = get_logger(__name__)

CLOSE_SECONDS = 3.0
"""What a failed producer gets to close itself."""


class Producing(Protocol):
    """What is needed of `shared.kafka.Producer`."""

    async def start(self) -> None:
        """Returns when Kafka is there, however long that takes."""

    async def send(
        self, topic: str, value: bytes, *, key: bytes | None = None, headers: Sequence[Header] = ()
    ) -> asyncio.Future[int]:
        """The future is the offset. Raises `RetryableError`, here or in the future, once and for all later sends."""

    async def stop(self, timeout_seconds: float) -> None:
        """Bounded."""


class Publisher:
    """Publishes a `Channel` to one topic. `origin` is ``<host>:<process start ns>``; the n-th producer is its n-th conn."""

    def __init__(
        self,
        channel: Channel,
        make_producer: Callable[[], Producing],
        *,
        topic: str,
        stream: str,
        origin: str,
        ready: Callable[[str, bool, str], None] = lambda _what, _ok, _why: None,
    ) -> None:
        self._channel = channel
        self._make_producer = make_producer
        self._topic = topic
        self._stream = stream
        self._origin = origin
        self._ready = ready
        self._incarnation = 0
        self._seq: defaultdict[Book, int] = defaultdict(int)
        self._producer: Producing | None = None
        self._unacknowledged: dict[asyncio.Future[int], RawRecord] = {}
        self._lost: dict[Book, int] = {}  # records of the failed producer that were not acknowledged
        self._failure: BaseException | None = None
        self._last_good_ns: dict[Book, int] = {}
        self._latency = metrics.LATENCY.labels("published")
        self._records_total = metrics.PRODUCED_RECORDS.labels(topic)
        self._bytes_total = metrics.PRODUCED_BYTES.labels(topic)
        self._failures_total = metrics.PRODUCER_FAILURES.labels(topic)
        self._unacknowledged_total = metrics.RECORDS_UNACKNOWLEDGED.labels(topic)

    @property
    def unacknowledged_records(self) -> int:
        """Sent, or waiting to be, and not known to be in Kafka."""
        return len(self._unacknowledged) + self._channel.waiting_records

    async def run(self) -> None:
        """Publish until the channel is closed and all of it is acknowledged."""
        await self._replace()
        while True:
            if self._failure is not None:
                await self._replace()
            elif (record := self._channel.take()) is not None:
                await self._send(record)
            elif self._channel.closed and not self._unacknowledged:
                return
            else:
                await self._channel.wait()

    async def stop(self, timeout_seconds: float) -> None:
        """Close the producer, within a bound."""
        if self._producer is not None:
            await self._producer.stop(timeout_seconds)

    async def _replace(self) -> None:
        """Close the failed producer, start the next, and tell each symbol's loss as its first record."""
        if self._producer is not None:
            self._failures_total.inc()
            self._ready("kafka", False, f"the producer failed: {self._failure}")
            log.warning("producer failed", reason=str(self._failure), conn=self._conn)
            await self._producer.stop(CLOSE_SECONDS)
            self._give_up_unacknowledged()
        self._failure = None
        self._producer = None
        producer = self._make_producer()
        await producer.start()
        self._producer = producer
        self._ready("kafka", True, "")
        self._incarnation += 1
        self._seq.clear()
        lost, self._lost = self._lost, {}
        if lost:
            log.warning("records unacknowledged", records=sum(lost.values()), symbols=len(lost), conn=self._conn)
        now_ns = time.time_ns()
        for book in lost:
            gap = Gap(cause="produce", since_ns=self._last_good_ns.get(book))
            metrics.GAPS.labels("fobs", book.exchange, book.market, gap.cause).inc()
            record = RawRecord(book, "gap", gap.encode(), now_ns)
            self._channel.hold(record)
            await self._send(record)

    async def _send(self, record: RawRecord) -> None:
        assert self._producer is not None
        if self._failure is not None:
            self._lose(record)
            return
        book = record.book
        headers = RawHeaders(
            stream=self._stream,
            exchange=book.exchange,
            market=book.market,
            symbol=book.symbol,
            type=record.type,
            recv_ns=record.recv_ns,
            conn=self._conn,
            seq=self._seq[book],
            sent_ns=record.sent_ns,
            limit=record.limit,
            ip=record.ip,
        ).encode()
        self._seq[book] += 1
        try:
            future = await self._producer.send(self._topic, record.value, key=book.key, headers=headers)
        except RetryableError as error:
            self._failure = self._failure or error
            self._lose(record)
            return
        self._unacknowledged[future] = record
        future.add_done_callback(partial(self._settle, record))

    @property
    def _conn(self) -> str:
        return f"{self._origin}:{self._incarnation}"

    def _settle(self, record: RawRecord, future: asyncio.Future[int]) -> None:
        if self._unacknowledged.pop(future, None) is None:
            return  # settled before its callback came
        error = None if future.cancelled() else future.exception()
        if future.cancelled() or error is not None:
            self._failure = self._failure or error or RetryableError("a send was cancelled")
            self._lose(record)
        else:
            self._channel.settle(record)
            self._count(record)
        self._channel.nudge()

    def _count(self, record: RawRecord) -> None:
        self._records_total.inc()
        self._bytes_total.inc(len(record.value))
        if record.type == "snapshot":
            self._last_good_ns[record.book] = record.recv_ns
            self._latency.observe((time.time_ns() - record.recv_ns) / SECOND_NS)

    def _give_up_unacknowledged(self) -> None:
        """What the closed producer left undecided is lost to us: it may be in the topic, and is not sent again."""
        for future, record in list(self._unacknowledged.items()):
            if not future.done():
                future.cancel()
            self._settle(record, future)

    def _lose(self, record: RawRecord) -> None:
        self._channel.settle(record)
        self._lost[record.book] = self._lost.get(record.book, 0) + 1
        self._unacknowledged_total.inc()
