"""The fingerprint of rows: what claims promise of a file. Of the rows alone, whatever holds them in memory or in a file.

Nothing here reads a file; a column of bytes need never be in memory at once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import xxhash

from shared.errors import FatalError
from shared.lake.arrays import bits, repeated, valid

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

Values = np.ndarray[Any, Any]
Piece = tuple[pa.Array, Values | None]  # of a column: values, and how often each stands; None: once
_FIXED = (pa.int32(), pa.int64(), pa.float64(), pa.timestamp("us", tz="UTC"))


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


def digest_of(rows: int, columns: Iterable[pa.ChunkedArray | Payload | Repeated]) -> str:
    """The `digest` of a table whose columns come one after the other."""
    hasher = xxhash.xxh3_128()
    hasher.update(rows.to_bytes(8, "little"))
    for column in columns:
        if isinstance(column, Payload | Repeated):
            column.feed(hasher)
        else:
            _feed(hasher, column.type, [(chunk, None) for chunk in column.chunks])
    return hasher.hexdigest()


class Payload:
    """A column of bytes on its way to the digest, slice by slice: of each only the lengths are kept."""

    def __init__(self) -> None:
        self.null_count = 0
        self._bytes = xxhash.xxh3_128()
        self._lengths: list[Values] = []
        self._validity: list[Values] = []

    def add(self, values: pa.Array) -> None:
        """The next values of the column."""
        values = _undictionaried(values)
        self.null_count += values.null_count
        filled = values.fill_null(b"") if values.null_count else values
        self._bytes.update(_text(filled))
        self._lengths.append(_lengths(filled))
        self._validity.append(valid(values))

    def feed(self, hasher: xxhash.xxh3_128) -> None:
        """Into the digest of a table."""
        for lengths in self._lengths:
            hasher.update(lengths.data)
        hasher.update(self._bytes.digest())
        for validity in self._validity:
            hasher.update(validity.data)


class Repeated:
    """A column in runs, in one piece at least: each value stands as often, one after the other, as its count says."""

    def __init__(self, pieces: Sequence[Piece]) -> None:
        self._pieces = pieces

    def feed(self, hasher: xxhash.xxh3_128) -> None:
        """Into the digest of a table."""
        _feed(hasher, self._pieces[0][0].type, self._pieces)


def _feed(hasher: xxhash.xxh3_128, type_: pa.DataType, pieces: Sequence[Piece]) -> None:
    """Piece by piece, so that no more than one is in memory in full."""
    type_ = _value_type(type_)
    pieces = [(_nulls_outside(values), counts) for values, counts in pieces]
    if pa.types.is_binary(type_):
        payload = Payload()
        for values, counts in pieces:
            payload.add(_in_full(values, counts))
        payload.feed(hasher)
        return
    if pa.types.is_list(type_) and pa.types.is_struct(type_.value_type):
        lists = [_in_full(*piece) for piece in pieces]
        for chunk in lists:
            hasher.update(_numbers(chunk.value_lengths()).data)
        elements = [chunk.flatten() for chunk in lists]
        for number, field in enumerate(type_.value_type):
            _feed(hasher, field.type, [(each.field(number), None) for each in elements])
    else:
        for values, counts in pieces:
            hasher.update(_repeated(_numbers(values), counts).data)
        for values, counts in pieces if pa.types.is_string(type_) else ():
            for text in [_text(values)] if counts is None else _text_in_runs(values, counts):
                hasher.update(text)
    for values, counts in pieces:
        hasher.update(_repeated(valid(values), counts).data)


def _value_type(type_: pa.DataType) -> pa.DataType:
    return type_.value_type if pa.types.is_dictionary(type_) else type_


def _nulls_outside(chunk: pa.Array) -> pa.Array:
    """Without a null among the values of a dictionary, which the codes do not show."""
    return chunk.dictionary_decode() if pa.types.is_dictionary(chunk.type) and chunk.dictionary.null_count else chunk


def _undictionaried(chunk: pa.Array) -> pa.Array:
    return chunk.dictionary_decode() if pa.types.is_dictionary(chunk.type) else chunk


def _repeated(values: Values, counts: Values | None) -> Values:
    return values if counts is None else np.repeat(values, counts)


def _in_full(values: pa.Array, counts: Values | None) -> pa.Array:
    return values if counts is None else repeated(values, counts)


def _numbers(values: pa.Array) -> Values:
    """What stands for each value, as a 64-bit integer: its own bits, or the length of a string; 0 for null."""
    if pa.types.is_dictionary(values.type):
        codes = np.where(valid(values), bits(values), len(values.dictionary)) if values.null_count else bits(values)
        return np.append(_numbers(values.dictionary), 0)[codes]
    if pa.types.is_string(values.type):
        return _lengths(values.fill_null("") if values.null_count else values)
    if values.type not in _FIXED:
        raise FatalError(f"the digest is not defined for columns of {values.type}")
    found = bits(values).astype("<i8", copy=False)
    return found * valid(values) if values.null_count else found


def _lengths(chunk: pa.Array) -> Values:
    return np.diff(_offsets(chunk)).astype("<i8")


def _text(chunk: pa.Array) -> memoryview:
    chunk = _undictionaried(chunk)
    chunk = chunk.fill_null("") if chunk.null_count else chunk
    offsets, data = _offsets(chunk), chunk.buffers()[2]
    return memoryview(data)[offsets[0] : offsets[-1]] if data is not None else memoryview(b"")


def _text_in_runs(values: pa.Array, counts: Values) -> Iterator[bytes]:
    """The text of all values as often as they stand. Such a string is the same over many values, or never there."""
    if not len(values):
        return
    coded = values if pa.types.is_dictionary(values.type) else values.dictionary_encode()
    codes = np.where(valid(coded), bits(coded), len(coded.dictionary))
    words = [*(word.encode() for word in coded.dictionary.to_pylist()), b""]
    ends = np.append(np.flatnonzero(codes[1:] != codes[:-1]), len(codes) - 1)
    times = np.diff(np.cumsum(counts)[ends], prepend=0)
    for code, count in zip(codes[ends].tolist(), times.tolist(), strict=True):
        yield words[code] * count


def _offsets(chunk: pa.Array) -> Values:
    if not len(chunk):
        return np.zeros(1, np.int32)
    return np.frombuffer(chunk.buffers()[1], np.int32)[chunk.offset : chunk.offset + len(chunk) + 1]
