"""The proof that a lake is whole, from its claims and objects alone: no Kafka, no service, no trust in listings' order.

1. Every line has an origin; its claims tile from there, without hole or overlap, and so do the raw offsets they took.
2. Every file of every claim is there and is, row by row, what the claim promises (`verify_claim`).
3. Nothing else lies in the lake.
4. What is lost is declared, and is reported.

Only the last claim of a line may be unfinished: it is *open*, which `strict` counts as damage. It may run while writers
write: what they add meanwhile is seen or left out, and taken for damage in neither case. Reads only.
Memory: 8 bytes a file, 8 bytes a claim, and one column of the files being read.
"""

from __future__ import annotations

from collections import defaultdict, deque
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from shared.errors import FatalError
from shared.lake import claims, layout
from shared.lake.claims import Claim, Origin
from shared.lake.patient import Patient
from shared.lake.report import LineKey, LineReport, Loss, Problem, Report
from shared.lake.verify_claim import Checked, check_claim, path_hash

if TYPE_CHECKING:
    from array import ArrayType
    from collections.abc import Callable, Iterator

    from shared.lake.store import Store

PARALLEL_CLAIMS = 16  # in flight, against the store's latency


@dataclass(slots=True)
class _Log:
    """What a listing shows of one line."""

    firsts: list[int] = field(default_factory=list)
    lost: set[int] = field(default_factory=set)
    origin: bool = False


def verify(
    store: Store,
    *,
    fast: bool = False,
    strict: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Report:
    """Prove a lake. `fast`: footers instead of rows. `progress` is told claims done, of how many.

    Raises `RetryableError` where the store does not answer for minutes, `FatalError` where it refuses.
    """
    patient = Patient(store)
    report = Report(store.url, "fast" if fast else "full")
    logs = _listed(patient, report)
    total = sum(len(log.firsts) for log in logs.values())
    promised: list[np.ndarray[tuple[int], np.dtype[np.uint64]]] = []
    done = 0
    for key in sorted(logs):
        line = _Line(patient, key, logs[key], report, strict=strict)
        hashes: list[int] = []
        for checked in _checked(patient, key, logs[key], fast=fast):
            line.add(checked)
            hashes += checked.promised
            done += 1
            if progress is not None:
                progress(done, total)
        line.end()
        promised.append(np.array(hashes, np.uint64))
    _one_cluster_per_stream(report)
    expected = np.sort(np.concatenate([*promised, np.empty(0, np.uint64)]))
    _no_foreign_objects(patient, report, expected)
    for entry in store.leftovers():
        report.notes.append(f"{entry.path}: {entry.size:,} bytes left by a write that never ended; harmless")
    return report
