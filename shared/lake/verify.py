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

from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from shared.errors import FatalError, UnknownVersion
from shared.lake import claims, layout
from shared.lake.claims import Claim, Origin
from shared.lake.patient import Patient
from shared.lake.report import LineKey, LineReport, Loss, Problem, Report
from shared.lake.verify_claim import Checked, check_claim, path_hash

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from shared.lake.report import ProblemWord
    from shared.lake.store import Store

_Hashes = np.ndarray[tuple[int], np.dtype[np.uint64]]

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
    report = Report(store.url, "fast" if fast else "full")
    logs = _listed(store, report)
    patient = Patient(store)
    total = sum(len(log.firsts) for log in logs.values())
    promised: list[_Hashes] = []
    done = 0
    for key, log in sorted(logs.items()):
        line = _Line(patient, key, log, report)
        for checked in _in_order(patient, key, log, fast=fast):
            promised.append(np.array(checked.promised, np.uint64))
            line.add(checked)
            done += 1
            if progress is not None:
                progress(done, total)
        line.end(strict=strict)
    _one_cluster_per_stream(report)
    _nothing_else(store, patient, report, np.sort(np.concatenate([*promised, np.empty(0, np.uint64)])))
    for entry in store.leftovers():
        report.notes.append(f"{entry.path}: {entry.size:,} bytes of a write that never ended; harmless")
    return report


def _listed(store: Store, report: Report) -> dict[LineKey, _Log]:
    logs: dict[LineKey, _Log] = {}
    for entry in store.walk(f"{layout.CLAIMS_V1}/"):
        parsed = layout.parse_claim_path(entry.path)
        if parsed is None:
            continue  # foreign: found again among all objects
        log = logs.setdefault(LineKey(parsed.kind, parsed.stream, parsed.partition), _Log())
        if parsed.first is None:
            log.origin = True
        elif parsed.what == "claim":
            log.firsts.append(parsed.first)
        else:
            log.lost.add(parsed.first)
    for key, log in sorted(logs.items()):
        log.firsts.sort()
        for first in sorted(log.lost.difference(log.firsts)):
            path = layout.lost_path(key.kind, key.stream, key.partition, first)
            report.problems.append(Problem("claim-missing", path, "it stands there without its claim", key))
    return logs


def _in_order(patient: Patient, key: LineKey, log: _Log, *, fast: bool) -> Iterator[Checked]:
    """The claims of a line, checked in parallel, in the order of their offsets."""
    window: deque[Future[Checked]] = deque()
    with ThreadPoolExecutor(PARALLEL_CLAIMS, "verify") as pool:
        try:
            for first in log.firsts:
                window.append(pool.submit(check_claim, patient, key, first, lost=first in log.lost, fast=fast))
                if len(window) > PARALLEL_CLAIMS:
                    yield window.popleft().result()
            while window:
                yield window.popleft().result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


