"""Until when the lake is closed: up to which instant no row is expected any more, from claims alone.

A line (kind, stream, norm partition) stores its rows in the order of the raw topic. Its *newest* is the latest receive
time of any row up to its last finished claim. Rows still to come were received after that, but for what waits in a
reader's queue or is being sent: at most `LATENESS_SECONDS`. So a line is closed until the full hour that ends at or
before newest - lateness, a book until its line is, and a stream until its slowest line is.

Conservative: nothing is inferred from the clock or from Kafka; a partition that falls silent holds its books back, and
a stream that has ended stays where it ended. Losses do not hold it back: they are declared, `verify` lists them.
Reads only. Costs one listing of the claim logs, and the claims of the last `RECENT_SECONDS` of each line.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from itertools import repeat
from typing import TYPE_CHECKING, Any

from shared.errors import FatalError
from shared.lake import claims, layout
from shared.lake.claims import Claim
from shared.lake.kinds import is_rows
from shared.lake.patient import Patient
from shared.lake.report import LineKey

if TYPE_CHECKING:
    from collections.abc import Iterator

    from shared.lake.store import Store
    from shared.messages import Book

LATENESS_SECONDS = 120.0  # a reader gives up a record well before: its queue overflows after 5 s, a send after 30
RECENT_SECONDS = 86_400.0  # books with no file for so long are not listed; their line still says when it is closed
PARALLEL_LINES = 16

_NS = 1_000_000_000


@dataclass(frozen=True, slots=True)
class LineMark:
    """Where one line stands. Times are of receipt, ns since the epoch, UTC; None: no row is stored yet."""

    line: LineKey
    newest_recv_ns: int | None
    closed_until_us: int | None  # start of the first hour that is not closed
    books: tuple[Book, ...] = ()  # with files in the last `RECENT_SECONDS` of the line
    unfinished: bool = False  # its last claim is, and does not count


@dataclass(slots=True)
class Watermark:
    """The lines of a lake."""

    url: str
    lines: list[LineMark] = field(default_factory=list)

    def closed_until_us(self, kind: str, stream: str) -> int | None:
        """Until when all books of a stream are closed; None if some line has nothing closed, or there is no line."""
        marks = [mark.closed_until_us for mark in self.lines if (mark.line.kind, mark.line.stream) == (kind, stream)]
        known = [mark for mark in marks if mark is not None]
        return min(known) if known and len(known) == len(marks) else None

    def streams(self) -> list[tuple[str, str]]:
        """All (kind, stream) of the lake, in order."""
        return sorted({(mark.line.kind, mark.line.stream) for mark in self.lines})

    def as_dict(self) -> dict[str, Any]:
        """Everything, for JSON: hours as text, ``2026-11-23T16Z``: all before it is closed."""
        streams = [
            {"kind": kind, "stream": stream, "closed_until": hour_or_none(self.closed_until_us(kind, stream))}
            for kind, stream in self.streams()
        ]
        books = [
            {
                **asdict(book),
                "kind": mark.line.kind,
                "stream": mark.line.stream,
                "closed_until": hour_or_none(mark.closed_until_us),
            }
            for mark in self.lines
            for book in mark.books
        ]
        lines = [
            {
                **asdict(mark.line),
                "newest_recv_ns": mark.newest_recv_ns,
                "closed_until": hour_or_none(mark.closed_until_us),
                "unfinished": mark.unfinished,
            }
            for mark in self.lines
        ]
        return {"url": self.url, "streams": streams, "books": books, "lines": lines}


def watermark(store: Store, *, lateness_seconds: float = LATENESS_SECONDS) -> Watermark:
    """Until when each line and book is closed. Raises `RetryableError`, `FatalError` as the store does."""
    firsts: dict[LineKey, list[int]] = {}
    lost: dict[LineKey, set[int]] = {}
    for entry in store.walk(f"{layout.CLAIMS_V1}/"):
        parsed = layout.parse_claim_path(entry.path)
        if parsed is None or not is_rows(parsed.kind):
            continue
        key = LineKey(parsed.kind, parsed.stream, parsed.partition)
        if parsed.what == "claim" and parsed.first is not None:
            firsts.setdefault(key, []).append(parsed.first)
        elif parsed.what == "lost" and parsed.first is not None:
            lost.setdefault(key, set()).add(parsed.first)
    patient = Patient(store)
    keys = sorted(firsts)
    with ThreadPoolExecutor(PARALLEL_LINES, "watermark") as pool:
        logs = (sorted(firsts[key]) for key in keys)
        losts = (lost.get(key, set()) for key in keys)
        marks = list(pool.map(_mark, repeat(patient), keys, logs, losts, repeat(lateness_seconds)))
    return Watermark(store.url, marks)


def hour_or_none(hour_start_us: int | None) -> str | None:
    """An hour as text."""
    return None if hour_start_us is None else layout.hour_text(hour_start_us)


def _mark(patient: Patient, key: LineKey, firsts: list[int], lost: set[int], lateness_seconds: float) -> LineMark:
    unfinished, newest = False, None
    books: set[Book] = set()
    for claim in _backwards(patient, key, firsts):
        if claim.first == firsts[-1] and claim.first not in lost and not _finished(patient, claim):
            unfinished = True
            continue
        if newest is None:
            newest = claim.newest_recv_ns
            if newest is None:  # of all rows stored until here: there are none
                break
        if claim.max_recv_ns is not None and claim.max_recv_ns < newest - RECENT_SECONDS * _NS:
            break
        parsed = (layout.parse_data_path(entry.path) for entry in claim.files)
        books.update(path.book for path in parsed if path is not None)
    closed = None
    if newest is not None:
        closed = max(0, layout.hour_of((newest - int(lateness_seconds * _NS)) // 1000))
    return LineMark(key, newest, closed, tuple(sorted(books)), unfinished)


def _backwards(patient: Patient, key: LineKey, firsts: list[int]) -> Iterator[Claim]:
    for first in reversed(firsts):
        path = layout.claim_path(key.kind, key.stream, key.partition, first)
        body = patient.get(path)
        if body is None:
            raise FatalError(f"{path} was listed and is not there: part of the lake was deleted")
        yield claims.decode(body, Claim, path)


def _finished(patient: Patient, claim: Claim) -> bool:
    return all(patient.size(entry.path) is not None for entry in claim.files)
