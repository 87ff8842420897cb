"""One file against the claim that promises it: by its footer, or by every row.

Holds the file's bytes and one of its columns at a time. Reads only; takes no error for an answer: a file that is not
there is told apart from one that cannot be read.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from shared.errors import FatalError
from shared.lake import layout, parquet
from shared.lake.digest import Payload

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt

    from shared.lake.claims import Claim, FileEntry
    from shared.lake.layout import DataPath
    from shared.lake.patient import Patient
    from shared.lake.report import ProblemWord

_DECODERS = threading.Semaphore(2)  # each decoding file fills a core and holds a column in memory


class Wrong(Exception):
    """A file is not what its claim promises."""

    def __init__(self, what: ProblemWord, detail: str) -> None:
        super().__init__(detail)
        self.what = what


class Offsets:
    """Which raw offsets the files of a claim hold, to see that each is in one file only and none is left out."""

    def __init__(self, claim: Claim) -> None:
        self._claim = claim
        self._seen: list[npt.NDArray[np.int64]] = []

    def add(self, offsets: npt.NDArray[np.int64]) -> None:
        """The offsets of one file, rising. Raises `Wrong` where they are not this claim's."""
        if not len(offsets):
            raise Wrong("rows-wrong", "it holds no row")
        if (np.diff(offsets) < 0).any():
            raise Wrong("rows-misplaced", "rows are not in the order of their raw offsets")
        low, high = self._claim.done_before + 1, self._claim.done_after
        if offsets[0] < low or offsets[-1] > high:
            found = f"{offsets[0]}-{offsets[-1]}"
            raise Wrong("rows-misplaced", f"it holds raw offsets {found}, its claim covers {low}-{high}")
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


def footer_is_right(store: Patient, entry: FileEntry, parsed: DataPath, claim: Claim) -> bool:
    """Whether the file is there. Raises `Wrong` if its footer is not what the claim promises."""
    tail = store.tail(entry.path, parquet.TAIL_BYTES)
    if tail is None:
        return False
    try:
        footer = parquet.read_footer(tail)
    except parquet.FooterBeyondTail as beyond:
        footer = _footer(store.tail(entry.path, beyond.needed_bytes) or b"")
    except FatalError as error:
        raise Wrong("file-damaged", str(error)) from error
    _compare(footer, entry, parsed, claim)
    return True


def rows_are_right(store: Patient, entry: FileEntry, parsed: DataPath, claim: Claim, offsets: Offsets) -> bool:
    """Whether the file is there. Raises `Wrong` if its footer or any row is not what the claim promises."""
    body = store.get(entry.path)
    if body is None:
        return False
    footer = _footer(body)
    _compare(footer, entry, parsed, claim)
    with _DECODERS:
        try:
            digest = parquet.digest_of(footer.rows, _watched(body, parsed, offsets))
        except FatalError as error:
            raise Wrong("file-damaged", str(error)) from error
    if digest != entry.digest:
        raise Wrong("digest-wrong", f"its rows have digest {digest}, its claim promises {entry.digest}")
    return True


def _footer(data: bytes) -> parquet.Footer:
    try:
        return parquet.read_footer(data)
    except FatalError as error:
        raise Wrong("file-damaged", str(error)) from error


def _compare(footer: parquet.Footer, entry: FileEntry, parsed: DataPath, claim: Claim) -> None:
    if footer.rows != entry.rows:
        raise Wrong("rows-wrong", f"it holds {footer.rows} rows, its claim promises {entry.rows}")
    if footer.digest != entry.digest:
        raise Wrong("digest-wrong", f"its footer says digest {footer.digest}, its claim promises {entry.digest}")
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
            raise Wrong("footer-wrong", f"its footer says {name} {found}, its name and claim say {value}")


def _watched(body: bytes, parsed: DataPath, offsets: Offsets) -> Iterator[pa.ChunkedArray | Payload]:
    """The columns of a file, each looked at on its way to the digest."""
    times: npt.NDArray[np.int64] = np.empty(0, np.int64)
    for name, column in parquet.columns(body, parsed.kind):
        if isinstance(column, Payload):
            pass
        elif name == "timestamp":
            times = column.cast(pa.int64()).to_numpy()
            if len(times) and (layout.hour_of(int(times.min())), layout.hour_of(int(times.max()))) != (
                parsed.hour_start_us,
                parsed.hour_start_us,
            ):
                raise Wrong("rows-misplaced", f"it holds rows of other hours than {parsed.hour}")
        elif name == "recv_ns":
            if (column.to_numpy() // 1000 != times).any():
                raise Wrong("rows-misplaced", "timestamp is not recv_ns in microseconds")
        elif name == "raw_partition":
            if (column.to_numpy() != parsed.partition).any():
                raise Wrong("rows-misplaced", f"it holds rows of other raw partitions than {parsed.partition}")
        elif name == "raw_offset":
            offsets.add(column.to_numpy())
        yield column
