"""The rules every metric's definition keeps; what Prometheus is shown follows from the definitions."""

import ast
import re
from itertools import product

import pytest
from prometheus_client import REGISTRY

from services.s3writer.buffer import TRIGGERS
from shared import metrics
from shared.metrics import DEFINITIONS, SECTIONS
from tests.support import ROOT

IDS = [definition.name for definition in DEFINITIONS]
UNITS_THAT_ARE_NO_BASE_UNITS = ("_ms", "_ns", "_milliseconds", "_minutes", "_hours", "_mb", "_mib", "_kb", "_percent")


@pytest.mark.parametrize("definition", DEFINITIONS, ids=IDS)
def test_a_definition_keeps_the_naming_rules(definition):
    name = definition.name
    assert re.fullmatch(r"cryptoflow(_[a-z0-9]+)+", name)
    assert name.endswith("_total") == (definition.kind == "counter")
    assert not name.removesuffix("_total").endswith(UNITS_THAT_ARE_NO_BASE_UNITS)
    assert "_age" not in name, "a timestamp, not an age: ages are wrong as soon as nobody updates them"
    assert definition.kind != "histogram" or definition.unit, "a histogram measures something: say in which unit"


@pytest.mark.parametrize("definition", DEFINITIONS, ids=IDS)
def test_a_definition_says_what_it_is_and_what_to_do(definition):
    assert len(definition.help.split()) >= 3
    assert len(definition.when_it_moves.split()) >= 3
    assert definition.section in SECTIONS


@pytest.mark.parametrize("definition", DEFINITIONS, ids=IDS)
def test_labels_are_bounded(definition):
    assert not {"offset", "id", "url", "path", "message", "error", "conn", "claim"} & set(definition.labels)


def test_every_metric_of_the_registry_is_defined_in_the_one_place():
    shown = {family.name for family in REGISTRY.collect() if family.name.startswith("cryptoflow_")}
    assert shown == {definition.name.removesuffix("_total") for definition in DEFINITIONS}


def test_no_metric_is_defined_twice():
    assert len(set(IDS)) == len(IDS)


def test_the_file_is_ordered_by_service():
    sections = [definition.section for definition in DEFINITIONS]
    assert sections == sorted(sections, key=SECTIONS.index)


@pytest.mark.parametrize(
    ("name", "unit"),
    [
        ("cryptoflow_latency_seconds", "seconds"),
        ("cryptoflow_produced_bytes_total", "bytes"),
        ("cryptoflow_start_timestamp_seconds", "timestamp_seconds"),
        ("cryptoflow_ready", ""),
    ],
)
def test_the_unit_is_read_from_the_name(name, unit):
    assert next(definition.unit for definition in DEFINITIONS if definition.name == name) == unit


def test_a_revoked_partition_is_no_longer_shown():
    labels = {"group": "g", "topic": "t", "partition": "3"}
    for gauge in (metrics.POSITION_LAG_RECORDS, metrics.STORED_LAG_SECONDS):
        gauge.labels("g", "t", "3").set(7)
    assert REGISTRY.get_sample_value("cryptoflow_position_lag_records", labels) == 7
    metrics.remove_partition("g", "t", 3)
    metrics.remove_partition("g", "t", 3)
    assert REGISTRY.get_sample_value("cryptoflow_position_lag_records", labels) is None
    assert REGISTRY.get_sample_value("cryptoflow_stored_lag_seconds", labels) is None


def test_a_counter_with_known_label_values_is_shown_at_zero_before_its_first_event():
    metrics.show_zeros("reader", exchange=["an exchange"], market=["a market"], reason=["a reason"])
    for kind, cause in product(("fobs", "fobd"), metrics.GAP_CAUSES):
        labels = {"kind": kind, "exchange": "an exchange", "market": "a market", "cause": cause}
        assert REGISTRY.get_sample_value("cryptoflow_gaps_total", labels) == 0
    own = {"exchange": "an exchange", "market": "a market", "reason": "a reason"}
    assert REGISTRY.get_sample_value("cryptoflow_polls_total", own) == 0
    assert REGISTRY.get_sample_value("cryptoflow_updates_dropped_total", own) is None, "the definition's values count"


def test_a_label_without_known_values_is_left_to_the_first_event():
    metrics.show_zeros("cryptoflow_handovers_total", exchange=["lonely"])
    assert REGISTRY.get_sample_value("cryptoflow_handovers_total", {"exchange": "lonely"}) is None


@pytest.mark.parametrize("definition", [one for one in DEFINITIONS if one.values], ids=lambda one: one.name)
def test_known_values_are_of_labels_that_exist(definition):
    assert definition.values.keys() <= set(definition.labels)


def test_every_reason_of_a_dead_letter_is_known():
    """Those of the sources; what is only caught and logged (an instrument list) goes nowhere."""
    found = {
        word
        for folder in ("shared", "services")
        for path in (ROOT / folder).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        for word in _reasons(node)
    }
    assert found - {"not_exchange_info"} == set(metrics.POISON_REASONS)


def test_every_trigger_of_a_flush_is_known():
    flushes = next(one for one in DEFINITIONS if one.name == "cryptoflow_flushes_total")
    assert tuple(flushes.values["trigger"]) == TRIGGERS


def _reasons(node):
    """What is given to PoisonMessage as its reason, or to the helpers and variables that hand it on."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
        if node.func.id == "PoisonMessage" and isinstance(node.args[0], ast.Constant):
            yield node.args[0].value
        elif node.func.id == "_check" and isinstance(node.args[-1], ast.Constant):
            yield node.args[-1].value
    elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id == "reason":
        values = [node.value.body, node.value.orelse] if isinstance(node.value, ast.IfExp) else []
        yield from (value.value for value in values if isinstance(value, ast.Constant) and value.value)
