"""The simulator's websocket side, met by a plain client: paths, control messages, limits, ages, pings, listings."""

import asyncio
import json
import signal
import socket

import aiohttp
import pytest

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
from tests.support import eventually

EASY = ("--speed", 0, "--symbols-per-market", 6, "--messages-per-second", 1000)
PATHS = {  # path: market, whether events are wrapped, whether depth is served
    "/ws-future/public/stream": ("future", True, True),
    "/ws-future/public/ws": ("future", False, True),
    "/ws-future/market/stream": ("future", True, False),
    "/ws-future/market/ws": ("future", False, False),
    "/ws-future/stream": ("future", True, True),
    "/ws-future/ws": ("future", False, True),
    "/ws-inverse/stream": ("inverse", True, True),
    "/ws-inverse/ws": ("inverse", False, True),
    "/ws-spot/stream": ("spot", True, True),
    "/ws-spot/ws": ("spot", False, True),
}
FIELDS = {
    "future": ["e", "E", "T", "s", "ps", "U", "u", "pu", "b", "a", "st"],
    "inverse": ["e", "E", "T", "s", "ps", "U", "u", "pu", "b", "a", "st"],
    "spot": ["e", "E", "s", "U", "u", "b", "a"],
}


@pytest.fixture
async def run():
    async with simulating(*EASY) as made:
        yield made


async def test_every_path_serves_what_the_venue_serves_there():
    async with simulating(*EASY) as run:
        assert run.line["stream"] == {
            "future": run.base + "/ws-future/public",
            "inverse": run.base + "/ws-inverse",
            "spot": run.base + "/ws-spot",
        }
        for path, (market, combined, served) in PATHS.items():
            name = BTC[market].lower() + "@depth@100ms"
            async with run.connect(path) as client:
                await client.subscribe(name)
                await run.step(500)
                messages = await client.drain()
                assert bool(messages) == served, path
                if combined:
                    assert {message["stream"] for message in messages} <= {name}
                    messages = [message["data"] for message in messages]
                assert all(list(event) == FIELDS[market] for event in messages), path


async def test_events_name_their_pair_and_family(run):
    for market, path in {"future": "/ws-future/public/stream", "inverse": "/ws-inverse/stream"}.items():
        async with run.connect(f"{path}?streams={BTC[market].lower()}@depth") as client:
            await run.step(500)
            event = events_of(await client.drain())[0]
            assert (event["s"], event["ps"], event["st"]) == (
                BTC[market],
                {"future": "BTCUSDT", "inverse": "BTCUSD"}[market],
                {"future": 1, "inverse": 2}[market],
            )


@pytest.mark.parametrize(
    "path",
    ["/ws-spot/stream?streams=btcusdt@depth@100ms/ethusdt@depth", "/ws-spot/ws/btcusdt@depth@100ms/ethusdt@depth"],
)
async def test_streams_named_in_the_url_are_subscribed_at_once(run, path):
    async with run.connect(path) as client:
        answer, before = await client.ask("LIST_SUBSCRIPTIONS")
        assert (answer["result"], before) == (["btcusdt@depth@100ms", "ethusdt@depth"], [])
        await run.step(500)
        assert {event["s"] for event in events_of(await client.drain())} == {"BTCUSDT", "ETHUSDT"}


@pytest.mark.parametrize(
    ("name", "served"),
    [
        ("ethusdt@depth", True),
        ("ethusdt@depth@0ms", True),
        ("ethusdt@depth@100ms", True),
        ("ethusdt@depth@500ms", True),
        ("币安人生usdt@depth@100ms", True),
        ("ethusdt@depth@7ms", False),
        ("ETHUSDT@depth", False),
        ("ethusdt@depth20", False),
        ("ethusdt@aggTrade", False),
        ("nosuchusdt@depth", False),
        ("lunausdt@depth", False),
        ("", False),
    ],
)
async def test_what_is_unknown_or_halted_is_acknowledged_and_silent(run, name, served):
    async with run.connect() as client:
        await client.subscribe(name)
        await run.step(500)
        messages = await client.drain()
        assert bool(messages) == served
        assert {message["stream"] for message in messages} <= {name}


