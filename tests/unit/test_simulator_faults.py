"""Which request a fault rule takes, and how often."""

import pytest

from simulator.fault_kinds import KINDS
from simulator.faults import Faults, Rule


def picked(faults, *, market="future", symbol="BTCUSDT", path="/fapi/v1/depth", address="127.0.0.1"):
    fault = faults.pick(market=market, symbol=symbol, path=path, address=address)
    return None if fault is None else fault.kind


def faults_of(*rules):
    faults = Faults(KINDS, seed=1)
    for rule in rules:
        faults.add(Rule(**rule))
    return faults


@pytest.mark.parametrize(
    ("rule", "request_", "hit"),
    [
        ({}, {}, True),
        ({"market": "future"}, {}, True),
        ({"market": "spot"}, {}, False),
        ({"symbol": "BTCUSDT"}, {}, True),
        ({"symbol": "ETHUSDT"}, {}, False),
        ({"source_ip": "127.0.0.1"}, {}, True),
        ({"source_ip": "127.0.0.2"}, {}, False),
        ({}, {"path": "/fapi/v1/exchangeInfo"}, False),
        ({"path": "exchangeInfo"}, {"path": "/fapi/v1/exchangeInfo"}, True),
        ({"path": "/fapi/v1/exchangeInfo"}, {"path": "/dapi/v1/exchangeInfo"}, False),
        ({"path": "*"}, {"path": "/fapi/v1/ping"}, True),
    ],
)
def test_a_rule_takes_what_it_names_and_depth_unless_told(rule, request_, hit):
    assert (picked(faults_of({"kind": "http_500"} | rule), **request_) is not None) == hit


def test_a_rule_holds_once_unless_told_then_as_often_as_it_says():
    faults = faults_of({"kind": "stall"}, {"kind": "http_403", "count": 2})
    assert [picked(faults) for _ in range(4)] == ["stall", "http_403", "http_403", None]
    assert [rule.hits for rule in faults.rules] == [1, 2]


def test_a_probability_is_kept_and_rolled_alike_for_a_seed():
    first, again = (faults_of({"kind": "stall", "probability": 0.25}) for _ in range(2))
    rolls = [picked(first) for _ in range(2000)]
    assert rolls == [picked(again) for _ in range(2000)]
    assert 400 < rolls.count("stall") < 600


def test_a_probability_with_a_count_ends():
    faults = faults_of({"kind": "stall", "probability": 1.0, "count": 3})
    assert [picked(faults) for _ in range(4)] == ["stall"] * 3 + [None]


def test_rules_are_lifted_one_by_one_or_all():
    faults = faults_of({"kind": "stall"}, {"kind": "http_403"}, {"kind": "http_500"})
    assert faults.remove(faults.rules[0].id) == 1
    assert picked(faults) == "http_403"
    assert faults.remove() == 2
    assert picked(faults) is None


@pytest.mark.parametrize(
    ("rule", "words"),
    [({"kind": "flood"}, "unknown fault kind 'flood'"), ({"kind": "stall", "probability": 1.5}, "between 0 and 1")],
)
def test_an_impossible_rule_is_refused_in_words(rule, words):
    with pytest.raises(ValueError, match=words):
        faults_of(rule)


def test_every_kind_says_what_it_is():
    assert {kind.effect for kind in KINDS.values()} == {"valid", "invalid", "either", "refused", "transport"}
    assert all(len(kind.what) > 5 for kind in KINDS.values())
    assert all(name == kind.name for name, kind in KINDS.items())
