"""What a dashboard is: panels, what each asks for, in which unit, from when on it is red, and what it says of itself.

Hand-written dashboard JSON cannot be reviewed, and nothing holds it against the metrics. Here a panel is a few lines, and
its description is what `shared.metrics` says of the metrics it asks for. `cryptoflow.dashboard_json` writes what Grafana
reads. Never knows a particular dashboard.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import yaml

from shared.metrics import DEFINITIONS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

RECORDING_RULES = Path(__file__).parent.parent / "deploy/prometheus/rules/recording.yml"
METRIC = re.compile(r"\bcryptoflow[_:][a-zA-Z0-9_:]+")
SERIES_SUFFIXES = ("_bucket", "_sum", "_count")

GREEN, ORANGE, RED = "green", "orange", "red"
Kind = Literal["timeseries", "stat", "table"]


@dataclass(frozen=True, slots=True)
class Query:
    """What is asked, and how its series are called. `instant`: the value now instead of the time span."""

    expr: str
    legend: str = ""
    instant: bool = False


@dataclass(frozen=True, slots=True)
class Panel:
    """One picture. `unit` is Grafana's id; `limits` are (from this value on, colour), ascending, green below the first.

    `says` stands before what is known of the metrics.
    """

    title: str
    unit: str
    queries: Sequence[Query]
    kind: Kind = "timeseries"
    width: int = 8
    height: int = 7
    limits: Sequence[tuple[float, str]] = ()
    base: str = GREEN
    stacked: bool = False
    decimals: int | None = None
    says: str = ""


@dataclass(frozen=True, slots=True)
class Row:
    """Panels under a heading."""

    title: str
    panels: Sequence[Panel]


@dataclass(frozen=True, slots=True)
class Variable:
    """A choice above the panels: the values of `label` in `metric`, all of them by default."""

    label: str
    metric: str


@dataclass(frozen=True, slots=True)
class Dashboard:
    """`uid` is part of its address; `name` is its file's."""

    name: str
    title: str
    says: str
    rows: Sequence[Row]
    variables: Sequence[Variable] = ()
    tags: Sequence[str] = field(default=("cryptoflow",))

    @property
    def uid(self) -> str:
        """Never changes, or links break."""
        return f"cryptoflow-{self.name}"

    def panels(self) -> Iterator[Panel]:
        """All, in order."""
        for row in self.rows:
            yield from row.panels


def describe(panel: Panel) -> str:
    """What `shared.metrics` says of everything the panel asks for."""
    definitions = {definition.name: definition for definition in DEFINITIONS}
    parts = [panel.says] if panel.says else []
    for name in metrics_of(query.expr for query in panel.queries):
        found = definitions[name]
        parts.append(f"`{name}`: {found.help} {found.when_it_moves}")
    return "\n\n".join(parts)


def metrics_of(expressions: Iterable[str]) -> list[str]:
    """The metrics behind expressions, by the names of their definitions; those of recording rules included."""
    names: dict[str, None] = {}
    for expression in expressions:
        for name in METRIC.findall(expression):
            rule = recorded().get(name)
            found = [name] if rule is None else metrics_of([rule])
            names.update(dict.fromkeys(map(_defined, found)))
    return list(names)


@cache
def recorded() -> dict[str, str]:
    """The recording rules: name → expression."""
    content = yaml.safe_load(RECORDING_RULES.read_text(encoding="utf-8"))
    return {rule["record"]: rule["expr"] for group in content["groups"] for rule in group["rules"]}


def _defined(name: str) -> str:
    """A histogram's series carry its name and more."""
    names = {definition.name for definition in DEFINITIONS}
    cut = next((name.removesuffix(suffix) for suffix in SERIES_SUFFIXES if name.endswith(suffix)), name)
    return name if name in names else cut
