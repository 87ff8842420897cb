"""What the truth of the streams says, recorded sessions played over websockets, and the firehose."""

import asyncio
import json
import signal
from collections import defaultdict

import aiohttp
import pytest

from simulator.capture_files import captured_markets, read_answers, read_events
from tests.integration.simulator_client import (
    BTC,
    RULES,
    applied,
    events_of,
    ids_of,
    sides_of,
    simulating,
    verdicts,
)
from tests.support import CAPTURES, eventually

FOLDERS = sorted(CAPTURES.glob("binance_*"))
needs_captures = pytest.mark.skipif(not FOLDERS, reason="recorded sessions are missing at ../shared/captures")


async def test_base_and_events_give_the_book_at_any_id(tmp_path):
    path = tmp_path / "frames.jsonl"
    arguments = ("--speed", 0, "--symbols-per-market", 2, "--messages-per-second", 1000, "--truth-frames", path)
    async with simulating(*arguments) as run:
        books = defaultdict(list)
        await run.step(2000)
        async with (
            run.connect() as client,
            run.connect("/ws-inverse/stream") as inverse,
            run.connect("/ws-spot/ws") as spot,
        ):
            await run.fault("skip", count=3)
            for market, socket in (("future", client), ("inverse", inverse), ("spot", spot)):
                await socket.subscribe(BTC[market].lower() + "@depth")
            for _ in range(5):
                await run.step(700)
                for market, symbol in BTC.items():
                    books[market, symbol].append(await run.book(market))
        lines = await run.truth(path)
    for (market, symbol), snapshots in books.items():
        own = [line for line in lines if line.get("market") == market and line.get("symbol") == symbol]
        (base,) = [line for line in own if line["what"] == "base"]
        events = [line for line in own if line["what"] == "event"]
        texts = [json.loads(line["text"]) for line in events]
        assert set(verdicts(market, texts)) == {"next"}
        assert [(line["U"], line["u"], line["pu"], line["E"]) for line in events] == [
            (text["U"], text["u"], text.get("pu"), text["E"]) for text in texts
        ]
        start = {"lastUpdateId": base["last_id"], "bids": base["bids"], "asks": base["asks"]}
        assert RULES[market].after_anchor(base["last_id"], ids_of(texts[0])) == "next"
        for snapshot in snapshots:
            until = [text for text in texts if text["u"] <= snapshot["lastUpdateId"]]
            assert until[-1]["u"] == snapshot["lastUpdateId"]
            assert applied(start, until) == sides_of(snapshot)


async def test_the_truth_names_connections_and_what_they_asked_for(tmp_path):
    path = tmp_path / "frames.jsonl"
    async with simulating("--speed", 0, "--truth-frames", path) as run:
        async with run.connect("/ws-spot/stream?streams=btcusdt@depth") as client:
            port = client.socket.get_extra_info("sockname")[1]
            await client.subscribe("ethusdt@depth", "nosuch@depth")
            await client.ask("UNSUBSCRIBE", "ethusdt@depth")
            await run.step(300)
            sent = len(await client.drain())

        async def closed():
            return [line for line in await run.truth(path) if line["what"] == "closed"]

        (end,) = await eventually(closed)
        lines = await run.truth(path)
    told = [line["what"] for line in lines if line["what"] not in {"event", "frame"}]
    assert told == ["opened", "base", "base", "subscribe", "unsubscribe", "closed"]
    by = {line["what"]: line for line in lines}
    assert by["opened"]["port"] == port
    assert (by["opened"]["path"], by["opened"]["ip"]) == ("/ws-spot/stream?streams=btcusdt@depth", "127.0.0.1")
    assert (by["subscribe"]["params"], by["subscribe"]["answer"]) == (["ethusdt@depth", "nosuch@depth"], "ack")
    assert by["unsubscribe"]["params"] == ["ethusdt@depth"]
    assert (end["reason"], end["code"], end["conn"]) == ("client", 1000, 1)
    assert sent == sum(line["what"] == "frame" and line["delivered"] for line in lines)
    assert {line["market"] for line in lines} == {"spot"}


async def test_a_symbol_nobody_subscribed_to_is_not_in_the_truth(tmp_path):
    path = tmp_path / "frames.jsonl"
    async with simulating("--speed", 0, "--truth-frames", path) as run:
        await run.depth()
        await run.step(5000)
        assert await run.truth(path) == []


