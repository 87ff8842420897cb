"""A simulator process and a plain websocket client of it, for the tests of its streams."""

import itertools
import json
import subprocess
import sys
import threading
from contextlib import asynccontextmanager, contextmanager

import aiohttp

from shared.venues.sequence import ChainedByPrevious, ContiguousIds, UpdateIds
from tests.support import ROOT

RULES = {"future": ChainedByPrevious(), "inverse": ChainedByPrevious(), "spot": ContiguousIds()}
BTC = {"future": "BTCUSDT", "inverse": "BTCUSD_PERP", "spot": "BTCUSDT"}
REST = {"future": "/fapi/v1/depth", "inverse": "/dapi/v1/depth", "spot": "/api/v3/depth"}


class Run:
    """A running simulator: what it announced, its process, and its control API."""

    def __init__(self, line, process, session):
        self.line = line
        self.process = process
        self.session = session
        self.base = f"ws://127.0.0.1:{line['port']}"

    async def control(self, path, /, **body):
        async with self.session.post(self.line["control"] + path, json=body) as response:
            assert response.status == 200, await response.text()
            return await response.json()

    async def step(self, ms):
        await self.control("/step", ms=ms)

    async def fault(self, kind, count=1, symbol=None, **args):
        await self.control("/faults", kind=kind, path="stream", count=count, symbol=symbol, args=args)

    async def counters(self):
        async with self.session.get(self.line["control"] + "/counters") as response:
            return await response.json()

    async def depth(self, market="future", symbol=None, limit=1000):
        query = {"symbol": symbol or BTC[market], "limit": limit}
        async with self.session.get(self.line["rest"][market] + REST[market], params=query) as response:
            assert response.status == 200, await response.text()
            return await response.json()

    async def book(self, market="future", symbol=None):
        query = {"symbol": symbol or BTC[market], "market": market}
        async with self.session.get(self.line["control"] + "/book", params=query) as response:
            return await response.json()

    async def truth(self, path):
        """The lines of ``--truth-frames`` so far."""
        await self.control("/flush")
        return [json.loads(text) for text in path.read_text().splitlines()]

    @asynccontextmanager
    async def connect(self, path="/ws-future/public/stream", **options):
        async with self.session.ws_connect(self.base + path, max_msg_size=0, **options) as socket:
            yield Client(socket)


class Client:
    """One connection. Its messages are read by `drain`, which needs no time: an answer comes after what was sent."""

    def __init__(self, socket):
        self.socket = socket
        self._ids = itertools.count(1)

    async def ask(self, method, *params):
        """Sends a control message. Returns (its answer, all messages before it)."""
        request_id = next(self._ids)
        await self.socket.send_json({"method": method, "params": list(params), "id": request_id})
        before = []
        while True:
            message = await self.socket.receive(timeout=20)
            assert message.type in {aiohttp.WSMsgType.TEXT, aiohttp.WSMsgType.BINARY}, message
            try:
                value = json.loads(message.data)
            except ValueError:
                value = message.data
            if isinstance(value, dict) and value.get("id") == request_id:
                return value, before
            before.append(value)

    async def subscribe(self, *names):
        answer, before = await self.ask("SUBSCRIBE", *names)
        assert (answer["result"], before) == (None, [])

    async def drain(self):
        """All messages that were sent so far."""
        return (await self.ask("LIST_SUBSCRIPTIONS"))[1]

    async def end(self):
        """Reads to the end. Returns (close code or None, reason, the messages before it)."""
        before = []
        while True:
            message = await self.socket.receive(timeout=20)
            if message.type is aiohttp.WSMsgType.CLOSE:
                return message.data, message.extra, before
            if message.type in {aiohttp.WSMsgType.CLOSED, aiohttp.WSMsgType.ERROR}:
                return None, "", before
            before.append(message.data)


@contextmanager
def process_of(*arguments):
    """Yields the announced line and the process; it has ended afterwards."""
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


@asynccontextmanager
async def simulating(*arguments):
    with process_of(*arguments) as (line, process):
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=60)) as session:
            yield Run(line, process, session)


def events_of(messages):
    """The depth events among messages, whether wrapped or not."""
    values = [message for message in messages if isinstance(message, dict)]
    events = [value.get("data", value) for value in values]
    return [event for event in events if event.get("e") == "depthUpdate" and "s" in event]


def ids_of(event):
    return UpdateIds(event["U"], event["u"], event.get("pu"))


def verdicts(market, events):
    """What the venue's rule says of each event after the first."""
    rule = RULES[market]
    return [rule.after_update(before["u"], ids_of(event)) for before, event in itertools.pairwise(events)]


def applied(book, events):
    """A depth body with events applied by the venue's rule: (bids, asks) as texts by price."""
    sides = [{price: quantity for price, quantity, *_ in book[side]} for side in ("bids", "asks")]
    for event in events:
        if event["u"] <= book["lastUpdateId"]:
            continue
        for side, changes in zip(sides, (event["b"], event["a"]), strict=True):
            for price, quantity in changes:
                if float(quantity) == 0:
                    side.pop(price, None)
                else:
                    side[price] = quantity
    return sides


def sides_of(book):
    return [{price: quantity for price, quantity, *_ in book[side]} for side in ("bids", "asks")]
