"""An outage that is long for its bounds, under load: memory stays within them, nobody restarts, and the data is there.

`python -m bench.outage` is the same for ten minutes, with the memory of each process.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from tests.deltas import Truth, control, judge
from tests.line import FLUSH, SERVICES, Line, make_line, stream_source
from tests.support import eventually

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from tests.containers import S3, Kafka
    from tests.processes import Processes, Service, Simulator

pytestmark = [pytest.mark.docker, pytest.mark.timeout(300)]

SYMBOLS = 3
KINDS = ("fobs", "fobd")
OUTAGE_SECONDS = 20.0
WRITER_BYTES = 300_000  # of some 30,000 a second
QUEUE_BYTES = 150_000  # of some 25,000 a second of updates, 7,000 of snapshots
ONE_FRAME_BYTES = 20_000  # and what is at hand when the queue is full


@pytest.fixture
def exchange(services: Processes, tmp_path: Path) -> Simulator:
    """Three books, and the truth of what it made of them."""
    return services.simulate("--symbols-per-market", str(SYMBOLS), "--truth-frames", str(tmp_path / "frames.jsonl"))


@pytest.fixture
async def line(
    kafka: Kafka, s3: S3, exchange: Simulator, services: Processes, make_config: Any, prefix: str, tmp_path: Path
) -> Callable[..., Line]:
    """Makes a line that polls and streams all books, over real Kafka and a real store."""
    symbols = (await control(exchange, "GET", "symbols"))["future"][:SYMBOLS]

    def make(*, queue_bytes: int = 2**26, writer_bytes: int = 2**28) -> Line:
        partitions: dict[str, Any] = {f"{side}_{kind}": {"partitions": 2} for side in ("raw", "norm") for kind in KINDS}
        return make_line(
            services,
            make_config,
            tmp_path,
            s3=s3,
            prefix=prefix,
            kafka={"bootstrap_servers": kafka.bootstrap_servers},
            channels=partitions | {"buffer_bytes": queue_bytes},
            source=stream_source(exchange, {"future": symbols}, polls={"interval_ms": 2000, "limit": 100}),
            writer={"buffer": {**FLUSH["buffer"], "max_bytes": writer_bytes}},
        )

    return make


async def test_a_store_away_for_long_stops_the_fetching_where_the_buffer_is_full_and_costs_nothing(
    line: Callable[..., Line], s3: S3, exchange: Simulator, tmp_path: Path
) -> None:
    run = line(writer_bytes=WRITER_BYTES)
    await run.create_topics()
    reader, flattener, writer = running = [await asyncio.to_thread(run.start, service) for service in SERVICES]
    await run.acknowledged(50, kind="fobd")
    await asyncio.to_thread(s3.kill)
    held = Highest(writer, "cryptoflow_writer_buffer_bytes")
    await eventually(lambda: held.now() >= WRITER_BYTES, 60, "the buffer is full")
    full_at = held.highest  # the bound, and what the fetch that reached it brought beyond
    taken = writer.metric("cryptoflow_consumed_records_total")
    await held.watch(OUTAGE_SECONDS)
    assert held.highest == full_at
    assert writer.metric("cryptoflow_consumed_records_total") == taken, "it went on fetching"
    assert not writer.ready()
    assert reader.ready()
    assert flattener.ready()
    await asyncio.to_thread(s3.start)
    gaps = await everything_is_there(run, running, exchange, tmp_path)
    assert gaps.keys() == {"start", "stop"}, "the outage of a store is no gap"


async def test_kafka_away_for_long_costs_the_updates_that_find_no_room_and_each_hole_is_told(
    line: Callable[..., Line], kafka: Kafka, exchange: Simulator, tmp_path: Path
) -> None:
    run = line(queue_bytes=QUEUE_BYTES)
    await run.create_topics()
    reader, _, _ = running = [await asyncio.to_thread(run.start, service) for service in SERVICES]
    await run.acknowledged(50, kind="fobd")
    await asyncio.to_thread(kafka.kill)
    queues = [Highest(reader, "cryptoflow_channel_depth_bytes", topic=run.raw_topic(kind)) for kind in KINDS]
    await eventually(lambda: reader.metric("cryptoflow_overflows_total") == 1, 60, "the queue of updates is full")
    await asyncio.gather(*(queue.watch(OUTAGE_SECONDS / 2) for queue in queues))
    assert all(queue.highest <= QUEUE_BYTES + ONE_FRAME_BYTES for queue in queues), [q.highest for q in queues]
    await asyncio.to_thread(kafka.start)
    await run.acknowledged(50, kind="fobd")
    gaps = await everything_is_there(run, running, exchange, tmp_path)
    assert gaps["overflow"] >= SYMBOLS


class Highest:
    """The highest value that a service has shown of a metric since this was made."""

    def __init__(self, service: Service, metric: str, **labels: str) -> None:
        self._ask = lambda: service.metric(metric, **labels)
        self.highest = 0.0

    def now(self) -> float:
        value = self._ask()
        self.highest = max(self.highest, value)
        return value

    async def watch(self, seconds: float) -> None:
        """Asks again and again for so long: an outage is a time."""
        async with asyncio.timeout(seconds + 10):
            end = asyncio.get_running_loop().time() + seconds
            while asyncio.get_running_loop().time() < end:
                await asyncio.to_thread(self.now)
                await asyncio.sleep(0.2)


async def everything_is_there(run: Line, running: Iterable[Service], exchange: Simulator, folder: Path) -> Counter[str]:
    """Nobody restarted, all end in order, the lake is the raw topics row by row, and every lost update is told; the gaps."""
    reader, *rest = running
    assert all(len(service.logged("service starting")) == 1 and service.alive for service in running)
    assert await asyncio.to_thread(reader.terminate) == 0, reader.tail()
    for kind in KINDS:
        await run.caught_up(kind=kind)  # type: ignore[arg-type]
    for service in rest:
        assert await asyncio.to_thread(service.terminate) == 0, service.tail()
    report = run.verify()
    assert report.verdict == "complete", str(report)
    for kind in KINDS:
        await run.assert_exactly_once(kind)  # type: ignore[arg-type]
    await control(exchange, "POST", "flush")
    verdict = judge(await run.raw_records("fobd"), Truth.read(folder / "frames.jsonl"))
    assert not [hole for hole in verdict.holes if hole.lost and not hole.gaps], "updates lost and not told"
    records = [record for kind in KINDS for record in await run.raw_records(kind)]  # type: ignore[arg-type]
    return Counter(json.loads(r.value)["cause"] for r in records if dict(r.headers)["type"] == b"gap")
