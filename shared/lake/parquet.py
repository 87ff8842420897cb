"""Parquet files of the lake: bytes from a table and back, the footer's facts, and the digest of the rows.

A file holds the columns of `FILE_SCHEMAS[kind]`, in (raw_offset, row) order, zstd, with statistics and nothing of
pandas. Bytes may differ between encoders and their versions; rows may not: `digest` is of the rows alone.
No I/O here, and no sorting: rows stay in the order they came in.
"""

from __future__ import annotations

import io
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from shared.errors import FatalError
from shared.lake.digest import Payload, digest, digest_of
from shared.lake.kinds import LAKE_KINDS
from shared.lake.schema import FILE_SCHEMAS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from shared.lake.kinds import LakeKind

__all__ = [
    "FOOTER_PREFIX",
    "ROW_GROUP_ROWS",
    "TAIL_BYTES",
    "FileWriter",
    "Footer",
    "FooterBeyondTail",
    "columns",
    "decode",
    "digest",
    "digest_of",
    "encode",
    "read_footer",
    "read_metadata",
    "slices",
]

ROW_GROUP_ROWS = 262_144
FOOTER_PREFIX = "cryptoflow."
TAIL_BYTES = 65_536  # holds the footer of any file of this lake with few row groups; see `read_footer`

_MAGIC = b"PAR1"
_TRAILER_BYTES = 8  # footer length, magic
_ZSTD_LEVEL = 3  # 5 % smaller than pyarrow's default of 1
_SLICE_BYTES = 262_144  # of decoded rows, on average
_WRITE_BATCH_ROWS = 65_536  # of a column, encoded at a time; what strings' statistics cost is paid per batch
# Repeated from row to row or told once: zstd alone makes them as small as with a dictionary, which costs as much again.
_PLAIN = frozenset(
    {
        *("timestamp", "recv_ns", "event_time", "transaction_time", "gap_since", "kafka_timestamp_ms", "sent_ns"),
        *("last_update_id", "first_update_id", "update_id", "prev_update_id", "seq", "depth_limit", "level"),
        *("value", "raw_partition", "raw_offset"),
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Footer:
    """What a file says of itself. `first` and `last` are offsets of `topic`, both included, as in its name."""

    kind: LakeKind
    exchange: str
    market: str
    symbol: str
    stream: str
    topic: str
    partition: int
    first: int
    last: int
    rows: int
    schema_version: int
    digest: str


_FOOTER_INTEGERS = frozenset({"partition", "first", "last", "rows", "schema_version"})


def encode(table: pa.Table, footer: Footer, compression: str = "zstd") -> bytes:
    """A table in `FILE_SCHEMAS[kind]` as a Parquet file. String columns may come as dictionaries.

    Raises `FatalError` if the columns or the row count are not what the footer says.
    """
    file = FileWriter(footer.kind, compression)
    file.write(table)
    return file.end(footer)


class FileWriter:
    """A file made table by table, each of which begins a row group, and ended by what it says of itself."""

    def __init__(self, kind: LakeKind, compression: str) -> None:
        self._kind: LakeKind = kind
        self._compression = compression
        self._sink = io.BytesIO()
        self._writer: pq.ParquetWriter | None = None
        self._rows = 0

    def write(self, table: pa.Table) -> None:
        """Append rows. Raises `FatalError` if they are not in the columns of this kind."""
        table = _as_file_schema(table, FILE_SCHEMAS[self._kind])
        if self._writer is None:
            self._writer = self._open(table.schema)
        self._writer.write_table(table, row_group_size=ROW_GROUP_ROWS)
        self._rows += table.num_rows

    def end(self, footer: Footer) -> bytes:
        """The file. Raises `FatalError` if it holds another number of rows than the footer says."""
        if self._rows != footer.rows or self._writer is None:
            raise FatalError(f"a file of {footer.rows} rows was to be written from {self._rows}")
        facts = {f"{FOOTER_PREFIX}{key}": str(value) for key, value in asdict(footer).items()}
        self._writer.add_key_value_metadata(facts)
        self._writer.close()
        return self._sink.getvalue()

    def _open(self, schema: pa.Schema) -> pq.ParquetWriter:
        # BYTE_STREAM_SPLIT and DELTA_BINARY_PACKED would be smaller for some columns; not every engine reads them.
        leaves = _leaves(schema)
        return pq.ParquetWriter(
            self._sink,
            schema,
            compression=self._compression,
            compression_level=_ZSTD_LEVEL if self._compression == "zstd" else None,
            use_dictionary=[leaf for leaf in leaves if leaf not in _PLAIN],
            write_statistics=[leaf for leaf in leaves if leaf != "value"],
            max_rows_per_page=ROW_GROUP_ROWS,  # pages end by their bytes alone: files are a quarter smaller
            write_batch_size=_WRITE_BATCH_ROWS,
            store_schema=False,  # Arrow's own copy would turn strings into dictionaries for some readers only
        )


def decode(body: bytes, kind: LakeKind) -> pa.Table:
    """The rows of a file. Raises `FatalError` if it is not whole Parquet with the columns of `FILE_SCHEMAS[kind]`."""
    try:
        table = _open(body, kind).read()
    except (pa.ArrowException, OSError) as error:
        raise FatalError(f"not readable as Parquet: {error}") from error
    for field, column in zip(FILE_SCHEMAS[kind], table.columns, strict=True):
        _check_nulls(field, column)
    return pa.Table.from_arrays(table.columns, schema=FILE_SCHEMAS[kind])


def columns(body: bytes, kind: LakeKind) -> Iterator[tuple[str, pa.ChunkedArray | Payload]]:
    """The columns of a file with their names, one in memory at a time, and of bytes no more than a slice.

    Raises `FatalError` as `decode` does.
    """
    try:
        file = _open(body, kind)
        for field in FILE_SCHEMAS[kind]:
            column: pa.ChunkedArray | Payload
            if pa.types.is_binary(field.type):
                column = Payload()
                for batch in file.iter_batches(_slice_rows(file), columns=[field.name]):
                    column.add(batch.column(0))
            else:
                column = file.read(columns=[field.name]).column(0)
            _check_nulls(field, column)
            yield field.name, column
    except (pa.ArrowException, OSError) as error:
        raise FatalError(f"not readable as Parquet: {error}") from error


def slices(body: bytes, kind: LakeKind) -> Iterator[pa.RecordBatch]:
    """The rows of a file in order, some at a time. Raises `FatalError` as `decode` does."""
    try:
        file = _open(body, kind)
        yield from file.iter_batches(_slice_rows(file), columns=FILE_SCHEMAS[kind].names)
    except (pa.ArrowException, OSError) as error:
        raise FatalError(f"not readable as Parquet: {error}") from error


def read_footer(tail: bytes) -> Footer:
    """What a file says of itself, from the whole file or from its last bytes.

    Raises `FooterBeyondTail` if these bytes do not reach back to the footer's begin, `FatalError` if there is none,
    or none of ours, or if the rows it counts are not the rows of the file's row groups.
    """
    metadata = read_metadata(tail)
    footer = _footer(metadata.metadata or {})
    if metadata.num_rows != footer.rows:
        raise FatalError(f"the footer says {footer.rows} rows, the row groups hold {metadata.num_rows}")
    return footer


def read_metadata(tail: bytes) -> Any:
    """Parquet's own metadata (`pyarrow.parquet.FileMetaData`) of a file, from its last bytes. Raises as `read_footer`."""
    if len(tail) < _TRAILER_BYTES or tail[-4:] != _MAGIC:
        raise FatalError("not a whole Parquet file: the magic bytes at the end are missing")
    needed = int.from_bytes(tail[-8:-4], "little") + _TRAILER_BYTES
    if needed > len(tail):
        raise FooterBeyondTail(needed)
    try:
        # The reader looks at nothing before the footer, so that the rows need not be there.
        return pq.read_metadata(io.BytesIO(_MAGIC + tail[-needed:]))
    except (pa.ArrowException, OSError) as error:
        raise FatalError(f"not readable as Parquet: {error}") from error


class FooterBeyondTail(FatalError):
    """The footer is longer than the bytes given. `needed_bytes` from the end would do."""

    def __init__(self, needed_bytes: int) -> None:
        super().__init__(f"the footer needs the last {needed_bytes} bytes of the file")
        self.needed_bytes = needed_bytes


def _open(body: bytes, kind: LakeKind) -> pq.ParquetFile:
    file = pq.ParquetFile(pa.BufferReader(body))
    _check_columns(file.schema_arrow, FILE_SCHEMAS[kind])
    return file


def _slice_rows(file: pq.ParquetFile) -> int:
    """How many rows make a slice: of large values few."""
    metadata = file.metadata
    size: int = sum(metadata.row_group(number).total_byte_size for number in range(metadata.num_row_groups))
    rows: int = metadata.num_rows
    return max(1, min(ROW_GROUP_ROWS, rows * _SLICE_BYTES // max(1, size)))


def _leaves(schema: pa.Schema) -> list[str]:
    """The columns as Parquet names them, those inside lists too."""
    return [
        f"{field.name}.list.element.{part.name}" if pa.types.is_list(field.type) else field.name
        for field in schema
        for part in (field.type.value_type if pa.types.is_list(field.type) else (field,))
    ]


def _footer(metadata: dict[bytes, bytes]) -> Footer:
    values: dict[str, Any] = {}
    for field in fields(Footer):
        raw = metadata.get(f"{FOOTER_PREFIX}{field.name}".encode())
        if raw is None:
            raise FatalError(f"the footer has no {FOOTER_PREFIX}{field.name}: not a file of this lake")
        try:
            text = raw.decode()
            values[field.name] = int(text) if field.name in _FOOTER_INTEGERS else text
        except ValueError as error:
            raise FatalError(f"the footer's {FOOTER_PREFIX}{field.name} is {raw!r}") from error
    if values["kind"] not in LAKE_KINDS:
        raise FatalError(f"the footer's {FOOTER_PREFIX}kind is {values['kind']!r}")
    return Footer(**values)


def _as_file_schema(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """The same columns under the schema's names and nullability; dictionaries of strings stay as they are."""
    _check_columns(table.schema, schema)
    fields_ = []
    for field, column in zip(schema, table.columns, strict=True):
        _check_nulls(field, column)
        fields_.append(pa.field(field.name, column.type, nullable=field.nullable))
    target = pa.schema(fields_)
    return pa.Table.from_arrays(table.columns, schema=target)


def _check_columns(found: pa.Schema, schema: pa.Schema) -> None:
    if found.names != schema.names:
        raise FatalError(f"columns are {', '.join(found.names)}; should be {', '.join(schema.names)}")
    for field, type_ in zip(schema, found.types, strict=True):
        if _value_type(type_) != field.type:
            raise FatalError(f"column {field.name} is {type_}; should be {field.type}")


def _check_nulls(field: pa.Field, column: pa.ChunkedArray | Payload) -> None:
    if column.null_count and not field.nullable:
        raise FatalError(f"column {field.name} has {column.null_count} nulls and may have none")


def _value_type(type_: pa.DataType) -> pa.DataType:
    return type_.value_type if pa.types.is_dictionary(type_) else type_
