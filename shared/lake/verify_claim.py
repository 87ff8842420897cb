"""One claim against the store: its own fields, then each file that it names, by footer or by every row.

Knows nothing of the claims before and after it; `verify` does. Holds one file's bytes and one of its columns at a time.
Reads only.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import xxhash

from shared.errors import FatalError, UnknownVersion
from shared.lake import claims, layout, parquet
from shared.lake.claims import Claim, FileEntry, LostClaim
from shared.lake.report import LineKey, Problem
from shared.lake.schema import SCHEMA_VERSION

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    import numpy.typing as npt

    from shared.lake.layout import DataPath
    from shared.lake.store import Store

_DECODERS = threading.Semaphore(2)  # each decoding file fills a core and holds a column in memory


@dataclass(slots=True)
class Checked:
    """What was found about one claim. `missing` are the files that are not there and that nobody has declared lost."""

    path: str
    first: int
    claim: Claim | None = None
    lost: LostClaim | None = None
    missing: list[FileEntry] = field(default_factory=list)
    promised: list[int] = field(default_factory=list)  # `path_hash` of each file
    files: int = 0
    rows: int = 0
    problems: list[Problem] = field(default_factory=list)


def path_hash(path: str) -> int:
    """64 bits that stand for a path, so that a lake of millions of files needs megabytes."""
    return xxhash.xxh3_64_intdigest(path)


def check_claim(store: Store, line: LineKey, first: int, *, lost: bool, fast: bool) -> Checked:
    """Check the claim at `first` of a line, and its files. `lost`: it has a ``.lost.json``."""
    checked = Checked(layout.claim_path(line.kind, line.stream, line.partition, first), first)

    def problem(what: str, detail: str, path: str = checked.path) -> None:
        checked.problems.append(Problem(what, path, detail, line))

    claim = _document(store, checked.path, Claim, problem)
    if claim is None:
        return checked
    named = LineKey(claim.kind, claim.stream, claim.partition), claim.first
    if named != (line, first):
        problem("claim-misplaced", f"it says that it is claim {claim.first} of {named[0]}")
        return checked
    checked.claim = claim
    for detail in _contradictions(claim):
        problem("claim-damaged", detail)
    if lost:
        path = layout.lost_path(line.kind, line.stream, line.partition, first)
        checked.lost = _document(store, path, LostClaim, problem)
        if checked.lost and (checked.lost.last, checked.lost.promised) != (claim.last, claim.files):
            problem("claim-damaged", "it declares the loss of another claim's files", path)
    declared = frozenset(checked.lost.missing) if checked.lost else frozenset[str]()
    offsets = None if fast else _Offsets(claim)
    for entry in claim.files:
        checked.promised.append(path_hash(entry.path))
        parsed = layout.parse_data_path(entry.path)
        if parsed is None or _of_claim(parsed) != (line, claim.first, claim.last):
            problem("file-not-of-claim", "its name is not one of this claim's partition and range", entry.path)
            continue
        try:
            there = _footer_is_right(store, entry, parsed, claim) if offsets is None else _rows_are_right(
                store, entry, parsed, claim, offsets
            )
        except _Wrong as wrong:
            problem(wrong.what, str(wrong), entry.path)
        else:
            if not there:
                if entry.path not in declared:
                    checked.missing.append(entry)
                continue
        checked.files += 1
        checked.rows += entry.rows
    if offsets is not None and not checked.missing and not declared and not checked.problems:
        for detail in offsets.contradictions():
            problem("rows-missing", detail)
    return checked


class _Wrong(Exception):
    """A file is not what its claim promises."""

    def __init__(self, what: str, detail: str) -> None:
        super().__init__(detail)
        self.what = what


class _Offsets:
    """Which raw offsets the files of a claim hold, to see that each is in one file only and none is left out."""

    def __init__(self, claim: Claim) -> None:
        self._claim = claim
        self._seen: list[npt.NDArray[np.int64]] = []

    def add(self, offsets: npt.NDArray[np.int64]) -> None:
        """The offsets of one file, rising. Raises `_Wrong` where they are not this claim's."""
        if not len(offsets):
            raise _Wrong("rows-wrong", "it holds no row")
        if (np.diff(offsets) < 0).any():
            raise _Wrong("rows-misplaced", "rows are not in the order of their raw offsets")
        low, high = self._claim.done_before + 1, self._claim.done_after
        if offsets[0] < low or offsets[-1] > high:
            found = f"{offsets[0]}-{offsets[-1]}"
            raise _Wrong("rows-misplaced", f"it holds raw offsets {found}, its claim covers {low}-{high}")
        self._seen.append(offsets[np.concatenate(([True], offsets[1:] != offsets[:-1]))])

    def contradictions(self) -> Iterator[str]:
        """Every raw message yields at least one row of one file; only some dead letters have none."""
        claim = self._claim
        seen = np.concatenate([*self._seen, np.empty(0, np.int64)])
        distinct = np.unique(seen)
        if len(distinct) < len(seen):
            yield f"{len(seen) - len(distinct)} raw offsets have rows in more than one of its files"
        in_holes = sum(last - first + 1 for first, last in claim.holes)
        without = claim.done_after - claim.done_before - in_holes - len(distinct)
        if without > claim.dead:
            yield (
                f"{without} of the raw offsets {claim.done_before + 1}-{claim.done_after} have no row,"
                f" and it tells of {in_holes} in holes and of {claim.dead} dead letters"
            )
        if without < 0:
            yield f"rows lie in raw offsets that it declares as holes: {claim.holes}"


