"""What kinds of lines a lake has: the rows of the two wire kinds, and beside them the archive of their raw topics.

A `Kind` is a `LakeKind`; whoever asks for rows of books (`fobs`, `fobd`) passes over the archive by `is_rows`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypeGuard, get_args

from shared.messages import KINDS

if TYPE_CHECKING:
    from shared.messages import Kind

ArchiveKind = Literal["raw-fobs", "raw-fobd"]
LakeKind = Literal["fobs", "fobd", "raw-fobs", "raw-fobd"]
ARCHIVE_KINDS: tuple[ArchiveKind, ...] = get_args(ArchiveKind)
LAKE_KINDS: tuple[LakeKind, ...] = get_args(LakeKind)

_ARCHIVE_OF: dict[Kind, ArchiveKind] = {"fobs": "raw-fobs", "fobd": "raw-fobd"}


def archive_of(kind: Kind) -> ArchiveKind:
    """The kind under which the raw records of `kind` are archived."""
    return _ARCHIVE_OF[kind]


def is_rows(kind: str) -> TypeGuard[Kind]:
    """Whether lines of this kind hold rows of books, not raw records."""
    return kind in KINDS


def is_archive(kind: str) -> TypeGuard[ArchiveKind]:
    """Whether lines of this kind hold raw records."""
    return kind in ARCHIVE_KINDS
