"""What of a plan may not be meant, or is to be known: it is no fault. In words, with the numbers."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from cryptoflow.check_config_load import MINUTE_MS
from cryptoflow.check_config_output import FLUSH_SHARE
from cryptoflow.check_config_sizes import MIB

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cryptoflow.check_config_load import Load
    from cryptoflow.check_config_output import Output
    from shared.settings import Settings

SLOW_ANSWER_SECONDS = 1.0


def notes(settings: Settings, load: Load, output: Output) -> Iterator[str]:
    """One line for each."""
    if not list(settings.source.snapshots()) and not list(settings.source.deltas()):
        yield "no market has snapshots or deltas enabled: the reader refuses to start"
    s3 = settings.storage.s3
    if s3.bucket is not None and not s3.enabled:
        yield f"storage.s3.bucket is {s3.bucket}, but storage.s3.enabled is false: the lake is {settings.storage.local.path}"
    yield from _answers(settings, load)
    yield from _flushes(settings, output)
    if s3.archive_raw:
        yield (
            "storage.s3.archive_raw is true, and the raw archive is in none of these figures: about as many files, claims, PUT "
            "requests and bytes again, and as much of writer.buffer.max_bytes (docs/raw-archive.md)"
        )
    for key, value in (("kafka.compression", settings.kafka.compression), ("storage.s3.compression", s3.compression)):
        if value != "zstd":
            yield f"{key} is {value}: sizes are those of zstd, it needs more"


def _answers(settings: Settings, load: Load) -> Iterator[str]:
    """Little's law: so many requests in flight at a time make an average answer last so long at most."""
    connections = settings.reader.max_connections
    for address in dict.fromkeys(one.address for one in load.polls):
        a_second = sum(one.symbols * 1000 / one.interval_ms for one in load.polls if one.address == address)
        if a_second and connections / a_second < SLOW_ANSWER_SECONDS:
            yield (
                f"{address}: {a_second * MINUTE_MS / 1000:,.0f} polls a minute over reader.max_connections {connections}: "
                f"if answers take longer than {connections / a_second:.2g} s on average, polls are late"
            )


def _flushes(settings: Settings, output: Output) -> Iterator[str]:
    buffer = settings.writer.buffer
    for kind in output.kinds:
        times = f"up to {kind.flushes_per_window:,.1f} times a window, with as many times the files"
        if kind.flushed_by == "rows":
            yield (
                f"{kind.kind}: a partition's window has more rows than writer.buffer.max_rows {buffer.max_rows:,}: "
                f"it is flushed {times}"
            )
        if kind.flushed_by == "bytes":
            yield (
                f"{kind.kind}: all windows fill {output.buffered_bytes / MIB:,.0f} MiB, one s3writer buffers "
                f"{buffer.max_bytes * FLUSH_SHARE / MIB:,.0f} ({FLUSH_SHARE:g} of writer.buffer.max_bytes): it flushes by "
                f"bytes, {times}; {output.s3writers_for_windows} s3writers, shorter windows, or a max_bytes of "
                f"{math.ceil(output.buffered_bytes / FLUSH_SHARE / MIB):,} MiB would flush by the window"
            )
