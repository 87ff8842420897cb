"""What `bench.latency` found: each message of the raw topics followed to its file, and how long each part took.

exchange   the exchange had made the update, which it writes to its socket next; of a polled snapshot it is not known
received   the reader had the last byte (`recv_ns`)
produced   another consumer had the raw record: Kafka had acknowledged it about then, and the consumer's fetch is in it
flattened  another consumer had the norm record with its rows
stored     the file with its rows is in the lake, synced, whole and under its name; its claim was there before it
window     the end of the flush window that the file is of; what comes after it no interval explains
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.parquet as pq

from bench.payloads import SIDES
from services.s3writer.buffer import window_end
from shared.kafka import Admin, Record, TopicPartition, read_range
from shared.lake.store import open_store
from shared.lake.verify import verify
from shared.messages import KINDS, RawHeaders, SourceRange

if TYPE_CHECKING:
    from pathlib import Path

    from shared.messages import Kind
    from shared.settings import Settings

Place = tuple[str, int, int]  # kind, raw partition, raw offset
EVENT = b'{"what":"event"'
SLACK_SECONDS = 2.0  # what a record may take from the reader to the s3writer's buffer


@dataclass(frozen=True, kw_only=True)
class Found:
    """A run that has ended."""

    began_at: float  # of the measured time, seconds since the epoch
    ended_at: float
    interval_seconds: float
    cores: dict[str, float]
    late: dict[str, float]  # how late an event loop woke meanwhile that did nothing
    seen: dict[str, list[tuple[int, int, int, str | None]]]  # by topic: partition, offset, seen_ns, src
    truth: Path
    lake: Path


@dataclass
class Way:
    """One message's; times in ns since the epoch, 0 where nothing is known."""

    kind: Kind
    type: str
    rows: int
    received: int
    exchange: int = 0
    produced: int = 0
    flattened: int = 0
    stored: int = 0
    window: int = 0
    stored_rows: int = 0


UPDATE_PARTS = (
    ("exchange", "received"), ("exchange", "produced"), ("exchange", "flattened"), ("exchange", "stored"),
    ("received", "produced"), ("window", "stored"),
)  # fmt: skip
SNAPSHOT_PARTS = (("received", "produced"), ("received", "flattened"), ("received", "stored"), ("window", "stored"))


async def figures(settings: Settings, found: Found) -> dict[str, Any]:
    """p50 and p99 of each part. Raises `SystemExit` unless every message went the whole way, and once."""
    ways = await _raw(settings, _made(found.truth))
    _watched(settings, found, ways)
    _stored(found, ways)
    verdict = verify(open_store(settings.storage), strict=True).verdict
    if verdict != "complete":
        raise SystemExit(f"the lake is {verdict}: nothing was measured")
    began_ns, ended_ns = found.began_at * 1e9, found.ended_at * 1e9
    measured = [way for way in ways.values() if began_ns <= way.received < ended_ns]
    _check(found, ways, measured)
    updates = [way for way in measured if way.type == "update"]
    snapshots = [way for way in measured if (way.kind, way.type) == ("fobs", "snapshot")]
    seconds = found.ended_at - found.began_at
    return {
        "updates_per_second": round(len(updates) / seconds),
        "snapshots_per_second": round(len(snapshots) / seconds, 1),
        "rows_per_second": round(sum(way.rows for way in measured) / seconds),
        "cores": {name: round(cores, 2) for name, cores in found.cores.items()},
        "updates": _parts(updates, UPDATE_PARTS),
        "snapshots": _parts(snapshots, SNAPSHOT_PARTS),
        "event_loop_that_does_nothing_wakes_late": {name: round(value, 1) for name, value in found.late.items()},
    }


