"""Shards: which address polls what, and every mistake in the file at once."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

import pytest
import yaml

from services.reader.shards import Configured, Shard, is_local, plan, plan_shards, read_shards
from shared.errors import ConfigError
from shared.settings import load

FUTURE, SPOT = ("binance", "future"), ("binance", "spot")
KNOWN = [FUTURE, ("binance", "inverse"), SPOT]
CONFIGURED = Configured({FUTURE: ("BTCUSDT", "ETHUSDT"), SPOT: ("BTCUSDT",)}, {FUTURE: ("ETHUSDT", "SOLUSDT")})
PATTERNS = Configured({FUTURE: ("*USDT", "ETHBTC")}, {})
GOOD = {
    "shards": [
        {"ip": "192.0.2.1", "binance_future_symbols": ["BTCUSDT", "SOLUSDT"], "binance_spot_symbols": ["BTCUSDT"]},
        {"ip": "192.0.2.2", "binance_future_symbols": ["ETHUSDT"], "binance_inverse_symbols": ["BTCUSD_PERP"]},
    ]
}


def planned(
    content: object = GOOD,
    *,
    here: tuple[str, ...] = ("192.0.2.1", "192.0.2.2"),
    shard_ip=None,
    configured: Configured = CONFIGURED,
) -> list[Shard]:
    return plan_shards(content, configured, KNOWN, shard_ip=shard_ip, local=lambda ip: ip in here)


def ids(shard: Shard) -> tuple[object, ...]:
    """The address, and the ids of each market: snapshots, deltas."""
    return (
        shard.ip,
        *(
            {market: selection.explicit for market, selection in kind.items()}
            for kind in (shard.snapshots, shard.deltas)
        ),
    )


def problems(content: object, **options: object) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        planned(content, **options)
    return list(caught.value.problems)


def shard(**changes: object) -> dict[str, object]:
    return {
        "ip": "192.0.2.1",
        "binance_future_symbols": ["BTCUSDT", "ETHUSDT", "SOLUSDT"],
        "binance_spot_symbols": ["BTCUSDT"],
    } | changes


def test_no_file_is_one_shard_on_the_default_route_with_all_symbols() -> None:
    (found,) = planned(None)
    assert ids(found) == (
        None,
        {FUTURE: {"BTCUSDT", "ETHUSDT"}, SPOT: {"BTCUSDT"}},
        {FUTURE: {"ETHUSDT", "SOLUSDT"}},
    )


def test_one_list_of_a_market_serves_both_kinds_and_disabled_markets_are_left_out() -> None:
    assert [ids(shard) for shard in planned()] == [
        ("192.0.2.1", {FUTURE: {"BTCUSDT"}, SPOT: {"BTCUSDT"}}, {FUTURE: {"SOLUSDT"}}),
        ("192.0.2.2", {FUTURE: {"ETHUSDT"}}, {FUTURE: {"ETHUSDT"}}),
    ]


def test_shards_of_other_hosts_keep_their_symbols_from_ours() -> None:
    content = {"shards": [{"ip": "192.0.2.1", "binance_future_symbols": ["B*"]}, patterned("*")]}
    (found,) = planned(content, here=("192.0.2.2",), configured=PATTERNS)
    assert found.snapshots[FUTURE].of(["BTCUSDT", "ETHUSDT"]) == {"ETHUSDT"}


def test_a_shard_of_nothing_that_is_enabled_is_left_out() -> None:
    inverse = {"ip": "192.0.2.3", "binance_inverse_symbols": ["ETHUSD_PERP"]}
    content = {"shards": [*GOOD["shards"], inverse]}
    assert len(planned(content, here=("192.0.2.1", "192.0.2.3"))) == 1


def patterned(*entries: str) -> dict[str, object]:
    return {"ip": "192.0.2.2", "binance_future_symbols": [*entries]}


def test_patterns_in_shards_divide_what_is_listed() -> None:
    content = {"shards": [shard(binance_future_symbols=["ETHUSDT", "*BTC"]), patterned("*USDT")]}
    first, second = planned(content, configured=PATTERNS)
    listed = ["BTCUSDT", "ETHUSDT", "ETHBTC", "币安人生USDT", "ETHUSDC"]
    assert first.snapshots[FUTURE].of(listed) == {"ETHUSDT", "ETHBTC"}
    assert second.snapshots[FUTURE].of(listed) == {"BTCUSDT", "币安人生USDT"}


def test_shards_of_other_hosts_are_skipped() -> None:
    assert [one.ip for one in planned(here=("192.0.2.2",))] == ["192.0.2.2"]


def test_shard_ip_narrows_to_one() -> None:
    assert [one.ip for one in planned(shard_ip="192.0.2.1")] == ["192.0.2.1"]


def test_a_pattern_beside_the_shard_that_names_a_symbol_is_no_mistake() -> None:
    content = {"shards": [shard(binance_future_symbols=["ETHUSDT"]), patterned("*")]}
    assert [ids(one)[1:] for one in planned(content)] == [
        ({FUTURE: {"ETHUSDT"}, SPOT: {"BTCUSDT"}}, {FUTURE: {"ETHUSDT"}}),
        ({FUTURE: {"BTCUSDT"}}, {FUTURE: {"SOLUSDT"}}),
    ]


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
            {"shards": [shard(binance_spot_symbols=["*"]), {"ip": "192.0.2.2", "binance_spot_symbols": ["*"]}]},
            {},
            "* is already in shard 1",
            id="a pattern in two shards",
        ),
        pytest.param(
            {"shards": [shard(binance_future_symbols=["BTCUSDT", "ETHUSDT"])]},
            {},
            "SOLUSDT is in no shard",
            id="of the deltas alone, in no shard",
        ),
        pytest.param(
            {"shards": [shard(), patterned("DOGE*", "SOL*")]},
            {},
            "shard 2: binance_future_symbols: DOGE* is for none of the configured symbols",
            id="pattern for nothing",
        ),
        pytest.param(
            {"shards": [patterned("ETHBTC", "BTCUSDT", "ETHUSDC")]},
            {"configured": PATTERNS},
            "ETHUSDC is not among the configured",
            id="symbol that no pattern has",
        ),
        pytest.param(
            {"shards": [patterned("ETHBTC", "BTCUSDT")]},
            {"configured": PATTERNS},
            "binance/future: *USDT is configured, but no shard has a pattern",
            id="no pattern for a configured pattern",
        ),
        pytest.param(
            {"shards": [patterned("*USDT")]}, {"configured": PATTERNS}, "ETHBTC is in no shard", id="in no pattern"
        ),
        pytest.param({"shards": [patterned("")]}, {}, "must be a list of symbols", id="empty text"),
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


SOURCE = "source__binance__{}__orderbook__{}__{}"
DELTA = "source.binance.future.orderbook.delta"


def enabled(kind: str, market: str, value: str = "true") -> dict[str, str]:
    return {SOURCE.format(market, kind, "enabled"): value}


def test_the_plan_of_the_settings_holds_every_enabled_market_of_each_kind(tmp_path) -> None:
    (found,) = plan(settings(tmp_path, **enabled("snapshots", "spot"), **enabled("delta", "inverse"))).shards
    assert set(found.snapshots) == {FUTURE, SPOT}
    assert set(found.deltas) == {FUTURE, ("binance", "inverse")}


@pytest.mark.parametrize(
    ("changes", "problems"),
    [
        pytest.param(
            {SOURCE.format("future", "delta", "interval_ms"): "200"},
            [f"{DELTA}.interval_ms: interval_ms 200 is no stream of binance future: one of 0, 100, 250, 500"],
            id="a spacing no stream has",
        ),
        pytest.param(
            {SOURCE.format("future", "delta", "limit"): "1001"},
            [f"{DELTA}.limit: limit 1001 is refused by binance future: one of 5, 10, 20, 50, 100, 500, 1000"],
            id="levels of anchors",
        ),
        pytest.param(
            {"reader__streams_per_connection": "1025"},
            ["reader.streams_per_connection: 1,025 is refused by binance future: at most 1,024 a connection"],
            id="too many streams",
        ),
        pytest.param(
            {"reader__max_connection_age": "24h"},
            [
                "reader.max_connection_age: 86400 s leaves no time for a hand-over: binance future ends a connection after 86400 s"
            ],
            id="too old a connection",
        ),
        pytest.param({"reader__streams_per_connection": "1024", "reader__max_connection_age": "23h"}, [], id="just so"),
        pytest.param(
            {
                "reader__streams_per_connection": "1025",
                "reader__max_connection_age": "24h",
                SOURCE.format("future", "delta", "limit"): "1001",
                **enabled("delta", "future", "false"),
            },
            [],
            id="without deltas their limits are no matter",
        ),
    ],
)
def test_what_the_venue_refuses_of_deltas_is_said_with_its_key(tmp_path, changes, problems) -> None:
    with pytest.raises(ConfigError) if problems else nullcontext() as caught:
        plan(settings(tmp_path, **changes))
    assert (list(caught.value.problems) if caught else []) == problems


def test_deltas_alone_are_something_to_do(tmp_path) -> None:
    (found,) = plan(settings(tmp_path, **enabled("snapshots", "future", "false"))).shards
    assert (set(found.snapshots), set(found.deltas)) == (set(), {FUTURE})


THREE = [("192.0.2.1", ["BTCUSDT"]), ("192.0.2.2", ["ETHUSDT"]), ("192.0.2.3", []), ("192.0.2.4", ["*"])]


@pytest.mark.parametrize(
    ("here", "shard_ip", "mine", "others"),
    [
        pytest.param(["192.0.2.1", "192.0.2.2"], None, ["192.0.2.1", "192.0.2.2"], ["192.0.2.4"], id="of other hosts"),
        pytest.param(["192.0.2.1", "192.0.2.2"], "192.0.2.2", ["192.0.2.2"], ["192.0.2.1", "192.0.2.4"], id="SHARD_IP"),
    ],
)
def test_what_is_left_to_other_readers_is_known_by_address_and_a_shard_of_nothing_is_nobodys(
    tmp_path, here, shard_ip, mine, others
) -> None:
    path = tmp_path / "ip_shards.yml"
    path.write_text(yaml.safe_dump({"shards": [{"ip": ip, "binance_future_symbols": ids} for ip, ids in THREE]}))
    changes = {"reader__ip_shards_file": str(path), SOURCE.format("future", "snapshots", "symbols"): '["*USDT"]'}
    if shard_ip is not None:
        changes["reader__shard_ip"] = shard_ip
    found = plan(settings(tmp_path, **changes), local=lambda ip: ip in here)
    assert ([shard.ip for shard in found.shards], list(found.others)) == (mine, others)


def test_a_limit_the_venue_refuses_and_a_bad_file_are_reported_together(tmp_path) -> None:
    path = tmp_path / "ip_shards.yml"
    path.write_text("shards: 1")
    wrong = settings(
        tmp_path, reader__ip_shards_file=str(path), source__binance__future__orderbook__snapshots__limit="999"
    )
    with pytest.raises(ConfigError) as caught:
        plan(wrong)
    assert len(caught.value.problems) == 2


@pytest.mark.parametrize("file", [None, "shards: [{ip: 192.0.2.1, binance_future_symbols: [BTCUSDT]}]"])
def test_a_reader_without_any_enabled_market_is_refused(tmp_path, file) -> None:
    changes = enabled("snapshots", "future", "false") | enabled("delta", "future", "false")
    if file is not None:
        (tmp_path / "ip_shards.yml").write_text(file)
        changes["reader__ip_shards_file"] = str(tmp_path / "ip_shards.yml")
    with pytest.raises(ConfigError) as caught:
        plan(settings(tmp_path, **changes))
    assert list(caught.value.problems) == [
        "source: no market has snapshots or deltas enabled: the reader has nothing to do"
    ]


def test_the_example_file_fits_the_default_symbols(tmp_path) -> None:
    everything = {
        key: value
        for market in ("future", "inverse", "spot")
        for kind in ("snapshots", "delta")
        for key, value in enabled(kind, market).items()
    }
    example = Path(__file__).parents[2] / "config" / "ip_shards.yml"
    found = plan(settings(tmp_path, reader__ip_shards_file=str(example), **everything), local=lambda _: True).shards
    assert len(found) == 2
    assert {market for one in found for market in one.deltas} == set(KNOWN)
