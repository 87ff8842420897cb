"""Every record of a topic once, in batches, by aiokafka, as its documentation has it for throughput; offsets are committed
by the caller when the batch is stored: at least once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiokafka import AIOKafkaConsumer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from aiokafka import ConsumerRecord
    from task import Task

MAX_RECORDS = 2000
FETCH_BYTES = 16 * 1024 * 1024


async def batches(task: Task) -> AsyncIterator[tuple[AIOKafkaConsumer, list[ConsumerRecord]]]:
    """Until all have come; with each batch the consumer, to commit."""
    messages = task.messages
    consumer = AIOKafkaConsumer(
        task.topic,
        bootstrap_servers=task.bootstrap,
        group_id=task.group,
        auto_offset_reset="earliest",
        enable_auto_commit=False,
        max_partition_fetch_bytes=FETCH_BYTES,
        fetch_max_bytes=4 * FETCH_BYTES,
    )
    await consumer.start()
    try:
        while messages > 0:
            for records in (await consumer.getmany(timeout_ms=1000, max_records=MAX_RECORDS)).values():
                messages -= len(records)
                yield consumer, records
    finally:
        await consumer.stop()
