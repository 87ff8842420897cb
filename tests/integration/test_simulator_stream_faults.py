"""Every kind of stream fault, as a client meets it and as the truth tells it."""

import asyncio
import json

import aiohttp
import pytest

from simulator.frame_faults import FRAME_KINDS
from tests.integration.simulator_client import events_of, simulating, verdicts
from tests.support import eventually

NAME = "btcusdt@depth@100ms"
IN_PLACE = {  # kind: whether one diff of the chain is missing
    "skip": True,
    "duplicate": False,
    "reorder": False,
    "garbage": True,
    "truncated_frame": True,
    "unknown_event": False,
    "no_symbol": True,
}
ENDING = {"drop_connection", "close_code"}
SILENT = {"half_open", "stall_forever"}
ALONE = {"refuse_connection", "reject_subscribe", "no_ack", "stall", "mute_symbol"}


@pytest.fixture
async def run(tmp_path):
    arguments = ("--speed", 0, "--symbols-per-market", 2, "--messages-per-second", 1000)
    async with simulating(*arguments, "--truth-frames", tmp_path / "frames.jsonl") as made:
        made.path = tmp_path / "frames.jsonl"
        yield made


def test_no_kind_goes_untested():
    assert {*IN_PLACE, *ENDING, *SILENT, *ALONE} == set(FRAME_KINDS)


async def test_the_listing_names_every_kind(run):
    async with run.session.get(run.line["control"] + "/faults") as response:
        listing = await response.json()
    assert {row["kind"] for row in listing["stream_kinds"]} == set(FRAME_KINDS)
    assert {row["effect"] for row in listing["stream_kinds"]} == {"lost", "reordered", "late", "extra", "refused"}
    assert all(row["what"] and row["when"] for row in listing["stream_kinds"])


async def fates(run, conn=1):
    """The frame lines of one connection: (u, fault, delivered)."""
    lines = await run.truth(run.path)
    return [
        (line["u"], line["fault"], line["delivered"])
        for line in lines
        if line["what"] == "frame" and line["conn"] == conn
    ]


async def due(run, symbol="BTCUSDT"):
    """What happened: u of every event."""
    lines = await run.truth(run.path)
    return [line["u"] for line in lines if line["what"] == "event" and line["symbol"] == symbol]


@pytest.mark.parametrize("path", ["/ws-future/public/stream", "/ws-future/public/ws"])
@pytest.mark.parametrize("kind", IN_PLACE)
async def test_a_fault_of_one_diff_is_what_it_says_and_the_truth_tells_it(run, kind, path):
    async with run.connect(path) as client:
        await client.subscribe(NAME)
        await run.step(500)
        before = events_of(await client.drain())
        await run.fault(kind)
        await run.step(1000)
        messages = await client.drain()
    got = [event["u"] for event in before + events_of(messages)]
    happened = await due(run)
    told = await fates(run)
    assert got == [u for u, _, delivered in told if delivered]
    assert set(happened) == {u for u, _, _ in told}
    hit = happened[len(before)]
    assert {u for u, fault, _ in told if fault == kind} == {hit}
    assert (hit not in got) == IN_PLACE[kind]
    others = [message for message in messages if not events_of([message])]
    gaps = verdicts("future", before + events_of(messages)).count("gap")
    if kind == "duplicate":
        assert (got.count(hit), got[len(before) : len(before) + 2], gaps, others) == (2, [hit, hit], 0, [])
    elif kind == "reorder":
        assert got[len(before) : len(before) + 2] == [happened[len(before) + 1], hit]
        assert (sorted(got), others) == (happened, [])
    elif kind == "skip":
        assert (gaps, others) == (1, [])
    elif kind == "unknown_event":
        event = others[0].get("data", others[0])
        assert (event["e"], len(others), gaps) == ("somethingNew", 1, 0)
        assert messages.index(others[0]) == 0
    elif kind == "no_symbol":
        event = others[0].get("data", others[0])
        assert (event["u"], "s" in event, "ps" in event, gaps) == (hit, False, True, 1)
    else:
        assert (type(others[0]), len(others), gaps) == (str, 1, 1)
        if kind == "truncated_frame":
            assert others[0].startswith('{"stream"' if path.endswith("stream") else '{"e"')


async def test_garbage_can_come_besides_and_as_bytes(run):
    async with run.connect() as client:
        await client.subscribe(NAME)
        await run.fault("garbage", extra=True, binary=True, bytes=7)
        await run.step(1000)
        messages = await client.drain()
    assert (type(messages[0]), len(messages[0])) == (bytes, 7)
    assert [event["u"] for event in events_of(messages)] == await due(run)


