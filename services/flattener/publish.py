"""One cut to Kafka: dead letters first, acknowledged, then the norm record that counts them, acknowledged.

Nothing is ever sent twice from here: a failed send is fatal, and the next process re-cuts from the last commit. What
then stands in the norm topic twice is taken once by its raw offsets.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from typing import TYPE_CHECKING

import pyarrow as pa

from services.flattener.flatten import Flattened, encode
from services.flattener.meters import Meters
from services.flattener.normalise import MOST_VALUE_BYTES, Normaliser
from services.flattener.quality import Quality
from shared import crash_points, metrics
from shared.errors import FatalError, PoisonMessage
from shared.kafka import ProducerFailed
from shared.lake.schema import NORM_SCHEMAS
from shared.messages import DeadLetterHeaders, NormHeaders, SourceRange

if TYPE_CHECKING:
    from collections.abc import Sequence

    from services.flattener.ceiling import Ceiling
    from services.flattener.cut import Cut
    from services.flattener.message import Message
    from shared.kafka import Producer, TopicPartition
    from shared.messages import Header, Kind

_ERROR_CHARACTERS = 500
_EMPTY = {
    kind: pa.RecordBatch.from_arrays([pa.nulls(0, field.type) for field in schema], schema=schema)
    for kind, schema in NORM_SCHEMAS.items()
}


class Publisher:
    """What turns cuts of any partition into records. `stream` is the id that stands in every norm record."""

    def __init__(
        self,
        producer: Producer,
        *,
        kind: Kind,
        norm_topic: str,
        dead_letter_topic: str,
        stream: str,
        ceiling: Ceiling,
        most_value_bytes: int = MOST_VALUE_BYTES,
    ) -> None:
        self._producer = producer
        self._normaliser = Normaliser(kind, most_value_bytes=most_value_bytes)
        self._empty = _EMPTY[kind]
        self._norm_topic = norm_topic
        self._dead_letter_topic = dead_letter_topic
        self._stream = stream
        self._ceiling = ceiling
        self._meters = Meters(kind)
        self._produced = {
            topic: (metrics.PRODUCED_RECORDS.labels(topic), metrics.PRODUCED_BYTES.labels(topic))
            for topic in (norm_topic, dead_letter_topic)
        }

    async def publish(self, tp: TopicPartition, cut: Cut) -> None:
        """Returns when all of the cut is acknowledged. Raises `FatalError`."""
        if cut.lost:
            empty = Flattened(self._empty, [], Quality())
            await self._send_norm(tp, cut, empty, encode(empty.batch))
            self._meters.lost(tp, cut)
            return
        started = time.perf_counter()
        for piece in self._normaliser.pieces(cut):
            seconds = time.perf_counter() - started
            poison = piece.flattened.poison
            self._ceiling.count(len(piece.cut.messages), [error.reason for _, error in poison])
            await self._bury(poison)
            await self._send_norm(tp, piece.cut, piece.flattened, piece.value)
            self._meters.flattened(piece.cut, piece.flattened, len(piece.value), seconds)
            started = time.perf_counter()

    async def _bury(self, poison: Sequence[tuple[Message, PoisonMessage]]) -> None:
        """The offending bytes verbatim, key and headers kept, with the reason: acknowledged when this returns."""
        for message, error in poison:
            record = message.record
            src = f"{record.topic}/{record.partition}/{record.offset}"
            left = f"left in {src}, {len(record.value)} bytes: "
            # With three more headers a record can be too large for Kafka. `src` says where its bytes are.
            for value, original, where in (
                (record.value, record.headers, ""),
                (b"", record.headers, left),
                (b"", (), left),
            ):
                text = f"{error.reason}: {where}{error}"[:_ERROR_CHARACTERS]
                headers = DeadLetterHeaders(error=text, stage="flattener", src=src).encode(original)
                with suppress(PoisonMessage):
                    await self._send(self._dead_letter_topic, value, key=record.key, headers=headers)
                    break

    async def _send_norm(self, tp: TopicPartition, cut: Cut, flattened: Flattened, value: bytes) -> None:
        headers = NormHeaders(
            stream=self._stream,
            src=SourceRange(tp.topic, tp.partition, cut.first, cut.last),
            dead=len(flattened.poison),
            lost=cut.lost,
        )
        await crash_points.passed("flattener.before_produce")
        await self._send(self._norm_topic, value, partition=tp.partition, headers=headers.encode())
        await crash_points.passed("flattener.after_ack")

    async def _send(
        self,
        topic: str,
        value: bytes,
        *,
        key: bytes | None = None,
        partition: int | None = None,
        headers: Sequence[Header],
    ) -> None:
        try:
            sent = await self._producer.send(topic, value, key=key, partition=partition, headers=headers)
            await crash_points.passed("flattener.after_produce")
            # Shielded: a revoked partition's task is cancelled, the producer's future must settle all the same.
            await asyncio.shield(sent)
        except ProducerFailed as error:
            raise FatalError(f"{error}: the process ends, the next one goes on from the last commit") from error
        number, size_bytes = self._produced[topic]
        number.inc()
        size_bytes.inc(len(value))