async def test_frames_begin_after_the_subscription_and_end_with_it(run):
    async with run.connect() as client:
        await run.depth()
        await run.step(5000)
        await client.subscribe("btcusdt@depth")
        last = (await run.depth())["lastUpdateId"]
        assert await client.drain() == []
        await run.step(1000)
        events = events_of(await client.drain())
        assert RULES["future"].after_anchor(last, ids_of(events[0])) == "next"
        assert (await client.ask("UNSUBSCRIBE", "btcusdt@depth", "never@depth"))[0]["result"] is None
        await run.step(1000)
        answer, before = await client.ask("LIST_SUBSCRIPTIONS")
        assert (answer["result"], before) == ([], [])


async def test_a_connection_can_ask_for_bare_events(run):
    async with run.connect() as client:
        await client.subscribe("btcusdt@depth")
        assert (await client.ask("GET_PROPERTY", "combined"))[0]["result"] is True
        assert (await client.ask("SET_PROPERTY", "combined", False))[0]["result"] is None
        await run.step(500)
        assert all("stream" not in message for message in await client.drain())


@pytest.mark.parametrize(
    ("text", "request_id", "word"),
    [
        ("nonsense", None, "malformed"),
        ("[]", None, "expected an object"),
        ('{"params":[],"id":4}', 4, "missing field `method`"),
        ('{"method":"LISTEN","params":[],"id":4}', 4, "unknown variant `LISTEN`"),
        ('{"method":"SUBSCRIBE","id":4}', 4, "params"),
        ('{"method":"SUBSCRIBE","params":"btcusdt@depth","id":4}', 4, "params"),
        ('{"method":"SUBSCRIBE","params":[1],"id":4}', 4, "params"),
        ('{"method":"SUBSCRIBE","params":[],"id":-4}', None, "unsigned integer"),
        ('{"method":"SET_PROPERTY","params":["combined"],"id":4}', 4, "params"),
    ],
)
async def test_a_message_that_cannot_be_read_is_answered_with_code_2(run, text, request_id, word):
    async with run.connect() as client:
        await client.socket.send_str(text)
        answer = await client.socket.receive_json(timeout=10)
        assert (answer["error"]["code"], answer["id"]) == (2, request_id)
        assert answer["error"]["msg"].startswith("Invalid request: ")
        assert word in answer["error"]["msg"]


@pytest.mark.parametrize(
    ("path", "limit"), [("/ws-future/public/stream", 10), ("/ws-inverse/ws", 10), ("/ws-spot/ws", 5)]
)
@pytest.mark.parametrize("how", ["text", "ping", "pong"])
async def test_too_many_messages_in_a_second_close_with_1008(path, limit, how):
    async with simulating("--speed", 0) as run, run.connect(path, autoping=False) as client:
        send = {"text": lambda: client.socket.send_str("{}"), "ping": client.socket.ping, "pong": client.socket.pong}[
            how
        ]
        for _ in range(limit):
            await send()
        if how != "pong":
            assert [(await client.socket.receive(timeout=10)).type for _ in range(limit)]
        await send()
        code, reason, before = await client.end()
        assert (code, reason, before) == (1008, "Too many requests", [])
        assert (await eventually(lambda: closed(run))) == {"too_many_requests": 1}


def level_count(message):
    event = message.get("data", message)
    return len(event["b"]) + len(event["a"])


async def closed(run):
    return (await run.counters())["stream"]["closed"]


async def test_a_connection_takes_so_many_streams_and_no_more():
    async with simulating(*EASY, "--max-streams", 2) as run:
        async with run.connect() as client:
            await client.subscribe("a@depth", "b@depth")
            await client.subscribe("a@depth")
            answer, _ = await client.ask("SUBSCRIBE", "c@depth")
            assert "more than 2 streams" in answer["error"]["msg"]
            assert (await client.ask("LIST_SUBSCRIPTIONS"))[0]["result"] == ["a@depth", "b@depth"]
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            async with run.connect("/ws-spot/stream?streams=a@depth/b@depth/c@depth"):
                pass
        assert refused.value.status == 400


