"""What `verify` found: problems, losses, and how far each line reaches. For people as text, for machines as JSON.

A *problem* is damage: something that the claims promise and the lake does not hold, or the reverse. A *loss* is what the
lake itself declares: raw records that Kafka no longer had when they were wanted. Neither is ever guessed away.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from shared.lake.against import Against
    from shared.lake.kinds import LakeKind

ProblemWord = Literal[
    "origin-missing",
    "origin-damaged",
    "hole",
    "overlap",
    "done-broken",
    "claim-missing",
    "claim-damaged",
    "claim-misplaced",
    "another-topic",
    "two-lineages",
    "unknown-version",
    "file-missing",
    "file-damaged",
    "file-not-of-claim",
    "footer-wrong",
    "rows-wrong",
    "digest-wrong",
    "rows-misplaced",
    "rows-missing",
    "foreign-object",
    "rows-differ",
    "rows-extra",
    "rows-lost",
]
LossWord = Literal["source-hole", "lost-claim"]
Verdict = Literal["complete", "lossy", "damaged", "empty", "not-compared"]
EXIT_CODES: dict[Verdict, int] = {"complete": 0, "damaged": 1, "empty": 2, "not-compared": 2, "lossy": 3}


@dataclass(frozen=True, slots=True, order=True)
class LineKey:
    """One claim log: of a kind, a stream and a norm partition."""

    kind: LakeKind
    stream: str
    partition: int

    def __str__(self) -> str:
        return f"{self.kind}/{self.stream}/{self.partition}"


@dataclass(frozen=True, slots=True)
class Problem:
    """Damage. `what` is one of the words of docs/reading-the-lake.md; `path` is what is damaged, missing or foreign."""

    what: ProblemWord
    path: str
    detail: str
    line: LineKey | None = None

    def __str__(self) -> str:
        return f"{self.what}: {self.path}: {self.detail}"


@dataclass(frozen=True, slots=True)
class Loss:
    """What the lake declares lost: ``source-hole`` (raw offsets) or ``lost-claim`` (norm offsets), both ends included.

    It concerns every symbol of the partition, between these receive times where they are known.
    """

    what: LossWord
    path: str  # of the claim, or of its .lost.json
    line: LineKey
    first: int
    last: int
    files: tuple[str, ...] = ()  # promised and not there
    min_recv_ns: int | None = None  # of what is stored around it, by its claim
    max_recv_ns: int | None = None

    def __str__(self) -> str:
        what = "raw offsets" if self.what == "source-hole" else "norm offsets"
        files = f", {len(self.files)} files" if self.files else ""
        return f"{self.what}: {self.path}: {what} {self.first}-{self.last} of partition {self.line.partition}{files}"


@dataclass(slots=True)
class LineReport:
    """How far one line reaches. `first` and `last` are norm offsets, `done` is the last raw offset."""

    line: LineKey
    topic: str | None = None
    cluster_id: str | None = None
    raw_stream: str | None = None  # of a line made again from raw records: whose they are
    first: int | None = None
    last: int | None = None
    done: int = -1
    claims: int = 0
    files: int = 0
    rows: int = 0
    dead: int = 0
    open: str | None = None  # path of the last claim, where its files are not all there yet
    open_files: tuple[str, ...] = ()
    last_timestamp_ms: int | None = None


@dataclass(slots=True)
class Report:
    """The outcome of `verify`. `mode` is what was proven of each file: its rows (``full``) or its footer (``fast``)."""

    url: str
    mode: Literal["full", "fast"]
    lines: list[LineReport] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    losses: list[Loss] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    objects: int = 0  # all that lie under the prefix
    against: Against | None = None  # where it was compared with raw records

    @property
    def verdict(self) -> Verdict:
        """Damaged above all; empty where there is no claim log and no object; lossy above complete.

        Not compared: that was asked for, and raw records of what the lake holds are no longer to be had, or not readable.
        """
        if self.problems:
            return "damaged"
        if not self.lines:
            return "empty"
        if self.against is not None and self.rows and not self.against.done:
            return "not-compared"
        return "lossy" if self.losses else "complete"

    @property
    def ok(self) -> bool:
        """Proven complete: no damage, nothing lost."""
        return self.verdict == "complete"

    @property
    def exit_code(self) -> int:
        """0 complete, 1 damaged, 2 nothing there to verify or to compare with, 3 sound but with declared losses."""
        return EXIT_CODES[self.verdict]

    @property
    def rows(self) -> int:
        """Rows of all files that are there."""
        return sum(line.rows for line in self.lines)

    @property
    def files(self) -> int:
        """Data files that are there."""
        return sum(line.files for line in self.lines)

    @property
    def claims(self) -> int:
        """Claims of all lines."""
        return sum(line.claims for line in self.lines)

    @property
    def open(self) -> list[LineReport]:
        """Lines whose last claim is not finished: a writer is at work there, or will finish it when it starts."""
        return [line for line in self.lines if line.open]

    def __str__(self) -> str:
        counts = f"{self.rows:,} rows in {self.files:,} files, {self.claims:,} claims of {len(self.lines):,} partitions"
        parts = [self.verdict, counts, "footers only" if self.mode == "fast" else "every row read"]
        for number, word in (
            (len(self.problems), "problem"),
            (len(self.losses), "loss"),
            (len(self.open), "open claim"),
        ):
            if number:
                parts.append(f"{number:,} {word}{'' if number == 1 else 'es' if word == 'loss' else 's'}")
        return "; ".join(parts)

    def as_dict(self) -> dict[str, Any]:
        """Everything, for JSON."""
        totals = {"rows": self.rows, "files": self.files, "claims": self.claims}
        return {"verdict": self.verdict, "exit_code": self.exit_code, **totals, **asdict(self)}
