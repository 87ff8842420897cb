"""The reader's streams as a process: exchange → raw-fobd, verbatim, in order, with a gap wherever something is missing."""

from __future__ import annotations

import json

import pytest

from cryptoflow import lake
from tests.deltas import Truth, control, judge
from tests.line import make_line, stream_source
from tests.support import eventually

SYMBOLS = {"future": ["BTCUSDT", "ETHUSDT", "币安人生USDT"], "inverse": ["BTCUSD_PERP"], "spot": ["BTCUSDT", "ETHUSDT"]}
ALL = 6


@pytest.fixture
def line_of(services, make_config, tmp_path, embedded_kafka):
    def make(simulator, symbols=SYMBOLS, *, reader=None, **kwargs):
        return make_line(
            services,
            make_config,
            tmp_path,
            kafka={"bootstrap_servers": embedded_kafka.bootstrap_servers},
            source=stream_source(simulator, symbols, **kwargs),
            reader=reader or {},
        )

    return make


@pytest.fixture
def exchange(services, tmp_path):
    def make(*arguments):
        return services.simulate(
            "--symbols-per-market", "8", "--truth-frames", str(tmp_path / "frames.jsonl"), *arguments
        )

    return make


async def truth_of(exchange, tmp_path) -> Truth:
    await control(exchange, "POST", "flush")
    return Truth.read(tmp_path / "frames.jsonl")


async def test_every_update_is_published_verbatim_in_order_between_start_and_stop_with_an_anchor_and_no_gap(
    line_of, exchange, tmp_path
) -> None:
    simulator = exchange()
    line = line_of(simulator)
    await line.create_topics()
    reader = line.start("reader")
    await line.acknowledged(400, kind="fobd")
    assert reader.terminate() == 0, reader.tail()
    verdict = judge(await line.raw_records("fobd"), await truth_of(simulator, tmp_path))
    assert verdict.updates >= 380
    assert verdict.anchors == ALL
    assert [hole for hole in verdict.holes if hole.lost] == []
    assert [gap["cause"] for hole in verdict.holes for gap in hole.gaps] == ["start", "stop"] * ALL


