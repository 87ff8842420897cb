"""The simulator as a process, met by a plain HTTP client: formats, limits, bans, truth, captures, signals."""

import asyncio
import hashlib
import json
import signal
import subprocess
import sys
import threading
from contextlib import contextmanager
from pathlib import Path

import aiohttp
import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = sorted((ROOT.parent / "shared" / "captures").glob("binance_*"))
needs_captures = pytest.mark.skipif(not FOLDERS, reason="recorded sessions are missing at ../shared/captures")
BTC = "/fapi/v1/depth?symbol=BTCUSDT&limit=5"


@contextmanager
def running(*arguments):
    """A simulator process; yields its first line and itself, and ends it if the test has not."""
    command = [sys.executable, "-m", "simulator", *map(str, arguments)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        guard = threading.Timer(150, process.kill)  # a test that hangs must not leave it behind
        guard.start()
        try:
            assert process.stdout is not None
            yield json.loads(process.stdout.readline()), process
        finally:
            guard.cancel()
            process.kill()


@pytest.fixture
async def client():
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=30)) as session:
        yield session


async def get(client, url):
    async with client.get(url) as response:
        return response.status, response.headers, await response.read()


async def test_it_says_where_it_listens_and_speaks_for_three_markets(client):
    with running("--speed", 0) as (line, _):
        assert set(line) == {"port", "rest", "stream", "control"}
        assert set(line["rest"]) == {"future", "inverse", "spot"}
        bodies = {}
        for market, path in {
            "future": BTC,
            "inverse": "/dapi/v1/depth?symbol=BTCUSD_PERP&limit=5",
            "spot": "/api/v3/depth?symbol=BTCUSDT&limit=5",
        }.items():
            status, headers, body = await get(client, line["rest"][market] + path)
            assert (status, headers["X-MBX-USED-WEIGHT-1M"]) == (
                200,
                {"future": "2", "inverse": "4", "spot": "5"}[market],
            )
            assert headers["Content-Type"].startswith("application/json")
            bodies[market] = list(json.loads(body))
        assert bodies == {
            "future": ["lastUpdateId", "E", "T", "bids", "asks"],
            "inverse": ["lastUpdateId", "E", "T", "symbol", "pair", "bids", "asks"],
            "spot": ["lastUpdateId", "bids", "asks"],
        }
        url = line["rest"]["future"]
        assert (await get(client, url + "/fapi/v1/ping"))[2] == b"{}"
        assert "serverTime" in json.loads((await get(client, url + "/api/v3/time"))[2])
        assert (await get(client, url + "/fapi/v1/depth?symbol=%E5%B8%81%E5%AE%89%E4%BA%BA%E7%94%9FUSDT"))[0] == 200


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("/fapi/v1/depth", 400, -1102),
        ("/fapi/v1/depth?symbol=", 400, -1102),
        ("/fapi/v1/depth?symbol=NOPE", 400, -1121),
        ("/fapi/v1/depth?symbol=btcusdt", 400, -1121),
        ("/fapi/v1/depth?symbol=BTCUSDT&limit=7", 400, -4021),
        ("/dapi/v1/depth?symbol=BTCUSD_PERP&limit=x", 400, -1100),
        ("/api/v3/depth?symbol=NOPE&limit=7", 400, -1121),
        ("/fapi/v1/klines", 404, -5000),
    ],
)
async def test_what_the_venue_refuses_is_refused_with_its_code(client, simulator_url, path, status, code):
    got, headers, body = await get(client, simulator_url + path)
    assert (got, json.loads(body)["code"]) == (status, code)
    assert json.loads(body)["msg"]
    assert int(headers["X-MBX-USED-WEIGHT-1M"]) > 0


@pytest.fixture(scope="module")
def simulator_url():
    with running("--speed", 0) as (line, _):
        yield line["rest"]["future"]


async def test_beyond_the_limit_comes_429_and_whoever_goes_on_is_banned_for_both_futures_markets(client):
    with running("--futures-weight-limit", 10, "--ban-after", 1) as (line, _):
        url = line["rest"]["future"]
        seen = [await get(client, url + path) for path in [BTC] * 5 + [BTC] * 2 + ["/dapi/v1/ping", "/api/v3/ping"]]
        # a clock minute may turn once in between: then the refusals come that much later, never sooner
        statuses = [status for status, _, _ in seen]
        assert statuses[:5] == [200] * 5
        if 418 in statuses:
            assert statuses == [200] * 5 + [429, 418, 418, 200]
            _, headers, body = seen[5]
            assert 1 <= int(headers["Retry-After"]) <= 60
            assert json.loads(body)["code"] == -1003
            assert "current limit of IP(127.0.0.1) is 10 requests per minute" in json.loads(body)["msg"]
            assert "banned until" in json.loads(seen[6][2])["msg"]
            assert 1 <= int(seen[6][1]["Retry-After"]) <= 120


