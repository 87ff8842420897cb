"""One incarnation of an idempotent producer. Any failed send is final for it.

aiokafka never expires a batch, and a failed one has spent its sequence number: whatever this producer sent next would
be refused or out of order. So the first failure fails every outstanding record and every later send, and the caller
goes on with a new producer. Nothing is ever sent again here.
"""

from __future__ import annotations

import asyncio
import time
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, KafkaTimeoutError
from aiokafka.partitioner import murmur2
from aiokafka.record.default_records import DefaultRecordBatchBuilder

from shared.errors import PoisonMessage
from shared.kafka.connection import MAX_RECORD_BYTES, Outage, client_options, close_hard, start_patiently
from shared.kafka.errors import ProducerFailed, in_words
from shared.log import get_logger

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aiokafka.producer.message_accumulator import BatchBuilder
    from aiokafka.structs import RecordMetadata

    from shared.messages import Header
    from shared.settings import KafkaSettings

MAX_BATCH_BYTES = 512 * 1024
LINGER_MS = 5
MURMUR_MASK = 0x7FFF_FFFF
ABANDON_STEP_SECONDS = 0.1
SILENCE_SECONDS = 10.0  # nothing acknowledged for so long, while something waits for it, is an outage
WATCH_SECONDS = 1.0

_log = get_logger(__name__)


def partition_for(key: bytes, partitions: int) -> int:
    """Where Kafka's default partitioner puts a key: murmur2, its sign bit cleared, modulo the number of partitions."""
    hashed: int = murmur2(key)
    return (hashed & MURMUR_MASK) % partitions


