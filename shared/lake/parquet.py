"""Parquet files of the lake: bytes from a table and back, the footer's facts, and the digest of the rows.

A file holds the columns of `FILE_SCHEMAS[kind]`, in (raw_offset, row) order, zstd, with statistics and nothing of
pandas. Bytes may differ between encoders and their versions; rows may not: `digest` is of the rows alone.
No I/O here, and no sorting: rows stay in the order they came in.
"""

from __future__ import annotations

import io
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import xxhash

from shared.errors import FatalError
from shared.lake.schema import FILE_SCHEMAS
from shared.messages import KINDS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from shared.messages import Kind

ROW_GROUP_ROWS = 262_144
FOOTER_PREFIX = "cryptoflow."
TAIL_BYTES = 65_536  # holds the footer of any file of this lake with few row groups; see `read_footer`

_MAGIC = b"PAR1"
_TRAILER_BYTES = 8  # footer length, magic
_ZSTD_LEVEL = 3  # 5 % smaller than pyarrow's default of 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Footer:
    """What a file says of itself. `first` and `last` are norm offsets, both included, as in its name."""

    kind: Kind
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
    schema = FILE_SCHEMAS[footer.kind]
    if table.num_rows != footer.rows:
        raise FatalError(f"a file of {footer.rows} rows was to be written from {table.num_rows}")
    table = _as_file_schema(table, schema)
    sink = pa.BufferOutputStream()
    with pq.ParquetWriter(
        sink,
        table.schema,
        compression=compression,
        compression_level=_ZSTD_LEVEL if compression == "zstd" else None,
        # Pays for every column of a book: times and ids repeat per message, prices and quantities between messages.
        # BYTE_STREAM_SPLIT and DELTA_BINARY_PACKED would be smaller for some; not every engine reads them.
        use_dictionary=True,
        store_schema=False,  # Arrow's own copy would turn strings into dictionaries for some readers only
        write_statistics=True,
    ) as writer:
        writer.write_table(table, row_group_size=ROW_GROUP_ROWS)
        writer.add_key_value_metadata({f"{FOOTER_PREFIX}{key}": str(value) for key, value in asdict(footer).items()})
    return cast("bytes", sink.getvalue().to_pybytes())


def digest(table: pa.Table) -> str:
    """The rows' fingerprint: xxh3_128 in hex over the columns in the table's order, whatever holds them in memory.

    Fed, without separators, with all integers as 8 bytes little-endian:

    1. the number of rows;
    2. for each column, in schema order:
       a. *values*: integers sign-extended to 64 bits, timestamps as microseconds since the epoch, floats as their
          IEEE 754 bits; where null, eight zero bytes. For strings: the length in bytes of every value (null: 0),
          then the UTF-8 bytes of all values one after the other (null: none);
       b. *validity*: one byte a row, 1 where there is a value and 0 where null, also for columns that are never null.

    Equal for plain and dictionary strings, for one chunk or many, for slices, with or without validity buffers.
    """
    return digest_of(table.num_rows, table.columns)


def digest_of(rows: int, columns: Iterable[pa.ChunkedArray]) -> str:
    """The `digest` of a table whose columns come one after the other."""
    hasher = xxhash.xxh3_128()
    hasher.update(rows.to_bytes(8, "little"))
    for column in columns:
        chunks = [_undictionaried(chunk) for chunk in column.chunks]
        filled = [_nulls_zeroed(chunk) for chunk in chunks]
        for chunk in filled:
            hasher.update(_lengths(chunk) if pa.types.is_string(chunk.type) else _eight_bytes(chunk))
        for chunk in filled:
            if pa.types.is_string(chunk.type):
                hasher.update(_text(chunk))
        for chunk in chunks:
            hasher.update(_validity(chunk))
    return hasher.hexdigest()


def decode(body: bytes, kind: Kind) -> pa.Table:
    """The rows of a file. Raises `FatalError` if it is not whole Parquet with the columns of `FILE_SCHEMAS[kind]`."""
    return pa.Table.from_arrays([column for _, column in columns(body, kind)], schema=FILE_SCHEMAS[kind])


def columns(body: bytes, kind: Kind) -> Iterator[tuple[str, pa.ChunkedArray]]:
    """The columns of a file with their names, one in memory at a time. Raises `FatalError` as `decode` does."""
    try:
        file = pq.ParquetFile(pa.BufferReader(body))
        _check_columns(file.schema_arrow, FILE_SCHEMAS[kind])
        for field in FILE_SCHEMAS[kind]:
            column = file.read(columns=[field.name]).column(0)
            _check_nulls(field, column)
            yield field.name, column
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
    if values["kind"] not in KINDS:
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


def _check_nulls(field: pa.Field, column: pa.ChunkedArray) -> None:
    if column.null_count and not field.nullable:
        raise FatalError(f"column {field.name} has {column.null_count} nulls and may have none")


def _value_type(type_: pa.DataType) -> pa.DataType:
    return type_.value_type if pa.types.is_dictionary(type_) else type_


def _undictionaried(chunk: pa.Array) -> pa.Array:
    return chunk.dictionary_decode() if pa.types.is_dictionary(chunk.type) else chunk


def _nulls_zeroed(chunk: pa.Array) -> pa.Array:
    """As strings, or as 64-bit integers of the same bits; null as "" or 0. Copies only where it has to."""
    if pa.types.is_string(chunk.type):
        return chunk.fill_null("") if chunk.null_count else chunk
    if pa.types.is_int32(chunk.type):
        chunk = chunk.cast(pa.int64())
    elif pa.types.is_int64(chunk.type) or pa.types.is_float64(chunk.type) or chunk.type == _TIME:
        chunk = chunk.view(pa.int64())
    else:
        raise FatalError(f"the digest is not defined for columns of {chunk.type}")
    return chunk.fill_null(0) if chunk.null_count else chunk


def _eight_bytes(chunk: pa.Array) -> memoryview:
    return cast("memoryview", chunk.to_numpy().astype("<i8", copy=False).data)


def _lengths(chunk: pa.Array) -> memoryview:
    return np.diff(_offsets(chunk)).astype("<i8").data


def _text(chunk: pa.Array) -> memoryview:
    offsets, data = _offsets(chunk), chunk.buffers()[2]
    return memoryview(data)[offsets[0] : offsets[-1]] if data is not None else memoryview(b"")


def _offsets(chunk: pa.Array) -> np.ndarray[Any, Any]:
    if not len(chunk):
        return np.zeros(1, np.int32)
    return np.frombuffer(chunk.buffers()[1], np.int32)[chunk.offset : chunk.offset + len(chunk) + 1]


def _validity(chunk: pa.Array) -> memoryview:
    if not chunk.null_count:
        return np.ones(len(chunk), np.uint8).data
    return cast("memoryview", chunk.is_valid().cast(pa.uint8()).to_numpy().data)


_TIME = pa.timestamp("us", tz="UTC")
