"""check-config: what is in force and where it came from, and what it amounts to, down to what cannot be."""

import json
import os

import pytest
from typer.testing import CliRunner

from cryptoflow import cli
from shared.config_sources import Keys
from shared.settings import Settings

SNAPSHOTS = "source.binance.{}.orderbook.snapshots"
POLLED = SNAPSHOTS.format("future")
DELTA = "source.binance.future.orderbook.delta"


@pytest.fixture(autouse=True)
def bare_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in [*os.environ]:
        if name.startswith(("CRYPTOFLOW_", "AWS_", "S3_", "SHARD_")):
            monkeypatch.delenv(name)
    return tmp_path


def run(*arguments):
    return CliRunner().invoke(cli.app, arguments)


def planned(*pairs, assume=()):
    options = [part for pair in pairs for part in ("--set", pair)]
    assumed = [part for pair in assume for part in ("--assume-symbols", pair)]
    result = run("check-config", "--json", *options, *assumed)
    return result, json.loads(result.stdout)["plan"]


def test_check_config_names_each_key_its_value_and_its_origin(bare_folder):
    (bare_folder / "c.yml").write_text("kafka:\n  stream: yaml\n")
    result = run("check-config", "-config", "c.yml", "--set", "metrics.port=0")
    rows = [line.split() for line in result.stdout.splitlines()]
    assert ["kafka.stream", '"yaml"', "c.yml:2"] in rows
    assert ["metrics.port", "0", "--set"] in rows
    assert ["kafka.compression", '"zstd"', "default"] in rows
    assert {row[0] for row in rows if row} >= set(Keys.of(Settings).leaves)
    assert result.exit_code == 0


def test_check_config_masks_secrets(monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "hidden-id")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hidden-key")
    for arguments in (["check-config"], ["check-config", "--json"]):
        result = run(*arguments)
        assert "hidden" not in result.output
        assert "environment AWS_SECRET_ACCESS_KEY" in result.stdout
        assert "***" in result.stdout


def test_check_config_prints_json_for_a_machine():
    result = run("check-config", "--json", "--set", "source.binance.future.orderbook.snapshots.symbols=币安人生USDT")
    found = json.loads(result.stdout)
    assert found["settings"]["source.binance.future.orderbook.snapshots.symbols"] == {
        "value": ["币安人生USDT"],
        "from": "--set",
    }
    assert found["plan"]["problems"] == []


def test_weight_is_symbols_times_price_times_polls_a_minute():
    _, plan = planned(f"{POLLED}.symbols=A,B,C", f"{POLLED}.interval_ms=5000")
    (polls,) = plan["polls"]
    assert (polls["request_weight"], polls["weight_per_minute"]) == (20, 3 * 20 * 12)
    (budget,) = plan["budgets"]
    assert (budget["venue_weight_per_minute"], budget["budget_per_minute"]) == (2400, 1920)


def test_futures_and_inverse_share_one_budget_and_spot_has_its_own():
    result, plan = planned(
        *(f"{SNAPSHOTS.format(market)}.enabled=true" for market in ("inverse", "spot")),
        *(f"{SNAPSHOTS.format(market)}.interval_ms=2000" for market in ("future", "inverse", "spot")),
        "reader.instruments_interval=30s",
        f"{DELTA}.enabled=false",
    )
    asked = {budget["weight_group"]: budget["weight_per_minute"] for budget in plan["budgets"]}
    assert asked == {"binance-futures": 2 * 2 * 20 * 30 + 2 * 2, "binance-spot": 2 * 50 * 30 + 2 * 20}
    assert result.exit_code == 2
    (line,) = result.stderr.splitlines()
    assert "asks for 2,404 request weight a minute" in line
    assert "may spend 1,920" in line


def test_a_plan_that_just_fits_is_accepted():
    result, plan = planned(f"{POLLED}.symbols=A", f"{POLLED}.interval_ms=626")
    assert plan["budgets"][0]["weight_per_minute"] <= 1920
    assert result.exit_code == 0
    result, _ = planned(f"{POLLED}.symbols=A", f"{POLLED}.interval_ms=625")
    assert result.exit_code == 2


def test_shards_divide_the_weight_by_address(bare_folder):
    (bare_folder / "shards.yml").write_text(
        "shards:\n"
        "  - {ip: 192.0.2.1, binance_future_symbols: [A]}\n"
        "  - {ip: 192.0.2.2, binance_future_symbols: [B, C]}\n"
    )
    pairs = ("reader.ip_shards_file=shards.yml", f"{POLLED}.symbols=A,B,C", f"{DELTA}.symbols=B")
    result, plan = planned(*pairs)
    asked = {budget["address"]: budget["polls_per_minute"] for budget in plan["budgets"]}
    assert asked == {"192.0.2.1": 120, "192.0.2.2": 240}
    assert [(load["address"], load["sweep_weight"]) for load in plan["deltas"]] == [("192.0.2.2", 20)]
    assert result.exit_code == 0


