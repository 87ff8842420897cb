"""What the flattener counts: bound once, updated once per norm record, and only after Kafka acknowledged it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from shared import metrics

if TYPE_CHECKING:
    from services.flattener.cut import Cut
    from services.flattener.flatten import Flattened
    from shared.kafka import Lag, TopicPartition
    from shared.messages import Kind

STAGE = "flattener"

_UNUSUAL = ("empty", "one_sided", "crossed", "unsorted", "repeated")


class Meters:
    """The metrics of one kind."""

    def __init__(self, kind: Kind) -> None:
        self._messages = metrics.FLATTENED_MESSAGES.labels(kind)
        self._rows = metrics.FLATTENED_ROWS.labels(kind)
        self._levels = metrics.FLATTENED_LEVELS.labels(kind)
        self._bytes = metrics.FLATTENED_BYTES.labels(kind)
        self._seconds = metrics.FLATTEN_SECONDS.labels(kind)
        self._record_rows = metrics.NORM_RECORD_ROWS.labels(kind)
        self._record_bytes = metrics.NORM_RECORD_BYTES.labels(kind)
        self._imprecise = metrics.IMPRECISE_VALUES.labels(kind)
        self._unusual = {what: metrics.UNUSUAL_BOOKS.labels(kind, what) for what in _UNUSUAL}
        self._latency = metrics.LATENCY.labels("flattened")

    def flattened(self, cut: Cut, flattened: Flattened, value_bytes: int, seconds: float) -> None:
        """A cut became a record of `value_bytes`; that took `seconds` of this process."""
        rows = flattened.batch.num_rows
        self._messages.inc(len(cut.messages))
        self._rows.inc(rows)
        self._levels.inc(flattened.quality.levels)
        self._bytes.inc(sum(len(message.record.value) for message in cut.messages))
        self._seconds.inc(seconds)
        self._record_rows.observe(rows)
        self._record_bytes.inc(value_bytes)
        self._imprecise.inc(flattened.quality.imprecise)
        for what, books in self._unusual.items():
            books.inc(getattr(flattened.quality, what))
        for _, poison in flattened.poison:
            metrics.DEAD_LETTERS.labels(STAGE, poison.reason).inc()
        now_seconds = time.time()
        self._latency.observe_all([now_seconds - message.recv_ns / 1e9 for message in cut.messages])

    @staticmethod
    def lost(tp: TopicPartition, cut: Cut) -> None:
        """Kafka no longer had the offsets of a cut."""
        metrics.LOST_RECORDS.labels(tp.topic).inc(cut.last - cut.first + 1)


class PartitionMeters:
    """The lags of one raw partition, its duplicate publishers, and whether it stands still; forgotten when it is revoked."""

    def __init__(self, group: str, tp: TopicPartition, kind: Kind) -> None:
        self._names = (group, tp.topic, str(tp.partition))
        self._position_records = metrics.POSITION_LAG_RECORDS.labels(*self._names)
        self._position_seconds = metrics.POSITION_LAG_SECONDS.labels(*self._names)
        self._stored_records = metrics.STORED_LAG_RECORDS.labels(*self._names)
        self._stored_seconds = metrics.STORED_LAG_SECONDS.labels(*self._names)
        self.unknown_version = metrics.UNKNOWN_VERSION.labels(*self._names[1:])
        self._duplicated = metrics.DUPLICATE_PUBLISHERS.labels(kind)
        self._duplicated_here = 0

    def lag(self, position: Lag, *, end: int, stored: int, oldest_ms: int | None) -> None:
        """Of fetching, and of what is on the norm topic; `end` is the partition's next offset."""
        self._position_records.set(position.records)
        self._position_seconds.set(position.seconds)
        self._stored_records.set(max(0, end - stored))
        self._stored_seconds.set(position.seconds if oldest_ms is None else max(0.0, time.time() - oldest_ms / 1000))

    def duplicated(self, books: int) -> None:
        """So many books of this partition have duplicate publishers."""
        self._duplicated.inc(books - self._duplicated_here)
        self._duplicated_here = books

    def forget(self) -> None:
        """Another member reports this partition now."""
        self.duplicated(0)
        group, topic, partition = self._names
        metrics.remove_partition(group, topic, int(partition))
        metrics.UNKNOWN_VERSION.remove(topic, partition)
