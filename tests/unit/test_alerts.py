"""Every alert asks for what exists, says what to do, and is proven by promtool both to fire and to keep quiet."""

from __future__ import annotations

import re
from itertools import chain

import pytest
import typer
import yaml

from cryptoflow.cli import app
from shared.config_sources import Keys
from shared.settings import Settings
from tests.promql import problems, scan
from tests.support import ROOT

PROMETHEUS = ROOT / "deploy/prometheus"
RUNBOOK = (ROOT / "docs/alerts.md").read_text()
GROUPS = yaml.safe_load((PROMETHEUS / "rules/alerts.yml").read_text())["groups"]
ALERTS = [pytest.param(rule, id=rule["alert"]) for group in GROUPS for rule in group["rules"]]
NAMES = [rule["alert"] for group in GROUPS for rule in group["rules"]]
CASES = [
    case
    for path in sorted((PROMETHEUS / "tests").glob("*.yml"))
    for test in yaml.safe_load(path.read_text())["tests"]
    for case in test["alert_rule_test"]
]
SECTION = re.compile(r"^### (\w+)\n(.*?)(?=^##|\Z)", re.MULTILINE | re.DOTALL)
SECTIONS = dict(SECTION.findall(RUNBOOK))
KEYS = Keys.of(Settings).leaves


@pytest.mark.parametrize("rule", ALERTS)
def test_an_alert_asks_only_for_what_exists(rule):
    labels = scan(rule["expr"]).result
    assert problems(rule["expr"]) == []
    told = " ".join(rule["annotations"].values())
    assert set(re.findall(r"\$labels\.(\w+)", told)) <= labels


@pytest.mark.parametrize("rule", ALERTS)
def test_an_alert_says_how_bad_it_is_and_where_to_read_on(rule):
    assert rule["labels"]["severity"] in {"critical", "warning"}
    assert set(rule["annotations"]) == {"summary", "description", "runbook_url"}
    assert rule["annotations"]["runbook_url"] == f"docs/alerts.md#{rule['alert'].lower()}"


@pytest.mark.parametrize("rule", ALERTS)
def test_a_case_fires_the_alert_and_another_leaves_it_quiet(rule):
    cases = [case for case in CASES if case["alertname"] == rule["alert"]]
    assert any(case["exp_alerts"] for case in cases)
    assert any(not case["exp_alerts"] for case in cases)


def test_no_name_is_used_twice():
    assert len(set(NAMES)) == len(NAMES)


def test_every_alert_has_its_section_and_every_section_its_alert():
    assert set(SECTIONS) == set(NAMES)


@pytest.mark.parametrize("rule", ALERTS)
def test_a_section_says_what_it_means_what_happens_by_itself_and_what_to_do(rule):
    section = SECTIONS[rule["alert"]]
    assert section.startswith(f"\n**{rule['labels']['severity']}**")
    for part in ("* Means", "* By itself: ", "* Do: ", "```sh\n"):
        assert part in section


def test_the_runbook_names_only_settings_commands_and_sections_that_exist():
    sections = {key.rpartition(".")[0] for key in KEYS} | {key.partition(".")[0] for key in KEYS}
    named = re.findall(r"`([a-z0-9]+(?:\.[a-z0-9_]+)+)`", RUNBOOK)
    assert named
    assert [name for name in named if name not in KEYS and name.partition(".")[0] in sections] == []
    root = typer.main.get_command(app)
    for words in re.findall(r"run --rm cryptoflow ([a-z-]+(?: [a-z-]+)?)", RUNBOOK):
        command = root
        for word in words.split():
            assert word in command.commands, words
            command = command.commands[word]
    assert set(re.findall(r"\]\(#(\w+)\)", RUNBOOK)) <= {name.lower() for name in NAMES}


def test_every_scenario_is_evaluated_in_the_groups_that_there_are():
    order = [
        group["name"]
        for group in chain(yaml.safe_load((PROMETHEUS / "rules/recording.yml").read_text())["groups"], GROUPS)
    ]
    for path in (PROMETHEUS / "tests").glob("*.yml"):
        assert yaml.safe_load(path.read_text())["group_eval_order"] == order, path


def test_prometheus_finds_the_services_by_their_names_and_hosts_by_a_file():
    content = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())
    jobs = {job["job_name"]: job for job in content["scrape_configs"]}
    for name in ("reader", "flattener", "s3writer"):
        [found] = jobs[name]["dns_sd_configs"]
        assert (found["names"], found["type"], found["port"]) == ([f"{name}."], "A", 9000)
    assert jobs["reader"]["file_sd_configs"][0]["files"] == ["targets/*.yml"]
    assert content["rule_files"] == ["rules/*.yml"]
