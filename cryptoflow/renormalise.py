"""Raw records made into rows anew, by the code that made them the first time: the flattener's and the s3writer's.

For whoever proves that the lake holds what the raw records become, or makes a lake from them again. Nothing is published
and nothing stored. In memory: compressed norm records of what is asked for at a time.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from services.flattener.cut import Cutter
from services.flattener.message import read
from services.flattener.normalise import Normaliser
from services.s3writer import files
from services.s3writer.buffer import NormRecord
from services.s3writer.take import Taken
from shared.lake import layout
from shared.lake.claim_log import ClaimLog
from shared.lake.kinds import is_rows
from shared.messages import NORM_VERSION, SourceRange

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import pyarrow as pa

    from shared.kafka import Record
    from shared.lake.claims import Claim
    from shared.messages import Kind

NORM_ROWS = 8192  # of a norm record: rows are the same wherever it is cut


class Renormaliser:
    """Norm records of one raw partition of a kind, as a flattener would send them and an s3writer would take them."""

    def __init__(self, kind: Kind) -> None:
        self._kind = kind
        self._normaliser = Normaliser(kind)

    def records(self, raw: Iterable[Record], first: int) -> Iterator[NormRecord]:
        """What the records from raw offset `first` on become. Raises `UnknownVersion` for one of a newer release."""
        cutter = Cutter(first, max_rows=NORM_ROWS, max_wait_seconds=math.inf)
        for record in raw:
            cutter.add(read(self._kind, record), 0.0)
            while not cutter.wants_more:
                yield from self._cut(cutter)
        yield from self._cut(cutter)

    def _cut(self, cutter: Cutter) -> Iterator[NormRecord]:
        cut = cutter.take(0.0, at_once=True)
        if cut is None:
            return
        for piece in self._normaliser.pieces(cut):
            last = piece.cut.messages[-1].record
            newest = max(message.recv_ns for message in piece.cut.messages)
            yield NormRecord(
                offset=piece.cut.last,
                timestamp_ms=last.timestamp_ms,
                value=piece.value,
                src=SourceRange(last.topic, last.partition, piece.cut.first, piece.cut.last),
                dead=len(piece.flattened.poison),
                version=NORM_VERSION,
                rows=piece.flattened.batch.num_rows,
                newest_recv_ns=newest,
                taken=Taken(piece.cut.first - 1, dropped=False, hole=None, done=piece.cut.last, newest_recv_ns=newest),
            )


def expected(claim: Claim, records: Iterable[Record]) -> Iterator[tuple[str, pa.Table]]:
    """(path, rows) of each file that a claim over these raw records has: an `Expect` of `verify_against`."""
    log = ClaimLog(
        kind=claim.kind,
        stream=claim.stream,
        partition=claim.partition,
        topic=claim.topic,
        cluster_id="",
        raw_stream=None,
    )
    assert is_rows(claim.kind)
    normalised = list(Renormaliser(claim.kind).records(records, claim.done_before + 1))
    for (book, hour_start_us), table in files.tables(log, normalised):
        path = layout.data_path(claim.kind, book, hour_start_us, claim.stream, claim.partition, claim.first, claim.last)
        yield path, table
