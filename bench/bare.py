"""The reader's work without the reader, part by part, each a process: what `bench.reader` is held against.

    python -m bench.bare receive STREAM_URL SECONDS                  websocket frames received and thrown away
    python -m bench.bare send BOOTSTRAP TOPIC COMPRESSION SECONDS    captured frames, one `send` of Kafka's client each
    python -m bench.bare wait SECONDS                               an event loop that only waits, 5 ms at a time

Prints one JSON line: the frames and the CPU seconds that the process spent on them, or how late the waits ended.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import sys
import time

import aiohttp
import uvloop
from aiokafka import AIOKafkaProducer

from bench.payloads import payloads
from shared.kafka.producer import LINGER_MS, MAX_BATCH_BYTES

STREAMS = ("btcusdt@depth@100ms", "ethusdt@depth@100ms")
WARM_UP_SECONDS = 2.0
WAIT_SECONDS = 0.005


class Window:
    """Begins after a warm-up, ends after so many seconds more."""

    def __init__(self, seconds: float) -> None:
        self._begins = time.monotonic() + WARM_UP_SECONDS
        self._ends = self._begins + seconds
        self._cpu_seconds: float | None = None
        self.frames = 0

    def count(self) -> bool:
        """One more frame, if it is in the window. False: the window is over."""
        now = time.monotonic()
        if now >= self._begins:
            if self._cpu_seconds is None:
                self._cpu_seconds = time.process_time()
            self.frames += 1
        return now < self._ends

    def result(self) -> dict[str, float]:
        assert self._cpu_seconds is not None
        return {"frames": self.frames, "cpu_seconds": time.process_time() - self._cpu_seconds}


async def receive(url: str, seconds: float) -> dict[str, float]:
    window = Window(seconds)
    async with aiohttp.ClientSession() as session, session.ws_connect(url, decode_text=False) as socket:
        await socket.send_json({"method": "SUBSCRIBE", "params": STREAMS, "id": 1})
        while window.count():
            message = await socket.receive()
            if message.type is not aiohttp.WSMsgType.TEXT:
                raise SystemExit(f"not a frame: {message}")
    return window.result()


async def send(bootstrap: str, topic: str, compression: str, seconds: float) -> dict[str, float]:
    records = [(book.key, value) for book, value in payloads("fobd").values]
    producer = AIOKafkaProducer(
        bootstrap_servers=bootstrap,
        enable_idempotence=True,
        acks="all",
        compression_type=None if compression == "none" else compression,
        linger_ms=LINGER_MS,
        max_batch_size=MAX_BATCH_BYTES,
    )
    await producer.start()
    window = Window(seconds)
    at = 0
    while window.count():
        key, value = records[at % len(records)]
        await producer.send(topic, value, key=key)
        at += 1
    result = window.result()
    await producer.stop()
    return result


async def wait(seconds: float) -> dict[str, float]:
    late = []
    ends = time.monotonic() + seconds
    while (began := time.monotonic()) < ends:
        await asyncio.sleep(WAIT_SECONDS)
        late.append(1000 * (time.monotonic() - began - WAIT_SECONDS))
    return {"late_p50_ms": statistics.median(late), "late_p99_ms": statistics.quantiles(late, n=100)[98]}


def main() -> int:
    match sys.argv[1:]:
        case ["receive", url, seconds]:
            work = receive(url, float(seconds))
        case ["send", bootstrap, topic, compression, seconds]:
            work = send(bootstrap, topic, compression, float(seconds))
        case ["wait", seconds]:
            work = wait(float(seconds))
        case _:
            sys.exit(__doc__)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        print(json.dumps(runner.run(work)), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
