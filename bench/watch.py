"""When the records of topics could be read: a consumer that does nothing else notes the time at which it has each.

    python -m bench.watch BOOTSTRAP FILE PARTITIONS TOPIC...

Reads all partitions from their end at its start, says so in one line, and on SIGTERM writes `FILE` (JSON): for each topic
a list of (partition, offset, seen_ns, `src` of a norm record or null). Its own fetch is part of each time.
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import uvloop
from aiokafka import AIOKafkaConsumer, TopicPartition

if TYPE_CHECKING:
    from collections.abc import Sequence

POLL_MS = 200
Seen = tuple[int, int, int, str | None]


async def watch(bootstrap: str, partitions: int, topics: list[str]) -> dict[str, list[Seen]]:
    stopping = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopping.set)
    seen: dict[str, list[Seen]] = {topic: [] for topic in topics}
    async with AIOKafkaConsumer(bootstrap_servers=bootstrap, fetch_max_wait_ms=POLL_MS) as consumer:
        consumer.assign([TopicPartition(topic, number) for topic in topics for number in range(partitions)])
        await consumer.seek_to_end()
        print("watching", flush=True)
        while not stopping.is_set():
            found = await consumer.getmany(timeout_ms=POLL_MS)
            now_ns = time.time_ns()
            for tp, records in found.items():
                seen[tp.topic] += [(tp.partition, record.offset, now_ns, _src(record.headers)) for record in records]
    return seen


def _src(headers: Sequence[tuple[str, bytes]]) -> str | None:
    return next((value.decode() for name, value in headers if name == "src"), None)


if __name__ == "__main__":
    found = uvloop.run(watch(sys.argv[1], int(sys.argv[3]), sys.argv[4:]))
    Path(sys.argv[2]).write_text(json.dumps(found))
