"""The cells of the matrix: each brings one fault about, at one step, and returns when the line may come to rest.

A cell draws whatever may vary (which time, how long, which partition) from the run's own `rng`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from shared.lake.report import Verdict
    from tests.matrix.world import World

COMPLETE: frozenset[Verdict] = frozenset({"complete"})
LOSSY: frozenset[Verdict] = frozenset({"lossy"})
LOSSES: frozenset[Verdict] = frozenset({"complete", "lossy"})


@dataclass(frozen=True)
class Cell:
    """A fault. `verdicts`: what `lake verify` may say afterwards."""

    name: str
    play: Callable[[World], Awaitable[None]]
    verdicts: frozenset[Verdict] = COMPLETE

    @property
    def group(self) -> str:
        """The row of the table that it counts in."""
        return self.name.split()[0]


def all_cells() -> list[Cell]:
    """In a fixed order, neighbours of different groups: a few runs in a row see some of each."""
    from tests.matrix import cells_crash, cells_flattener, cells_kafka, cells_store  # noqa: PLC0415 - they import `Cell`

    groups = [module.CELLS for module in (cells_crash, cells_store, cells_kafka, cells_flattener)]
    spread = sorted(((n + 0.5) / len(group), g, n) for g, group in enumerate(groups) for n in range(len(group)))
    return [groups[g][n] for _, g, n in spread]
