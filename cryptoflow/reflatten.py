"""Rows made again from raw records after a parser bug, into another lake or another stream: never in place.

What is to be made, of what, and where to: refused before anything is written where the target is not ours to write to.
`reflatten_line` makes each line.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from cryptoflow.reflatten_line import Remaker
from cryptoflow.reflatten_range import origin_at, ranges
from shared.errors import FatalError
from shared.lake import claims, layout
from shared.lake.claim_log import ClaimLog
from shared.lake.claims import Claim
from shared.lake.patient import tried
from shared.lake.report import LineKey
from shared.lake.spans import count, within, without

if TYPE_CHECKING:
    from collections.abc import Callable

    from cryptoflow.reflatten_range import Range, Wanted
    from shared.lake.claims import Origin
    from shared.lake.raw_source import RawSource
    from shared.lake.spans import Span
    from shared.lake.store import Store


@dataclass(slots=True)
class Line:
    """One line of the target. Offsets are raw ones, both ends included."""

    line: LineKey
    raw_topic: str
    first: int  # of what is wanted
    last: int
    not_made: tuple[Span, ...] = ()  # wanted, and not held by the source
    why: str = ""
    claims: int = 0  # these five by this run
    files: int = 0
    rows: int = 0
    raw_offsets: int = 0
    in_holes: int = 0

    def __str__(self) -> str:
        if self.why:
            return f"{self.line}: not made: {self.why}"
        spans = ", ".join(f"{first}-{last}" for first, last in self.not_made)
        return f"{self.line}: the source does not hold raw offsets {spans} of {self.first}-{self.last}: not made"


@dataclass(slots=True)
class Reflattened:
    """What is there now of what was wanted, and what this run added."""

    source: str
    target: str
    lines: list[Line] = field(default_factory=list)

    @property
    def not_made(self) -> int:
        """Raw offsets that were wanted and are not there."""
        return sum(count(line.not_made) for line in self.lines)

    @property
    def exit_code(self) -> int:
        """0 all that was wanted is there, 3 all but what the source does not hold."""
        return 3 if self.not_made or any(line.in_holes for line in self.lines) else 0

    def __str__(self) -> str:
        total = {name: sum(getattr(line, name) for line in self.lines) for name in _COUNTS}
        made = (
            f"{total['rows']:,} rows of {total['raw_offsets'] - total['in_holes']:,} raw records made in"
            f" {total['files']:,} files, {total['claims']:,} claims of {len(self.lines):,} partitions"
        )
        missing = self.not_made + total["in_holes"]
        return f"{made}; {missing:,} raw offsets are not held by the source" if missing else made

    def as_dict(self) -> dict[str, Any]:
        """Everything, for JSON."""
        return {"exit_code": self.exit_code, "not_made": self.not_made, **asdict(self)}


_COUNTS = ("claims", "files", "rows", "raw_offsets", "in_holes")


def reflatten(
    store: Store,
    target: Store,
    source: RawSource,
    wanted: Wanted,
    *,
    as_stream: str | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Reflattened:
    """Make the rows of `wanted` again from the raw records of `source`, into `target`, under the stream `as_stream`.

    `store` is the lake that has them now: it says what there is. By default the stream keeps its name. Run again after it
    was killed it goes on; run with a later end it adds. `progress` is told raw offsets done, of how many.
    Raises `RetryableError`: run it again; `FatalError` where the target must not be written to, or there is nothing to do.
    """
    todo = ranges(store, wanted)
    stream = as_stream or todo[0].raw.stream
    begun = _begun(store, target, todo, stream)
    target.probe()
    result = Reflattened(source.name, target.url)
    total = sum(each.last - each.first + 1 for each in todo)
    done = 0
    for each in todo:
        key = LineKey(each.raw.kind, stream, each.raw.partition)
        line = Line(key, each.raw.topic, each.first, each.last)
        result.lines.append(line)

        def told(next_offset: int, each: Range = each, before: int = done) -> None:
            if progress is not None:
                progress(before + min(next_offset - each.first, each.last - each.first + 1), total)

        _make(target, source, each, line, begun.get(key), told)
        done += each.last - each.first + 1
        told(each.last + 1)
    if all(line.why for line in result.lines):
        raise FatalError(f"nothing to make it of: {result.lines[0].why}")
    return result


def _make(  # noqa: PLR0917  # one call
    target: Store, source: RawSource, each: Range, line: Line, begun: Origin | None, told: Callable[[int], None]
) -> None:
    raw, key = each.raw, line.line
    held = source.held(raw)
    spans = within(held.spans, each.first, each.last)
    if not spans and begun is None:
        line.not_made = ((each.first, each.last),)
        line.why = held.why or f"{source.name} holds none of raw offsets {each.first}-{each.last}"
        return
    # Where the line begins stays where it began, whatever retention has taken since.
    first = spans[0][0] if begun is None else begun.first
    last = spans[-1][1] if spans else each.first - 1
    log = ClaimLog(
        kind=key.kind,
        stream=key.stream,
        partition=key.partition,
        topic=raw.topic,
        cluster_id=raw.cluster_id,
        raw_stream=raw.stream,
    )
    made = Remaker(target, log, source, raw).make(first, last, told)
    for name in _COUNTS:
        setattr(line, name, getattr(made, name))
    line.not_made = without(((each.first, each.last),), ((first, made.next_offset - 1),))


def _begun(store: Store, target: Store, todo: list[Range], stream: str) -> dict[LineKey, Origin]:
    """The lines of the target that an earlier run began. Raises `FatalError` where it holds anything else than these."""
    source_stream = todo[0].raw.stream
    here, there = f"{store.url.rstrip('/')}/", f"{target.url.rstrip('/')}/"
    same = here == there
    if same and stream == source_stream:
        raise FatalError(
            f"{target.url} is the lake itself, and never made again in place: another prefix, or --as-stream"
        )
    if not same and (here.startswith(there) or there.startswith(here)):
        raise FatalError(f"{target.url} and {store.url} lie one in the other: a reader of the one would read both")
    clusters = {each.raw.cluster_id for each in todo}
    topics: dict[str, str] = {each.raw.kind: each.raw.topic for each in todo}
    begun: dict[LineKey, Origin] = {}
    for entry in target.walk(f"{layout.CLAIMS_V1}/"):
        parsed = layout.parse_claim_path(entry.path)
        if parsed is None or parsed.what != "origin" or (same and parsed.stream != stream):
            continue
        origin = origin_at(target, entry.path)
        # Kinds that are not wanted now may have been made by another run.
        alike = origin.cluster_id in clusters and topics.get(parsed.kind, origin.topic) == origin.topic
        if origin.raw_stream != source_stream or not alike:
            raise FatalError(
                f"{target.url} holds lines of another origin ({entry.path}: topic {origin.topic} of Kafka cluster"
                f" {origin.cluster_id}): another prefix{', or another --as-stream' if same else ''}"
            )
        begun[LineKey(parsed.kind, parsed.stream, parsed.partition)] = origin
    strange = (entry.path for entry in target.walk("") if not entry.path.startswith(f"{layout.PROBE_ROOT}/"))
    if not begun and not same and (path := next(strange, None)) is not None:
        raise FatalError(f"{target.url} is not empty and no lake of ours: {path}")
    for each in todo:
        key = LineKey(each.raw.kind, stream, each.raw.partition)
        if key in begun:
            _goes_on(target, key, begun[key], each)
    return begun


def _goes_on(target: Store, key: LineKey, origin: Origin, each: Range) -> None:
    """Raises `FatalError` where what is wanted begins after what is there: it would leave a hole."""
    if each.first <= origin.first:
        return
    prefix = layout.claims_prefix(key.kind, key.stream, key.partition)
    entries = tried(lambda: target.list(prefix))
    paths = [entry.path for entry in entries if not entry.path.endswith(("origin.json", ".lost.json"))]
    body = tried(lambda: target.get(max(paths))) if paths else None
    end = origin.first if body is None else claims.decode(body, Claim, max(paths)).last + 1
    if end < each.first:
        raise FatalError(
            f"{key} in {target.url} holds raw offsets {origin.first}-{end - 1}, and what is wanted begins at {each.first}:"
            " ask for what lies between as well, or choose another prefix"
        )
