"""Where raw records can be had again after they were stored: what a topic still holds, or the raw archive of a lake."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator

    from shared.kafka import Record
    from shared.lake.spans import Spans
    from shared.messages import Kind


@dataclass(frozen=True, slots=True)
class RawLine:
    """A raw partition: whose raw records those of a line are."""

    kind: Kind
    stream: str
    partition: int
    topic: str
    cluster_id: str

    def __str__(self) -> str:
        return f"{self.topic}/{self.partition} of stream {self.stream}"


@dataclass(frozen=True, slots=True)
class Held:
    """The raw offsets a source holds; `why` says why there are none."""

    spans: Spans = ()
    why: str = ""


class RawSource(Protocol):
    """Calls raise `RetryableError`, `FatalError`."""

    @property
    def name(self) -> str:
        """What it is, for people: ``the topics at localhost:9092``."""

    def held(self, line: RawLine) -> Held:
        """What it holds, by what is known now: it can become less while it is read, and is then asked again."""

    def records(self, line: RawLine, first: int, last: int) -> Iterator[Record]:
        """What it holds of `first..last`, in the order of offsets, without holding more than a few of them in memory."""
