"""Which raw offsets `cryptoflow lake reflatten` is to make rows of again: by the claims of the lake that has them wrong.

Reads claims only, about 2·log2 of them for each partition.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from shared.errors import FatalError, PoisonMessage
from shared.lake import claims, layout
from shared.lake.claims import Claim, Origin
from shared.lake.kinds import archive_of, is_archive
from shared.lake.patient import Patient, tried
from shared.lake.raw_source import RawLine
from shared.messages import SourceRange

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from shared.lake.kinds import LakeKind
    from shared.lake.store import Store
    from shared.messages import Kind


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to make again; None: all there is. `start_ns`, `end_ns` are times of receipt, `first`, `last` raw offsets."""

    kinds: tuple[Kind, ...]
    stream: str | None = None
    partition: int | None = None
    start_ns: int | None = None
    end_ns: int | None = None  # not in it
    first: int | None = None
    last: int | None = None


@dataclass(frozen=True, slots=True)
class Range:
    """Raw offsets of one raw partition, both ends included."""

    raw: RawLine
    first: int
    last: int


def ranges(store: Store, wanted: Wanted) -> list[Range]:
    """What is wanted of each raw partition that the lake knows. Raises `FatalError` where that is nothing.

    Times choose whole claims: from the first that holds anything received since `start_ns`, to the last before one that
    holds nothing from before `end_ns`. So there is always more than was asked for at both ends, never less.
    """
    known = _lines(store)
    live = sorted({stream for (_, stream, _), origin in known.items() if origin.raw_stream is None})
    stream = wanted.stream
    if stream is None:
        if len(live) != 1:
            raise FatalError(f"{store.url} has {_listed(live) or 'no'} streams: say which (--stream)")
        (stream,) = live
    found: list[Range] = []
    for kind in wanted.kinds:
        for partition in sorted({number for _, name, number in known if name == stream}):
            if wanted.partition in (None, partition):
                found += [each for each in [_range(store, known, wanted, kind, stream, partition)] if each is not None]
    if not found:
        raise FatalError(f"{store.url} has nothing of that in stream {stream}; its streams are {_listed(live)}")
    return found


_Lines = dict[tuple["LakeKind", str, int], Origin]


def _lines(store: Store) -> _Lines:
    """The origin of each claim log."""
    found: _Lines = {}
    for entry in store.walk(f"{layout.CLAIMS_V1}/"):
        parsed = layout.parse_claim_path(entry.path)
        if parsed is not None and parsed.what == "origin":
            found[parsed.kind, parsed.stream, parsed.partition] = origin_at(store, entry.path)
    return found


def origin_at(store: Store, path: str) -> Origin:
    """The origin that lies there. Raises `FatalError` where it does not, or is damaged."""
    body = tried(lambda: store.get(path))
    if body is None:
        raise FatalError(f"{path} was listed and is not there: part of the lake was deleted")
    return claims.decode(body, Origin, path)


def _range(  # noqa: PLR0917  # one call
    store: Store, known: _Lines, wanted: Wanted, kind: Kind, stream: str, partition: int
) -> Range | None:
    """By the line of rows, or where there is none by that of the archive."""
    own: LakeKind
    for own in (kind, archive_of(kind)):
        origin = known.get((own, stream, partition))
        if origin is None or origin.raw_stream is not None:
            continue
        log = _Log(store, own, stream, partition)
        if not log.firsts:
            continue
        span = log.span(wanted.start_ns, wanted.end_ns)
        if span is None:
            return None
        first = span[0] if wanted.first is None else wanted.first
        last = span[1] if wanted.last is None else wanted.last
        topic = origin.topic if is_archive(own) else log.raw_topic()
        return Range(RawLine(kind, stream, partition, topic, origin.cluster_id), first, last) if first <= last else None
    return None


class _Log:
    """The claims of a line, read as they are asked for."""

    def __init__(self, store: Store, kind: LakeKind, stream: str, partition: int) -> None:
        self._patient = Patient(store)
        self._where = kind, stream, partition
        self._read: dict[int, Claim] = {}
        prefix = layout.claims_prefix(kind, stream, partition)
        parsed = (layout.parse_claim_path(entry.path) for entry in tried(lambda: store.list(prefix)))
        self.firsts = sorted(p.first for p in parsed if p is not None and p.what == "claim" and p.first is not None)

    def span(self, start_ns: int | None, end_ns: int | None) -> tuple[int, int] | None:
        """The raw offsets of the claims that hold what was received in this time; None: no claim does."""
        begin, end = 0, len(self.firsts)
        if start_ns is not None:
            begin = self._first_where(lambda claim: (claim.newest_recv_ns or -1) >= start_ns, 0)
        if end_ns is not None:
            end = self._first_where(lambda claim: (claim.newest_recv_ns or -1) >= end_ns, begin)
            while end < len(self.firsts) and (self._claim(end).min_recv_ns or 0) < end_ns:  # rows that came late
                end += 1
        if begin >= end:
            return None
        first, last = self._claim(begin), self._claim(end - 1)
        return (first.first, last.last) if is_archive(self._where[0]) else (first.done_before + 1, last.done_after)

    def raw_topic(self) -> str:
        last = self._claim(len(self.firsts) - 1)
        try:
            return SourceRange.parse(last.last_src).topic
        except PoisonMessage as error:
            raise FatalError(f"claim {last.first} of {self._where} names no raw topic: {error}") from error

    def _first_where(self, reached: Callable[[Claim], bool], low: int) -> int:
        """The first claim from index `low` on of which this holds; it holds of all after it as well."""
        high = len(self.firsts)
        while low < high:
            middle = (low + high) // 2
            if reached(self._claim(middle)):
                high = middle
            else:
                low = middle + 1
        return low

    def _claim(self, index: int) -> Claim:
        if index not in self._read:
            path = layout.claim_path(*self._where, self.firsts[index])
            body = self._patient.get(path)
            if body is None:
                raise FatalError(f"{path} was listed and is not there: part of the lake was deleted")
            self._read[index] = claims.decode(body, Claim, path)
        return self._read[index]


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names)