class Producer:
    """Idempotent, acks=all. `send` from one task; `stop` once. `compression` None takes the settings'.

    `linger_ms` gathers records for a request; whoever waits for each record's acknowledgement gains nothing by it.
    """

    def __init__(
        self, settings: KafkaSettings, *, client_id: str, compression: str | None = None, linger_ms: int = LINGER_MS
    ) -> None:
        self._options = client_options(settings, client_id)
        chosen = compression or settings.compression
        self._compression = None if chosen == "none" else chosen
        self._linger_ms = linger_ms
        self._client: AIOKafkaProducer | None = None
        self._outage = Outage(client_id)
        self._outstanding: set[asyncio.Future[int]] = set()
        self._answered_at = 0.0  # or when the oldest outstanding record was sent
        self._watching: asyncio.TimerHandle | None = None
        self._failure: str | None = None
        self._log = _log.bind(client_id=client_id)

    @property
    def failed(self) -> bool:
        """Whether this producer is finished."""
        return self._failure is not None

    @property
    def outstanding(self) -> int:
        """Records sent and neither acknowledged nor failed."""
        return len(self._outstanding)

    async def start(self) -> None:
        """Connects; waits for Kafka for ever. Raises `FatalError` where waiting cannot help (credentials)."""
        make = partial(
            AIOKafkaProducer,
            **self._options,
            enable_idempotence=True,
            acks="all",
            compression_type=self._compression,
            max_request_size=MAX_RECORD_BYTES,
            max_batch_size=MAX_BATCH_BYTES,
            linger_ms=self._linger_ms,
        )
        self._client = await start_patiently(make, _abandon, self._options, self._outage)

    async def send(
        self,
        topic: str,
        value: bytes,
        *,
        key: bytes | None = None,
        partition: int | None = None,
        headers: Sequence[Header] = (),
        timestamp_ms: int | None = None,
    ) -> asyncio.Future[int]:
        """Queues a record; the future holds its offset once every replica has it, or `ProducerFailed`.

        Waits while the partition's batch is full. Raises `ProducerFailed`; `PoisonMessage` (``too_large``) for a record
        above `MAX_RECORD_BYTES`, which fails nothing as nothing was sent.
        """
        if self._failure is not None or self._client is None:
            raise ProducerFailed(self._failure or "not started, or stopped")
        pairs = list(headers)
        size_bytes = DefaultRecordBatchBuilder.estimate_size_in_bytes(key, value, pairs)
        if size_bytes > MAX_RECORD_BYTES:
            raise PoisonMessage("too_large", f"a record of {size_bytes} bytes; {MAX_RECORD_BYTES} is the most")
        try:
            inner = await self._client.send(
                topic, value, key=key, partition=partition, timestamp_ms=timestamp_ms, headers=pairs
            )
        except (KafkaError, OSError, AssertionError) as error:
            # AssertionError: aiokafka's answer to a partition that does not exist.
            self._fail(f"send to {topic}: {in_words(error)}")
            raise ProducerFailed(str(self._failure)) from error
        return self._outer(inner, topic)

    async def send_batch(
        self, topic: str, partition: int, records: Sequence[tuple[bytes, bytes, list[Header]]]
    ) -> list[tuple[asyncio.Future[int], int]]:
        """Queues records (key, value, headers) of one partition: for each batch they make, its future and their number.

        The future is as that of `send`, of the batch's first record: none is made per record.
        Waits while a batch of the partition waits to be sent. Raises `ProducerFailed`; then what it had queued of
        these records fails as everything does. Records must be within `MAX_RECORD_BYTES`.
        """
        queued: list[tuple[asyncio.Future[int], int]] = []
        timestamp_ms = int(time.time() * 1000)
        first = 0
        while first < len(records):
            if self._failure is not None or self._client is None:
                raise ProducerFailed(self._failure or "not started, or stopped")
            batch = self._client.create_batch()
            append = batch.append
            for key, value, headers in islice(records, first, None):
                if append(timestamp=timestamp_ms, key=key, value=value, headers=headers) is None:
                    break
            count = batch.record_count()
            assert count, "the first record of a batch always fits"
            batch.close()
            queued.append((self._outer(await self._queue(batch, topic, partition), topic), count))
            first += count
        return queued

    async def _queue(self, batch: BatchBuilder, topic: str, partition: int) -> asyncio.Future[RecordMetadata]:
        """Waits as long as it takes for its turn: a broker that does not answer costs nothing but time."""
        while True:
            if self._failure is not None or self._client is None:
                raise ProducerFailed(self._failure or "not started, or stopped")
            try:
                queued: asyncio.Future[RecordMetadata] = await self._client.send_batch(
                    batch, topic, partition=partition
                )
            except KafkaTimeoutError:
                continue  # the batch before it is still not sent, so this one was not queued
            except (KafkaError, OSError, AssertionError) as error:
                self._fail(f"send to {topic}: {in_words(error)}")
                raise ProducerFailed(str(self._failure)) from error
            else:
                return queued

    async def stop(self, timeout_seconds: float) -> None:
        """Waits up to `timeout_seconds` for what is outstanding, fails the rest, and closes whatever state it is in."""
        client, self._client = self._client, None
        if client is None:
            return
        try:
            await self._stop(client, timeout_seconds)
        finally:
            self._outage.leave()

    async def _stop(self, client: AIOKafkaProducer, timeout_seconds: float) -> None:
        deadline = asyncio.get_running_loop().time() + timeout_seconds
        if self._outstanding and self._failure is None:
            await asyncio.wait(self._outstanding, timeout=timeout_seconds)
        if self._outstanding:
            self._fail(f"not acknowledged within {timeout_seconds:g} s of stop")
        if self._failure is None:
            try:
                async with asyncio.timeout_at(deadline):
                    await client.stop()
            except TimeoutError:
                self._log.warning("kafka producer abandoned", reason="stop did not end in time")
            else:
                return
        await _abandon(client)

    def _outer(self, inner: asyncio.Future[RecordMetadata], topic: str) -> asyncio.Future[int]:
        loop = asyncio.get_running_loop()
        outer: asyncio.Future[int] = loop.create_future()
        if not self._outstanding:
            self._answered_at = loop.time()
            if self._watching is None:
                self._watching = loop.call_later(WATCH_SECONDS, self._watch)
        self._outstanding.add(outer)
        inner.add_done_callback(partial(self._settle, outer, topic))
        return outer

    def _settle(self, outer: asyncio.Future[int], topic: str, inner: asyncio.Future[RecordMetadata]) -> None:
        error = None if inner.cancelled() else inner.exception()
        if inner.cancelled() or error is not None:
            self._fail(f"send to {topic}: {in_words(error) if error is not None else 'cancelled'}")
            return
        self._outstanding.discard(outer)
        self._answered_at = asyncio.get_running_loop().time()
        self._outage.end()
        if not outer.done():
            outer.set_result(inner.result().offset)

    def _watch(self) -> None:
        """Notice an outage: aiokafka waits for a broker that is away without a word, for ever."""
        self._watching = None
        if not self._outstanding:
            return
        loop = asyncio.get_running_loop()
        if loop.time() - self._answered_at > SILENCE_SECONDS:
            self._outage.begin(f"no record acknowledged for {SILENCE_SECONDS:g} s")
        self._watching = loop.call_later(WATCH_SECONDS, self._watch)

    def _fail(self, reason: str) -> None:
        if self._failure is None:
            self._failure = reason
            self._log.error("kafka producer failed", reason=reason, outstanding=len(self._outstanding))
        failed, self._outstanding = self._outstanding, set()
        for future in failed:
            if not future.done():
                future.set_exception(ProducerFailed(self._failure))
                future.exception()  # told by `failed` and the log as well: nobody has to ask every future


async def _abandon(client: AIOKafkaProducer) -> None:
    """Closes a producer whose own stop() may hang on a broker that never answers: it waits for its requests."""
    client._closed = True  # noqa: SLF001  # what __del__ looks at before it warns
    sender = client._sender.sender_task  # noqa: SLF001
    while sender is not None and not sender.done():
        # Cancelled once, it waits for its requests; cancelled again, it cancels the one it waits for.
        sender.cancel()
        await asyncio.wait([sender], timeout=ABANDON_STEP_SECONDS)
    if sender is not None and not sender.cancelled():
        sender.exception()
    await close_hard(client.client)
