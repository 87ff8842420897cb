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


def of_bits(values: NDArray[np.signedinteger]) -> pa.Array:
    """Integers as an array."""
    return pa.Array.from_buffers(_INTEGERS[values.itemsize], len(values), [None, pa.py_buffer(values)])


_INTEGERS = {4: pa.int32(), 8: pa.int64()}
