"""What a plan puts into the lake in a day, and what that costs. Pure arithmetic.

One s3writer is reckoned with. A window ends at each multiple of the flush interval, and with the hour; a buffer that is
flushed before, for its rows or for room, makes more files. Instrument lists, stored when they change,
and what services ask of the store when they start are not counted: hundreds of requests, not thousands.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from cryptoflow import check_config_sizes as sizes
from cryptoflow.check_config_flows import flows

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from cryptoflow.check_config_flows import Flow
    from cryptoflow.check_config_load import Kind, Recorded
    from cryptoflow.check_config_traffic import Kafka, Traffic
    from shared.settings import Settings

DAY_SECONDS = 86_400
HOUR_SECONDS = 3_600
MONTH_DAYS = 30
FLUSH_SHARE = 0.75
"""Of writer.buffer.max_bytes: from there on the s3writer flushes its largest buffer (`services.s3writer.buffer`)."""
HELD_OVERHEAD_BYTES = 1_000
"""What a norm record weighs there beside its value."""


FlushedBy = Literal["interval", "rows", "bytes"]


@dataclass(frozen=True, slots=True)
class KindOutput:
    """What the lake receives of one kind in a day. A partition is flushed up to `flushes_per_window` times a window."""

    kind: Kind
    books: int
    at_least: bool
    rows_per_day: int
    flush_interval_seconds: float
    windows_per_day: int
    flushes_per_window: float
    flushed_by: FlushedBy
    files_per_day: int
    claims_per_day: int
    put_requests_per_day: int
    stored_bytes_per_day: int
    partitions_per_topic: int
    partitions_used: int


@dataclass(frozen=True, slots=True)
class Output:
    """All kinds together. Dollars of a month: what is asked for, and what is kept at its end."""

    kinds: tuple[KindOutput, ...]
    at_least: bool
    buffered_bytes: int
    """In a window, if nothing were flushed before its end."""
    s3writers_for_windows: int
    """So many of them hold that within their budgets."""
    put_requests_per_day: int
    put_dollars_per_month: float
    stored_bytes_per_month: int
    storage_dollars_per_month_kept: float
    dollars_first_month: float
    dollars_twelfth_month: float


def output(settings: Settings, what: Sequence[Recorded], kafka: Kafka, updates_per_second: float | None) -> Output:
    """The arithmetic, over every source address."""
    found = list(flows(settings, what, updates_per_second))
    budget = settings.writer.buffer.max_bytes * FLUSH_SHARE
    buffered = {one.kind: _held(one) * window_seconds(settings, one.kind) for one in kafka.traffic}
    for_room = _flushes_for_room(kafka.traffic, buffered, budget)
    kinds = tuple(
        _kind(settings, one, [flow for flow in found if flow.kind == one.kind], for_room[one.kind])
        for one in kafka.traffic
    )
    puts = sum(kind.put_requests_per_day for kind in kinds)
    stored = sum(kind.stored_bytes_per_day for kind in kinds) * MONTH_DAYS
    put_dollars = puts * MONTH_DAYS * sizes.PUT_DOLLARS
    kept_dollars = stored / sizes.GB * sizes.GB_MONTH_DOLLARS
    return Output(
        kinds=kinds,
        at_least=any(kind.at_least for kind in kinds),
        buffered_bytes=round(sum(buffered.values())),
        s3writers_for_windows=max(1, math.ceil(sum(buffered.values()) / budget)),
        put_requests_per_day=puts,
        put_dollars_per_month=round(put_dollars, 2),
        stored_bytes_per_month=stored,
        storage_dollars_per_month_kept=round(kept_dollars, 2),
        dollars_first_month=round(put_dollars + kept_dollars, 2),
        dollars_twelfth_month=round(put_dollars + 12 * kept_dollars, 2),
    )


def window_seconds(settings: Settings, kind: Kind) -> float:
    """The longest flush window of a kind: none goes on beyond the hour."""
    buffer = settings.writer.buffer
    return min(buffer.snapshot_flush_interval if kind == "fobs" else buffer.delta_flush_interval, HOUR_SECONDS)


def _held(traffic: Traffic) -> float:
    """Bytes a second."""
    return traffic.norm_bytes_per_second + traffic.norm_records_per_second * HELD_OVERHEAD_BYTES


def _flushes_for_room(found: Sequence[Traffic], buffered: Mapping[Kind, float], budget: float) -> dict[Kind, float]:
    """How often a partition of each kind is flushed in a window: always the largest, so small ones keep their room."""
    flushes: dict[Kind, float] = {}
    partitions = sum(one.partitions_used for one in found)
    for one in sorted(found, key=lambda one: buffered[one.kind] / max(1, one.partitions_used)):
        room = budget * one.partitions_used / max(1, partitions)
        flushes[one.kind] = max(1.0, buffered[one.kind] / room) if room else 1.0
        if flushes[one.kind] == 1:
            budget, partitions = budget - buffered[one.kind], partitions - one.partitions_used
    return flushes


def _kind(settings: Settings, traffic: Traffic, flows: Sequence[Flow], for_room: float) -> KindOutput:
    """Each flush writes a file per book that said anything, and a claim per partition that holds any of them."""
    interval = window_seconds(settings, traffic.kind)
    windows = 24 * math.ceil(HOUR_SECONDS / interval)
    used = traffic.partitions_used
    for_rows = traffic.rows_per_second * interval / max(1, used) / settings.writer.buffer.max_rows
    flushes = max(1.0, for_room, for_rows)
    files = _files(flows, windows * flushes)
    claims = min(files, used * windows * flushes)
    stored = files * sizes.FILE_BYTES
    for flow in flows:
        a_day = flow.messages_per_second * DAY_SECONDS
        stored += a_day * flow.levels * flow.file_row_bytes
        stored += min(a_day, flow.symbols * windows * flushes) * flow.levels * flow.first_row_bytes
    return KindOutput(
        kind=traffic.kind,
        books=traffic.books,
        at_least=traffic.at_least,
        rows_per_day=round(traffic.rows_per_second * DAY_SECONDS),
        flush_interval_seconds=interval,
        windows_per_day=windows,
        flushes_per_window=round(flushes, 2),
        flushed_by="interval" if flushes == 1 else "bytes" if for_room >= for_rows else "rows",
        files_per_day=round(files),
        claims_per_day=round(claims),
        put_requests_per_day=round(files) + round(claims),
        stored_bytes_per_day=round(stored),
        partitions_per_topic=traffic.partitions,
        partitions_used=used,
    )


def _files(flows: Sequence[Flow], flushes_per_day: float) -> float:
    """A book that says less than once between two flushes has a file for each of its messages at most."""
    return sum(flow.symbols * min(flushes_per_day, flow.book_messages_per_second * DAY_SECONDS) for flow in flows)
