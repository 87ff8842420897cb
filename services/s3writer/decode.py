"""From the value of a norm record to its rows. What cannot be decoded is damaged internal data: fatal, never skipped.

A value is an Arrow IPC stream with one record batch, lz4; a pack of raw records is the same, zstd. It is looked into
twice: `contents` reads one column on arrival (35 microseconds), `rows` all of it when its buffer is flushed. Nothing here
keeps what it decoded.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from shared.errors import FatalError
from shared.lake.arrays import bits
from shared.lake.kinds import LAKE_KINDS, is_rows
from shared.lake.schema import BOOK_FIELDS, NORM_SCHEMAS, PACK_SCHEMA

if TYPE_CHECKING:
    from collections.abc import Collection

    from shared.lake.kinds import LakeKind
    from shared.messages import SourceRange

# Threads per column cost three times what they save on batches of some thousand rows.
_ALL = pa.ipc.IpcReadOptions(use_threads=False)
_KEYS = [*(field.name for field in BOOK_FIELDS), "timestamp", "raw_offset"]
_SCHEMAS: dict[LakeKind, pa.Schema] = {
    kind: NORM_SCHEMAS[kind] if is_rows(kind) else PACK_SCHEMA for kind in LAKE_KINDS
}


def _only(names: Collection[str], kind: LakeKind) -> pa.IpcReadOptions:
    fields = [number for number, name in enumerate(_SCHEMAS[kind].names) if name in names]
    return pa.ipc.IpcReadOptions(use_threads=False, included_fields=fields)


_OFFSETS_TOO = {kind: _only(["recv_ns", "raw_offset"], kind) for kind in _SCHEMAS}
_RECEIVED_ONLY = {kind: _only(["recv_ns"], kind) for kind in _SCHEMAS}
_KEYS_ONLY = {kind: _only(_KEYS, kind) for kind in _SCHEMAS}
_KEYS_SCHEMAS = {kind: pa.schema([f for f in schema if f.name in _KEYS]) for kind, schema in _SCHEMAS.items()}


@dataclass(frozen=True, slots=True)
class Contents:
    """What is known of a value without decoding it whole. `newest_recv_ns` is None where it has no row."""

    rows: int
    newest_recv_ns: int | None


def contents(kind: LakeKind, value: bytes, where: str) -> Contents:
    """Count the rows and find the newest receive time. Raises `FatalError` naming `where`."""
    batch = _read(value, _RECEIVED_ONLY[kind], where)
    if not batch.num_rows:
        return Contents(0, None)
    if batch.schema.names != ["recv_ns"]:
        raise FatalError(f"{where} holds columns {batch.schema.names}, not those of norm-{kind}")
    return Contents(batch.num_rows, int(bits(batch.column(0)).max()))


def newest_up_to(kind: LakeKind, value: bytes, last: int, where: str) -> int | None:
    """The newest receive time of the rows with raw_offset <= `last`. Raises `FatalError` naming `where`."""
    batch = _read(value, _OFFSETS_TOO[kind], where)
    if not batch.num_rows:
        return None
    received = bits(batch.column("recv_ns"))[bits(batch.column("raw_offset")) <= last]
    return int(received.max()) if len(received) else None


def rows(kind: LakeKind, value: bytes, src: SourceRange, where: str, *, keys_only: bool = False) -> pa.RecordBatch:
    """All columns of `NORM_SCHEMAS[kind]`, or with `keys_only` those that say which file a row goes to.

    A pack of raw records has those of `PACK_SCHEMA`.

    Raises `FatalError` naming `where` if it does not hold these columns, or rows of other raw offsets than `src`.
    """
    batch = _read(value, _KEYS_ONLY[kind] if keys_only else _ALL, where)
    if not batch.schema.equals(_KEYS_SCHEMAS[kind] if keys_only else _SCHEMAS[kind]):
        raise FatalError(
            f"{where} is not in the schema of norm-{kind}: {batch.schema.to_string(truncate_metadata=True)}"
        )
    if batch.num_rows:
        offsets = bits(batch.column("raw_offset"))
        if offsets[0] < src.first or offsets[-1] > src.last or bool(np.any(offsets[1:] < offsets[:-1])):
            raise FatalError(f"{where} holds rows out of order, or of other raw offsets than {src}")
    return batch


def _read(value: bytes, options: pa.ipc.IpcReadOptions, where: str) -> pa.RecordBatch:
    try:
        with pa.ipc.open_stream(value, options=options) as reader:
            batch = reader.read_next_batch()
            batch.validate()
            return batch
    except (pa.ArrowException, OSError, EOFError, StopIteration, ValueError) as error:
        raise FatalError(f"{where} cannot be decoded: {error}: the norm topic is damaged") from error