async def test_a_frame_can_be_cut_anywhere(run):
    async with run.connect() as client:
        await client.subscribe(NAME)
        await run.fault("truncated_frame", share=0.9)
        await run.step(500)
        (cut, *_) = await client.drain()
        assert '"U":' in cut
        with pytest.raises(json.JSONDecodeError):
            json.loads(cut)


@pytest.mark.parametrize(
    ("kind", "args", "code"),
    [
        ("drop_connection", {}, None),
        ("drop_connection", {"reset": False}, None),
        ("close_code", {}, 1001),
        ("close_code", {"code": 4321, "text": "bye"}, 4321),
    ],
)
async def test_a_connection_is_ended_before_the_diff_and_others_stay(run, kind, args, code):
    async with run.connect() as client, run.connect() as other:
        await client.subscribe(NAME)
        await other.subscribe("ethusdt@depth")
        await run.step(500)
        before = events_of(await client.drain())
        await run.fault(kind, symbol="BTCUSDT", **args)
        await run.step(1000)
        got_code, text, rest = await client.end()
        assert (got_code, text, rest) == (code, args.get("text", "") if code else "", [])
        assert len(events_of(await other.drain())) > 10
        await eventually(lambda: closed(run))
    told = await fates(run)
    assert [u for u, _, delivered in told if delivered] == [event["u"] for event in before]
    assert told[-1] == ((await due(run))[len(before)], kind, False)
    (line,) = [line for line in await run.truth(run.path) if line["what"] == "closed" and line["conn"] == 1]
    assert (line["reason"], line["code"]) == (kind, code)


@pytest.mark.parametrize("reset", [True, False])
async def test_a_dropped_connection_is_reset_or_ended_in_order(run, reset):
    reader, writer = await asyncio.open_connection("127.0.0.1", run.line["port"])
    head = f"GET /ws-future/stream?streams={NAME} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    writer.write(f"{head}Sec-WebSocket-Key: {'A' * 22}==\r\nSec-WebSocket-Version: 13\r\n\r\n".encode())
    await reader.readuntil(b"\r\n\r\n")
    await run.fault("drop_connection", reset=reset)
    await run.step(500)
    if reset:
        with pytest.raises(ConnectionResetError):
            await reader.read()
    else:
        assert await reader.read() == b""
    writer.close()


async def closed(run):
    return (await run.counters())["stream"]["closed"]


@pytest.mark.parametrize("kind", sorted(SILENT))
async def test_a_silent_connection_stays_open_and_sends_no_diff(run, kind):
    async with run.connect(autoping=False) as client, run.connect() as other:
        await client.subscribe(NAME)
        await run.fault(kind)
        await run.step(500)
        await client.socket.ping()
        if kind == "half_open":
            with pytest.raises(TimeoutError):
                await client.socket.receive(timeout=0.3)
        else:
            assert (await client.socket.receive(timeout=10)).type is aiohttp.WSMsgType.PONG
            assert await client.drain() == []
        await other.subscribe(NAME)
        await run.step(500)
        assert events_of(await other.drain())
        assert (await run.counters())["stream"]["connections"] == {"future": 2}
    assert {(fault, delivered) for _, fault, delivered in await fates(run)} == {(kind, False)}
    assert {(fault, delivered) for _, fault, delivered in await fates(run, 2)} == {(None, True)}


async def test_a_half_open_connection_sends_no_pings_and_has_no_age():
    limits = ("--ping-seconds", 0.3, "--max-connection-age", 2, "--symbols-per-market", 1)
    async with simulating(*limits) as run, run.connect(autoping=False) as client, run.connect() as other:
        await run.fault("half_open")
        await client.subscribe(NAME)
        assert (await other.end())[0] == 1001  # of its age, before which the first one fell silent
        pings = 0

        async def hears_nothing():
            nonlocal pings
            try:
                message = await client.socket.receive(timeout=0.5)
            except TimeoutError:
                return True
            assert message.type is aiohttp.WSMsgType.PING
            pings += 1
            return False

        await eventually(hears_nothing)
        assert pings < 6


