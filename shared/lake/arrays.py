"""Arrow arrays as numpy sees them, without a copy. `to_numpy` would import pandas wherever that is installed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

if TYPE_CHECKING:
    from numpy.typing import NDArray


def bits(array: pa.Array) -> NDArray[np.signedinteger]:
    """Numbers and times as integers of the same bits, the codes of a dictionary. Under a null lies anything."""
    if pa.types.is_dictionary(array.type):
        array = array.indices
    dtype = f"<i{array.type.bit_width // 8}"
    if not len(array):
        return np.zeros(0, dtype)
    return np.frombuffer(array.buffers()[1], dtype)[array.offset : array.offset + len(array)]


def valid(array: pa.Array) -> NDArray[np.uint8]:
    """One byte a value: 0 where it is null, 1 elsewhere."""
    if not array.null_count:
        return np.ones(len(array), np.uint8)
    return bits(array.is_valid().cast(pa.int8())).view(np.uint8)


def of_bits(values: NDArray[np.signedinteger], type_: pa.DataType) -> pa.Array:
    """Numbers or times of these bits, none of them null."""
    return pa.Array.from_buffers(type_, len(values), [None, pa.py_buffer(values)])


def numbers(values: NDArray[np.int64]) -> pa.Array:
    """As they are."""
    return of_bits(values, pa.int64())


def repeated(array: pa.Array, counts: NDArray[np.int64]) -> pa.Array:
    """Each value as often as its count says. Columns of books are rarely null in part, and else need no kernel."""
    if array.null_count == len(array):
        return pa.nulls(int(counts.sum()), array.type)
    if array.null_count or not (pa.types.is_dictionary(array.type) or pa.types.is_primitive(array.type)):
        return array.take(numbers(np.repeat(np.arange(len(array)), counts)))
    values = np.repeat(bits(array), counts)
    if pa.types.is_dictionary(array.type):
        codes = of_bits(values, array.type.index_type)
        return pa.DictionaryArray.from_arrays(codes, array.dictionary, safe=False)
    return of_bits(values, array.type)
