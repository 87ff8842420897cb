"""The protocol of claims: how a range of a partition becomes files exactly once, whatever dies when.

Pure: a protocol is a generator that yields what it wants done (`Create`, `Get`, …) and is sent the answer, so the same
code runs over S3 in the service and over every broken store that a test can think of. The rules:

1. `origin.json` exists before the first claim; every claim starts at the origin or at an existing claim's last + 1.
2. The claim for an offset is created with put-if-absent, before any of its files. Whose claim exists, wins; everybody
   else finishes it from Kafka. Our own bytes under "exists" are a lost answer: we won.
3. A file that exists with the promised digest is kept; another digest is fatal.
4. The next claim is made only after all files of the one before exist, so only the last one can be incomplete.
5. What Kafka no longer has is listed in `<first>.lost.json`; the claim then counts as ended.

It does no I/O, reads no clock, draws no nonce, and never trusts the committed offset: that is a hint where to look.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from shared.errors import FatalError, UnknownVersion
from shared.lake import claims, layout
from shared.lake.claims import Claim, FileEntry, LostClaim, Origin
from shared.lake.schema import SCHEMA_VERSION

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from shared.lake.kinds import LakeKind

OFFSET_END = 2**63  # above every Kafka offset


@dataclass(frozen=True, slots=True)
class DataObject:
    """A file ready to be created: what a claim says of it, and its bytes."""

    entry: FileEntry
    body: bytes


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """What Kafka's records of a claim's range give now. `kafka_first` is the first of them that Kafka still had."""

    objects: Mapping[str, DataObject]
    kafka_first: int


# What a protocol asks for. The answer's type stands behind the arrow.
@dataclass(frozen=True, slots=True)
class Own:
    """Do we still own the partition, by the epoch captured at its assignment? → None; raises where not."""


@dataclass(frozen=True, slots=True)
class Create:
    """Put if absent → bool: created by this call."""

    path: str
    body: bytes


@dataclass(frozen=True, slots=True)
class CreateAll:
    """Put if absent, each, in any order → tuple[bool, ...]."""

    objects: tuple[DataObject, ...]


@dataclass(frozen=True, slots=True)
class Get:
    """→ bytes | None."""

    path: str


@dataclass(frozen=True, slots=True)
class FirstAfter:
    """The first object below a prefix whose path is greater → str | None."""

    prefix: str
    start_after: str


@dataclass(frozen=True, slots=True)
class Digests:
    """Of the files at these paths, by their footers → tuple[str | None, ...]; None where there is no such object."""

    paths: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Rebuild:
    """Read the claim's range from Kafka again, and only it, and make its files → `Rebuilt`."""

    claim: Claim


Request = Own | Create | CreateAll | Get | FirstAfter | Digests | Rebuild
Result = TypeVar("Result")
Steps = Generator[Request, Any, Result]


