"""What differs between lines of norm records and those of the archive: how a record is taken, and how files are made.

All else (buffers, claims, triggers, commits) is the same for both.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from services.s3writer import files, flush, raw
from shared.lake.kinds import is_archive

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from services.s3writer.buffer import Held
    from services.s3writer.files import Built
    from services.s3writer.take import Taker
    from shared.kafka import Record
    from shared.lake.claim_log import ClaimLog
    from shared.lake.kinds import LakeKind


class Line(NamedTuple):
    """A sort of lines: how a record is accepted, and what files the offsets `first..last` become."""

    take: Callable[[ClaimLog, Record, Taker], Held]
    build: Callable[[ClaimLog, int, int, Sequence[Held], str], Built]


NORM = Line(flush.take, files.build)
ARCHIVE = Line(raw.take, files.build)


def line_of(kind: LakeKind) -> Line:
    """How lines of this kind are made."""
    return ARCHIVE if is_archive(kind) else NORM
