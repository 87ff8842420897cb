"""The metrics of one assigned partition, bound once, and removed when it is revoked.

They only count; no decision is taken from them.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from shared import metrics
from shared.lake.kinds import is_rows

if TYPE_CHECKING:
    from services.s3writer.buffer import Buffer, Held, Trigger
    from shared.kafka import Lag, TopicPartition
    from shared.lake.kinds import LakeKind


class PartitionMeters:
    """What one partition counts."""

    def __init__(self, kind: LakeKind, group: str, tp: TopicPartition) -> None:
        self._kind = kind
        self._labels = (group, tp.topic, tp.partition)
        self._last_flush = metrics.LAST_FLUSH.labels(tp.topic, str(tp.partition))
        lag = group, tp.topic, str(tp.partition)
        self._position_records = metrics.POSITION_LAG_RECORDS.labels(*lag)
        self._position_seconds = metrics.POSITION_LAG_SECONDS.labels(*lag)
        self._stored_records = metrics.STORED_LAG_RECORDS.labels(*lag)
        self._stored_seconds = metrics.STORED_LAG_SECONDS.labels(*lag)
        self.unknown_version = metrics.UNKNOWN_VERSION.labels(tp.topic, str(tp.partition))
        self._consumed = metrics.CONSUMED_RECORDS.labels(tp.topic)
        # Of rows: the archive is beside their way, not its end.
        self._latency = metrics.LATENCY.labels("stored") if is_rows(kind) else None

    def took(self, record: Held) -> None:
        """One record was buffered."""
        self._consumed.inc()
        if record.taken.dropped:
            metrics.REPEATED_RECORDS.labels(self._kind).inc()
        if record.taken.hole:
            first, last = record.taken.hole
            metrics.SOURCE_HOLES.labels(self._kind).inc()
            metrics.SOURCE_HOLE_RECORDS.labels(self._kind).inc(last - first + 1)

    def flushed(self, trigger: Trigger, buffer: Buffer, *, won: bool, seconds: float) -> None:
        """A flush ended with its files in the lake, ours or another's."""
        metrics.FLUSHES.labels(self._kind, trigger, "written" if won else "adopted").inc()
        metrics.FLUSH_SECONDS.labels(self._kind).observe(seconds)
        self._last_flush.set_to_current_time()
        if won and self._latency is not None:
            now = time.time()
            for record in buffer.records:
                if record.rows and not record.taken.dropped and record.newest_recv_ns is not None:
                    self._latency.observe(now - record.newest_recv_ns / 1e9)

    def flush_disowned(self, trigger: Trigger) -> None:
        """The partition went to another before the claim."""
        metrics.FLUSHES.labels(self._kind, trigger, "disowned").inc()

    def lag(self, position: Lag, *, end: int, stored: int, oldest_ms: int | None) -> None:
        """Lags now: of fetching, and of what the lake has; `end` is the partition's next offset."""
        self._position_records.set(position.records)
        self._position_seconds.set(position.seconds)
        self._stored_records.set(max(0, end - stored))
        self._stored_seconds.set(position.seconds if oldest_ms is None else max(0.0, time.time() - oldest_ms / 1000))

    def remove(self) -> None:
        """Another member reports them now."""
        group, topic, partition = self._labels
        metrics.remove_partition(group, topic, partition)
        metrics.LAST_FLUSH.remove(topic, str(partition))
        metrics.UNKNOWN_VERSION.remove(topic, str(partition))
