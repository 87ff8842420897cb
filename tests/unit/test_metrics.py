"""The rules every metric's definition keeps; what Prometheus is shown follows from the definitions."""

import re

import pytest
from prometheus_client import REGISTRY

from shared import metrics
from shared.metrics import DEFINITIONS, SECTIONS

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