def test_a_narrowed_reader_is_asked_for_its_part_and_the_lake_for_all(bare_folder):
    (bare_folder / "shards.yml").write_text(
        "shards:\n"
        "  - {ip: 192.0.2.1, binance_future_symbols: [BTCUSDT]}\n"
        "  - {ip: 192.0.2.2, binance_future_symbols: [ETHUSDT]}\n"
    )
    _, plan = planned("reader.ip_shards_file=shards.yml", "reader.shard_ip=192.0.2.2")
    assert [load["address"] for load in (*plan["polls"], *plan["deltas"])] == ["192.0.2.2", "192.0.2.2"]
    assert [kind["books"] for kind in plan["output"]["kinds"]] == [2, 2]


def test_a_shard_file_that_forgets_a_symbol_is_refused(bare_folder):
    (bare_folder / "shards.yml").write_text("shards:\n  - {ip: 192.0.2.1, binance_future_symbols: [BTCUSDT]}\n")
    result = run("check-config", "--set", "reader.ip_shards_file=shards.yml")
    assert result.exit_code == 2
    assert "ETHUSDT" in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_files_and_requests_follow_from_books_and_windows_of_each_kind():
    _, plan = planned(
        "writer.buffer.snapshot_flush_interval=1h", "writer.buffer.delta_flush_interval=30m", f"{DELTA}.symbols=A,B,C"
    )
    output = plan["output"]
    snapshots, deltas = output["kinds"]
    counted = ("kind", "books", "files_per_day", "claims_per_day", "put_requests_per_day")
    assert [snapshots[name] for name in counted] == ["fobs", 2, 48, 48, 96]
    assert [deltas[name] for name in counted] == ["fobd", 3, 144, 144, 288]
    assert snapshots["rows_per_day"] == 2 * 8640 * 2000
    assert output["put_requests_per_day"] == 96 + 288
    assert output["put_dollars_per_month"] == 0.06  # 11,520 requests


def test_a_window_has_a_claim_for_each_partition_at_most():
    _, plan = planned(
        f"{DELTA}.symbols={','.join('ABCDEFGH')}",
        "channels.raw_fobd.partitions=3",
        "channels.norm_fobd.partitions=3",
        "writer.buffer.delta_flush_interval=1h",
        "writer.buffer.max_bytes=1000000000",
    )
    deltas = plan["output"]["kinds"][1]
    assert (deltas["files_per_day"], deltas["claims_per_day"]) == (8 * 24, 3 * 24)
    assert (deltas["partitions_used"], deltas["partitions_per_topic"]) == (3, 3)


def test_a_window_without_a_poll_writes_no_file():
    _, plan = planned(f"{POLLED}.interval_ms=3600000", "writer.buffer.snapshot_flush_interval=60s")
    assert plan["output"]["kinds"][0]["files_per_day"] == 2 * 24


def test_the_reader_queues_for_each_kind_that_is_enabled():
    _, plan = planned("channels.buffer_bytes=1000")
    assert plan["memory"]["reader_queue_bytes"] == 2000
    _, plan = planned("channels.buffer_bytes=1000", f"{POLLED}.enabled=false")
    assert plan["memory"]["reader_queue_bytes"] == 1000
    assert [kind["kind"] for kind in plan["output"]["kinds"]] == ["fobd"]


def test_no_market_at_all_is_said():
    result = run("check-config", "--set", f"{POLLED}.enabled=false", "--set", f"{DELTA}.enabled=false")
    assert "note: no market has snapshots or deltas enabled: the reader refuses to start\n" in result.stdout
    assert result.exit_code == 0


def test_a_bucket_that_is_not_used_is_said():
    _, plan = planned("storage.s3.bucket=books")
    assert plan["notes"] == ["storage.s3.bucket is books, but storage.s3.enabled is false: the lake is lake"]
    _, plan = planned("storage.s3.bucket=books", "storage.s3.enabled=true")
    assert plan["notes"] == []


def names(count):
    return ",".join(f"S{number}" for number in range(count))


@pytest.mark.parametrize(("symbols", "connections"), [(1, 1), (200, 1), (201, 2), (600, 3)], ids=str)
def test_each_connection_has_so_many_streams_and_a_second_one_beside_it_in_a_hand_over(symbols, connections):
    _, plan = planned(f"{DELTA}.symbols={names(symbols)}")
    (deltas,) = plan["deltas"]
    assert (deltas["connections"], deltas["handover_connections"]) == (connections, 2 * connections)


