"""Every kind of fault, seen from outside by a plain HTTP client, and what the truth log says of it."""

import asyncio
import json
import subprocess
import sys
import threading
from pathlib import Path

import aiohttp
import msgspec
import pytest

from simulator.fault_kinds import KINDS

ROOT = Path(__file__).parents[2]
FUTURE = "/fapi/v1/depth?symbol=BTCUSDT&limit=20"
INVERSE = "/dapi/v1/depth?symbol=BTCUSD_PERP&limit=20"


@pytest.fixture(scope="module")
def base():
    command = [sys.executable, "-m", "simulator", "--speed", "0", "--futures-weight-limit", "1000000000"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        guard = threading.Timer(600, process.kill)
        guard.start()
        assert process.stdout is not None
        yield json.loads(process.stdout.readline())["rest"]["future"]
        guard.cancel()
        process.kill()


@pytest.fixture
async def client(base):
    connector = aiohttp.TCPConnector(
        force_close=True
    )  # on a reused connection the client sends a lost GET again itself
    async with aiohttp.ClientSession(base, connector=connector, timeout=aiohttp.ClientTimeout(total=30)) as session:
        yield session
        await session.delete("/_sim/faults")
        await session.post("/_sim/weights", json={"pardon": True})


async def fault(client, kind, count=1, **args):
    async with client.post("/_sim/faults", json={"kind": kind, "args": args, "count": count}) as response:
        assert response.status == 200, await response.text()


async def get(client, path=FUTURE):
    async with client.get(path, allow_redirects=False) as response:
        return response.status, response.headers, await response.read()


async def last_truth(client):
    async with client.get("/_sim/truth") as response:
        return (await response.json())["entries"][-1]


SENDS = 2  # aiohttp's client sends a GET once more when the connection is lost before the headers
REFUSALS = {  # kind: status, code, a word of the text, has Retry-After
    "http_429": (429, -1003, "Too many requests; current limit of IP(127.0.0.1) is", True),
    "http_429_no_retry_after": (429, -1003, "Too many requests; current limit of IP(127.0.0.1) is", False),
    "http_418": (418, -1003, "IP(127.0.0.1) banned until 1", True),
    "http_418_no_retry_after": (418, -1003, "IP(127.0.0.1) banned until 1", False),
    "http_418_bare": (418, -1003, "Way too many requests.", False),
    "ban": (418, -1003, "IP(127.0.0.1) banned until 1", True),
    "http_408": (408, -1007, "Timeout waiting for response", False),
    "http_451": (451, 0, "restricted location", False),
    "http_500": (500, -1001, "Internal error", False),
    "http_503_unknown": (503, -1000, "Unknown error, please check your request or try again later.", False),
    "http_503_unavailable": (503, -1016, "Service Unavailable.", False),
    "http_503_internal": (503, -1001, "Internal error; unable to process your request. Please try again.", False),
    "overloaded_503": (503, -1008, "overloaded", False),
    "code_1003_status_200": (200, -1003, "Too many requests; current limit", False),
    "json_error_status_200": (200, -1000, "unknown error", False),
    "invalid_symbol": (400, -1121, "Invalid symbol.", False),
}
PAGES = {"http_403": 403, "http_502": 502, "html_503": 503, "html_200": 200}
CUTS = {  # kind: what a client sees
    "stall": TimeoutError,
    "reset_before_headers": aiohttp.ClientOSError,
    "close_before_headers": aiohttp.ServerDisconnectedError,
    "reset_after_headers": aiohttp.ClientError,
    "truncated_body": aiohttp.ClientPayloadError,
    "chunked_cut": aiohttp.ClientPayloadError,
}
LATE = {"delay", "slow_body"}
NOT_JSON = {"empty_body", "json_cut", "trailing_bytes", "invalid_utf8", "nan_literal"}
ODD_BOOKS = {  # kind: what is true of the body and false of the right one
    "not_a_book": lambda book: "bids" not in book,
    "json_array": lambda book: book == [],
    "json_null": lambda book: book is None,
    "negative_quantity": lambda book: any(float(quantity) < 0 for _, quantity in book["bids"]),
    "nan_text": lambda book: any(quantity == "NaN" for _, quantity in book["bids"]),
    "infinity_text": lambda book: any(price == "Infinity" for price, _ in book["bids"]),
    "overflow_number": lambda book: any(price == "1e400" for price, _ in book["bids"]),
    "not_a_number": lambda book: any(price == "abc" for price, _ in book["bids"]),
    "empty_number": lambda book: any(price == "" for price, _ in book["bids"]),
    "null_price": lambda book: any(price is None for price, _ in book["bids"]),
    "null_level": lambda book: None in book["bids"],
    "short_level": lambda book: any(len(level) == 1 for level in book["bids"]),
    "levels_not_array": lambda book: book["bids"] == {},
    "missing_bids": lambda book: "bids" not in book,
    "missing_id": lambda book: "lastUpdateId" not in book,
    "text_id": lambda book: isinstance(book["lastUpdateId"], str),
    "huge_id": lambda book: book["lastUpdateId"] >= 2**63,
    "crossed": lambda book: float(book["bids"][0][0]) > float(book["asks"][0][0]),
    "unsorted": lambda book: float(book["bids"][0][0]) < float(book["bids"][-1][0]),
    "one_sided": lambda book: (len(book["bids"]), len(book["asks"])) == (20, 0),
    "empty_book": lambda book: book["bids"] == book["asks"] == [],
    "duplicate_levels": lambda book: len(book["bids"]) == 40 and book["bids"][0] == book["bids"][1],
    "zero_quantity": lambda book: float(book["bids"][0][1]) == 0,
    "extra_fields": lambda book: {"st", "ps"} <= set(book),
    "extra_level_fields": lambda book: all(len(level) == 3 for level in book["bids"]),
    "long_numbers": lambda book: book["bids"][0] == ["12345678901234567890", "0.12345678901234567890"],
    "number_levels": lambda book: isinstance(book["bids"][0][0], float),
}
ALONE = {"oversize_body", "other_symbol", "stale_id", "gzip", "redirect"}


def test_no_kind_goes_untested():
    tested = {*REFUSALS, *PAGES, *CUTS, *LATE, *NOT_JSON, *ODD_BOOKS, *ALONE}
    assert tested == set(KINDS)


async def test_the_listing_names_every_kind(client):
    async with client.get("/_sim/faults") as response:
        listing = await response.json()
    assert {row["kind"] for row in listing["kinds"]} == set(KINDS)
    assert all(row["what"] and row["effect"] for row in listing["kinds"])


@pytest.mark.parametrize(("kind", "wanted"), REFUSALS.items(), ids=REFUSALS)
async def test_a_refusal_has_its_status_code_text_and_header(client, kind, wanted):
    await fault(client, kind)
    status, headers, body = await get(client)
    error = json.loads(body)
    assert (status, error["code"], "Retry-After" in headers) == (wanted[0], wanted[1], wanted[3])
    assert wanted[2] in error["msg"]
    assert "X-MBX-USED-WEIGHT-1M" in headers
    truth = await last_truth(client)
    assert (truth["fault"], truth["status"], truth["book"], truth["bids"]) == (kind, status, False, None)


async def test_a_ban_by_fault_holds_for_the_address(client):
    await fault(client, "ban", seconds=600)
    assert [(await get(client, path))[0] for path in (FUTURE, FUTURE, INVERSE)] == [418, 418, 418]
    assert (await last_truth(client))["fault"] is None


@pytest.mark.parametrize(("kind", "status"), PAGES.items(), ids=PAGES)
async def test_a_page_is_html(client, kind, status):
    await fault(client, kind)
    got, headers, body = await get(client)
    assert (got, headers["Content-Type"]) == (status, "text/html")
    assert body.startswith(b"<")


@pytest.mark.parametrize(("kind", "error"), CUTS.items(), ids=CUTS)
async def test_a_broken_delivery_breaks_at_the_client_and_is_not_called_complete(client, kind, error):
    await fault(client, kind, SENDS)
    with pytest.raises(error):
        async with asyncio.timeout(0.5 if kind == "stall" else 20):
            await get(client)
    for _ in range(500):
        truth = await last_truth(client)
        if truth["fault"] == kind:
            break
        await asyncio.sleep(0.01)
    assert (truth["fault"], truth["complete"]) == (kind, False)
    await client.delete("/_sim/faults")
    assert (await get(client))[0] == 200


async def test_headers_come_before_a_reset_after_headers(client, base):
    await fault(client, "reset_after_headers")
    host, port = base.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(f"GET {FUTURE} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    head = await reader.readuntil(b"\r\n\r\n")
    with pytest.raises(ConnectionResetError):
        await reader.readexactly(1)
    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"Content-Length: " in head
    writer.close()


async def test_a_stall_can_end(client):
    await fault(client, "stall", SENDS, seconds=0.05)
    with pytest.raises(aiohttp.ServerDisconnectedError):
        await get(client)


@pytest.mark.parametrize("kind", sorted(LATE))
async def test_a_late_answer_is_the_right_one(client, kind):
    right = (await get(client))[2]
    await fault(client, kind, seconds=0.2)
    assert (await get(client))[2] == right
    truth = await last_truth(client)
    assert (truth["fault"], truth["complete"], truth["book"]) == (kind, True, True)
    assert truth["served_ns"] - truth["recv_ns"] > 100_000_000


@pytest.mark.parametrize("kind", sorted(NOT_JSON))
async def test_a_damaged_body_is_no_json(client, kind):
    await fault(client, kind)
    status, _, body = await get(client)
    assert status == 200
    with pytest.raises((msgspec.DecodeError, UnicodeDecodeError)):
        msgspec.json.decode(body)
    assert (await last_truth(client))["book"] is False


@pytest.mark.parametrize(("kind", "odd"), ODD_BOOKS.items(), ids=ODD_BOOKS)
async def test_an_odd_body_is_odd_in_its_own_way(client, kind, odd):
    right = (await get(client))[2]
    await fault(client, kind)
    status, _, body = await get(client)
    assert status == 200
    assert odd(json.loads(body))
    if KINDS[kind].effect != "invalid":
        assert not odd(json.loads(right))
    truth = await last_truth(client)
    assert truth["book"] is {"valid": True, "invalid": False, "either": None}[KINDS[kind].effect]
    if KINDS[kind].effect != "invalid":
        book = json.loads(body)
        assert (truth["lastUpdateId"], truth["bids"], truth["asks"]) == (
            book["lastUpdateId"],
            len(book["bids"]),
            len(book["asks"]),
        )


async def test_an_oversize_body_is_one_and_valid_json(client):
    await fault(client, "oversize_body", bytes=17_000_000)
    _, _, body = await get(client)
    assert len(body) == 17_000_000
    assert json.loads(body)["bids"]


async def test_another_symbols_book_shows_only_where_the_body_names_the_symbol(client):
    other = (await get(client, FUTURE.replace("BTC", "ETH")))[2]
    await fault(client, "other_symbol")
    assert (await get(client))[2] == other
    assert (await last_truth(client))["book"] is None
    await fault(client, "other_symbol", symbol="ETHUSD_PERP")
    assert json.loads((await get(client, INVERSE))[2])["symbol"] == "ETHUSD_PERP"
    assert (await last_truth(client))["book"] is False


async def test_a_stale_id_lies_before_the_last_one(client):
    right = json.loads((await get(client))[2])
    await fault(client, "stale_id", by=10)
    assert json.loads((await get(client))[2]) == right | {"lastUpdateId": right["lastUpdateId"] - 10}


async def test_a_compressed_body_is_the_right_one_unless_corrupt(client):
    right = (await get(client))[2]
    await fault(client, "gzip")
    _, headers, body = await get(client)
    assert (headers["Content-Encoding"], body) == ("gzip", right)
    await fault(client, "gzip", corrupt=True)
    with pytest.raises(aiohttp.ClientPayloadError):
        await get(client)
    assert (await last_truth(client))["book"] is False


async def test_a_redirect_points_elsewhere(client):
    await fault(client, "redirect", location="https://example.invalid/")
    status, headers, _ = await get(client)
    assert (status, headers["Location"]) == (302, "https://example.invalid/")
