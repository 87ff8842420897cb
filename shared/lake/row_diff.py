"""Two tables that should hold the same rows: where they differ, raw record by raw record.

Rows of one raw record are compared in their order, floats by their bits. Pure.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt

DifferenceWord = Literal["rows-differ", "rows-extra", "rows-lost"]
Shown: TypeAlias = "str | int | float | dict[str, Any] | None"  # as JSON has it

_Offsets: TypeAlias = "npt.NDArray[np.int64]"
_LINEAGE = frozenset({"raw_partition", "raw_offset"})


@dataclass(frozen=True, slots=True)
class Difference:
    """One row that differs. `row` counts from 0 within its raw record; `lake` or `source` is None where there is none.

    ``rows-differ``: in `column`, by value. ``rows-extra``: only in the lake; ``rows-lost``: only in the source; then
    `column` is None, and the value is the row.
    """

    what: DifferenceWord
    path: str
    raw_partition: int
    raw_offset: int
    row: int | None
    column: str | None
    lake: Shown
    source: Shown

    def __str__(self) -> str:
        row = "" if self.row is None else f", row {self.row}"
        where = f"raw record {self.raw_partition}/{self.raw_offset}{row}"
        if self.what == "rows-differ":
            return f"{where}: {self.column} is {_text(self.lake)}, the source gives {_text(self.source)}"
        return f"{where}: {_text(self.lake if self.what == 'rows-extra' else self.source)}"


@dataclass(slots=True)
class Diff:
    """How two tables differ: rows by kind of difference, raw records concerned, and the first `most` of each kind."""

    path: str
    most: int
    rows: Counter[DifferenceWord] = field(default_factory=Counter)
    raw_records: Counter[DifferenceWord] = field(default_factory=Counter)
    first: list[Difference] = field(default_factory=list)


def diff(path: str, lake: pa.Table, source: pa.Table, *, most: int) -> Diff:
    """Compare the rows of a file with those it should hold. The first `most` differences of each kind are named.

    Both in the schema of the file; strings may be dictionaries.
    """
    found = Diff(path, most)
    lake, source = _plain(lake), _plain(source)
    mine, theirs = _Grouped(lake), _Grouped(source)
    both = np.intersect1d(mine.offsets, theirs.offsets, assume_unique=True)
    for what, own, other in (("rows-extra", mine, theirs), ("rows-lost", theirs, mine)):
        alone = np.setdiff1d(own.offsets, other.offsets, assume_unique=True)
        _alone(found, what, own, alone)  # type: ignore[arg-type]  # mypy widens the words
    even = both[mine.counts_of(both) == theirs.counts_of(both)]
    _pairwise(found, mine.rows_of(even), theirs.rows_of(even))
    for offset in np.setdiff1d(both, even, assume_unique=True).tolist():
        _uneven(found, mine.rows_of(np.array([offset])), theirs.rows_of(np.array([offset])))
    found.first.sort(key=lambda difference: (difference.raw_offset, difference.row or 0))
    return found


class _Grouped:
    """A table whose rows can be had by raw offset."""

    def __init__(self, table: pa.Table) -> None:
        self._table = table
        offsets: _Offsets = table.column("raw_offset").to_numpy()
        self._order = np.argsort(offsets, kind="stable")
        self._sorted = offsets[self._order]
        self.offsets: _Offsets = np.unique(offsets)

    def counts_of(self, offsets: _Offsets) -> _Offsets:
        """How many rows each of these has."""
        begins, ends = (np.searchsorted(self._sorted, offsets, side=side) for side in ("left", "right"))
        return ends - begins

    def rows_of(self, offsets: _Offsets) -> pa.Table:
        """The rows of these, in the order of offsets, and in their own order within each."""
        chosen = self._order[np.isin(self._sorted, offsets)]
        return self._table.take(pa.array(chosen))


def _alone(found: Diff, what: DifferenceWord, own: _Grouped, offsets: _Offsets) -> None:
    """Raw records that only one side has."""
    if not len(offsets):
        return
    found.raw_records[what] += len(offsets)
    found.rows[what] += int(own.counts_of(offsets).sum())
    for row, shown in _numbered(own.rows_of(offsets[: found.most]).slice(0, found.most)):
        found.first.append(_whole(what, found.path, row, shown))


def _pairwise(found: Diff, lake: pa.Table, source: pa.Table) -> None:
    """Raw records of which both sides have as many rows."""
    wrong = np.zeros(lake.num_rows, bool)
    columns: list[tuple[str, npt.NDArray[np.bool_]]] = []
    for name in lake.column_names:
        differs = _differs(lake.column(name), source.column(name))
        if differs.any():
            columns.append((name, differs))
            wrong |= differs
    if not columns:
        return
    offsets: _Offsets = lake.column("raw_offset").to_numpy()
    found.rows["rows-differ"] += int(wrong.sum())
    found.raw_records["rows-differ"] += len(np.unique(offsets[wrong]))
    named = 0
    for at in np.flatnonzero(wrong).tolist():
        row = at - int(np.searchsorted(offsets, offsets[at]))
        for name, differs in columns:
            if differs[at] and named < found.most:
                named += 1
                values = (_shown(side.column(name)[at].as_py()) for side in (lake, source))
                partition = lake.column("raw_partition")[at].as_py()
                found.first.append(
                    Difference("rows-differ", found.path, partition, int(offsets[at]), row, name, *values),
                )
        if named >= found.most:
            return


def _uneven(found: Diff, lake: pa.Table, source: pa.Table) -> None:
    """One raw record of which both sides have rows, and not as many: those that the other side does not have as often."""
    rows = {"rows-extra": lake.to_pylist(), "rows-lost": source.to_pylist()}
    keys = {word: [_key(row) for row in side] for word, side in rows.items()}
    surplus: dict[DifferenceWord, Counter[Any]] = {
        "rows-extra": Counter(keys["rows-extra"]) - Counter(keys["rows-lost"]),
        "rows-lost": Counter(keys["rows-lost"]) - Counter(keys["rows-extra"]),
    }
    for word, more in surplus.items():
        if not more:
            continue
        found.raw_records[word] += 1
        found.rows[word] += sum(more.values())
        # Of equal rows the later ones are those too many.
        for row in reversed(range(len(rows[word]))):
            key = keys[word][row]
            if more[key]:
                more[key] -= 1
                if sum(known.what == word for known in found.first) < found.most:
                    found.first.append(_whole(word, found.path, row, rows[word][row]))


def _numbered(table: pa.Table) -> Iterator[tuple[int, dict[str, Any]]]:
    """Rows, each with its number within its raw record."""
    row, before = 0, None
    for values in table.to_pylist():
        row = row + 1 if values["raw_offset"] == before else 0
        before = values["raw_offset"]
        yield row, values


def _whole(what: DifferenceWord, path: str, row: int, values: dict[str, Any]) -> Difference:
    shown = {name: _shown(value) for name, value in values.items() if value is not None and name not in _LINEAGE}
    sides = (shown, None) if what == "rows-extra" else (None, shown)
    return Difference(what, path, values["raw_partition"], values["raw_offset"], row, None, *sides)


def _differs(lake: pa.ChunkedArray, source: pa.ChunkedArray) -> npt.NDArray[np.bool_]:
    """By bits: a zero and a negative zero differ, and so do a value and a null."""
    sides = [side.combine_chunks() for side in (lake, source)]
    nulls = [side.is_null().to_numpy(zero_copy_only=False) for side in sides]
    if pa.types.is_floating(lake.type):
        sides = [side.view(pa.int64()) for side in sides]
    equal = pc.fill_null(pc.equal(*sides), fill_value=True).to_numpy(zero_copy_only=False)
    result: npt.NDArray[np.bool_] = (nulls[0] != nulls[1]) | ~equal
    return result


def _plain(table: pa.Table) -> pa.Table:
    """Strings as strings, each column in one piece."""
    fields = [
        pa.field(f.name, f.type.value_type if pa.types.is_dictionary(f.type) else f.type, nullable=f.nullable)
        for f in table.schema
    ]
    return table.cast(pa.schema(fields)).combine_chunks()


def _key(row: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(value.hex() if isinstance(value, float) else value for value in row.values())


def _shown(value: Any) -> Shown:
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)  # JSON has no word for it
    return value  # type: ignore[no-any-return]  # text, numbers, None: the columns of the lake have no other


def _text(value: Shown) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {part}" for name, part in value.items())
    return "null" if value is None else str(value)
