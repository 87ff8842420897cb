"""No panel asks for a metric, a label or a value that does not exist; every panel says what it shows."""

from __future__ import annotations

import json
import re

import pytest
import yaml

from cryptoflow.dashboard_json import GRID_WIDTH, render
from cryptoflow.dashboards import Dashboard, Panel, Query, Row, describe, metrics_of, recorded
from cryptoflow.reference import DASHBOARDS
from shared.metrics import DEFINITIONS
from tests.promql import labels_of, problems, scan
from tests.support import ROOT

PANELS = [
    pytest.param(dashboard, panel, id=f"{dashboard.name}: {panel.title}")
    for dashboard in DASHBOARDS
    for panel in dashboard.panels()
]
PROVISIONING = ROOT / "deploy/grafana/provisioning"


@pytest.mark.parametrize(("dashboard", "panel"), PANELS)
def test_a_panel_asks_only_for_what_exists(dashboard, panel):
    variables = {variable.label for variable in dashboard.variables} | {"__rate_interval", "__range"}
    for query in panel.queries:
        assert problems(query.expr, query.legend) == []
        assert set(re.findall(r"\$(\w+)", query.expr)) <= variables


@pytest.mark.parametrize(("dashboard", "panel"), PANELS)
def test_a_panel_says_what_it_shows_and_its_series_differ(dashboard, panel):
    assert len(describe(panel)) > 20
    for name in metrics_of(query.expr for query in panel.queries):
        assert next(one.help for one in DEFINITIONS if one.name == name) in describe(panel)
    if panel.kind != "table":
        assert all(query.legend for query in panel.queries)
        assert len({query.legend for query in panel.queries}) == len(panel.queries)


@pytest.mark.parametrize("dashboard", DASHBOARDS, ids=lambda each: each.name)
def test_panels_have_their_own_id_and_place(dashboard):
    content = json.loads(render(dashboard))
    panels = content["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken = set()
    for panel in panels:
        grid = panel["gridPos"]
        cells = {
            (x, y) for x in range(grid["x"], grid["x"] + grid["w"]) for y in range(grid["y"], grid["y"] + grid["h"])
        }
        assert max(x for x, _ in cells) < GRID_WIDTH
        assert not cells & taken
        taken |= cells


@pytest.mark.parametrize("dashboard", DASHBOARDS, ids=lambda each: each.name)
def test_variables_are_labels_of_their_metric(dashboard):
    for variable in dashboard.variables:
        assert variable.label in labels_of(variable.metric)
        asking = [q.expr for panel in dashboard.panels() for q in panel.queries if f"${variable.label}" in q.expr]
        assert asking, "a choice that changes nothing"


def test_every_metric_that_counts_holes_losses_or_repeats_is_on_a_dashboard():
    shown = {
        name for each in DASHBOARDS for panel in each.panels() for name in metrics_of(q.expr for q in panel.queries)
    }
    named = [one.name for one in DEFINITIONS]
    wanted = [
        name for name in named if re.search(r"gaps|lost|hole|dead_letters|repeated|unacknowledged|duplicate", name)
    ]
    assert len(wanted) >= 8
    assert [name for name in wanted if name not in shown] == []


def test_dashboards_are_found_by_the_provisioning_and_ask_its_source():
    [source] = yaml.safe_load((PROVISIONING / "datasources/prometheus.yml").read_text())["datasources"]
    for dashboard in DASHBOARDS:
        content = json.loads((ROOT / f"deploy/grafana/dashboards/{dashboard.name}.json").read_text())
        assert {panel["datasource"]["uid"] for panel in content["panels"] if panel["type"] != "row"} == {source["uid"]}
        assert content["uid"] == f"cryptoflow-{dashboard.name}"


def test_recording_rules_ask_only_for_what_exists_and_are_used():
    asked = [q.expr for each in DASHBOARDS for panel in each.panels() for q in panel.queries]
    alerts = (ROOT / "deploy/prometheus/rules/alerts.yml").read_text()
    for name, expr in recorded().items():
        assert problems(expr) == []
        assert any(name in text for text in [*asked, alerts]), f"nobody asks for {name}"


@pytest.mark.parametrize(
    ("expr", "legend", "problem"),
    [
        ("rate(cryptoflow_nothing_total[5m])", "", "there is no metric cryptoflow_nothing_total"),
        ("cryptoflow_ready_bucket", "", "there is no metric cryptoflow_ready_bucket"),
        ("sum by (colour) (cryptoflow_ready)", "", "no series has the label colour"),
        ('cryptoflow_gaps_total{colour="red"}', "", "cryptoflow_gaps_total has no label colour"),
        ('cryptoflow_gaps_total{cause=~"start|halt"}', "", "cryptoflow_gaps_total never has cause=halt"),
        ('cryptoflow:gaps:increase10m{cause="halt"}', "", "cryptoflow:gaps:increase10m never has cause=halt"),
        ('up{job="writer"}', "", "up never has job=writer"),
        ("sum by (kind) (cryptoflow_gaps_total)", "{{kind}} {{cause}}", "the legend wants cause"),
        ("vector(1)", "", "it asks for nothing"),
        ('sum(rate(cryptoflow_latency_seconds_bucket{stage="sent"}[1m]))', "", "cryptoflow_latency_seconds_bucket never has stage=sent"),
    ],
)  # fmt: skip
def test_what_does_not_exist_is_found(expr, legend, problem):
    assert problems(expr, legend) == [problem]


def test_a_query_is_read():
    query = scan(
        'sum by (kind, le) (rate(cryptoflow_flush_duration_seconds_bucket{kind=~"$kind",job="s3writer"}[5m]))'
        ' / on (kind) group_left () label_replace(up{job="reader"}, "kind", "x", "", "") and time() > 3'
    )
    assert query.series == [
        ("cryptoflow_flush_duration_seconds_bucket", {"kind": "=~$kind", "job": "=s3writer"}),
        ("up", {"job": "=reader"}),
    ]
    assert query.grouping == {"kind", "le"}


def test_a_panel_is_described_by_the_metrics_behind_a_recording_rule():
    panel = Panel("x", "s", [Query("cryptoflow:stored_lag_seconds:max", "{{topic}}")], says="First.")
    assert describe(panel).startswith("First.\n\n`cryptoflow_stored_lag_seconds`: Age of")
    content = json.loads(render(Dashboard("x", "X", "", [Row("r", [panel])])))
    assert content["panels"][1]["description"] == describe(panel)
