"""From taken records to the files of a flush: one per (book, hour of receive time), the same files every time.

Decoding happens here, not before: buffers hold values as they came, near their size on the wire. A flush that weighs more
than `chunk_bytes` is worked off in groups of books, each decoded on its own, so memory is bounded by the group. What a range
of records gives depends on nothing but the records: whoever finishes a claim makes the same rows and digests.
Synchronous and CPU-bound: run it in a thread; pyarrow, numpy and xxhash let go of the interpreter's lock. No I/O.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from services.s3writer.file import File
from services.s3writer.part import joined
from services.s3writer.split import groups
from shared.lake.schema import FILE_SCHEMAS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import pyarrow as pa

    from services.s3writer.buffer import Held
    from services.s3writer.part import Part
    from services.s3writer.split import Key
    from shared.lake.claim_log import ClaimLog, DataObject

CHUNK_BYTES = 128 * 1024 * 1024  # of what is decoded and not yet written, and of what the digests still need
WINDOW_BYTES = 4 * 1024 * 1024  # of what is taken apart at a time


@dataclass(frozen=True, slots=True)
class Built:
    """The files of a range, ready to be created, in the order of their paths; receive times in ns, None without rows."""

    objects: tuple[DataObject, ...]
    min_recv_ns: int | None
    max_recv_ns: int | None


def build(
    log: ClaimLog,
    first: int,
    last: int,
    records: Sequence[Held],
    compression: str,
    *,
    chunk_bytes: int = CHUNK_BYTES,
) -> Built:
    """The files of offsets `first..last`. Raises `FatalError` naming the record that is damaged."""
    made: list[tuple[DataObject, int, int]] = []
    for group in groups(log, records, chunk_bytes, WINDOW_BYTES):
        files: defaultdict[Key, File] = defaultdict(lambda: File(log, compression))
        for key, part in group:
            files[key].add(part)
        for key in list(files):
            file = files.pop(key)
            made.append((file.end(key, first, last), file.min_recv_ns, file.max_recv_ns))
    made.sort(key=lambda each: each[0].entry.path)
    earliest = min((each[1] for each in made), default=None)
    latest = max((each[2] for each in made), default=None)
    return Built(tuple(each[0] for each in made), earliest, latest)


def tables(log: ClaimLog, records: Sequence[Held]) -> Iterator[tuple[Key, pa.Table]]:
    """The rows of each file, file by file in no order. Raises as `build`."""
    for group in groups(log, records, CHUNK_BYTES, WINDOW_BYTES):
        parts: defaultdict[Key, list[Part]] = defaultdict(list)
        for key, part in group:
            parts[key].append(part)
        for key in list(parts):
            yield key, joined(parts.pop(key)).table(FILE_SCHEMAS[log.kind].names)