async def test_too_many_attempts_of_an_address_are_refused_with_429():
    async with simulating("--connects-per-five-minutes", 3) as run:
        for _ in range(3):
            async with run.connect():
                pass
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            async with run.connect():
                pass
        assert refused.value.status == 429
        async with run.connect("/ws-spot/stream"):
            pass
        connector = aiohttp.TCPConnector(local_addr=("127.0.0.7", 0))
        url = run.base + "/ws-future/public/stream"
        async with aiohttp.ClientSession(connector=connector) as elsewhere, elsewhere.ws_connect(url):
            pass


@pytest.mark.parametrize(("path", "notice"), [("/ws-future/public/stream", False), ("/ws-spot/ws", True)])
async def test_a_connection_ends_at_its_age_and_spot_says_so_before(path, notice):
    async with simulating("--max-connection-age", 0.5) as run, run.connect(path) as client:
        code, _, before = await client.end()
        assert code == 1001
        assert [json.loads(text)["e"] for text in before] == (["serverShutdown"] if notice else [])
        assert (await eventually(lambda: closed(run))) == {"max_age": 1}


@pytest.mark.parametrize("path", ["/ws-future/public/stream", "/ws-spot/stream"])
async def test_the_server_pings_and_leaves_who_does_not_answer(path):
    async with simulating("--ping-seconds", 0.1) as run, run.connect(path, autoping=False) as client:
        assert (await client.socket.receive(timeout=10)).type is aiohttp.WSMsgType.PING
        pings, message = 0, None
        while message is None or message.type is aiohttp.WSMsgType.PING:
            message = await client.socket.receive(timeout=10)
            pings += 1
        assert (message.type, message.data, message.extra) == (aiohttp.WSMsgType.CLOSE, 1008, "Pong timeout")
        assert pings <= 4  # ten thirds of the pause on futures, three of it on spot


async def test_who_answers_pings_stays():
    limits = ("--ping-seconds", 0.1, "--messages-per-second", 100)
    async with simulating(*limits) as run, run.connect(autoping=False) as client:
        for _ in range(10):  # three times as long as a silent client would have
            message = await client.socket.receive(timeout=10)
            assert message.type is aiohttp.WSMsgType.PING
            assert int(message.data) > 1_700_000_000_000
            await client.socket.pong(message.data)


async def test_a_clients_ping_is_answered_with_its_payload(run):
    async with run.connect(autoping=False) as client:
        await client.socket.ping(b"are you there")
        message = await client.socket.receive(timeout=10)
        assert (message.type, bytes(message.data)) == (aiohttp.WSMsgType.PONG, b"are you there")


async def test_a_goodbye_is_answered(run):
    async with run.connect(autoclose=False) as client:
        await client.socket.close(code=1000)
        assert client.socket.close_code == 1000
        assert (await eventually(lambda: closed(run))) == {"client": 1}


async def test_who_does_not_read_is_cut_off():
    async with simulating(*EASY, "--slow-consumer-bytes", 100_000) as run:
        with socket.socket() as lazy:
            lazy.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            await asyncio.to_thread(lazy.connect, ("127.0.0.1", run.line["port"]))
            head = "GET /ws-future/stream?streams=btcusdt@depth/ethusdt@depth HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n"
            head += f"Connection: Upgrade\r\nSec-WebSocket-Key: {'A' * 22}==\r\nSec-WebSocket-Version: 13\r\n\r\n"
            lazy.sendall(head.encode())

            async def opened():
                return (await run.counters())["stream"]["opened"]

            await eventually(opened)
            for _ in range(10):
                await run.step(500_000)
                if await closed(run):
                    break
            assert (await eventually(lambda: closed(run))) == {"slow_consumer": 1}


