"""What differs between lines of norm records and those of the archive: how a record is taken.

All else (buffers, claims, triggers, files, commits) is the same for both.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from services.s3writer import flush, raw
from shared.lake.kinds import is_archive

if TYPE_CHECKING:
    from services.s3writer.flush import Take
    from shared.lake.kinds import LakeKind


def take_of(kind: LakeKind) -> Take:
    """How a record of such a line is accepted."""
    return raw.take if is_archive(kind) else flush.take