async def test_source_addresses_are_told_apart(client):
    with running("--futures-weight-limit", 2) as (line, _):
        url = line["rest"]["future"]
        for address in ("127.0.0.1", "127.0.0.7"):
            connector = aiohttp.TCPConnector(local_addr=(address, 0))
            async with aiohttp.ClientSession(connector=connector) as bound:
                assert (await get(bound, url + BTC))[0] == 200
        counters = json.loads((await get(client, line["control"] + "/counters"))[2])
        assert {row["address"]: row["total"] for row in counters["weights"]} == {"127.0.0.1": 2, "127.0.0.7": 2}
        entries = json.loads((await get(client, line["control"] + "/truth"))[2])["entries"]
        assert [entry["ip"] for entry in entries] == ["127.0.0.1", "127.0.0.7"]


async def test_two_runs_with_one_seed_serve_the_same_bytes(client):
    bodies = []
    for seed in (5, 5, 6):
        with running("--speed", 0, "--seed", seed) as (line, _):
            url = line["rest"]["future"]
            first = (await get(client, url + "/fapi/v1/depth?symbol=ETHUSDT&limit=1000"))[2]
            await client.post(line["control"] + "/step", json={"ms": 1500})
            later = (await get(client, url + "/fapi/v1/depth?symbol=ETHUSDT&limit=1000"))[2]
            bodies.append((first, later))
    assert bodies[0] == bodies[1]
    assert bodies[0][0] != bodies[0][1]
    assert bodies[0] != bodies[2]


async def test_the_truth_names_every_response_and_keeps_every_body(client, tmp_path):
    log, kept = tmp_path / "truth.jsonl", tmp_path / "bodies"
    with running("--speed", 0, "--truth", log, "--truth-bodies", kept) as (line, _):
        url = line["rest"]["future"]
        await client.post(line["control"] + "/faults", json={"kind": "truncated_body"})
        with pytest.raises(aiohttp.ClientPayloadError):
            await get(client, url + BTC)
        got = [await get(client, url + path) for path in (BTC, "/fapi/v1/depth?symbol=NOPE", "/api/v3/ping")]
        entries = json.loads((await get(client, line["control"] + "/truth"))[2])["entries"]
        assert [json.loads(text) for text in log.read_text().splitlines()] == entries  # flushed while it runs
        only = json.loads((await get(client, line["control"] + "/truth?market=future&symbol=NOPE"))[2])["entries"]
        assert only == entries[2:3]
        counters = json.loads((await get(client, line["control"] + "/counters"))[2])
    assert [entry["seq"] for entry in entries] == [1, 2, 3, 4]
    cut, whole, refused, ping = entries
    assert (cut["fault"], cut["complete"], cut["status"]) == ("truncated_body", False, 200)
    assert 0 < cut["sent_bytes"] < cut["bytes"]
    assert (whole["market"], whole["symbol"], whole["path"], whole["ip"]) == ("future", "BTCUSDT", BTC, "127.0.0.1")
    assert (whole["complete"], whole["fault"], whole["bids"], whole["asks"]) == (True, None, 5, 5)
    assert whole["lastUpdateId"] == json.loads(got[0][2])["lastUpdateId"]
    assert whole["recv_ns"] < whole["served_ns"]
    assert (refused["status"], refused["book"], ping["symbol"]) == (400, False, None)
    for entry, (_, _, body) in zip(entries[1:], got, strict=True):
        assert entry["sha256"] == hashlib.sha256(body).hexdigest()
        assert entry["bytes"] == entry["sent_bytes"] == len(body)
        assert (kept / entry["sha256"]).read_bytes() == body
    assert counters["books"] == {"future": {"BTCUSDT": {"levels": 10, "answers": 1}}}
    assert counters["by_status"] == {"200": 3, "400": 1}


async def test_a_body_nobody_took_is_not_called_complete(client):
    with running("--speed", 0) as (line, _):
        await client.post(line["control"] + "/faults", json={"kind": "slow_body", "args": {"seconds": 20}})
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.5):
                await get(client, line["rest"]["future"] + "/fapi/v1/depth?symbol=BTCUSDT&limit=1000")
        for _ in range(200):  # the server notices the closed connection within moments
            entries = json.loads((await get(client, line["control"] + "/truth"))[2])["entries"]
            if entries:
                break
            await asyncio.sleep(0.02)
        assert [(entry["complete"], entry["sent_bytes"] < entry["bytes"]) for entry in entries] == [(False, True)]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_ends_it_cleanly_even_while_a_request_stalls(client, number):
    with running() as (line, process):
        await client.post(line["control"] + "/faults", json={"kind": "stall"})
        stalled = asyncio.create_task(get(client, line["rest"]["future"] + BTC))
        for _ in range(1000):
            if json.loads((await get(client, line["control"] + "/faults"))[2])["rules"][0]["hits"]:
                break
        process.send_signal(number)
        assert await asyncio.to_thread(process.wait, 10) == 0
        with pytest.raises(aiohttp.ClientError):
            await stalled