def test_a_sweep_takes_what_polls_and_lists_leave_of_the_budget():
    result, plan = planned(f"{POLLED}.interval_ms=2000", f"{DELTA}.symbols={names(100)}", f"{DELTA}.limit=500")
    (deltas,), (budget,) = plan["deltas"], plan["budgets"]
    assert (deltas["request_weight"], deltas["sweep_weight"]) == (10, 1000)
    assert deltas["sweep_minutes"] == pytest.approx(1000 / (1920 - 1200 - 0.2))
    assert deltas["weight_per_minute"] == pytest.approx(1000 / 60)
    assert budget["weight_per_minute"] == pytest.approx(1200 + 0.2 + 1000 / 60)
    assert result.exit_code == 0


def test_anchors_that_just_fit_are_accepted_and_denser_ones_refused_with_the_numbers():
    symbols = f"{DELTA}.symbols={names(100)}"
    result, plan = planned(symbols, f"{DELTA}.anchor_interval=72s")
    assert plan["deltas"][0]["sweep_minutes"] * 60 == pytest.approx(71.44, abs=0.01)
    assert result.exit_code == 0
    result, _ = planned(symbols, f"{DELTA}.anchor_interval=71s")
    (line,) = result.stderr.splitlines()
    assert line == (
        "plan: binance-futures from default route: asks for 1,931 request weight a minute (future polls: 2 symbols x "
        "weight 20 x 6, future anchors: 100 symbols x weight 20 / 1.18 min, instrument lists: 0.2), may spend 1,920 (2,400 "
        "x reader.weight_share 0.8); a sweep of the future anchors takes 1.19 min of the 1,680 a minute that polls leave, "
        "anchor_interval is 1.18 min: poll 1.05 times less often, place anchors 1.01 times less often, ask for fewer "
        "levels or symbols, or add source addresses"
    )
    assert result.exit_code == 2


def test_the_anchors_of_markets_that_share_a_budget_are_added_up():
    inverse = "source.binance.inverse.orderbook.delta"
    shared = [f"{DELTA}.symbols={names(50)}", f"{DELTA}.anchor_interval=1m"]
    assert planned(*shared)[0].exit_code == 0
    more = [f"{inverse}.enabled=true", f"{inverse}.symbols={names(50)}", f"{inverse}.anchor_interval=1m"]
    result, plan = planned(*shared, *more)
    assert plan["budgets"][0]["anchors_per_minute"] == 2000
    assert "asks for 2,241 request weight a minute" in result.stderr
    assert result.exit_code == 2


def test_a_sweep_of_all_perpetuals_takes_as_long_as_the_venue_s_arithmetic_says():
    """571 perpetuals x weight 20 = 11,420 = 4.8 minutes of 2,400 a minute, all else zero."""
    alone = (f"{POLLED}.enabled=false", "reader.weight_share=1", "reader.instruments_interval=24h")
    _, plan = planned(*alone, f"{DELTA}.symbols={names(571)}")
    (deltas,) = plan["deltas"]
    assert deltas["sweep_weight"] == 11_420
    assert deltas["sweep_minutes"] == pytest.approx(4.8, abs=0.05)


def test_following_the_advice_makes_it_fit():
    crowded = [f"{DELTA}.symbols={names(571)}", f"{DELTA}.anchor_interval=300s"]
    result, _ = planned(*crowded)
    assert "place anchors 1.36 times less often" in result.stderr
    assert planned(*crowded, f"{DELTA}.anchor_interval={300 * 1.36}s")[0].exit_code == 0
    assert planned(*crowded, f"{DELTA}.anchor_interval={300 * 1.35}s")[0].exit_code == 2
    result, _ = planned(f"{POLLED}.interval_ms=1000")
    assert "poll 1.26 times less often" in result.stderr
    assert planned(f"{POLLED}.interval_ms=1260")[0].exit_code == 0


def test_instrument_lists_weigh_what_their_interval_says():
    _, plan = planned("reader.instruments_interval=10s", f"{SNAPSHOTS.format('inverse')}.enabled=true")
    assert plan["budgets"][0]["instruments_per_minute"] == 2 * 6


