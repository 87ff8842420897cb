"""What a known hole in the data is, wherever it was learned: from a gap row, a broken chain, or a claim."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from shared.lake.instant import instant_text

if TYPE_CHECKING:
    from shared.lake.kinds import LakeKind
    from shared.messages import Book

BROKEN_CHAIN = "broken-chain"
STREAM_ENDED = "stream-ended"


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap:
    """A hole. Times are ns since the epoch; None where unknown.

    `cause` is that of the gap row (``disconnect``, ``poll``, …), or ``source-hole`` and ``lost-claim``, which a claim
    declares, or, only in a book, ``broken-chain`` (an update that does not follow, and no row that says why) and
    ``stream-ended`` (nothing follows in the stream, and the symbol goes on in another).
    """

    kind: LakeKind
    stream: str
    raw_partition: int
    cause: str
    told_ns: int  # when the lake was told: receive time of the row
    since_ns: int | None = None  # last that is known to be good before the hole; of a `stop`, its own time
    until_ns: int | None = None  # when it was over, or told; None of a `stop`: until the next `start`
    book: Book | None = None  # None: every symbol of the partition
    last_id: int | None = None  # the venue's id before the hole
    next_id: int | None = None  # the first one after it
    raw_offset: int | None = None  # of the gap row; the first one of a `source-hole`
    raw_last: int | None = None  # the last one of a `source-hole`
    path: str | None = None  # of the claim, or of its .lost.json

    def __str__(self) -> str:
        symbol = f"{self.book}" if self.book else "every symbol"
        since = instant_text(self.since_ns) if self.since_ns is not None else "unknown"
        until = instant_text(self.until_ns) if self.until_ns is not None else "unknown"
        return f"{self.cause}: {self.kind} of {symbol}, since {since} until {until}, {self.place}"

    @property
    def place(self) -> str:
        """Stream, raw partition and raw offset, where known: ``main/3/1234``."""
        where = f"{self.stream}/{self.raw_partition}"
        if self.raw_offset is None:
            return where
        return f"{where}/{self.raw_offset}" + ("" if self.raw_last is None else f"-{self.raw_last}")

    def as_dict(self) -> dict[str, Any]:
        """Everything, for JSON: times as ns and, in UTC, as text."""
        return {
            "cause": self.cause,
            "kind": self.kind,
            "exchange": self.book.exchange if self.book else None,
            "market": self.book.market if self.book else None,
            "symbol": self.book.symbol if self.book else None,
            "since": None if self.since_ns is None else instant_text(self.since_ns),
            "until": None if self.until_ns is None else instant_text(self.until_ns),
            "since_ns": self.since_ns,
            "until_ns": self.until_ns,
            "told_ns": self.told_ns,
            "last_id": self.last_id,
            "next_id": self.next_id,
            "stream": self.stream,
            "raw_partition": self.raw_partition,
            "raw_offset": self.raw_offset,
            "raw_last": self.raw_last,
            "path": self.path,
        }


def row_times(cause: str, recv_ns: int, since_us: int | None) -> tuple[int | None, int | None]:
    """`since_ns` and `until_ns` of a gap row. What a `stop` opens begins with it, and its end nobody knows yet."""
    if cause == "stop":
        return recv_ns, None
    return None if since_us is None else since_us * 1000, recv_ns
