"""Whether a run lost or doubled anything: the exchange's truth against the raw topic, that against the lake, row by row.

It reads with `json` and `float`, shares no code with the services but the names of columns and files, and lets nothing
pass as lost that is not declared: by a gap where the reader lost it, by a hole of a claim where Kafka did.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from shared.lake.verify import verify
from tests.deltas import Truth, control, judge
from tests.line import expected_rows
from tests.matrix.world import KINDS

if TYPE_CHECKING:
    from shared.lake.report import Report, Verdict
    from shared.messages import Kind
    from tests.line import Row
    from tests.matrix.world import Offset, World


@dataclass(frozen=True)
class Judgement:
    """Of a run that stood. `lost` are raw records that the lake declares as lost; `untold` there are none."""

    records: int
    rows: int
    lost: int
    gaps: int
    verdict: Verdict


async def judged(world: World, allowed: frozenset[Verdict]) -> Judgement:
    """What was found. Raises `AssertionError` for a row too many, too few or another, and for an untold hole."""
    await world.keep()
    gaps = await _against_truth(world)
    report = await asyncio.to_thread(verify, world.direct.store, strict=True)
    assert report.verdict in allowed, f"verify: {report.verdict}\n{report}"
    holes = _holes(world, report)
    rows = lost = 0
    for kind in KINDS:
        found = await asyncio.to_thread(world.direct.rows_by_origin, kind)
        for (of_kind, partition, offset), record in world.kept.items():
            if of_kind != kind:
                continue
            type_ = dict(record.headers).get("type", b"").decode()
            wanted = _wanted(world, kind, (kind, partition, offset), type_, record.value)
            mine = found.pop((partition, offset), None)
            rows += len(mine or ())
            if mine is None and any(first <= offset <= last for first, last in holes.get((kind, partition), ())):
                lost += 1
                continue
            assert mine == wanted, f"raw-{kind}/{partition}@{offset}: {_difference(mine, wanted)}"
        assert not found, f"rows of raw-{kind} records that never were: {sorted(found)[:5]}"
    counted = sum(line.rows for line in report.lines if line.line.stream == world.stream)
    assert rows == counted, f"verify counted other rows: {counted}"
    return Judgement(len(world.kept), rows, lost, gaps, report.verdict)


async def _against_truth(world: World) -> int:
    """Each update is an event of the exchange, once and in order, each lost one told; each snapshot a body it served."""
    await control(world.exchange, "POST", "flush")
    records = {key: record for key, record in world.kept.items() if key not in world.poisoned | world.planted}
    updates = [record for (kind, _, _), record in sorted(records.items()) if kind == "fobd"]
    verdict = judge(updates, Truth.read(world.truth_frames))
    untold = [hole for hole in verdict.holes if hole.lost and not hole.gaps]
    assert not untold, (
        f"updates lost and not told: {[(hole.name, len(hole.lost), hole.lost[0]) for hole in untold[:3]]}"
    )
    served = {json.loads(text)["sha256"] for text in world.truth_answers.read_text().splitlines()}
    for (kind, partition, offset), record in records.items():
        if dict(record.headers)["type"] == b"snapshot":
            digest = hashlib.sha256(record.value).hexdigest()
            assert digest in served, f"raw-{kind}/{partition}@{offset} is no body that the exchange served"
    return sum(len(hole.gaps) for hole in verdict.holes)


def _wanted(world: World, kind: Kind, origin: Offset, type_: str, value: bytes) -> list[Row]:
    if origin in world.poisoned:
        return [(None if kind == "fobs" else "gap", None, None, None, "malformed")]
    return expected_rows(kind, type_, value)


def _holes(world: World, report: Report) -> dict[tuple[Kind, int], list[tuple[int, int]]]:
    """Raw offsets that the lake declares lost, wholly or in part, by kind and partition."""
    holes: dict[tuple[Kind, int], list[tuple[int, int]]] = {}
    for loss in report.losses:
        if loss.line.stream != world.stream:
            continue
        first, last = loss.first, loss.last
        if loss.what == "lost-claim":  # its offsets are of the norm topic
            claim = json.loads(world.direct.store.get(loss.path.replace(".lost.json", ".json")) or b"{}")
            first, last = claim["done_before"] + 1, claim["done_after"]
        holes.setdefault((loss.line.kind, loss.line.partition), []).append((first, last))
    return holes


def _difference(mine: list[Row] | None, wanted: list[Row]) -> str:
    if mine is None:
        return f"not in the lake, and no hole says so ({len(wanted)} rows)"
    if mine == wanted * (len(mine) // max(len(wanted), 1)):
        return f"{len(mine) // max(len(wanted), 1)} times in the lake"
    at = next((n for n, pair in enumerate(zip(mine, wanted, strict=False)) if pair[0] != pair[1]), len(wanted))
    return f"{len(mine)} rows, wanted {len(wanted)}; row {at} is {mine[at : at + 1]}, wanted {wanted[at : at + 1]}"
