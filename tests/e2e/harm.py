"""What harms a running stack, and what puts it right again. Each is as short as its alert allows."""

from __future__ import annotations

import shlex
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

    from tests.compose import Stack
    from tests.e2e.simulated import Exchange

WRONG_SETTINGS = {
    "CRYPTOFLOW_CHANNELS__BUFFER_BYTES": "300000",  # seconds of traffic: full soon after Kafka stops answering
    "CRYPTOFLOW_READER__IP_SHARDS_FILE": "/dev/shm/ip_shards.yml",
    "CRYPTOFLOW_READER__STALE_AFTER": "5s",
    "CRYPTOFLOW_READER__INSTRUMENTS_INTERVAL": "5s",
    "CRYPTOFLOW_SOURCE__BINANCE__SPOT__ORDERBOOK__DELTA__SYMBOLS": "*USDT,MISSPELT",
    "CRYPTOFLOW_SOURCE__BINANCE__SPOT__ORDERBOOK__SNAPSHOTS__SYMBOLS": "BTCUSDT",
    "AWS_SECRET_ACCESS_KEY": "wrong",
}
"""Of a second reader. Of the three addresses in its shard file one is its own, and no pattern there has SOLUSDT."""

WRONG_SHARDS = """
import socket
from pathlib import Path
here = socket.gethostbyname(socket.gethostname())
Path("/dev/shm/ip_shards.yml").write_text(f'''shards:
- {{ip: {here}, binance_future_symbols: ["*"], binance_inverse_symbols: ["*"], binance_spot_symbols: ["BTC*", MISSPELT]}}
- {{ip: 203.0.113.10, binance_spot_symbols: [ETHUSDT]}}
- {{ip: 203.0.113.11, binance_inverse_symbols: [BTCUSD_PERP]}}
''')
"""
"""Its address is known when its container runs."""

SPEND = """
import urllib.request
used = 0
while used < 5600:
    url = "http://simulator:8000/api/v3/depth?symbol=BTCUSDT&limit=5000"
    with urllib.request.urlopen(url, timeout=10) as answer:
        used = int(answer.headers["X-MBX-USED-WEIGHT-1M"])
"""
"""Nearly all of the 6000 of a minute that spot allows."""

FORGET = """
import asyncio
from shared.kafka import Admin, TopicPartition
from shared.settings import load

async def forget(topic):
    async with Admin(load().kafka, client_id="harm") as admin:
        there = await admin.describe([topic])
        tps = [TopicPartition(topic, number) for number in range(there[topic].partitions)]
        await admin.delete_records(await admin.end_offsets(tps))

asyncio.run(forget("raw-fobd"))
"""

SEND_OF_LATER = """
import asyncio
from shared.kafka import Producer
from shared.settings import load

async def send(topic):
    producer = Producer(load().kafka, client_id="harm")
    await producer.start()
    await (await producer.send(topic, b"{}", partition=0, headers=[("v", b"99")]))
    await producer.stop(10)

asyncio.run(send("raw-fobs"))
"""


def second_reader(stack: Stack) -> AbstractContextManager[None]:
    """A reader beside the first, set up wrongly in every way that is told at once, for as long as it lasts."""
    start = f"python -c {shlex.quote(WRONG_SHARDS)} && exec python -m services.reader"
    return stack.beside("reader", start, WRONG_SETTINGS)


def run_in_reader(stack: Stack, code: str) -> None:
    """Python in the first reader's container, with its settings and from its address."""
    stack.compose("exec", "-T", "reader", "python", "-c", code)


@contextmanager
def away(stack: Stack, *services: str) -> Iterator[None]:
    """Stopped in order, and afterwards back."""
    stack.compose("stop", *services)
    try:
        yield
    finally:
        stack.compose("up", "-d", "--no-deps", "--no-recreate", "--wait", *services)


@contextmanager
def frozen(stack: Stack, service: str) -> Iterator[None]:
    """Its processes stand still, its connections stay open."""
    stack.compose("pause", service)
    try:
        yield
    finally:
        stack.compose("unpause", service)


@contextmanager
def held(exchange: Exchange) -> Iterator[None]:
    """The exchange's streams stay open and bring nothing."""
    exchange.speed(0)
    try:
        yield
    finally:
        exchange.speed(1)
