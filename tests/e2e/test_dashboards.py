"""Every panel's query, sent to the Prometheus of a running stack, has an answer: what is 0 in peace is 0 and not absent."""

from __future__ import annotations

import math
import re
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from cryptoflow.reference import DASHBOARDS
from tests.support import ROOT, eventually_sync

if TYPE_CHECKING:
    from cryptoflow.dashboards import Dashboard
    from tests.prometheus import Prometheus

pytestmark = [pytest.mark.docker, pytest.mark.xdist_group("compose"), pytest.mark.timeout(600)]

FIRST_FLUSH_SECONDS = 120.0
JOBS = {"reader", "flattener", "s3writer", "prometheus"}


@pytest.fixture(scope="module")
def prometheus(stack) -> Prometheus:
    return stack.prometheus


@pytest.mark.parametrize("dashboard", DASHBOARDS, ids=lambda each: each.name)
def test_every_panel_has_data(prometheus, dashboard):
    def without() -> list[str]:
        return [expr for expr in _queries(dashboard) if not _answered(prometheus, expr)]

    with suppress(AssertionError):
        eventually_sync(lambda: not without(), FIRST_FLUSH_SECONDS)
    assert without() == []


@pytest.mark.parametrize("dashboard", DASHBOARDS, ids=lambda each: each.name)
def test_every_choice_has_values(prometheus, dashboard):
    for variable in dashboard.variables:
        assert prometheus.query(f"count by ({variable.label}) ({variable.metric})")


def test_every_series_that_an_alert_looks_at_is_there_before_its_fault(prometheus):
    """An increase from nothing to 1 is none: rate() and increase() do not see a counter being born."""
    rules = "".join(path.read_text() for path in (ROOT / "deploy/prometheus/rules").glob("*.yml"))
    counters = set(re.findall(r"cryptoflow_\w+_total(?:\{[^}]*\})?", rules))
    assert len(counters) > 10
    assert [name for name in sorted(counters) if not prometheus.query(name)] == []


def test_every_replica_is_found_and_up(prometheus):
    def up() -> bool:
        targets = prometheus.targets()
        return {one["labels"]["job"] for one in targets} == JOBS and {one["health"] for one in targets} == {"up"}

    eventually_sync(up, what="every target is up")


def _queries(dashboard: Dashboard) -> list[str]:
    texts = [query.expr for panel in dashboard.panels() for query in panel.queries]
    texts = [text.replace("$__rate_interval", "1m").replace("$__range", "5m") for text in texts]
    return [re.sub(r"\$\w+", ".*", text) for text in texts]


def _answered(prometheus: Prometheus, expr: str) -> bool:
    """Something, and not only the NaN of a quantile or quotient of nothing."""
    return any(not math.isnan(sample.value) for sample in prometheus.query(expr))
