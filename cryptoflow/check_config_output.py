"""What a plan puts into the lake in a day, what that costs, and the memory it takes on the way. Pure arithmetic.

Only flush windows are counted: a buffer that reaches its rows or bytes before makes more files.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from cryptoflow.check_config_load import Kind, Recorded
    from shared.settings import Settings

DAY_SECONDS = 86_400
PUT_DOLLARS = 0.005 / 1000  # Amazon S3 Standard, list price in us-east-1
KINDS: tuple[Kind, ...] = ("fobs", "fobd")


@dataclass(frozen=True, slots=True)
class KindOutput:
    """What the lake receives of one kind in a day. How many rows updates are, only the market knows: None."""

    kind: Kind
    books: int
    at_least: bool
    rows_per_day: int | None
    flush_interval_seconds: float
    files_per_day: int
    claims_per_day: int
    put_requests_per_day: int
    partitions_per_topic: int


@dataclass(frozen=True, slots=True)
class Output:
    """All kinds together. The reader queues in front of each kind's topic."""

    kinds: tuple[KindOutput, ...]
    at_least: bool
    put_requests_per_day: int
    put_dollars_per_month: float
    writer_buffer_bytes: int
    reader_queue_bytes: int


def output(settings: Settings, what: Iterable[Recorded]) -> Output:
    """The arithmetic, over every source address."""
    of_kind: dict[Kind, list[Recorded]] = defaultdict(list)
    for one in what:
        of_kind[one.kind].append(one)
    kinds = tuple(_kind(settings, kind, of_kind[kind]) for kind in KINDS if of_kind[kind])
    puts = sum(kind.put_requests_per_day for kind in kinds)
    return Output(
        kinds=kinds,
        at_least=any(kind.at_least for kind in kinds),
        put_requests_per_day=puts,
        put_dollars_per_month=round(puts * 30 * PUT_DOLLARS, 2),
        writer_buffer_bytes=settings.writer.buffer.max_bytes,
        reader_queue_bytes=settings.channels.buffer_bytes * len(kinds),
    )


def _kind(settings: Settings, kind: Kind, what: Sequence[Recorded]) -> KindOutput:
    """Each flush window writes a file per book that said anything, and a claim per partition that holds any of them."""
    snapshots = {(exchange, market): found.orderbook.snapshots for exchange, market, found in settings.source.markets()}
    buffer, channels = settings.writer.buffer, settings.channels
    partitions = channels.norm_fobs.partitions if kind == "fobs" else channels.norm_fobd.partitions
    interval = buffer.snapshot_flush_interval if kind == "fobs" else buffer.delta_flush_interval
    windows = DAY_SECONDS / interval
    books = sum(one.symbols for one in what)
    rows, written = 0.0, books * windows
    if kind == "fobs":
        polled = [(one.symbols, snapshots[one.exchange, one.market]) for one in what]
        rows = sum(symbols * DAY_SECONDS * 1000 / found.interval_ms * found.limit * 2 for symbols, found in polled)
        written = sum(symbols * min(windows, DAY_SECONDS * 1000 / found.interval_ms) for symbols, found in polled)
    files = round(written)
    claims = min(files, round(min(books, partitions) * windows))
    return KindOutput(
        kind=kind,
        books=books,
        at_least=any(one.at_least for one in what),
        rows_per_day=round(rows) if kind == "fobs" else None,
        flush_interval_seconds=interval,
        files_per_day=files,
        claims_per_day=claims,
        put_requests_per_day=files + claims,
        partitions_per_topic=partitions,
    )
