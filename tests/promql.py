"""Enough of PromQL to hold a query against the metric definitions: which series it names, by which labels and values.

Whether it is PromQL at all, promtool and Prometheus say.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from cryptoflow.dashboards import SERIES_SUFFIXES, recorded
from shared.metrics import DEFINITIONS

TARGET_LABELS = {"job", "instance"}
JOBS = ("reader", "flattener", "s3writer", "prometheus")
FOREIGN = {
    "up": set(),
    "ALERTS": {"alertname", "alertstate", "severity"},
    "process_cpu_seconds_total": set(),
    "process_resident_memory_bytes": set(),
    "prometheus_rule_evaluation_failures_total": {"rule_group"},
}
"""What Prometheus itself and its client libraries add, with labels beside the target's."""

_DEFINED = {definition.name: definition for definition in DEFINITIONS}
_SELECTOR = re.compile(r"([a-zA-Z_:][a-zA-Z0-9_:]*)\{([^}]*)\}")
_BARE = re.compile(r"\b([a-zA-Z_:][a-zA-Z0-9_:]*)\b(?!\s*\()")
_MATCHER = re.compile(r'([a-zA-Z_]\w*)\s*(=~|!~|!=|=)\s*"([^"]*)"')
_LABEL_LIST = re.compile(r"\b(?:by|without|on|ignoring|group_left|group_right)\s*\(([^)]*)\)")
_BY = re.compile(r"\bby\s*\(([^)]*)\)")
_LABEL_REPLACE = re.compile(r'label_replace\(.*?,\s*"(\w+)"')
_WORDS = {
    "and",
    "or",
    "unless",
    "bool",
    "offset",
    "by",
    "without",
    "on",
    "ignoring",
    "group_left",
    "group_right",
    "time",
}


@dataclass
class Query:
    """What an expression names: series with their matchers, labels it groups by, labels its result may have."""

    series: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    grouping: set[str] = field(default_factory=set)
    result: set[str] = field(default_factory=set)


def scan(expr: str) -> Query:
    """Reads an expression."""
    found = Query()
    lists = [_names(match) for match in _LABEL_LIST.findall(expr)]
    found.grouping = set().union(*lists) if lists else set()
    bare = re.sub(r"\[[^\]]*\]", "", _LABEL_LIST.sub("", expr))
    for name, inside in _SELECTOR.findall(bare):
        found.series.append((name, {label: op + value for label, op, value in _MATCHER.findall(inside)}))
    bare = re.sub(r'"[^"]*"', "", _SELECTOR.sub("", bare))
    names = [name for name in _BARE.findall(bare) if name not in _WORDS]
    found.series += [(name, {}) for name in names]
    by = [_names(match) for match in _BY.findall(expr)]
    replaced = set(_LABEL_REPLACE.findall(expr))
    every = set().union(*(labels_of(name) or set() for name, _ in found.series))
    found.result = (set().union(*by) if by else every) | replaced
    return found


def labels_of(name: str) -> set[str] | None:
    """The labels a series has; None if nothing of this name exists."""
    if name in FOREIGN:
        return FOREIGN[name] | TARGET_LABELS
    if name in recorded():
        return scan(recorded()[name]).result
    definition = _definition(name)
    if definition is None:
        return None
    more = {"le"} if name.endswith("_bucket") else set()
    return {*definition.labels, *TARGET_LABELS, *more}


def problems(expr: str, legend: str = "") -> list[str]:
    """What an expression and the legend of its series name that does not exist."""
    query = scan(expr)
    found = [] if query.series else ["it asks for nothing"]
    every: set[str] = set()
    for name, matchers in query.series:
        labels = labels_of(name)
        if labels is None:
            found.append(f"there is no metric {name}")
            continue
        every |= labels
        found += [f"{name} has no label {label}" for label in matchers if label not in labels]
        found += [
            f"{name} never has {label}={value}"
            for label, matcher in matchers.items()
            for value in _values(matcher)
            if value not in (_known_values(name, label) or (value,))
        ]
    found += [f"no series has the label {label}" for label in query.grouping - every]
    found += [
        f"the legend wants {label}" for label in re.findall(r"\{\{(\w+)\}\}", legend) if label not in query.result
    ]
    return found


def _definition(name: str):
    if name in _DEFINED:
        return _DEFINED[name]
    base = next((name.removesuffix(suffix) for suffix in SERIES_SUFFIXES if name.endswith(suffix)), "")
    histogram = _DEFINED.get(base)
    return histogram if histogram is not None and histogram.kind == "histogram" else None


def _known_values(name: str, label: str) -> tuple[str, ...] | None:
    if label == "job":
        return JOBS
    definition = _definition(name)
    if definition is not None:
        return tuple(definition.values.get(label, ())) or None
    if name in recorded():
        return next((known for each, _ in scan(recorded()[name]).series if (known := _known_values(each, label))), None)
    return None


def _values(matcher: str) -> list[str]:
    operator, value = re.fullmatch(r"(=~|!~|!=|=)(.*)", matcher).groups()
    if value.startswith("$"):
        return []
    return value.split("|") if operator in {"=~", "!~"} else [value]


def _names(inside: str) -> set[str]:
    return {name.strip() for name in inside.split(",") if name.strip()}