def _document(store: Store, path: str, type_: Any, problem: Any) -> Any:
    body = store.get(path)
    if body is None:
        problem("claim-missing", "it was listed and is not there", path)
        return None
    try:
        return claims.decode(body, type_, path)
    except UnknownVersion as error:
        problem("unknown-version", str(error), path)
    except FatalError as error:
        problem("claim-damaged", str(error), path)
    return None


def _contradictions(claim: Claim) -> Iterator[str]:
    if claim.layout != layout.LAYOUT_VERSION:
        yield f"layout {claim.layout}; this release knows {layout.LAYOUT_VERSION}"
    if claim.schema_version != SCHEMA_VERSION:
        yield f"schema version {claim.schema_version}; this release knows {SCHEMA_VERSION}"
    if claim.last < claim.first:
        yield f"its range {claim.first}-{claim.last} ends before it begins"
    if claim.done_after < claim.done_before:
        yield f"done goes back from {claim.done_before} to {claim.done_after}"
    before = claim.done_before
    for first, last in claim.holes:
        if not before < first <= last <= claim.done_after:
            yield f"hole {first}-{last} is not inside the raw offsets {before + 1}-{claim.done_after}"
        before = last
    paths = [entry.path for entry in claim.files]
    if len(set(paths)) < len(paths):
        yield "it names a file twice"


def _of_claim(parsed: DataPath) -> tuple[LineKey, int, int]:
    return LineKey(parsed.kind, parsed.stream, parsed.partition), parsed.first, parsed.last


def _footer_is_right(store: Store, entry: FileEntry, parsed: DataPath, claim: Claim) -> bool:
    """Whether the file is there. Raises `_Wrong` if its footer is not what the claim promises."""
    tail = store.tail(entry.path, parquet.TAIL_BYTES)
    if tail is None:
        return False
    try:
        footer = parquet.read_footer(tail)
    except parquet.FooterBeyondTail as beyond:
        footer = _footer(store.tail(entry.path, beyond.needed_bytes) or b"")
    except FatalError as error:
        raise _Wrong("file-damaged", str(error)) from error
    _compare(footer, entry, parsed, claim)
    return True


def _rows_are_right(
    store: Store, entry: FileEntry, parsed: DataPath, claim: Claim, offsets: _Offsets
) -> bool:
    """Whether the file is there. Raises `_Wrong` if its footer or any row is not what the claim promises."""
    body = store.get(entry.path)
    if body is None:
        return False
    footer = _footer(body)
    _compare(footer, entry, parsed, claim)
    with _DECODERS:
        try:
            digest = parquet.digest_of(footer.rows, _watched(body, parsed, offsets))
        except FatalError as error:
            raise _Wrong("file-damaged", str(error)) from error
    if digest != entry.digest:
        raise _Wrong("digest-wrong", f"its rows have digest {digest}, its claim promises {entry.digest}")
    return True


def _footer(data: bytes) -> parquet.Footer:
    try:
        return parquet.read_footer(data)
    except FatalError as error:
        raise _Wrong("file-damaged", str(error)) from error


def _compare(footer: parquet.Footer, entry: FileEntry, parsed: DataPath, claim: Claim) -> None:
    if footer.rows != entry.rows:
        raise _Wrong("rows-wrong", f"it holds {footer.rows} rows, its claim promises {entry.rows}")
    if footer.digest != entry.digest:
        raise _Wrong("digest-wrong", f"its footer says digest {footer.digest}, its claim promises {entry.digest}")
    expected = {
        "kind": parsed.kind,
        "exchange": parsed.book.exchange,
        "market": parsed.book.market,
        "symbol": parsed.book.symbol,
        "stream": parsed.stream,
        "topic": claim.topic,
        "partition": parsed.partition,
        "first": parsed.first,
        "last": parsed.last,
        "schema_version": claim.schema_version,
    }
    for name, value in expected.items():
        if getattr(footer, name) != value:
            found = getattr(footer, name)
            raise _Wrong("footer-wrong", f"its footer says {name} {found}, its name and claim say {value}")


def _watched(body: bytes, parsed: DataPath, offsets: _Offsets) -> Iterator[pa.ChunkedArray]:
    """The columns of a file, each looked at on its way to the digest."""
    times: npt.NDArray[np.int64] = np.empty(0, np.int64)
    for name, column in parquet.columns(body, parsed.kind):
        if name == "timestamp":
            times = column.cast(pa.int64()).to_numpy()
            if len(times) and (layout.hour_of(int(times.min())), layout.hour_of(int(times.max()))) != (
                parsed.hour_start_us,
                parsed.hour_start_us,
            ):
                raise _Wrong("rows-misplaced", f"it holds rows of other hours than {parsed.hour}")
        elif name == "recv_ns":
            if (column.to_numpy() // 1000 != times).any():
                raise _Wrong("rows-misplaced", "timestamp is not recv_ns in microseconds")
        elif name == "raw_partition":
            if (column.to_numpy() != parsed.partition).any():
                raise _Wrong("rows-misplaced", f"it holds rows of other raw partitions than {parsed.partition}")
        elif name == "raw_offset":
            offsets.add(column.to_numpy())
        yield column
