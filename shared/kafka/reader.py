"""Reads a known range of one partition again, outside any group: what a claim promised, or a dead letter's neighbours.

Never commits, never joins a group, never moves another consumer.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from aiokafka import AIOKafkaConsumer
from aiokafka.errors import KafkaError, OffsetOutOfRangeError

from shared.errors import FatalError
from shared.kafka.connection import FETCH_OPTIONS, Outage, client_options, start_patiently, to_record
from shared.kafka.errors import OffsetsLost, from_kafka, in_words, is_passing
from shared.kafka.membership import stop_hard

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from aiokafka import TopicPartition

    from shared.kafka.connection import Record
    from shared.settings import KafkaSettings

POLL_MS = 1000


async def read_range(
    settings: KafkaSettings, tp: TopicPartition, first: int, last: int, *, client_id: str
) -> AsyncIterator[Record]:
    """The records [first..last], both included, in offset order; none if last < first. Waits while Kafka is down.

    Raises `OffsetsLost` if the log begins after what is still to be read, `FatalError` if it ends before `last`.
    """
    if last < first:
        return
    options = client_options(settings, client_id)
    outage = Outage(client_id)
    make = partial(AIOKafkaConsumer, **options, **FETCH_OPTIONS)
    client = await start_patiently(make, stop_hard, options, outage)
    try:
        client.assign([tp])
        client.seek(tp, first)
        position, checked = first, False
        while position <= last:
            try:
                if not checked:
                    await _check_bounds(client, tp, position, last)
                    checked = True
                taken = await client.getmany(tp, timeout_ms=POLL_MS)
            except OffsetOutOfRangeError:
                checked = False  # the bounds say which way
                continue
            except (KafkaError, TimeoutError) as error:
                if not is_passing(error):
                    raise from_kafka(error, f"reading {tp.topic}/{tp.partition}") from error
                outage.begin(in_words(error))
                continue
            for record in taken.get(tp, ()):
                outage.end()
                if record.offset > last:
                    return
                position = record.offset + 1
                yield to_record(record)
    finally:
        outage.leave()
        await stop_hard(client)


async def _check_bounds(client: AIOKafkaConsumer, tp: TopicPartition, position: int, last: int) -> None:
    beginning = (await client.beginning_offsets([tp]))[tp]
    if beginning > position:
        raise OffsetsLost(tp, position, beginning)
    end = (await client.end_offsets([tp]))[tp]
    if end <= last:
        raise FatalError(
            f"{tp.topic}/{tp.partition} ends at offset {end}, before {last}, which was read or claimed from it: "
            "was the topic re-created? set a new kafka.stream"
        )
