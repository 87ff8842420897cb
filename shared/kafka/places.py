"""Where the caller is in each partition: what it was handed, and how far that is from the end."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from shared.kafka.connection import Record, TopicPartition, to_record
from shared.kafka.errors import OwnershipLost

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class Lag:
    """How far behind the end: records not handed out, and the age in seconds of the last one that was (0 = at the end)."""

    records: int
    seconds: float


@dataclass(slots=True)
class Place:
    """The next offset to be handed out, and the time of the last record that was; until one was, of the seek."""

    position: int
    timestamp_ms: float

    @classmethod
    def at(cls, offset: int) -> Place:
        """Sought, now."""
        return cls(offset, time.time() * 1000)

    def lag(self, high_watermark: int | None) -> Lag:
        """Zero while the end is not known."""
        records = max(0, (high_watermark or 0) - self.position)
        return Lag(records, max(0.0, time.time() - self.timestamp_ms / 1000) if records else 0.0)


class Places(dict[TopicPartition, Place]):
    """The places in the partitions this member holds."""

    def of(self, tp: TopicPartition) -> Place:
        """Raises `OwnershipLost` if the partition is not assigned."""
        place = self.get(tp)
        if place is None:
            raise OwnershipLost(f"{tp.topic}/{tp.partition} is not assigned")
        return place

    def hand_out(self, taken: Mapping[TopicPartition, list[Any]]) -> dict[TopicPartition, list[Record]]:
        """The records as ours, and the places moved behind them; those of partitions not held are dropped."""
        handed: dict[TopicPartition, list[Record]] = {}
        for tp, records in taken.items():
            place = self.get(tp)
            if place is not None and records:
                handed[tp] = [to_record(record) for record in records]
                place.position, place.timestamp_ms = records[-1].offset + 1, records[-1].timestamp
        return handed