@dataclass(frozen=True, slots=True, kw_only=True)
class Position:
    """Where a line stands: the next offset, and what taking records needs to know of what is stored."""

    next_offset: int
    done: int = -1  # highest raw offset accepted
    newest_recv_ns: int | None = None  # newest receive time of any stored row
    # Kafka's time of the record before `next_offset`, by which the topic is known again; None: nothing is stored.
    last_timestamp_ms: int | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Flushed:
    """How a flush ended. `won` is False where another's claim was there first: drop the buffer, go on from there."""

    won: bool
    position: Position


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimLog:
    """The line of one partition, and whose it is."""

    kind: LakeKind
    stream: str
    partition: int
    topic: str
    cluster_id: str
    raw_stream: str | None = None  # of a line that is made from raw records: see `Origin`

    def resume(self, *, start: int, hint: int, nonce: str) -> Steps[Position]:
        """Where to go on. Finishes the last claim if it is incomplete.

        `start` is the origin of a line that has none yet; `hint` any offset, the nearer to the last claim the fewer calls.
        Raises `FatalError` where the line is another environment's.
        """
        first = yield from self._last_claim_first(hint)
        origin = yield from self._origin(start, exists=first is not None)
        if first is None:
            return Position(next_offset=origin.first, done=claims.done_before(self.kind, origin))
        path = layout.claim_path(self.kind, self.stream, self.partition, first)
        body = yield Get(path)
        if body is None:
            raise FatalError(f"{path} was listed and is not there: the store is not consistent, or claims are deleted")
        return (yield from self.finish(claims.decode(body, Claim, path), nonce))

    def flush(self, claim: Claim, objects: tuple[DataObject, ...]) -> Steps[Flushed]:
        """Claim, then create the files; or, where another's claim exists, finish that one."""
        path = layout.claim_path(self.kind, self.stream, self.partition, claim.first)
        mine = claims.encode(claim)
        while True:
            yield Own()
            if (yield Create(path, mine)):
                break
            found = yield Get(path)
            if found == mine:  # an answer was lost
                break
            if found is not None:
                winner = claims.decode(found, Claim, path)
                return Flushed(won=False, position=(yield from self.finish(winner, claim.writer)))
        yield from _create_all(objects)
        return Flushed(won=True, position=position_after(claim))

    def finish(self, claim: Claim, nonce: str) -> Steps[Position]:
        """Make sure that everything a claim promises exists, or is listed as lost."""
        if claim.layout != layout.LAYOUT_VERSION or claim.schema_version > SCHEMA_VERSION:
            raise UnknownVersion(
                f"claim {claim.first} of {self.topic}/{self.partition} has layout {claim.layout}, schema"
                f" {claim.schema_version}; this release knows {layout.LAYOUT_VERSION} and {SCHEMA_VERSION}: upgrade it"
            )
        digests = yield Digests(tuple(entry.path for entry in claim.files))
        _check_digests(claim.files, digests)
        missing = [entry for entry, digest in zip(claim.files, digests, strict=True) if digest is None]
        if missing:
            lost_path = layout.lost_path(self.kind, self.stream, self.partition, claim.first)
            if (yield Get(lost_path)) is None:
                yield from self._make(claim, missing, lost_path, nonce)
        return position_after(claim)

    def _make(self, claim: Claim, missing: Sequence[FileEntry], lost_path: str, nonce: str) -> Steps[None]:
        rebuilt: Rebuilt = yield Rebuild(claim)
        made = {path: thing.entry for path, thing in rebuilt.objects.items()}
        able = tuple(rebuilt.objects[entry.path] for entry in missing if made.get(entry.path) == entry)
        lost = tuple(entry.path for entry in missing if made.get(entry.path) != entry)
        if lost and rebuilt.kafka_first <= claim.first:
            raise FatalError(
                f"claim {claim.first}-{claim.last} of {self.topic}/{self.partition} promises {lost[0]}, and the same"
                " records do not give it: the topic was re-created or the claim is damaged"
            )
        yield from _create_all(able)
        if lost:
            document = LostClaim(
                kind=self.kind,
                stream=self.stream,
                partition=self.partition,
                first=claim.first,
                last=claim.last,
                promised=claim.files,
                missing=lost,
                kafka_first=rebuilt.kafka_first,
                writer=nonce,
            )
            said = claims.encode(document)
            while not (yield Create(lost_path, said)):
                if (yield Get(lost_path)) is not None:  # another said so first
                    break

    def _origin(self, start: int, *, exists: bool) -> Steps[Origin]:
        """The line's origin, created if there is none. Raises `FatalError` for a foreign one."""
        path = layout.origin_path(self.kind, self.stream, self.partition)
        wanted = Origin(first=start, cluster_id=self.cluster_id, topic=self.topic, raw_stream=self.raw_stream)
        while True:
            body = yield Get(path)
            if body is not None:
                break
            if exists:
                raise FatalError(f"{path} is missing though there are claims beside it: part of the lake was deleted")
            yield Create(path, claims.encode(wanted))
        origin = claims.decode(body, Origin, path)
        if (origin.cluster_id, origin.topic, origin.raw_stream) != (self.cluster_id, self.topic, self.raw_stream):
            raise FatalError(
                f"{path} belongs to topic {origin.topic} of Kafka cluster {origin.cluster_id}, this is {self.topic} of"
                f" {self.cluster_id}: two environments share a prefix, or Kafka was set up anew: set a new stream"
            )
        return origin

    def _last_claim_first(self, hint: int) -> Steps[int | None]:
        prefix = layout.claims_prefix(self.kind, self.stream, self.partition)

        def first_claim_from(offset: int) -> Steps[int | None]:
            # "<offset>" sorts before "<offset>.json": the claim at the offset itself is found too.
            path = yield FirstAfter(prefix, f"{prefix}{offset:020}")
            parsed = layout.parse_claim_path(path) if path else None
            if parsed is None or parsed.what == "origin":
                return None
            if parsed.what == "lost":
                raise FatalError(f"{path} stands there without its claim: part of the lake was deleted")
            return parsed.first

        return (yield from bisect_last(first_claim_from, hint))


def bisect_last(first_from: Any, hint: int) -> Steps[int | None]:
    """The greatest of a set of offsets of which one can only ask "the first one from here on".

    `first_from(offset)` is a protocol that answers that. Gallops from `hint` until the answer is enclosed, then bisects:
    a few calls where the hint is good, about 2·63 at the very worst, however many offsets there are.
    """
    last: int | None = None
    low, high = 0, OFFSET_END  # an unseen greatest one is in low..high-1
    at, step = min(max(hint, 0), OFFSET_END - 1), 1
    while low < high:
        found = yield from first_from(at)
        if found is None:
            high = at
        else:
            last, low = found, found + 1
        if high == OFFSET_END:
            at = min(low + step, OFFSET_END - 1)
        elif last is None:
            at = max(high - step, 0)
        else:
            at = (low + high) // 2
        step *= 2
    return last


def position_after(claim: Claim) -> Position:
    """Where a line stands once this claim is ended."""
    return Position(
        next_offset=claim.last + 1,
        done=claim.done_after,
        newest_recv_ns=claim.newest_recv_ns,
        last_timestamp_ms=claim.last_timestamp_ms,
    )


def _create_all(objects: tuple[DataObject, ...]) -> Steps[None]:
    while objects:
        created = yield CreateAll(objects)
        existing = tuple(thing for thing, new in zip(objects, created, strict=True) if not new)
        if not existing:
            return
        entries = tuple(thing.entry for thing in existing)
        digests = yield Digests(tuple(entry.path for entry in entries))
        _check_digests(entries, digests)
        # One that "exists" and is not there is asked for again.
        objects = tuple(thing for thing, digest in zip(existing, digests, strict=True) if digest is None)


def _check_digests(entries: Sequence[FileEntry], digests: Sequence[str | None]) -> None:
    """Raises `FatalError` for a file that is there and is another than promised."""
    for entry, digest in zip(entries, digests, strict=True):
        if digest is not None and digest != entry.digest:
            raise FatalError(
                f"{entry.path} exists with digest {digest}, its claim promises {entry.digest}: it is foreign"
            )