class _Line:
    """A line claim by claim: what each must begin with, and which one may be unfinished."""

    def __init__(self, patient: Patient, key: LineKey, log: _Log, report: Report) -> None:
        self._report = report
        self._line = LineReport(key)
        self._next: int | None = None  # where the next claim begins; None where that cannot be known
        self._done: int | None = -1
        self._unfinished: Checked | None = None
        report.lines.append(self._line)
        self._origin(patient, key, log)

    def add(self, checked: Checked) -> None:
        """The next claim by offset."""
        self._report.problems += checked.problems
        self._finish_last(strict=True)  # a claim is made only after the one before it is finished
        self._unfinished = checked if checked.missing else None
        line, claim = self._line, checked.claim
        line.claims += 1
        line.files += checked.files
        line.rows += checked.rows
        if self._next is not None and checked.first != self._next:
            if checked.first > self._next:
                detail = f"offsets {self._next}-{checked.first - 1} are in no claim"
                self._problem("hole", checked.path, detail)
            else:
                detail = f"it begins at {checked.first}, the claim before it ends at {self._next - 1}"
                self._problem("overlap", checked.path, detail)
        if claim is None:
            self._next = self._done = None
            return
        if self._done is not None and claim.done_before != self._done:
            detail = f"it begins after raw offset {claim.done_before}, the claim before it ended at {self._done}"
            self._problem("done-broken", checked.path, detail)
        if line.topic is not None and claim.topic != line.topic:
            self._problem("another-topic", checked.path, f"it is of topic {claim.topic}, the line of {line.topic}")
        line.last, line.done, line.last_timestamp_ms = claim.last, claim.done_after, claim.last_timestamp_ms
        line.dead += claim.dead
        self._next, self._done = claim.last + 1, claim.done_after
        self._losses(checked, claim)

    def end(self, *, strict: bool) -> None:
        """After the last claim, which alone may be unfinished."""
        self._finish_last(strict=strict)

    def _origin(self, patient: Patient, key: LineKey, log: _Log) -> None:
        path = layout.origin_path(key.kind, key.stream, key.partition)
        body = patient.get(path) if log.origin else None
        if body is None:
            self._problem("origin-missing", path, "there are claims, and nothing says where they must begin")
            return
        try:
            origin = claims.decode(body, Origin, path)
        except UnknownVersion as error:
            self._problem("unknown-version", path, str(error))
        except FatalError as error:
            self._problem("origin-damaged", path, str(error))
        else:
            self._next = self._line.first = origin.first
            self._line.topic, self._line.cluster_id = origin.topic, origin.cluster_id
            self._line.raw_stream = origin.raw_stream
            self._done = claims.done_before(key.kind, origin)

    def _losses(self, checked: Checked, claim: Claim) -> None:
        times = claim.min_recv_ns, claim.max_recv_ns
        key = self._line.line
        for first, last in claim.holes:
            self._report.losses.append(Loss("source-hole", checked.path, key, first, last, (), *times))
        if checked.lost is not None:
            path = layout.lost_path(key.kind, key.stream, key.partition, claim.first)
            missing = checked.lost.missing
            self._report.losses.append(Loss("lost-claim", path, key, claim.first, claim.last, missing, *times))

    def _finish_last(self, *, strict: bool) -> None:
        checked = self._unfinished
        if checked is None:
            return
        if strict:
            for entry in checked.missing:
                self._problem("file-missing", entry.path, f"{checked.path} promises {entry.rows:,} rows in it")
        else:
            self._line.open = checked.path
            self._line.open_files = tuple(entry.path for entry in checked.missing)

    def _problem(self, what: ProblemWord, path: str, detail: str) -> None:
        self._report.problems.append(Problem(what, path, detail, self._line.line))


def _one_cluster_per_stream(report: Report) -> None:
    """A stream is one incarnation of the topics of one Kafka cluster, whatever the kind and partition."""
    clusters: dict[str, LineReport] = {}  # the first line of each stream, with which the others are compared
    topics: dict[tuple[str, str], LineReport] = {}
    for line in report.lines:
        if line.cluster_id is None:
            continue
        key = line.line
        first, alike = clusters.setdefault(key.stream, line), topics.setdefault((key.stream, key.kind), line)
        if first.cluster_id != line.cluster_id:
            detail = f"of Kafka cluster {line.cluster_id}, while {first.line} is of {first.cluster_id}"
        elif alike.topic != line.topic:
            detail = f"of topic {line.topic}, while {alike.line} is of {alike.topic}"
        else:
            continue
        path = layout.origin_path(line.line.kind, line.line.stream, line.line.partition)
        report.problems.append(Problem("two-lineages", path, detail, line.line))


def _nothing_else(store: Store, patient: Patient, report: Report, promised: _Hashes) -> None:
    """Every object is promised by a claim, is part of a claim log, or is a listing of instruments."""
    newer = unreadable = 0
    for entry in store.walk(""):
        report.objects += 1
        path = entry.path
        if layout.parse_claim_path(path) is not None or path.startswith(f"{layout.PROBE_ROOT}/"):
            continue
        if layout.parse_listing_path(path) is not None:  # the reader writes them, of no topic and by no claim
            continue
        hashed = np.uint64(path_hash(path))
        at = int(np.searchsorted(promised, hashed))
        if at < len(promised) and promised[at] == hashed:
            continue
        try:
            if _promised_meanwhile(patient, path):
                newer += 1
            else:
                report.problems.append(Problem("foreign-object", path, f"{entry.size:,} bytes that no claim promises"))
        except FatalError:  # its claim is damaged, which is reported; whether it promises this file nobody can say
            unreadable += 1
    if newer:
        report.notes.append(f"{newer:,} files were written while this ran; they are not counted")
    if unreadable:
        report.notes.append(f"{unreadable:,} files belong to claims that cannot be read; they are not counted")


def _promised_meanwhile(patient: Patient, path: str) -> bool:
    """Whether a claim promises this file that a running writer made after the claims were listed."""
    parsed = layout.parse_data_path(path)
    if parsed is None:
        return False
    claim_path = layout.claim_path(parsed.kind, parsed.stream, parsed.partition, parsed.first)
    body = patient.get(claim_path)
    return body is not None and any(entry.path == path for entry in claims.decode(body, Claim, claim_path).files)