async def test_the_truth_is_whole_after_a_signal(tmp_path):
    path = tmp_path / "frames.jsonl"
    async with simulating("--speed", 0, "--truth-frames", path) as run, run.connect() as client:
        await client.subscribe("btcusdt@depth")
        await run.step(2000)
        run.process.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(run.process.wait, 10) == 0
        got = []
        while (message := await client.socket.receive(timeout=10)).type is aiohttp.WSMsgType.TEXT:
            got.append(json.loads(message.data))
    lines = [json.loads(text) for text in path.read_text().splitlines()]
    assert [line["u"] for line in lines if line["what"] == "frame"] == [event["u"] for event in events_of(got)]
    assert (lines[-1]["what"], lines[-1]["reason"]) == ("closed", "stop")


def recorded_of(folder):
    """(market, recorded body by symbol, recorded events by symbol)."""
    (market,) = captured_markets(folder)
    bodies = {
        answer.url.split("symbol=")[1].split("&")[0]: json.loads(answer.body)
        for answer in read_answers(folder)
        if "/depth?" in answer.url
    }
    events = {symbol: [] for symbol in bodies}
    for event in read_events(folder):
        events[event.symbol].append(event)
    return market, bodies, events


@needs_captures
@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
async def test_a_session_is_sent_verbatim_and_its_snapshots_fit(folder, tmp_path):
    market, bodies, events = recorded_of(folder)
    path = tmp_path / "frames.jsonl"
    arguments = ("--speed", 0, "--captures", folder, "--messages-per-second", 1000, "--truth-frames", path)
    async with simulating(*arguments) as run:
        got = defaultdict(list)

        async def read(client):
            await client.socket.send_str('{"method":"LIST_SUBSCRIPTIONS","id":0}')
            while '"id":0' not in (text := (await client.socket.receive(timeout=20)).data)[-8:]:
                got[json.loads(text)["data"]["s"]].append(text.encode())

        async with run.connect(run.line["stream"][market].removeprefix(run.base) + "/stream") as client:
            await client.subscribe(*(f"{symbol.lower()}@depth@100ms" for symbol in bodies))
            await run.step(10**9)
            await read(client)
            assert not (await run.counters())["captures"][market]["ended"]
            for symbol, frames in got.items():  # nothing that a snapshot would come too late for
                assert json.loads(frames[-1])["data"]["u"] <= bodies[symbol]["lastUpdateId"]
            for symbol, body in bodies.items():
                assert await run.depth(market, symbol) == body
            await run.step(10**9)
            await read(client)
            assert (await run.counters())["captures"][market]["ended"]
            for symbol, of_symbol in events.items():
                assert got[symbol] == [event.payload("x") for event in of_symbol]
                expected = json.loads((folder / "expected.json").read_text())[symbol]
                assert (await run.depth(market, symbol))["lastUpdateId"] == expected["final_u"]
        lines = await run.truth(path)
    for symbol, of_symbol in events.items():
        told = [line for line in lines if line.get("symbol") == symbol]
        assert told[0]["what"] == "base"
        assert [line["text"].encode() for line in told if line["what"] == "event"] == [
            event.text for event in of_symbol
        ]
        assert (told[0]["last_id"], [told[0]["bids"], told[0]["asks"]]) == (
            bodies[symbol]["lastUpdateId"],
            [[level[:2] for level in bodies[symbol][side]] for side in ("bids", "asks")],
        )


@needs_captures
@pytest.mark.parametrize("folder", FOLDERS[:3], ids=lambda folder: folder.name)
async def test_the_firehose_chains_across_laps_and_says_what_was_recorded(folder):
    market, bodies, events = recorded_of(folder)
    async with simulating("--captures", folder, "--firehose", 20_000, "--messages-per-second", 1000) as run:
        path = run.line["stream"][market].removeprefix(run.base) + "/stream"
        names = "/".join(f"{symbol.lower()}@depth@100ms" for symbol in bodies)
        before = {symbol: await run.depth(market, symbol) for symbol in bodies}
        async with run.connect(f"{path}?streams={names}") as client:
            got = defaultdict(list)

            async def three_laps():
                for event in events_of(await client.drain()):
                    got[event["s"]].append(event)
                return all(len(got[symbol]) > 2 * len(of_symbol) for symbol, of_symbol in events.items())

            await eventually(three_laps)
        assert (await run.counters())["captures"][market]["laps"] >= 2
    for symbol, of_symbol in got.items():
        assert RULES[market].after_anchor(before[symbol]["lastUpdateId"], ids_of(of_symbol[0])) == "next"
        assert set(verdicts(market, of_symbol)) == {"next"}
        assert before[symbol]["bids"] == bodies[symbol]["bids"]
        lap = len(events[symbol])
        for index, event in enumerate(of_symbol):
            recorded = json.loads(events[symbol][index % lap].text)
            ids = {"U", "u", "pu"}
            assert {name: event[name] for name in event.keys() - ids} == {
                name: recorded[name] for name in recorded.keys() - ids
            }
