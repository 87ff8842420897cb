"""Shards: which address polls what, and every mistake in the file at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.reader.shards import Shard, is_local, plan, plan_shards, read_shards
from shared.errors import ConfigError
from shared.settings import load

FUTURE, SPOT = ("binance", "future"), ("binance", "spot")
KNOWN = [FUTURE, ("binance", "inverse"), SPOT]
CONFIGURED = {FUTURE: ("BTCUSDT", "ETHUSDT"), SPOT: ("BTCUSDT",)}
GOOD = {
    "shards": [
        {"ip": "192.0.2.1", "binance_future_symbols": ["BTCUSDT"], "binance_spot_symbols": ["BTCUSDT"]},
        {"ip": "192.0.2.2", "binance_future_symbols": ["ETHUSDT"], "binance_inverse_symbols": ["BTCUSD_PERP"]},
    ]
}


def planned(
    content: object = GOOD, *, here: tuple[str, ...] = ("192.0.2.1", "192.0.2.2"), shard_ip=None
) -> list[Shard]:
    return plan_shards(content, CONFIGURED, KNOWN, shard_ip=shard_ip, local=lambda ip: ip in here)


def problems(content: object, **options: object) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        planned(content, **options)
    return list(caught.value.problems)


def shard(**changes: object) -> dict[str, object]:
    return {
        "ip": "192.0.2.1",
        "binance_future_symbols": ["BTCUSDT", "ETHUSDT"],
        "binance_spot_symbols": ["BTCUSDT"],
    } | changes


def test_no_file_is_one_shard_on_the_default_route_with_all_symbols() -> None:
    assert planned(None) == [Shard(None, CONFIGURED)]


def test_each_address_of_this_host_polls_its_symbols_and_disabled_markets_are_left_out() -> None:
    assert planned() == [
        Shard("192.0.2.1", {FUTURE: ("BTCUSDT",), SPOT: ("BTCUSDT",)}),
        Shard("192.0.2.2", {FUTURE: ("ETHUSDT",)}),
    ]


def test_shards_of_other_hosts_are_skipped() -> None:
    assert [one.ip for one in planned(here=("192.0.2.2",))] == ["192.0.2.2"]


def test_shard_ip_narrows_to_one() -> None:
    assert [one.ip for one in planned(shard_ip="192.0.2.1")] == ["192.0.2.1"]


@pytest.mark.parametrize(
    ("content", "options", "words"),
    [
        pytest.param(GOOD, {"here": ()}, "no address of this host", id="no shard is ours"),
        pytest.param(GOOD, {"here": ("192.0.2.2",), "shard_ip": "192.0.2.1"}, "no address of this host", id="ours not"),
        pytest.param(GOOD, {"shard_ip": "192.0.2.9"}, "shard_ip 192.0.2.9 is none of", id="SHARD_IP unknown"),
        pytest.param(None, {"shard_ip": "192.0.2.1"}, "there is no reader.ip_shards_file", id="SHARD_IP without file"),
        pytest.param({}, {}, "must be `shards:`", id="empty"),
        pytest.param({"shards": []}, {}, "must be `shards:`", id="no shards"),
        pytest.param({"shards": [1]}, {}, "shard 1 is not a mapping", id="not a mapping"),
        pytest.param({"shards": [shard(ip="here")]}, {}, "'here' is not an IP address", id="not an address"),
        pytest.param({"shards": [shard(ip=None)]}, {}, "is not an IP address", id="no address"),
        pytest.param({"shards": [shard(binance_futures=[])]}, {}, "unknown key 'binance_futures'", id="unknown key"),
        pytest.param({"shards": [shard(binance_spot_symbols="BTCUSDT")]}, {}, "must be a list", id="not a list"),
        pytest.param({"shards": [shard(binance_spot_symbols=[1])]}, {}, "must be a list", id="not text"),
        pytest.param(
            {"shards": [shard(), shard(ip="192.0.2.2")]}, {}, "BTCUSDT is already in shard 1", id="in two shards"
        ),
        pytest.param(
            {"shards": [shard(binance_spot_symbols=["BTCUSDT", "BTCUSDT"])]},
            {},
            "already in shard 1",
            id="twice in one",
        ),
        pytest.param({"shards": [shard(), shard()]}, {}, "is in two shards", id="address twice"),
        pytest.param({"shards": [shard(binance_spot_symbols=[])]}, {}, "BTCUSDT is in no shard", id="in no shard"),
        pytest.param(
            {"shards": [shard(binance_spot_symbols=["BTCUSDT", "DOGEUSDT"])]},
            {},
            "DOGEUSDT is not among the configured",
            id="unknown symbol",
        ),
    ],
)
def test_a_mistake_is_refused_in_words(content, options, words) -> None:
    assert any(words in problem for problem in problems(content, **options))


def test_all_mistakes_are_reported_at_once() -> None:
    found = problems({"shards": [shard(ip="x", what=1, binance_spot_symbols=["A"]), shard(ip="192.0.2.2")]})
    assert len(found) >= 4


def test_a_host_has_its_loopback_address_and_not_a_documentation_address() -> None:
    assert is_local("127.0.0.1")
    assert not is_local("192.0.2.1")


@pytest.mark.parametrize("text", ["shards: [", "\x00"], ids=["not YAML", "control character"])
def test_a_file_that_is_no_yaml_is_refused(tmp_path, text) -> None:
    path = tmp_path / "ip_shards.yml"
    path.write_text(text)
    with pytest.raises(ConfigError, match="is not YAML"):
        read_shards(path)


def test_a_missing_file_is_refused(tmp_path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        read_shards(tmp_path / "none.yml")


def settings(tmp_path, **changes: str):
    none = tmp_path / "none.yml"
    none.write_text("")
    return load(none, {key.replace("__", "."): value for key, value in changes.items()}, {}, tmp_path / ".env")


def test_the_plan_of_the_settings_holds_every_enabled_market(tmp_path) -> None:
    found = plan(settings(tmp_path, source__binance__spot__orderbook__snapshots__enabled="true"))
    assert [set(one.symbols) for one in found] == [{FUTURE, SPOT}]


def test_a_limit_the_venue_refuses_and_a_bad_file_are_reported_together(tmp_path) -> None:
    path = tmp_path / "ip_shards.yml"
    path.write_text("shards: 1")
    wrong = settings(
        tmp_path, reader__ip_shards_file=str(path), source__binance__future__orderbook__snapshots__limit="999"
    )
    with pytest.raises(ConfigError) as caught:
        plan(wrong)
    assert len(caught.value.problems) == 2


def test_a_reader_without_any_enabled_market_is_refused(tmp_path) -> None:
    with pytest.raises(ConfigError, match="nothing to do"):
        plan(settings(tmp_path, source__binance__future__orderbook__snapshots__enabled="false"))


def test_the_example_file_fits_the_default_symbols(tmp_path) -> None:
    enabled = {
        f"source__binance__{market}__orderbook__snapshots__enabled": "true" for market in ("future", "inverse", "spot")
    }
    example = Path(__file__).parents[2] / "config" / "ip_shards.yml"
    found = plan(settings(tmp_path, reader__ip_shards_file=str(example), **enabled), local=lambda _: True)
    assert len(found) == 2