async def test_time_stands_still_until_it_is_stepped_and_runs_when_told(client):
    with running("--speed", 0) as (line, _):
        url, control = line["rest"]["future"], line["control"]
        first = (await get(client, url + BTC))[2]
        assert (await get(client, url + BTC))[2] == first
        async with client.post(control + "/speed", json={"speed": 1000}) as response:
            assert (await response.json())["future"]["speed"] == 1000
        body = first
        for _ in range(500):
            body = (await get(client, url + BTC))[2]
            if body != first:
                break
        assert json.loads(body)["lastUpdateId"] > json.loads(first)["lastUpdateId"]


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/faults", b'{"kind":"flood"}'),
        ("/faults", b'{"kind":"stall","often":1}'),
        ("/faults", b"nonsense"),
        ("/faults", b'{"kind":"\xff"}'),
        ("/step", b'{"ms":"x"}'),
        ("/step", b"[]"),
        ("/speed", b'{"speed":-1}'),
        ("/speed", b"{}"),
        ("/weights", b'{"limits":{"binance-futures":"many"}}'),
        ("/weights", b'{"limits":3}'),
    ],
)
async def test_the_control_api_says_what_is_wrong(client, simulator_url, path, body):
    async with client.post(simulator_url + "/_sim" + path, data=body) as response:
        assert response.status == 400
        assert (await response.json())["error"]


async def test_limits_can_be_changed_while_it_runs(client):
    with running("--speed", 0) as (line, _):
        wanted = {"limits": {"binance-futures": 1}, "ban_after": 100}
        await client.post(line["control"] + "/weights", json=wanted)
        assert (await get(client, line["rest"]["future"] + BTC))[0] == 429
        info = json.loads((await get(client, line["control"] + "/counters"))[2])
        assert info["weights"][0]["limit"] == 1
        await client.post(line["control"] + "/weights", json={"limits": {"binance-futures": 2400}, "pardon": True})
        assert (await get(client, line["rest"]["future"] + BTC))[0] == 200


@needs_captures
@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
async def test_a_capture_is_served_byte_for_byte_then_played_to_the_expected_end(client, folder):
    expected = json.loads((folder / "expected.json").read_text())
    with running("--speed", 0, "--captures", folder) as (line, _):
        url = line["rest"]["future"]
        polls = {}
        for file in sorted((folder / "http").glob("*.json")):
            recorded = json.loads(file.read_text())
            path = recorded["url"].partition(".com")[2]
            status, _, body = await get(client, url + path)
            assert status == 200
            assert hashlib.sha256(body).hexdigest() == hashlib.sha256(recorded["body"].encode()).hexdigest()
            if "depth" in path:
                polls[path.split("symbol=")[1].split("&")[0]] = path
        assert set(polls) == set(expected)
        await client.post(line["control"] + "/step", json={"ms": 10**9})
        market = {"/f": "future", "/d": "inverse", "/a": "spot"}[path[:2]]
        for symbol, path in polls.items():
            body = json.loads((await get(client, url + path))[2])
            assert body["lastUpdateId"] == expected[symbol]["final_u"]
            assert body["bids"][:5] == expected[symbol]["top5_bids"]
            assert body["asks"][:5] == expected[symbol]["top5_asks"]
            whole = json.loads((await get(client, f"{line['control']}/book?market={market}&symbol={symbol}"))[2])
            lines = [
                f"{letter} {price} {quantity}\n"
                for letter, side in (("b", "bids"), ("a", "asks"))
                for price, quantity in whole[side]
            ]
            assert hashlib.sha256("".join(lines).encode()).hexdigest() == expected[symbol]["final_book_sha256"]


@pytest.mark.parametrize(
    "arguments",
    [
        ("--port", "70000"),
        ("--speed", "-1"),
        ("--symbols-per-market", "0"),
        ("--captures", "nowhere"),
        ("--faults", "nowhere.json"),
        ("--host", "203.0.113.1"),
    ],
    ids=" ".join,
)
def test_a_wrong_argument_ends_with_2_and_words_instead_of_a_traceback(arguments):
    command = [sys.executable, "-m", "simulator", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    assert "error: " in done.stderr


def test_rules_from_a_file_hold_from_the_start(tmp_path):
    bad = tmp_path / "bad.json"
    bad.write_text('[{"kind":"flood"}]')
    command = [sys.executable, "-m", "simulator", "--faults", str(bad)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, "unknown fault kind 'flood'" in done.stderr) == (2, True)


async def test_a_good_file_of_rules_acts(client, tmp_path):
    rules = tmp_path / "rules.json"
    rules.write_text('[{"kind":"http_451","market":"future","count":1}]')
    with running("--faults", rules) as (line, _):
        assert [(await get(client, line["rest"]["future"] + BTC))[0] for _ in range(2)] == [451, 200]