async def test_a_stall_holds_diffs_back_and_loses_none(run):
    async with run.connect() as client:
        await client.subscribe(NAME)
        await run.fault("stall", seconds=2)
        await run.step(1000)
        assert await client.drain() == []  # pings and answers go on
        messages = [json.loads((await client.socket.receive(timeout=10)).data)]
        await run.step(300)
        messages += await client.drain()
    assert [event["u"] for event in events_of(messages)] == await due(run)
    told = await fates(run)
    assert {fault for _, fault, _ in told} == {"stall", None}
    assert all(delivered for _, _, delivered in told)


async def test_what_a_stall_still_holds_is_lost_with_the_connection(run):
    async with run.connect() as client:
        await client.subscribe(NAME)
        await run.fault("stall", seconds=600)
        await run.step(1000)
    await eventually(lambda: closed(run))
    assert {(fault, delivered) for _, fault, delivered in await fates(run)} == {("stall", False)}


async def test_a_muted_symbol_reaches_nobody_while_its_book_moves(run):
    async with run.connect() as client, run.connect() as other:
        await client.subscribe(NAME, "ethusdt@depth")
        await other.subscribe(NAME)
        before = await run.depth()
        await run.fault("mute_symbol", symbol="BTCUSDT", seconds=0.5)
        await run.step(1000)
        assert {event["s"] for event in events_of(await client.drain())} == {"ETHUSDT"}
        assert await other.drain() == []
        assert (await run.depth())["lastUpdateId"] > before["lastUpdateId"]

        async def speaks_again():
            await run.step(200)
            return [event for event in events_of(await client.drain()) if event["s"] == "BTCUSDT"]

        events = await eventually(speaks_again)
        assert events[0]["pu"] > before["lastUpdateId"]
        assert (await run.counters())["stream"]["by_fault"] == {"mute_symbol": 1}


@pytest.mark.parametrize("status", [503, 429])
async def test_a_handshake_can_be_refused(run, status):
    await run.fault("refuse_connection", status=status)
    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        async with run.connect():
            pass
    assert refused.value.status == status
    async with run.connect():
        pass


async def test_a_subscription_can_be_rejected(run):
    async with run.connect() as client:
        await run.fault("reject_subscribe", symbol="BTCUSDT", code=-7, msg="not today")
        await client.subscribe("ethusdt@depth")
        assert (await client.ask("SUBSCRIBE", NAME))[0]["error"] == {"code": -7, "msg": "not today"}
        assert (await client.ask("LIST_SUBSCRIPTIONS"))[0]["result"] == ["ethusdt@depth"]
    answers = [line["answer"] for line in await run.truth(run.path) if line["what"] == "subscribe"]
    assert answers == ["ack", "error"]


@pytest.mark.parametrize("ignored", [False, True])
async def test_an_ack_can_be_missing_with_or_without_the_subscription(run, ignored):
    async with run.connect() as client:
        await run.fault("no_ack", ignored=ignored)
        await client.socket.send_json({"method": "SUBSCRIBE", "params": [NAME], "id": 77})
        assert (await client.ask("LIST_SUBSCRIPTIONS")) == ({"result": [] if ignored else [NAME], "id": 1}, [])
        await run.step(500)
        assert bool(await client.drain()) == (not ignored)
    assert [line["answer"] for line in await run.truth(run.path) if line["what"] == "subscribe"] == ["none"]


async def test_kinds_of_answers_and_kinds_of_streams_do_not_mix(run):
    for rule in ({"kind": "http_500", "path": "stream"}, {"kind": "skip"}):
        async with run.session.post(run.line["control"] + "/faults", json=rule) as response:
            assert response.status == 400
            assert "unknown fault kind" in (await response.json())["error"]
    async with run.connect() as client:
        await client.subscribe(NAME)
        await run.control("/faults", kind="stall", path="*", count=9)  # of answers, though a stream kind has this name
        await run.step(500)
        assert events_of(await client.drain())


async def test_a_fault_takes_the_connections_it_names_by_address(run):
    connector = aiohttp.TCPConnector(local_addr=("127.0.0.7", 0))
    async with aiohttp.ClientSession(connector=connector) as elsewhere, run.connect() as client:
        await client.subscribe(NAME)
        async with elsewhere.ws_connect(f"{run.base}/ws-future/public/stream?streams={NAME}"):
            await run.control("/faults", kind="skip", path="stream", count=3, source_ip="127.0.0.7")
            await run.step(1000)
            assert set(verdicts("future", events_of(await client.drain()))) == {"next"}
    assert {fault for _, fault, _ in await fates(run, 1)} == {None}
    assert [fault for _, fault, _ in await fates(run, 2)][:4] == ["skip", "skip", "skip", None]