def test_more_connection_attempts_than_the_venue_allows_are_refused_with_the_numbers():
    young = [f"{DELTA}.symbols={names(301)}", "reader.streams_per_connection=1"]
    result, plan = planned(*young, f"{DELTA}.symbols={names(300)}")
    assert plan["deltas"][0]["connects_per_five_minutes"] == 300
    assert result.exit_code == 0
    result, plan = planned(*young)
    (line,) = result.stderr.splitlines()
    assert line == (
        "plan: binance future from default route: 301 connection attempts in five minutes (301 symbols, 1 a connection, "
        "each handed over after 82800 s), the venue allows 300: raise reader.streams_per_connection or "
        "reader.max_connection_age, or add source addresses"
    )
    assert result.exit_code == 2
    result, plan = planned("reader.max_connection_age=999ms")
    assert plan["deltas"][0]["connects_per_five_minutes"] == 301
    assert result.exit_code == 2


def test_of_patterns_only_the_ids_are_counted_and_that_is_said():
    pattern = f"{DELTA}.symbols=*USDT,ETHBTC"
    _, plan = planned(pattern)
    (deltas,) = plan["deltas"]
    assert (deltas["symbols"], deltas["at_least"], plan["polls"][0]["at_least"]) == (1, True, False)
    assert [kind["at_least"] for kind in plan["output"]["kinds"]] == [False, True]
    (note,) = plan["notes"]
    assert note.startswith("binance future: what patterns match depends on the venue's instrument list")
    assert " at least 1 " in run("check-config", "--set", pattern).stdout


def test_an_assumed_number_of_symbols_is_divided_among_the_shards_with_patterns(bare_folder):
    (bare_folder / "shards.yml").write_text(
        "shards:\n"
        "  - {ip: 192.0.2.1, binance_future_symbols: [BTCUSDT, ETHUSDT]}\n"
        "  - {ip: 192.0.2.2, binance_future_symbols: ['B*']}\n"
        "  - {ip: 192.0.2.3, binance_future_symbols: ['*']}\n"
    )
    pairs = (f"{DELTA}.symbols=*", "reader.ip_shards_file=shards.yml", "writer.buffer.max_bytes=1000000000")
    _, plan = planned(*pairs, assume=["binance.future=571"])
    assert [load["symbols"] for load in plan["deltas"]] == [2, 284, 285]
    assert plan["output"]["kinds"][1]["books"] == 571
    assert plan["notes"] == []


def test_an_assumption_about_a_market_without_patterns_is_said_to_change_nothing():
    _, plan = planned(assume=["binance.future=500"])
    assert plan["deltas"][0]["symbols"] == 2
    assert plan["notes"] == [
        "--assume-symbols binance.future: no pattern of this market is enabled: it changes nothing"
    ]


@pytest.mark.parametrize(
    ("pair", "line"),
    [
        ("binance.futures=5", "binance.futures: unknown market; did you mean binance.future?"),
        ("5", "5: unknown market"),
        ("binance.spot", "binance.spot: must be binance.spot=N with a whole number of symbols, is 'binance.spot'"),
        ("binance.spot=0", "binance.spot: must be binance.spot=N with a whole number of symbols, is 'binance.spot=0'"),
        ("binance.spot=²", "binance.spot: must be binance.spot=N with a whole number of symbols, is 'binance.spot=²'"),
        (
            "binance.spot=-5",
            "binance.spot: must be binance.spot=N with a whole number of symbols, is 'binance.spot=-5'",
        ),
    ],
)
def test_a_broken_assumption_is_refused_in_words(pair, line):
    result = run("check-config", "--assume-symbols", pair)
    assert result.stderr.splitlines() == [f"--assume-symbols: {line}"]
    assert result.exit_code == 2


def test_the_tables_show_both_kinds_their_weight_and_what_they_cost():
    text = run("check-config").stdout
    titles = ("Polls", "Updates", "Anchors", "Request weight a minute", "Assumed of updates", "Kafka, a second")
    for title in (*titles, "Kafka's disk", "The lake, a day", "Together"):
        assert f"\n{title} " in text
    rows = [line.split() for line in text.splitlines()]
    assert ["books", "2", "2"] in rows
    assert ["PUT", "requests", "a", "day", "2,304"] in rows
    assert [
        "default",
        "route",
        "binance-futures",
        "240",
        "0.67",
        "0.20",
        "241",
        "1,920",
        "2,400",
        "0.8",
        "fits",
    ] in rows
    assert ["default", "route", "binance", "future", "2", "100", "ms", "1", "2", "1", "of", "300", "fits"] in rows


def test_a_sweep_for_which_polls_leave_nothing_never_ends():
    result = run("check-config", "--set", f"{POLLED}.interval_ms=1000")
    assert " never ends " in result.stdout
    assert "; polls leave nothing for the future anchors: poll" in result.stderr
    assert "too much" in result.stdout
