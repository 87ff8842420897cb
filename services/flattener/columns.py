"""Arrow columns in bulk: what is known per message, spread over the message's rows.

Columns that are the same in nearly every batch (one exchange, no gap, full books) are kept and sliced rather than made
again: on some thousand rows the making of columns costs as much as the reading of numbers. Nothing is given to
`pa.array`, which looks for pandas each time and imports it where it is installed. Pure; knows no message.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from numpy.typing import NDArray

    Integers = NDArray[Any]  # int64, or int32

WORD = pa.dictionary(pa.int16(), pa.string())

_KEPT_ROWS = 32_768
_RANKS = np.arange(1, 5001, dtype=np.int32)  # spot has up to 5000 levels a side
_SIDE_OF_SEGMENT = np.array([0, 1, 0], np.int16)  # bids, asks, the one row of a message without levels
_IS_FILLER = np.array([False, False, True])


@dataclass(frozen=True, slots=True)
class Shape:
    """How the rows of a batch lie: bids, then asks, of each message; or one filler row where it has neither."""

    rows: NDArray[np.int64]  # of each message
    total: int  # rows of all messages
    side: pa.DictionaryArray
    filler: NDArray[np.bool_] | None  # which rows are fillers; None: none is
    level: pa.Array | None = None  # 1 = first of its side

    @classmethod
    def of(cls, counts: Sequence[int]) -> Shape:
        """`counts`: bids, asks, bids, asks, … of the messages in turn. Without `level`."""
        return _shape(_segments(counts))

    @classmethod
    def ranked(cls, counts: Sequence[int]) -> Shape:
        """As `of`, with `level`. Kept where it is not huge: full books have the same counts again and again."""
        return (_kept_ranked if sum(counts) + len(counts) <= _KEPT_ROWS else _ranked)(tuple(counts))

    def usual(self, type_: pa.DataType, values: Sequence[Any]) -> pa.Array:
        """As `words` or `integers`, for a column that mostly has one value all through, the same in every batch."""
        first = values[0] if values else None
        if values.count(first) == len(values) and self.total <= _KEPT_ROWS:
            return _kept(type_, first).slice(0, self.total)
        return self.words(values) if type_ == WORD else self.integers(type_, values)

    def integers(
        self, type_: pa.DataType, values: Sequence[int | None], convert: Callable[[Integers], Integers] | None = None
    ) -> pa.Array:
        """A column of whole numbers, a value per message; `type_` may be a timestamp in the unit `convert` gives."""
        dtype = _dtype(type_)
        try:
            integers, is_null = np.array(values, dtype), None
        except TypeError:  # for None
            integers, is_null = np.array([value or 0 for value in values], dtype), _nulls(values)
        return self._repeat(type_, integers if convert is None else convert(integers), is_null)

    def words(self, values: Sequence[str | None]) -> pa.DictionaryArray:
        """A dictionary column, a word per message."""
        distinct = dict.fromkeys(values)
        words = [word for word in distinct if word is not None]
        code_of: dict[str | None, int] = {word: code for code, word in enumerate(words)} | {None: 0}
        codes = np.array([code_of[value] for value in values], np.int16)
        return _coded(self._repeat(pa.int16(), codes, _nulls(values) if None in distinct else None), words)

    def floats(self, values: NDArray[np.float64]) -> pa.Array:
        """A column of one value per level; null in fillers."""
        if self.filler is None:
            return _array(pa.float64(), values)
        spread = np.zeros(self.total)
        spread[~self.filler] = values
        return _array(pa.float64(), spread, self.filler)

    def _repeat(self, type_: pa.DataType, values: NDArray[Any], is_null: NDArray[np.bool_] | None) -> pa.Array:
        nulls = None if is_null is None else np.repeat(is_null, self.rows)
        return _array(type_, np.repeat(values, self.rows), nulls)


def _segments(counts: Sequence[int]) -> NDArray[np.int64]:
    """Per message: bids, asks, fillers."""
    segments = np.zeros((len(counts) // 2, 3), np.int64)
    segments[:, :2] = np.array(counts, np.int64).reshape(-1, 2)
    segments[:, 2] = segments[:, 0] + segments[:, 1] == 0
    return segments


def _shape(segments: NDArray[np.int64]) -> Shape:
    flat, messages = segments.ravel(), len(segments)
    filler = np.repeat(np.tile(_IS_FILLER, messages), flat) if segments[:, 2].any() else None
    side = _array(pa.int16(), np.repeat(np.tile(_SIDE_OF_SEGMENT, messages), flat), filler)
    rows = segments.sum(axis=1)
    return Shape(rows, int(rows.sum()), _coded(side, ("bid", "ask")), filler)


def _ranked(counts: tuple[int, ...]) -> Shape:
    segments = _segments(counts)
    shape = _shape(segments)
    level = np.concatenate([_ranks(count) for count in segments.ravel().tolist()] or [_ranks(0)])
    return replace(shape, level=_array(pa.int32(), level, shape.filler))


_kept_ranked = lru_cache(maxsize=16)(_ranked)


@lru_cache(maxsize=64)
def _kept(type_: pa.DataType, value: Any) -> pa.Array:
    if value is None:
        return pa.nulls(_KEPT_ROWS, type_)
    if type_ == WORD:
        return _coded(_array(pa.int16(), np.zeros(_KEPT_ROWS, np.int16)), [value])
    return _array(type_, np.full(_KEPT_ROWS, value, _dtype(type_)))


def _ranks(count: int) -> NDArray[np.int32]:
    """1, 2, … `count`."""
    return _RANKS[:count] if count <= len(_RANKS) else np.arange(1, count + 1, dtype=np.int32)


def _nulls(values: Sequence[Any]) -> NDArray[np.bool_]:
    return np.array([value is None for value in values])


def _dtype(type_: pa.DataType) -> type[np.integer[Any]]:
    return np.int32 if type_ == pa.int32() else np.int64


def _coded(codes: pa.Array, words: Iterable[str]) -> pa.DictionaryArray:
    texts = [word.encode() for word in words]
    ends = np.cumsum([0, *map(len, texts)], dtype=np.int32)
    known = pa.StringArray.from_buffers(len(texts), pa.py_buffer(ends), pa.py_buffer(b"".join(texts)))
    return pa.DictionaryArray.from_arrays(codes, known, safe=False)


def _array(type_: pa.DataType, values: NDArray[Any], is_null: NDArray[np.bool_] | None = None) -> pa.Array:
    """A column over the memory of `values`."""
    validity = None if is_null is None else pa.py_buffer(np.packbits(~is_null, bitorder="little"))
    return pa.Array.from_buffers(type_, len(values), [validity, pa.py_buffer(values)])
