"""One data file, read as far as it takes: some columns of some row groups, chosen by the footer's statistics."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from shared.errors import FatalError, UnknownVersion
from shared.lake import parquet
from shared.lake.schema import SCHEMA_VERSION
from shared.messages import INT64_MAX

if TYPE_CHECKING:
    from collections.abc import Sequence

    from shared.lake.patient import Patient

_WORDS = ("type", "side", "gap_cause")  # few values, many rows: read as dictionaries


@dataclass(frozen=True, slots=True)
class RowGroup:
    """What the footer says of one row group; where it says nothing, the bounds hold everything."""

    index: int
    min_recv_ns: int
    max_offset: int  # raw
    has_gaps: bool


class DataFile:
    """A whole file in memory, its columns still encoded. Raises `FatalError` as `row_groups` does."""

    def __init__(self, path: str, body: bytes) -> None:
        self._path = path
        try:
            metadata = pq.read_metadata(pa.BufferReader(body))
            words = [name for name in metadata.schema.names if name in _WORDS]
            self._file = pq.ParquetFile(pa.BufferReader(body), metadata=metadata, read_dictionary=words)
        except (pa.ArrowException, OSError) as error:
            raise FatalError(f"{path} is not readable as Parquet: {error}") from error
        self.groups = row_groups(metadata, path)

    def read(self, groups: Sequence[RowGroup], columns: Sequence[str]) -> pa.Table:
        """These columns of these row groups. Raises `FatalError` where one is not there or is not readable."""
        missing = set(columns).difference(self._file.schema_arrow.names)
        if missing:
            raise FatalError(f"{self._path} has no column {min(missing)}")
        try:
            return self._file.read_row_groups([group.index for group in groups], columns=list(columns))
        except (pa.ArrowException, OSError) as error:
            raise FatalError(f"{self._path} is not readable as Parquet: {error}") from error


def open_file(store: Patient, path: str) -> DataFile | None:
    """The file at `path`; None where it is not there."""
    body = store.get(path)
    return None if body is None else DataFile(path, body)


def row_groups(metadata: Any, path: str) -> list[RowGroup]:
    """The row groups in the file's order. Raises `UnknownVersion` for a file of a newer release."""
    version = int((metadata.metadata or {}).get(f"{parquet.FOOTER_PREFIX}schema_version".encode(), SCHEMA_VERSION))
    if version > SCHEMA_VERSION:
        raise UnknownVersion(f"{path} has schema version {version}; this release knows {SCHEMA_VERSION}: upgrade it")
    return [_row_group(metadata.row_group(index), index) for index in range(metadata.num_row_groups)]


def _row_group(group: Any, index: int) -> RowGroup:
    statistics = {}
    for column in range(group.num_columns):
        chunk = group.column(column)
        statistics[chunk.path_in_schema] = chunk.statistics
    received, offsets, gaps = (statistics.get(name) for name in ("recv_ns", "raw_offset", "gap_cause"))
    return RowGroup(
        index,
        int(received.min) if received is not None and received.has_min_max else 0,
        int(offsets.max) if offsets is not None and offsets.has_min_max else INT64_MAX,
        gaps is None or not gaps.has_null_count or gaps.null_count < group.num_rows,
    )