@pytest.mark.parametrize("market", ["future", "inverse", "spot"])
async def test_answers_and_stream_tell_one_story_whoever_moves_the_book(market):
    async with simulating("--speed", 100, "--symbols-per-market", 2, "--messages-per-second", 1000) as run:
        path = run.line["stream"][market].removeprefix(run.base) + "/stream"
        async with run.connect(path) as client:
            await client.subscribe(BTC[market].lower() + "@depth@100ms")
            books = [await run.book(market) for _ in range(40)]  # each one moves it
            await run.control("/speed", speed=0)
            books.append(await run.book(market))
            events = events_of(await client.drain())
        assert len(events) > 50
        assert set(verdicts(market, events)) == {"next"}
        assert len({book["lastUpdateId"] for book in books}) > 10
        for book in books:
            following = [event for event in events if event["u"] > book["lastUpdateId"]]
            if following:
                assert RULES[market].after_anchor(book["lastUpdateId"], ids_of(following[0])) == "next"
            assert applied(book, events) == sides_of(books[-1])


async def test_a_symbol_can_be_listed_halted_and_taken_off_while_it_runs(run):
    async def info():
        async with run.session.get(run.line["rest"]["future"] + "/fapi/v1/exchangeInfo") as response:
            return {row["symbol"]: row["status"] for row in (await response.json())["symbols"]}

    async with run.connect() as client:
        await client.subscribe("newusdt@depth")
        await run.step(500)
        assert await client.drain() == []
        await run.control("/listings", market="future", symbol="NEWUSDT")
        assert (await info())["NEWUSDT"] == "TRADING"
        book = await run.book("future", "NEWUSDT")
        await run.step(1000)
        events = events_of(await client.drain())
        assert {event["s"] for event in events} == {"NEWUSDT"}
        assert applied(book, events) == sides_of(await run.book("future", "NEWUSDT"))
        await run.control("/listings", market="future", symbol="NEWUSDT", status="SETTLING")
        await run.step(60_000)
        assert ((await info())["NEWUSDT"], await client.drain()) == ("SETTLING", [])
        await run.control("/listings", market="future", symbol="NEWUSDT", status="TRADING")
        await run.step(1000)
        resumed = events_of(await client.drain())
        assert len(resumed) < 15  # nothing is made up for the time of the halt
        assert set(verdicts("future", events + resumed)) == {"next"}
        await run.control("/listings", market="future", symbol="NEWUSDT", status=None)
        await run.step(1000)
        assert await client.drain() == []
        assert "NEWUSDT" not in await info()
        assert "BTCUSDT" in await info()


@pytest.mark.parametrize(
    "body",
    [
        {"market": "future", "symbol": "NONSENSE"},
        {"market": "inverse", "symbol": "BTCUSD"},
        {"market": "moon", "symbol": "AUSDT"},
    ],
)
async def test_a_listing_that_cannot_be_is_refused_in_words(run, body):
    async with run.session.post(run.line["control"] + "/listings", json=body) as response:
        assert response.status == 400
        assert (await response.json())["error"]


async def test_a_plain_request_to_a_stream_is_refused(run):
    async with run.session.get(f"http://127.0.0.1:{run.line['port']}/ws-spot/stream") as response:
        assert response.status == 400


async def test_a_signal_ends_it_cleanly_while_streams_are_open(run):
    async with run.connect() as client:
        await client.subscribe("btcusdt@depth")
        run.process.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(run.process.wait, 10) == 0
        assert await client.end() == (None, "", [])


async def test_counters_tell_what_was_sent_and_who_is_there(run):
    async with run.connect() as client, run.connect("/ws-spot/ws/btcusdt@depth") as other:
        await client.subscribe("btcusdt@depth", "ethusdt@depth")
        await run.step(1000)
        drained = {"future": await client.drain(), "spot": await other.drain()}
        sent = {market: len(messages) for market, messages in drained.items()}
        levels = {market: sum(map(level_count, messages)) for market, messages in drained.items()}
        counted = (await run.counters())["stream"]
        assert counted["frames"] == sent
        assert counted["levels"] == levels
        assert min(levels.values()) > 0
        assert counted["connections"] == {"future": 1, "spot": 1}
        assert counted["events"]["future"] == sent["future"]
    await eventually(lambda: closed(run))
    counted = (await run.counters())["stream"]
    assert (counted["frames"], counted["levels"]) == (sent, levels)
