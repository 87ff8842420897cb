"""What flows through Kafka: messages, rows and bytes a second of each kind, and what the topics hold on disk. Pure arithmetic."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from cryptoflow import check_config_sizes as sizes
from cryptoflow.check_config_flows import assumed, flows

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from cryptoflow.check_config_flows import Flow, UpdatesAssumed
    from cryptoflow.check_config_load import Kind, Recorded
    from shared.settings import Settings

KINDS: tuple[Kind, ...] = ("fobs", "fobd")
NORM_OVERHEAD_BYTES = 150  # of a norm record on the broker: headers and framing


@dataclass(frozen=True, slots=True)
class Traffic:
    """One kind's. `raw` are the venue's bytes; `broker` the same with headers, compressed in batches of `batch` records."""

    kind: Kind
    books: int
    at_least: bool
    partitions: int
    messages_per_second: float
    rows_per_second: float
    raw_bytes_per_second: float
    batch: float
    broker_bytes_per_second: float
    norm_records_per_second: float
    norm_bytes_per_second: float

    @property
    def partitions_used(self) -> int:
        """At most so many hold a book."""
        return min(self.books, self.partitions)


@dataclass(frozen=True, slots=True)
class TopicDisk:
    """What a topic holds at the end of its retention, all copies together."""

    topic: str
    at_least: bool
    bytes_per_second: float
    retention_hours: int
    replicas: int
    disk_bytes: float


@dataclass(frozen=True, slots=True)
class Kafka:
    """All of it. Each record is written once and read once; copies go between brokers."""

    assumed: tuple[UpdatesAssumed, ...]
    traffic: tuple[Traffic, ...]
    topics: tuple[TopicDisk, ...]
    in_bytes_per_second: float
    out_bytes_per_second: float
    copied_bytes_per_second: float
    disk_bytes: float


def kafka(settings: Settings, what: Sequence[Recorded], updates_per_second: float | None) -> Kafka:
    """The arithmetic, over every source address."""
    found = list(flows(settings, what, updates_per_second))
    traffic = tuple(_traffic(settings, kind, what, found) for kind in KINDS if any(one.kind == kind for one in what))
    topics = tuple(disk for one in traffic for disk in _topics(settings, one))
    moved = sum(topic.bytes_per_second for topic in topics)
    return Kafka(
        assumed=tuple(assumed(settings, what, updates_per_second)),
        traffic=traffic,
        topics=topics,
        in_bytes_per_second=moved,
        out_bytes_per_second=moved,
        copied_bytes_per_second=moved * (settings.kafka.replication_factor - 1),
        disk_bytes=sum(topic.disk_bytes for topic in topics),
    )


def _traffic(settings: Settings, kind: Kind, what: Sequence[Recorded], found: Sequence[Flow]) -> Traffic:
    mine = [flow for flow in found if flow.kind == kind]
    channel = settings.channels.norm_fobs if kind == "fobs" else settings.channels.norm_fobd
    books = sum(one.symbols for one in what if one.kind == kind)
    messages = sum(flow.messages_per_second for flow in mine)
    rows = sum(flow.rows_per_second for flow in mine)
    used = min(books, channel.partitions)
    batch = 1 + messages / max(1, used) * sizes.LINGER_SECONDS
    processor = settings.processor
    # A partition's norm record ends when its first message has waited, or when it is full; it never splits a message.
    cuts = max(used / processor.batch_timeout, rows / processor.batch_size)
    records = min(messages, cuts)
    in_rows = sum(flow.rows_per_second * flow.norm_row_bytes for flow in mine)
    return Traffic(
        kind=kind,
        books=books,
        at_least=any(flow.at_least for flow in mine),
        partitions=channel.partitions,
        messages_per_second=messages,
        rows_per_second=rows,
        raw_bytes_per_second=sum(flow.messages_per_second * flow.raw_bytes for flow in mine),
        batch=batch,
        broker_bytes_per_second=messages * sizes.BROKER_BATCH_BYTES / batch
        + sum(flow.messages_per_second * flow.broker_bytes for flow in mine),
        norm_records_per_second=records,
        norm_bytes_per_second=records * sizes.NORM_RECORD_BYTES + in_rows,
    )


def _topics(settings: Settings, traffic: Traffic) -> Iterator[TopicDisk]:
    channels, replicas = settings.channels, settings.kafka.replication_factor
    raw, norm = (
        (channels.raw_fobs, channels.norm_fobs) if traffic.kind == "fobs" else (channels.raw_fobd, channels.norm_fobd)
    )
    norm_bytes = traffic.norm_bytes_per_second + traffic.norm_records_per_second * NORM_OVERHEAD_BYTES
    for channel, moved in ((raw, traffic.broker_bytes_per_second), (norm, norm_bytes)):
        disk = moved * channel.retention_hours * 3600 * replicas
        yield TopicDisk(channel.topic, traffic.at_least, moved, channel.retention_hours, replicas, disk)
