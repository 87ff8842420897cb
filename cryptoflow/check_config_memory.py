"""What memory each service's process takes at most: measured bases, and what the settings add. Pure arithmetic."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cryptoflow import check_config_sizes as sizes

if TYPE_CHECKING:
    from cryptoflow.check_config_load import Load
    from cryptoflow.check_config_traffic import Kafka
    from shared.settings import Settings


@dataclass(frozen=True, slots=True)
class Memory:
    """Of one process each: one reader for all addresses of the plan, a flattener or s3writer that holds every partition.

    The reader while Kafka is away, the others while they catch up after an outage.
    """

    reader_queue_bytes: int
    reader_bytes: int
    flattener_bytes: int
    writer_buffer_bytes: int
    writer_bytes: int


def memory(settings: Settings, load: Load, kafka: Kafka) -> Memory:
    """The arithmetic."""
    queues = settings.channels.buffer_bytes * len(kafka.traffic)
    partitions = sum(one.partitions_used for one in kafka.traffic)
    writer = sizes.WRITER_BASE_BYTES + sizes.WRITER_TIMES_BUFFER * settings.writer.buffer.max_bytes
    return Memory(
        reader_queue_bytes=queues,
        reader_bytes=round(sizes.READER_BASE_BYTES + queues + _bodies(settings, load) + _connections(load)),
        flattener_bytes=sizes.FLATTENER_BASE_BYTES + partitions * sizes.FLATTENER_PARTITION_BYTES,
        writer_buffer_bytes=settings.writer.buffer.max_bytes,
        writer_bytes=round(writer),
    )


def _bodies(settings: Settings, load: Load) -> float:
    """Every REST connection of every address with a book on its way."""
    limits: dict[str, int] = defaultdict(int)
    for address, limit in (
        *((one.address, one.limit) for one in load.polls),
        *((one.address, one.limit) for one in load.deltas),
    ):
        limits[address] = max(limits[address], limit)
    body = sum(sizes.BODY_BYTES + 2 * limit * sizes.BODY_LEVEL_BYTES for limit in limits.values())
    return settings.reader.max_connections * body


def _connections(load: Load) -> int:
    return sum(one.handover_connections for one in load.deltas) * sizes.CONNECTION_BYTES
