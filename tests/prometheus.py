"""Prometheus' HTTP API, as tests ask it."""

from __future__ import annotations

import json
import urllib.parse
import urllib.request
from datetime import datetime
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
        return min(datetime.fromisoformat(_microseconds(one["lastScrape"])).timestamp() for one in self.targets())

    def _get(self, path: str, **parameters: str) -> dict[str, Any]:
        url = f"{self.url}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        with urllib.request.urlopen(url, timeout=10) as answer:
            return dict(json.load(answer)["data"])


def _microseconds(text: str) -> str:
    """Go writes nanoseconds, Python reads microseconds."""
    whole, _, fraction = text.rstrip("Z").partition(".")
    return f"{whole}.{fraction[:6] or '0'}+00:00"
