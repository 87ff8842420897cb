"""Prometheus' HTTP API, as tests ask it."""

from __future__ import annotations

import json
import time
import urllib.parse
import urllib.request
from datetime import datetime
from itertools import groupby
from operator import itemgetter
from typing import Any, NamedTuple


class Sample(NamedTuple):
    """One series' value."""

    labels: dict[str, str]
    value: float


class Prometheus:
    """`url` as a person opens it."""

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")

    def query(self, expr: str) -> list[Sample]:
        """The series of an expression, now."""
        found = self._get("query", query=expr)["result"]
        return [Sample(one["metric"], float(one["value"][1])) for one in found]

    def value(self, expr: str) -> float | None:
        """The sum of an expression's series; None if there is none."""
        samples = self.query(expr)
        return sum(sample.value for sample in samples) if samples else None

    def by(self, expr: str, *labels: str) -> dict[tuple[str, ...], float]:
        """The series of an expression by the values of these labels."""
        return {tuple(labels_[name] for name in labels): value for labels_, value in self.query(expr)}

    def alerts(self) -> list[dict[str, Any]]:
        """Those that are pending or firing."""
        return list(self._get("alerts")["alerts"])

    def alert(self, name: str, **labels: str) -> dict[str, Any] | None:
        """One of this name with these labels."""
        wanted = {"alertname": name, **labels}
        return next((one for one in self.alerts() if wanted.items() <= one["labels"].items()), None)

    def targets(self) -> list[dict[str, Any]]:
        """What it scrapes."""
        return list(self._get("targets", state="active")["activeTargets"])

    def scraped_at(self) -> float:
        """When the target that was longest left alone was asked, seconds since the epoch."""
        return min(_seconds(one["lastScrape"]) for one in self.targets())

    def explain(self, name: str) -> str:
        """Why there may be no alert of this name: what its rule saw, and what it was evaluated upon."""
        now = time.time()
        its_clock = float(self._get("query", query="time()")["result"][1])
        told = [f"Prometheus' clock is {its_clock - now:+.1f} s from ours; times below are seconds from its now"]
        for group in self._get("rules", type="alert")["groups"]:
            looked = f"evaluated {_ago(group['lastEvaluation'], its_clock)}, took {group['evaluationTime']:.3f} s"
            told.append(f"group {group['name']}: every {group['interval']} s, {looked}")
            for rule in group["rules"]:
                if rule["name"] == name or rule["health"] != "ok":
                    told.append(f"  {rule['name']}: {rule['state']}, {rule['health']} {rule.get('lastError', '')}")
                    told.append(f"    {rule['query']}")
        for one in self.targets():
            looked = f"asked {_ago(one['lastScrape'], its_clock)}, took {one['lastScrapeDuration']:.3f} s"
            told.append(f"target {one['labels']}: {one['health']}, {looked} {one['lastError']}")
        told += [
            f"up {series['metric']['job']} {series['metric']['instance']}:{_runs(series['values'], its_clock)}"
            for series in self._get("query", query="up[2m]")["result"]
        ]
        told += [f"alert {one['state']}: {one['labels']}" for one in self.alerts()]
        return "\n".join(told)

    def _get(self, path: str, **parameters: str) -> dict[str, Any]:
        url = f"{self.url}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        with urllib.request.urlopen(url, timeout=10) as answer:
            return dict(json.load(answer)["data"])


def _seconds(text: str) -> float:
    """Since the epoch. Go writes nanoseconds, Python reads microseconds."""
    whole, _, fraction = text.rstrip("Z").partition(".")
    return datetime.fromisoformat(f"{whole}.{fraction[:6] or '0'}+00:00").timestamp()


def _ago(text: str, now: float) -> str:
    return f"{_seconds(text) - now:+.1f}"


def _runs(samples: list[tuple[float, str]], now: float) -> str:
    """Equal values in a row, with the first and the latest time of each."""
    runs = [[*group] for _, group in groupby(samples, key=itemgetter(1))]
    return "".join(f" {run[0][1]} from {run[0][0] - now:+.1f} to {run[-1][0] - now:+.1f} ({len(run)})" for run in runs)
