"""From the runs of `bench.line` to its figures: medians, spread, ratios, growth."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from bench.contenders import CONTENDERS, DRAIN, OURS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from bench.accounting import Spent
    from bench.contenders import Contender
    from bench.stored import Stored
    from bench.work import Filled

MIB = 2**20
LEAST_SECONDS = 0.001  # a work too small to be told from a start says nothing, but divides by nothing either


@dataclass(frozen=True)
class Run:
    """One contender over one topic."""

    contender: str
    size: int  # 0: a single message, for what a start costs
    filled: Filled
    parts: dict[str, Spent]
    stored: Stored | None

    @property
    def spent(self) -> Spent:
        first, *others = self.parts.values()
        return sum(others, first)


def starts(runs: Iterable[Run]) -> dict[str, float]:
    """Median CPU seconds of a start and an end with nothing much between, by contender and by part of ours."""
    found: dict[str, list[float]] = {}
    for run in runs:
        if run.size == 0:
            found.setdefault(run.contender, []).append(run.spent.cpu_seconds)
            for part, spent in run.parts.items():
                if part != run.contender:
                    found.setdefault(part, []).append(spent.cpu_seconds)
    return {name: statistics.median(values) for name, values in found.items()}


def spread(values: Sequence[float], digits: int | None = None) -> dict[str, float]:
    """Median, lowest, highest."""
    return {
        name: round(of(values), digits)
        for name, of in (("median", statistics.median), ("lowest", min), ("highest", max))
    }


def figures(runs: Sequence[Run], start: dict[str, float]) -> dict[str, Any]:
    """Of one work: every contender at its own size."""
    found: dict[str, Any] = {}
    for contender in CONTENDERS:
        mine = [run for run in runs if run.contender == contender.name and run.size]
        if mine:
            largest = max(run.size for run in mine)
            found[contender.name] = _of(contender, [run for run in mine if run.size == largest], start)
    return found


def _of(contender: Contender, runs: Sequence[Run], start: dict[str, float]) -> dict[str, Any]:
    name, filled, stored = contender.name, runs[0].filled, runs[0].stored

    def over(measure: Callable[[Run], float], digits: int | None = None) -> dict[str, float]:
        return spread([measure(run) for run in runs], digits)

    def net(run: Run) -> float:
        return max(run.spent.cpu_seconds - start[name], LEAST_SECONDS)

    found: dict[str, Any] = {
        "does": contender.does,
        "setup": contender.setup,
        "row_is": contender.row_is,
        "runs": len(runs),
        "messages": filled.messages,
        "levels": filled.levels,
        "levels_per_cpu_second": over(lambda run: filled.levels / net(run)),
        "messages_per_cpu_second": over(lambda run: filled.messages / net(run)),
        "levels_per_cpu_second_with_start": over(lambda run: filled.levels / run.spent.cpu_seconds),
        "levels_per_wall_second_with_start": over(lambda run: filled.levels / run.spent.wall_seconds),
        "start_cpu_seconds": round(start[name], 2),
        "peak_rss_mib": over(lambda run: run.spent.peak_rss_bytes / MIB),
    }
    if stored:
        found |= {"stored_rows": stored.rows, "stored_levels": stored.levels, "files": stored.files}
        found["bytes_per_level"] = round(stored.bytes / stored.levels, 2)
        found["rows_per_cpu_second"] = over(lambda run: stored.rows / net(run))
    if len(runs[0].parts) > 1:
        found["parts"] = {part: _part(part, runs, start[part]) for part in runs[0].parts}
    return found


def _part(name: str, runs: Sequence[Run], start: float) -> dict[str, Any]:
    spent = [run.parts[name] for run in runs]
    levels = runs[0].filled.levels
    return {
        "levels_per_cpu_second": spread([levels / max(each.cpu_seconds - start, LEAST_SECONDS) for each in spent]),
        "peak_rss_mib": spread([each.peak_rss_bytes / MIB for each in spent]),
    }


def ratios(found: dict[str, Any], unit: str) -> dict[str, float]:
    """How many `unit` (levels, rows) we store a CPU second for each that another does, by the medians."""
    rate = {name: entry[f"{unit}_per_cpu_second"]["median"] for name, entry in found.items() if name != DRAIN}
    others = [name for name in rate if name != OURS]
    return {f"over {name}": round(rate[OURS] / rate[name], 2) for name in others} if OURS in rate else {}


def limits(measured: Sequence[dict[str, float]], levels: int, found: dict[str, Any]) -> dict[str, Any]:
    """Levels a CPU second of each limit, and the share of it that we reach."""
    rates = {name: spread([levels / each[name] for each in measured]) for name in measured[0]} if measured else {}
    if DRAIN in found:
        rates[DRAIN] = found[DRAIN]["levels_per_cpu_second"]
    ours = found[OURS]["levels_per_cpu_second"]["median"] if OURS in found else None
    return {
        name: {"levels_per_cpu_second": rate} | ({"we_reach": round(ours / rate["median"], 4)} if ours else {})
        for name, rate in rates.items()
    }


def growth(runs: Sequence[Run]) -> dict[str, Any]:
    """What a further level costs us from one size to the next, which a start's cost does not touch; and peak memory."""
    mine = {
        size: [run for run in runs if run.contender == OURS and run.size == size]
        for size in sorted({run.size for run in runs if run.contender == OURS and run.size})
    }
    found: dict[str, Any] = {}
    for size, chosen in mine.items():
        found[f"{size}x"] = {
            "levels": chosen[0].filled.levels,
            "cpu_seconds": spread([run.spent.cpu_seconds for run in chosen], 2),
            "peak_rss_mib": {
                part: round(statistics.median(run.parts[part].peak_rss_bytes / MIB for run in chosen))
                for part in chosen[0].parts
            },
        }
    further = {}
    for (name, less), (_, more) in pairwise(found.items()):
        seconds = more["cpu_seconds"]["median"] - less["cpu_seconds"]["median"]
        further[f"beyond {name}"] = round(1e9 * seconds / (more["levels"] - less["levels"]), 1)
    return found | {"cpu_ns_per_further_level": further}