def _parts(ways: list[Way], parts: tuple[tuple[str, str], ...]) -> dict[str, dict[str, float]]:
    result = {}
    for first, last in parts:
        taken_ms = np.array([getattr(way, last) - getattr(way, first) for way in ways]) / 1e6
        p50, p99, most = (round(float(found), 1) for found in np.percentile(taken_ms, (50, 99, 100)))
        result[f"{first} to {last}"] = {"p50_ms": p50, "p99_ms": p99, "most_ms": most}
    return result


def _made(truth: Path) -> dict[tuple[str, int], int]:
    """When the exchange made each update, by symbol and last id."""
    with truth.open("rb") as lines:
        events = (json.loads(line) for line in lines if line.startswith(EVENT))
        return {(event["symbol"], event["u"]): event["at_ns"] for event in events}


async def _raw(settings: Settings, made: dict[tuple[str, int], int]) -> dict[Place, Way]:
    """Every message of the raw topics."""
    found = {}
    for kind, channel in zip(KINDS, (settings.channels.raw_fobs, settings.channels.raw_fobd), strict=True):
        partitions = [TopicPartition(channel.topic, number) for number in range(channel.partitions)]
        async with Admin(settings.kafka, client_id="bench") as admin:
            ends = await admin.end_offsets(partitions)
        for tp, end in ends.items():
            async for record in read_range(settings.kafka, tp, 0, end - 1, client_id="bench"):
                found[kind, record.partition, record.offset] = _way(kind, record, made)
    return found


def _way(kind: Kind, record: Record, made: dict[tuple[str, int], int]) -> Way:
    headers = RawHeaders.decode(record.headers)
    said = json.loads(record.value)
    said = said.get("data", said)
    sides = SIDES["fobd" if headers.type == "update" else "fobs"]
    levels = 0 if headers.type == "gap" else sum(len(said[side]) for side in sides)
    exchange = made[headers.symbol, said["u"]] if headers.type == "update" else 0
    return Way(kind, headers.type, levels or 1, headers.recv_ns, exchange)


def _watched(settings: Settings, found: Found, ways: dict[Place, Way]) -> None:
    channels = settings.channels
    for kind, raw, norm in (
        ("fobs", channels.raw_fobs, channels.norm_fobs),
        ("fobd", channels.raw_fobd, channels.norm_fobd),
    ):
        for partition, offset, seen_ns, _ in found.seen[raw.topic]:
            ways[kind, partition, offset].produced = seen_ns
        for partition, _, seen_ns, text in found.seen[norm.topic]:
            src = SourceRange.parse(str(text))
            for offset in range(src.first, src.last + 1):
                ways[kind, partition, offset].flattened = seen_ns


def _stored(found: Found, ways: dict[Place, Way]) -> None:
    """From the files. Their last change is that their second name went, after all was synced."""
    for path in sorted(found.lake.rglob("*.parquet")):
        kind = path.relative_to(found.lake).parts[0]
        if kind not in KINDS:
            continue
        changed_at = path.stat().st_ctime
        ended_at = window_end(changed_at - found.interval_seconds, found.interval_seconds)
        rows = pq.ParquetFile(path).read(["raw_partition", "raw_offset"])
        counts = rows.group_by(["raw_partition", "raw_offset"]).aggregate([([], "count_all")])
        for row in counts.to_pylist():
            way = ways[kind, row["raw_partition"], row["raw_offset"]]
            way.stored, way.window = int(changed_at * 1e9), int(ended_at * 1e9)
            way.stored_rows += row["count_all"]


def _check(found: Found, ways: dict[Place, Way], measured: list[Way]) -> None:
    for place, way in ways.items():
        if not way.produced or not way.flattened:
            raise SystemExit(f"{place} was not seen by the watching consumer: nothing was measured")
        if way.stored_rows != way.rows:
            raise SystemExit(f"{place}: {way.stored_rows} of {way.rows} rows were stored: nothing was measured")
    shortest = (found.interval_seconds + SLACK_SECONDS) * 1e9
    if any(way.window - way.received > shortest for way in measured):
        raise SystemExit("a flush took longer than its interval: nothing was measured")
