"""What lies in a folder of Parquet files: rows, bytes, and a fingerprint of its levels that knows no order of rows or files."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import numpy.typing as npt

MIX = [np.uint64(odd) for odd in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB, 0xD6E8FEB86659FD93)]


@dataclass(frozen=True)
class Stored:
    """`levels` counts those inside of nested rows as well. `fingerprint` is None where rows are whole messages."""

    files: int
    rows: int
    levels: int
    bytes: int
    fingerprint: int | None


def rows_in(folder: Path) -> int:
    """By the footers alone."""
    return sum(pq.read_metadata(path).num_rows for path in _files(folder))


def look(folder: Path) -> Stored:
    """All of it, read."""
    files = rows = levels = size = fingerprint = 0
    nested = False
    for path in _files(folder):
        table = pq.ParquetFile(path).read()
        files, rows, size = files + 1, rows + table.num_rows, size + path.stat().st_size
        if "side" in table.column_names:
            found, sum_ = levels_of(table)
            levels, fingerprint = levels + found, (fingerprint + sum_) % 2**64
        else:
            nested = True
            levels += _nested_levels(table)
    return Stored(files, rows, levels, size, None if nested else fingerprint)


def levels_of(table: pa.Table) -> tuple[int, int]:
    """Of rows that are levels: how many, and their fingerprint; those of several tables add up, modulo 2**64."""
    priced = table.filter(pc.field("side").is_valid())
    return priced.num_rows, _fingerprint(priced)


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.rglob("*.parquet")) if "_claims" not in path.parts)


def _fingerprint(table: pa.Table) -> int:
    """Which record a level is of, its side, price and quantity, each bit of it; its place among its side's levels is not."""
    where = _integers(table, "raw_partition") << np.uint64(48) | _integers(table, "raw_offset") << np.uint64(1)
    bid = pc.equal(table["side"].cast(pa.string()), "bid").cast(pa.uint8())
    where |= bid.to_numpy().astype(np.uint64)
    price, quantity = (table[name].to_numpy().astype(np.float64).view(np.uint64) for name in ("price", "quantity"))
    mixed = where * MIX[0] ^ _mix(price * MIX[1]) ^ _mix(_mix(quantity * MIX[2]))
    return int(_mix(mixed).sum(dtype=np.uint64))


def _mix(values: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    values = (values ^ (values >> np.uint64(31))) * MIX[3]
    return values ^ (values >> np.uint64(29))


def _integers(table: pa.Table, name: str) -> npt.NDArray[np.uint64]:
    found: npt.NDArray[np.uint64] = table[name].to_numpy().astype(np.uint64)
    return found


def _nested_levels(table: pa.Table) -> int:
    return sum(_lengths(column) for column in _sides(table))


def _sides(table: pa.Table) -> Iterator[Any]:
    """The columns of levels, wherever the sink put them: bare, or inside of a combined stream's `data`."""
    for name in table.column_names:
        if name in {"bids", "asks", "b", "a"}:
            yield table[name]
        elif name == "data":
            inner = table[name].combine_chunks()
            yield from (pc.struct_field(inner, side) for side in ("b", "a"))


def _lengths(column: Any) -> int:
    found = pc.sum(pc.list_value_length(column)).as_py()
    return int(found or 0)
