"""The objects of a claim log: one line of create-only JSON objects per partition, an origin and claims that tile.

A claim names the exact files of the offsets ``first..last`` of its topic before any of them exists: of a norm topic, or
for the archive of a raw one, whose offsets are the raw offsets themselves. These are the documents,
their bytes and nothing else: what is done with them stands in `shared.lake.claim_log`.
"""

from __future__ import annotations

from typing import TypeVar

import msgspec

from shared.errors import FatalError, UnknownVersion
from shared.lake.kinds import LakeKind, is_archive
from shared.lake.layout import LAYOUT_VERSION

CLAIM_VERSION = 1


class FileEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One promised file: its path relative to the prefix, its rows, and the digest of its columns (xxh3_128, hex)."""

    path: str
    rows: int
    digest: str


class Origin(msgspec.Struct, frozen=True, kw_only=True):
    """Where the log of a partition starts, and whose topic it is. Created once, before the first claim."""

    v: int = CLAIM_VERSION
    first: int
    cluster_id: str
    topic: str
    raw_stream: str | None = None  # made again from this stream's raw records: `topic` and offsets are of the raw topic


class Claim(msgspec.Struct, frozen=True, kw_only=True):
    """Offsets ``first..last`` (both included) become exactly `files`. Raw offsets: `done_*`, `holes`."""

    v: int = CLAIM_VERSION
    kind: LakeKind
    stream: str
    partition: int
    first: int
    last: int
    layout: int = LAYOUT_VERSION  # how rows are split into files
    schema_version: int
    topic: str
    files: tuple[FileEntry, ...]
    done_before: int  # highest raw offset accepted before the first record of the range; see `done_before`
    done_after: int
    holes: tuple[tuple[int, int], ...] = ()  # raw offsets, both ends included, that no norm record covered
    dead: int = 0  # raw records of the range that went to the dead letters
    min_recv_ns: int | None = None  # of the rows in `files`; null where the claim has no row
    max_recv_ns: int | None = None
    newest_recv_ns: int | None = None  # of all rows stored from the origin to here
    writer: str  # nonce, unique per attempt
    last_timestamp_ms: int  # Kafka timestamp of the last record
    last_src: str  # its `src` header


class LostClaim(msgspec.Struct, frozen=True, kw_only=True):
    """What a claim promised and can no longer be made: Kafka had none of the range below `kafka_first` any more."""

    v: int = CLAIM_VERSION
    kind: LakeKind
    stream: str
    partition: int
    first: int
    last: int
    promised: tuple[FileEntry, ...]
    missing: tuple[str, ...]  # paths among `promised` that do not exist
    kafka_first: int
    writer: str


def done_before(kind: LakeKind, origin: Origin) -> int:
    """The raw offset that counts as accepted before the first record of a line.

    A line of norm records stands for the raw topic from its beginning; one of raw records begins where it begins.
    """
    return origin.first - 1 if is_archive(kind) or origin.raw_stream is not None else -1


Document = TypeVar("Document", Origin, Claim, LostClaim)


class _Versioned(msgspec.Struct):
    v: int


def encode(document: Origin | Claim | LostClaim) -> bytes:
    """The bytes of a log object: JSON in the order of the fields, so equal documents are equal bytes."""
    return msgspec.json.encode(document)


def decode(body: bytes, type_: type[Document], path: str) -> Document:
    """Read a log object.

    Raises `UnknownVersion` for one written by a newer release, `FatalError` for one that is damaged.
    """
    try:
        version = msgspec.json.decode(body, type=_Versioned).v
        if version != CLAIM_VERSION:
            raise UnknownVersion(f"{path} has version {version}; this release knows {CLAIM_VERSION}: upgrade it")
        return msgspec.json.decode(body, type=type_)
    except msgspec.MsgspecError as error:
        raise FatalError(f"{path} is damaged: {error}") from error