@pytest.mark.parametrize(
    ("kind", "args", "cause"),
    [
        ("skip", {}, "sequence"),
        ("drop_connection", {"reset": True}, "disconnect"),
        ("close_code", {"code": 1001}, "disconnect"),
        ("garbage", {}, "malformed"),
        ("truncated_frame", {}, "malformed"),
        ("no_symbol", {}, "malformed"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_a_lost_frame_is_one_gap_with_its_cause_and_then_an_anchor(
    line_of, exchange, tmp_path, kind, args, cause
) -> None:
    simulator = exchange()
    line = line_of(simulator, {"future": ["BTCUSDT", "ETHUSDT"]})
    await line.create_topics()
    reader = line.start("reader")
    await line.acknowledged(40, kind="fobd")
    await eventually(lambda: reader.metric("cryptoflow_symbols_without_anchor") == 0, what="both symbols have anchors")
    rule = {"kind": kind, "path": "stream", "market": "future", "symbol": "BTCUSDT", "count": 1, "args": args}
    await control(simulator, "POST", "faults", rule)
    await eventually(lambda: reader.metric("cryptoflow_gaps_total", kind="fobd", cause=cause) >= 1, 30)
    await eventually(lambda: reader.metric("cryptoflow_symbols_without_anchor") == 0, 30)
    await line.acknowledged(20, kind="fobd")
    assert reader.terminate() == 0, reader.tail()
    verdict = judge(await line.raw_records("fobd"), await truth_of(simulator, tmp_path))
    within = [hole for hole in verdict.holes if not {gap["cause"] for gap in hole.gaps} & {"start", "stop"}]
    assert within, "no hole at all"
    for hole in within:
        assert hole.lost, f"a gap where nothing was lost: {hole}"
        assert [gap["cause"] for gap in hole.gaps] == [cause]
    assert {hole.name for hole in within} >= {("future", "BTCUSDT")}
    assert verdict.anchors == 2 + len(within)


async def test_a_repeat_is_dropped_and_counted_and_an_unknown_event_costs_nothing(line_of, exchange, tmp_path) -> None:
    simulator = exchange()
    line = line_of(simulator, {"future": ["BTCUSDT", "ETHUSDT"]})
    await line.create_topics()
    reader = line.start("reader")
    await line.acknowledged(20, kind="fobd")
    for kind in ("duplicate", "unknown_event"):
        await control(simulator, "POST", "faults", {"kind": kind, "path": "stream", "market": "future", "count": 3})
    await eventually(lambda: reader.metric("cryptoflow_updates_dropped_total", reason="repeat") == 3, 30)
    await eventually(lambda: reader.metric("cryptoflow_dead_letters_total", reason="unknown_event") == 3, 30)
    await line.acknowledged(20, kind="fobd")
    assert reader.terminate() == 0, reader.tail()
    verdict = judge(await line.raw_records("fobd"), await truth_of(simulator, tmp_path))
    assert [gap["cause"] for hole in verdict.holes for gap in hole.gaps] == ["start", "stop"] * 2
    assert not any(hole.lost for hole in verdict.holes)
    letters = [record async for record in line._records(line.settings.channels.dead_letters.topic)]
    assert [json.loads(record.value)["data"]["e"] for record in letters] == ["somethingNew"] * 3


@pytest.mark.parametrize("kind", ["reject_subscribe", "no_ack", "refuse_connection"])
async def test_a_subscription_or_a_handshake_that_fails_is_tried_again(line_of, exchange, tmp_path, kind) -> None:
    simulator = exchange()
    await control(simulator, "POST", "faults", {"kind": kind, "path": "stream", "market": "future", "count": 1})
    line = line_of(simulator, {"future": ["BTCUSDT", "ETHUSDT"]})
    await line.create_topics()
    reader = line.start("reader", ready=False)
    await line.acknowledged(40, kind="fobd")
    assert reader.terminate() == 0, reader.tail()
    verdict = judge(await line.raw_records("fobd"), await truth_of(simulator, tmp_path))
    assert [gap["cause"] for hole in verdict.holes for gap in hole.gaps] == ["start", "stop"] * 2
    assert not any(hole.lost for hole in verdict.holes)


async def test_symbols_of_a_pattern_are_followed_as_they_are_listed_and_delisted(line_of, exchange, tmp_path) -> None:
    simulator = exchange()
    reader_settings = {"instruments_interval": "500ms"}
    line = line_of(simulator, {"future": ["*USDT"]}, reader=reader_settings, polls={"interval_ms": 1000, "limit": 20})
    await line.create_topics()
    listed = (await control(simulator, "GET", "symbols"))["future"]
    reader = line.start("reader")
    await eventually(lambda: reader.metric("cryptoflow_anchors_total", outcome="placed") >= len(listed), 30)
    for change in ({"symbol": "NEWUSDT"}, {"symbol": "NEWBUSD"}, {"symbol": "ETHUSDT", "status": "SETTLING"}):
        await control(simulator, "POST", "listings", {"market": "future", **change})
    await eventually(lambda: reader.metric("cryptoflow_gaps_total", kind="fobd", cause="stop") == 1, 30)
    await eventually(lambda: reader.metric("cryptoflow_anchors_total", outcome="placed") >= len(listed) + 1, 30)
    await line.acknowledged(40, kind="fobd")
    assert reader.terminate() == 0, reader.tail()
    records = await line.raw_records("fobd")
    verdict = judge(records, await truth_of(simulator, tmp_path))
    told = {(hole.name[1], gap["cause"]) for hole in verdict.holes for gap in hole.gaps}
    assert told == {(symbol, cause) for symbol in [*listed, "NEWUSDT"] for cause in ("start", "stop")}
    assert not any(hole.lost for hole in verdict.holes)
    eth = [record for record in records if dict(record.headers)["symbol"] == b"ETHUSDT"]
    assert dict(eth[-1].headers)["type"] == b"gap"
    polled = [dict(record.headers) for record in await line.raw_records("fobs")]
    assert {head["symbol"] for head in polled} == {symbol.encode() for symbol in [*listed, "NEWUSDT"]}
    settled = [head["type"] for head in polled if head["symbol"] == b"ETHUSDT"]
    assert settled[-1] == b"gap"
    now = lake.instruments(line.store.url, exchange="binance", market="future").to_pylist()
    assert {row["symbol"]: row["status"] for row in now} | {"ETHUSDT": "SETTLING", "NEWUSDT": "TRADING"} == {
        row["symbol"]: row["status"] for row in now
    }
    assert all(row["tick_size"] for row in now)


async def test_each_shard_subscribes_its_symbols_from_its_own_address(line_of, exchange, tmp_path) -> None:
    simulator = exchange()
    owned = {"127.9.9.1": ["btcusdt@depth@100ms"], "127.9.9.2": ["ethusdt@depth@100ms", "sushiusdt@depth@100ms"]}
    shards = [
        {"ip": ip, "binance_future_symbols": [name.partition("@")[0].upper() for name in names]}
        for ip, names in owned.items()
    ]
    (tmp_path / "shards.yml").write_text(json.dumps({"shards": shards}))
    symbols = {"future": ["BTCUSDT", "ETHUSDT", "SUSHIUSDT"]}
    line = line_of(simulator, symbols, reader={"ip_shards_file": str(tmp_path / "shards.yml")})
    await line.create_topics()
    reader = line.start("reader")
    await line.acknowledged(40, kind="fobd")
    assert reader.terminate() == 0, reader.tail()
    truth = await truth_of(simulator, tmp_path)
    asked = {entry["ip"]: entry["params"] for entry in truth.lines if entry["what"] == "subscribe"}
    assert asked == owned
    for record in await line.raw_records("fobd"):
        headers = {name: value.decode() for name, value in record.headers}
        assert f"{headers['symbol'].lower()}@depth@100ms" in owned[headers["ip"]]


async def test_a_symbol_that_the_venue_does_not_list_is_said_and_the_others_are_recorded(
    line_of, exchange, tmp_path
) -> None:
    simulator = exchange()
    line = line_of(simulator, {"future": ["BTCUSDT", "NOPEUSDT"]})
    await line.create_topics()
    reader = line.start("reader")
    await line.acknowledged(20, kind="fobd")
    assert reader.metric("cryptoflow_symbols_not_trading", market="future") == 1
    assert [entry["symbols"] for entry in reader.logged("symbols not trading")] == [["NOPEUSDT"]]
    assert reader.terminate() == 0, reader.tail()
    assert {dict(record.headers)["symbol"] for record in await line.raw_records("fobd")} == {b"BTCUSDT"}


@pytest.mark.timeout(120)
async def test_a_symbol_that_falls_silent_while_its_book_moves_is_stale_and_subscribed_anew(
    line_of, exchange, tmp_path
) -> None:
    simulator = exchange()
    line = line_of(simulator, {"future": ["BTCUSDT", "ETHUSDT"]}, polls={"interval_ms": 1000})
    await line.create_topics()
    reader = line.start("reader")
    await eventually(lambda: reader.metric("cryptoflow_anchors_total", outcome="placed") >= 2, 30)
    rule = {"kind": "mute_symbol", "path": "stream", "market": "future", "symbol": "BTCUSDT", "args": {"seconds": 12.5}}
    await control(simulator, "POST", "faults", rule)
    await eventually(lambda: reader.metric("cryptoflow_gaps_total", kind="fobd", cause="stale") == 1, 40)
    await eventually(lambda: reader.metric("cryptoflow_symbols_without_anchor") == 0, 30)
    await line.acknowledged(60, kind="fobd")
    assert reader.terminate() == 0, reader.tail()
    truth = await truth_of(simulator, tmp_path)
    verdict = judge(await line.raw_records("fobd"), truth)
    within = [hole for hole in verdict.holes if not {gap["cause"] for gap in hole.gaps} & {"start", "stop"}]
    assert within[0].name == ("future", "BTCUSDT")
    assert [gap["cause"] for gap in within[0].gaps] == ["stale"]
    assert all(hole.lost for hole in within)
    renewed = [entry for entry in truth.lines if entry["what"] == "unsubscribe"]
    assert [entry["params"] for entry in renewed] == [["btcusdt@depth@100ms"]]


@pytest.mark.timeout(240)
async def test_twenty_handovers_cost_neither_a_gap_nor_a_repeat(line_of, exchange, tmp_path) -> None:
    simulator = exchange("--max-connection-age", "8", "--symbols-per-market", "20")
    symbols = {"future": (await control(simulator, "GET", "symbols"))["future"]}
    assert len(symbols["future"]) == 20
    line = line_of(simulator, symbols, reader={"max_connection_age": "2s", "streams_per_connection": 20})
    await line.create_topics()
    reader = line.start("reader")
    await eventually(lambda: reader.metric("cryptoflow_handovers_total", how="planned") >= 20, 150)
    assert reader.terminate() == 0, reader.tail()
    verdict = judge(await line.raw_records("fobd"), await truth_of(simulator, tmp_path))
    assert [gap["cause"] for hole in verdict.holes for gap in hole.gaps] == ["start", "stop"] * len(symbols["future"])
    assert not any(hole.lost for hole in verdict.holes)
    assert verdict.updates > 20 * 10 * 30


async def test_an_answer_that_comes_while_the_reader_stops_costs_nothing(line_of, exchange, tmp_path) -> None:
    simulator = exchange()
    line = line_of(simulator, {"spot": ["BTCUSDT", "ETHUSDT"]}, polls={"interval_ms": 500})
    await line.create_topics()
    reader = line.start("reader")
    await line.acknowledged(20, kind="fobd")
    await control(simulator, "POST", "faults", {"kind": "delay", "args": {"seconds": 2}})
    polls = "cryptoflow_polls_total"
    await eventually(lambda: reader.metric(polls, reason="late") > 0, what="polls that wait for their answers")
    assert reader.terminate() == 0, reader.tail()
