"""The fingerprint of rows: what claims promise of a file. Of the rows alone, whatever holds them in memory or in a file.

Nothing here reads a file; a column of bytes need never be in memory at once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pyarrow as pa
import xxhash

from shared.errors import FatalError

if TYPE_CHECKING:
    from collections.abc import Iterable

_TIME = pa.timestamp("us", tz="UTC")


def digest(table: pa.Table) -> str:
    """The rows' fingerprint: xxh3_128 in hex over the columns in the table's order, whatever holds them in memory.

    Fed, without separators, with all integers as 8 bytes little-endian:

    1. the number of rows;
    2. for each column, in schema order:
       a. *values*: integers sign-extended to 64 bits, timestamps as microseconds since the epoch, floats as their
          IEEE 754 bits; where null, eight zero bytes. For strings: the length in bytes of every value (null: 0),
          then the UTF-8 bytes of all values one after the other (null: none). For bytes: the length of every value
          (null: 0), then the xxh3_128 of all values one after the other, as 16 bytes, high byte first. For lists of
          structs: the number of elements of every list (null: 0), then each field of the elements of all lists, one
          list after the other, as a column of its own (a and b);
       b. *validity*: one byte a row, 1 where there is a value and 0 where null, also for columns that are never null.

    Equal for plain and dictionary strings, for one chunk or many, for slices, with or without validity buffers.
    """
    return digest_of(table.num_rows, table.columns)


def digest_of(rows: int, columns: Iterable[pa.ChunkedArray | Payload]) -> str:
    """The `digest` of a table whose columns come one after the other."""
    hasher = xxhash.xxh3_128()
    hasher.update(rows.to_bytes(8, "little"))
    for column in columns:
        if isinstance(column, Payload):
            column.feed(hasher)
        else:
            _feed(hasher, column.type, column.chunks)
    return hasher.hexdigest()


class Payload:
    """A column of bytes on its way to the digest, slice by slice: of each only the lengths are kept."""

    def __init__(self) -> None:
        self.null_count = 0
        self._bytes = xxhash.xxh3_128()
        self._lengths: list[memoryview] = []
        self._validity: list[memoryview] = []

    def add(self, values: pa.Array) -> None:
        """The next values of the column."""
        values = _undictionaried(values)
        self.null_count += values.null_count
        filled = values.fill_null(b"") if values.null_count else values
        self._bytes.update(_text(filled))
        self._lengths.append(_lengths(filled))
        self._validity.append(_validity(values))

    def feed(self, hasher: xxhash.xxh3_128) -> None:
        """Into the digest of a table."""
        for lengths in self._lengths:
            hasher.update(lengths)
        hasher.update(self._bytes.digest())
        for validity in self._validity:
            hasher.update(validity)


def _feed(hasher: xxhash.xxh3_128, type_: pa.DataType, chunks: Iterable[pa.Array]) -> None:
    if pa.types.is_binary(_value_type(type_)):
        payload = Payload()
        for chunk in chunks:
            payload.add(chunk)
        payload.feed(hasher)
        return
    chunks = [_undictionaried(chunk) for chunk in chunks]
    if pa.types.is_list(type_) and pa.types.is_struct(type_.value_type):
        for chunk in chunks:
            hasher.update(chunk.value_lengths().fill_null(0).cast(pa.int64()).to_numpy().astype("<i8", copy=False).data)
        elements = [chunk.flatten() for chunk in chunks]
        for number, field in enumerate(type_.value_type):
            _feed(hasher, field.type, [each.field(number) for each in elements])
    else:
        filled = [_nulls_zeroed(chunk) for chunk in chunks]
        for chunk in filled:
            hasher.update(_lengths(chunk) if pa.types.is_string(chunk.type) else _eight_bytes(chunk))
        for chunk in filled:
            if pa.types.is_string(chunk.type):
                hasher.update(_text(chunk))
    for chunk in chunks:
        hasher.update(_validity(chunk))


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
