"""Figures of a reader that runs: from its metrics and from the system's account of its process."""

from __future__ import annotations

import statistics
import time
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import psutil
from prometheus_client.parser import text_string_to_metric_families

from cryptoflow.demo_probe import get, metric_sum

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from cryptoflow.demo_processes import Child

PRODUCED = "cryptoflow_produced_records_total"
LATENCY = "cryptoflow_latency_seconds_bucket"
UNANCHORED = "cryptoflow_symbols_without_anchor"


def measured(child: Child, published: Callable[[], float], seconds: float) -> dict[str, float]:
    """Records acknowledged and CPU time spent between two looks."""
    process = psutil.Process(child.process.pid)

    def look() -> tuple[float, float, float]:
        records = published()
        spent = process.cpu_times()
        return records, spent.user + spent.system, time.monotonic()

    first = look()
    time.sleep(seconds)
    frames, cpu_seconds, wall_seconds = (after - before for before, after in zip(first, look(), strict=True))
    if not frames:
        raise SystemExit(f"{child.name} published nothing in {seconds:g} s: nothing was measured")
    return {
        "frames_per_cpu_second": frames / cpu_seconds,
        "frames_per_second": frames / wall_seconds,
        "cpu_us_per_frame": cpu_seconds / frames * 1e6,
    }


def produced(url: str) -> float:
    """Records that the reader at `url` has had acknowledged."""
    return metric_sum(url, PRODUCED) or 0.0


def medians(found: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Of each figure over the rounds."""
    return {name: statistics.median(each[name] for each in found) for name in found[0]}


def anchored(url: str, symbols: int) -> bool:
    """Whether every symbol flows and has its anchor."""
    return (metric_sum(url, "cryptoflow_anchors_total") or 0) >= symbols and not metric_sum(url, UNANCHORED)


def samples(url: str) -> list[Any]:
    """All metrics of a service."""
    text = (get(f"{url}/metrics") or b"").decode()
    return [sample for family in text_string_to_metric_families(text) for sample in family.samples]


def buckets(found: list[Any]) -> dict[float, float]:
    """Records acknowledged within so many seconds of their receipt, cumulated."""
    chosen = [each for each in found if each.name == LATENCY and each.labels["stage"] == "published"]
    return {float(each.labels["le"]): each.value for each in chosen}


def quantile(counts: Mapping[float, float], of: float) -> tuple[float, float, float]:
    """An estimate in seconds, as if values were spread evenly in their bucket; and that bucket's bounds."""
    bounds = sorted(counts)
    wanted = of * counts[bounds[-1]]
    for low, high in pairwise([0.0, *bounds]):
        below, within = counts.get(low, 0.0), counts[high]
        if within >= wanted and within > below:
            return low + (high - low) * (wanted - below) / (within - below), low, high
    raise SystemExit("no record was acknowledged")


def in_words(counts: Mapping[float, float], of: float) -> str:
    """In milliseconds, with the bounds of its bucket."""
    found, low, high = (1000 * value for value in quantile(counts, of))
    return f"{found:.1f} (between {low:g} and {high:g})"


def check(found: list[Any], symbols: int) -> None:
    """No frame is missing since the reader's start, and none came twice."""
    gaps = {each.labels["cause"]: each.value for each in found if each.name == "cryptoflow_gaps_total" and each.value}
    dropped = sum(each.value for each in found if each.name == "cryptoflow_updates_dropped_total")
    if gaps != {"start": symbols} or dropped:
        raise SystemExit(f"the chain of ids did not hold: gaps {gaps}, dropped {dropped:g}; nothing was measured")
