"""Raw records out of the raw archive of a lake: a `RawSource` that needs no Kafka, and reaches back as far as the archive.

Reads only. What the archive itself declares lost it does not hold.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from shared.lake import archive, claims, layout
from shared.lake.claims import Origin
from shared.lake.kinds import archive_of
from shared.lake.patient import tried
from shared.lake.raw_source import Held
from shared.lake.spans import without

if TYPE_CHECKING:
    from collections.abc import Iterator

    from shared.kafka import Record
    from shared.lake.raw_source import RawLine
    from shared.lake.spans import Spans
    from shared.lake.store import Store


class RawArchive:
    """The archive in a store."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._spans: dict[RawLine, Spans] = {}

    @property
    def name(self) -> str:  # noqa: D102  # `RawSource` says it
        return f"the raw archive in {self._store.url}"

    def held(self, line: RawLine) -> Held:
        """Only of the cluster and topic that the line was made from."""
        if line in self._spans:
            return Held(self._spans[line])
        origin = self.origin(line)
        bounds = archive.bounds(self._store, line.kind, line.stream, line.partition) if origin is not None else None
        if origin is None or bounds is None:
            return Held(why=f"{self.name} has nothing of {line}")
        if (origin.cluster_id, origin.topic) != (line.cluster_id, line.topic):
            return Held(why=f"{self.name} is of {origin.topic} in Kafka cluster {origin.cluster_id}, not of {line}")
        self._spans[line] = without(((bounds.first, bounds.last),), bounds.holes)
        return Held(self._spans[line])

    def records(self, line: RawLine, first: int, last: int) -> Iterator[Record]:
        """Those of `first..last` that are archived."""
        return archive.records(self._store, line.kind, line.stream, line.partition, first, last)

    def origin(self, line: RawLine) -> Origin | None:
        """Whose records are archived; None where none are."""
        path = layout.origin_path(archive_of(line.kind), line.stream, line.partition)
        body = tried(lambda: self._store.get(path))
        return None if body is None else claims.decode(body, Origin, path)
