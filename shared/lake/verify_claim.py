"""One claim against the store: its own fields, then each file that it names.

Knows nothing of the claims before and after it; `verify` does. Reads only.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import xxhash

from shared.errors import FatalError, UnknownVersion
from shared.lake import claims, layout
from shared.lake.claims import Claim, FileEntry, LostClaim
from shared.lake.report import LineKey, Problem
from shared.lake.schema import SCHEMA_VERSION
from shared.lake.verify_file import Offsets, Wrong, footer_is_right, rows_are_right

if TYPE_CHECKING:
    from collections.abc import Iterator

    from shared.lake.claims import Document
    from shared.lake.layout import DataPath
    from shared.lake.patient import Patient
    from shared.lake.report import ProblemWord


@dataclass(slots=True)
class Checked:
    """What was found about one claim. `missing` are the files that are not there and that nobody has declared lost."""

    line: LineKey
    first: int
    claim: Claim | None = None
    lost: LostClaim | None = None
    missing: list[FileEntry] = field(default_factory=list)
    promised: list[int] = field(default_factory=list)  # `path_hash` of each file
    files: int = 0
    rows: int = 0
    problems: list[Problem] = field(default_factory=list)

    @property
    def path(self) -> str:
        """The claim's own path."""
        return layout.claim_path(self.line.kind, self.line.stream, self.line.partition, self.first)

    def problem(self, what: ProblemWord, detail: str, path: str | None = None) -> None:
        """Note damage, by default of the claim itself."""
        self.problems.append(Problem(what, path or self.path, detail, self.line))


def path_hash(path: str) -> int:
    """64 bits that stand for a path, so that a lake of millions of files needs megabytes."""
    return xxhash.xxh3_64_intdigest(path.encode())


def check_claim(store: Patient, line: LineKey, first: int, *, lost: bool, fast: bool) -> Checked:
    """Check the claim at `first` of a line, and its files. `lost`: it has a ``.lost.json``."""
    checked = Checked(line, first)
    claim = _document(store, checked, checked.path, Claim)
    if claim is None:
        return checked
    named = LineKey(claim.kind, claim.stream, claim.partition)
    if (named, claim.first) != (line, first):
        checked.problem("claim-misplaced", f"it says that it is claim {claim.first} of {named}")
        return checked
    checked.claim = claim
    for detail in _contradictions(claim):
        checked.problem("claim-damaged", detail)
    if lost:
        path = layout.lost_path(line.kind, line.stream, line.partition, first)
        checked.lost = _document(store, checked, path, LostClaim)
        if checked.lost and (checked.lost.last, checked.lost.promised) != (claim.last, claim.files):
            checked.problem("claim-damaged", "it declares the loss of another claim's files", path)
    _check_files(store, checked, claim, fast=fast)
    return checked


def _check_files(store: Patient, checked: Checked, claim: Claim, *, fast: bool) -> None:
    declared = frozenset(checked.lost.missing) if checked.lost else frozenset[str]()
    offsets = Offsets(claim)
    for entry in claim.files:
        checked.promised.append(path_hash(entry.path))
        parsed = layout.parse_data_path(entry.path)
        if parsed is None or _of_claim(parsed) != (checked.line, claim.first, claim.last):
            checked.problem("file-not-of-claim", "its name is not of this claim's partition and range", entry.path)
            continue
        try:
            if fast:
                there = footer_is_right(store, entry, parsed, claim)
            else:
                there = rows_are_right(store, entry, parsed, claim, offsets)
        except Wrong as wrong:
            checked.problem(wrong.what, str(wrong), entry.path)
            there = True
        if there:
            checked.files += 1
            checked.rows += entry.rows
        elif entry.path not in declared:
            checked.missing.append(entry)
    if not (fast or declared or checked.missing or checked.problems):
        for detail in offsets.contradictions():
            checked.problem("rows-missing", detail)


def _document(store: Patient, checked: Checked, path: str, type_: type[Document]) -> Document | None:
    body = store.get(path)
    if body is None:
        checked.problem("claim-missing", "it was listed and is not there", path)
        return None
    try:
        return claims.decode(body, type_, path)
    except UnknownVersion as error:
        checked.problem("unknown-version", str(error), path)
    except FatalError as error:
        checked.problem("claim-damaged", str(error), path)
    return None


def _contradictions(claim: Claim) -> Iterator[str]:
    if claim.layout != layout.LAYOUT_VERSION:
        yield f"layout {claim.layout}; this release knows {layout.LAYOUT_VERSION}"
    if claim.schema_version != SCHEMA_VERSION:
        yield f"schema version {claim.schema_version}; this release knows {SCHEMA_VERSION}"
    if claim.last < claim.first:
        yield f"its range {claim.first}-{claim.last} ends before it begins"
    if claim.done_after < claim.done_before:
        yield f"done goes back from {claim.done_before} to {claim.done_after}"
    before = claim.done_before
    for first, last in claim.holes:
        if not before < first <= last <= claim.done_after:
            yield f"hole {first}-{last} is not inside the raw offsets {before + 1}-{claim.done_after}"
        before = last
    paths = [entry.path for entry in claim.files]
    if len(set(paths)) < len(paths):
        yield "it names a file twice"


def _of_claim(parsed: DataPath) -> tuple[LineKey, int, int]:
    return LineKey(parsed.kind, parsed.stream, parsed.partition), parsed.first, parsed.last
