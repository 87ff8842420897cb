"""The whole line on real Kafka and a real S3 store: captured bytes in, the same levels out; killed, stopped, starved."""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.line import FLUSH, SERVICES, Line, make_line, source
from tests.support import CAPTURES, needs_captures

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.containers import S3, Kafka
    from tests.processes import Processes, Service

pytestmark = [pytest.mark.docker, pytest.mark.timeout(300)]

SYMBOLS = {"future": ["BTCUSDT", "ETHUSDT", "币安人生USDT"], "inverse": ["BTCUSD_PERP"], "spot": ["BTCUSDT"]}
CAPTURE = "binance_usdm__20210722_sushi_akro_keep_ctk"
DRAIN_SECONDS = 30.0


@pytest.fixture
def line(
    kafka: Kafka, s3: S3, services: Processes, make_config: Callable[..., dict[str, Any]], prefix: str, tmp_path: Path
) -> Callable[..., Line]:
    """Makes a line over real Kafka and a real store, three partitions a topic."""

    def make(*simulator_arguments: str, symbols: dict[str, list[str]] = SYMBOLS, **polling: int) -> Line:
        exchange = services.simulate(*simulator_arguments)
        channels = {f"{side}_{kind}": {"partitions": 3} for side in ("raw", "norm") for kind in ("fobs", "fobd")}
        return make_line(
            services,
            make_config,
            tmp_path,
            s3=s3,
            prefix=prefix,
            kafka={"bootstrap_servers": kafka.bootstrap_servers},
            channels=channels,
            source=source(exchange.url, symbols, **polling),
            writer=FLUSH,
        )

    return make


async def terminate_all(running: list[Service]) -> dict[str, tuple[int, float]]:
    """SIGTERM to all at once: exit code and seconds of each."""
    began = time.monotonic()

    async def ended(service: Service) -> tuple[int, float]:
        return await asyncio.to_thread(service.terminate), time.monotonic() - began

    return dict(zip((s.name for s in running), await asyncio.gather(*map(ended, running)), strict=True))


@needs_captures
async def test_a_captured_session_lies_in_the_lake_level_by_level_and_its_bytes_in_the_raw_topic(
    line: Callable[..., Line],
) -> None:
    bodies = {
        answer["url"].split("symbol=")[1].split("&")[0]: answer["body"].encode()
        for path in (CAPTURES / CAPTURE / "http").glob("*depth*.json")
        for answer in [json.loads(path.read_text())]
    }
    assert len(bodies) == 4, bodies.keys()
    run = line("--captures", str(CAPTURES / CAPTURE), "--hold", symbols={"future": sorted(bodies)}, limit=1000)
    await run.create_topics()
    running = [run.start(service) for service in SERVICES]
    await run.acknowledged(3 * len(bodies))
    for service in running:
        assert service.terminate() == 0, service.tail()
    await drained(run)
    await run.assert_exactly_once()
    snapshots = [r for r in await run.raw_records() if dict(r.headers)["type"] == b"snapshot"]
    for record in snapshots:
        symbol = dict(record.headers)["symbol"].decode()
        assert hashlib.sha256(record.value).digest() == hashlib.sha256(bodies[symbol]).digest()
    assert {dict(r.headers)["symbol"].decode() for r in snapshots} == set(bodies)
    assert run.verify().verdict == "complete", str(run.verify())


async def drained(run: Line) -> None:
    """Lets a flattener and a writer finish what the stopped ones left in Kafka."""
    rest = [run.start(service) for service in SERVICES[1:]]
    await run.caught_up()
    for service in rest:
        assert service.terminate() == 0, service.tail()


@pytest.mark.parametrize("victim", SERVICES)
async def test_a_service_killed_and_started_again_costs_nothing_and_doubles_nothing(
    line: Callable[..., Line], victim: str
) -> None:
    run = line(interval_ms=200)
    await run.create_topics()
    running = {service: run.start(service) for service in SERVICES}
    for _ in range(3):
        await run.acknowledged(20)
        running[victim].kill()
        running[victim] = run.start(victim)
    await run.acknowledged(20)
    assert running["reader"].terminate() == 0, running["reader"].tail()
    await run.caught_up()
    for service in SERVICES[1:]:
        assert running[service].terminate() == 0, running[service].tail()
    types = await run.assert_exactly_once()
    assert types["snapshot"] >= 80
    report = run.verify()
    assert report.verdict == "complete", str(report)


async def test_sigterm_to_all_under_load_drains_in_time_and_leaves_nothing_acknowledged_unflushed(
    line: Callable[..., Line],
) -> None:
    run = line(interval_ms=100, limit=1000)
    await run.create_topics()
    running = [run.start(service) for service in SERVICES]
    await run.acknowledged(150)
    ends = await terminate_all(running)
    assert all(code == 0 for code, _ in ends.values()), [service.tail() for service in running]
    assert all(seconds < DRAIN_SECONDS for _, seconds in ends.values()), ends
    report = run.verify()
    assert report.verdict == "complete", str(report)
    await drained(run)
    await run.assert_exactly_once()
    assert run.verify().verdict == "complete"


async def test_kafka_and_the_store_down_at_the_start_are_waited_for_said_once_and_recovered_from_alone(
    line: Callable[..., Line], kafka: Kafka, s3: S3
) -> None:
    run = line(interval_ms=200)
    await run.create_topics()
    await asyncio.to_thread(kafka.kill)
    await asyncio.to_thread(s3.kill)
    running = [run.start(service, ready=False) for service in SERVICES]
    reader, flattener, writer = running
    for service, outage in ((reader, "kafka"), (flattener, "kafka"), (writer, "store")):
        await asyncio.to_thread(service.wait_logged, f"{outage} unavailable")
    await asyncio.to_thread(s3.start)
    await asyncio.to_thread(writer.wait_logged, "kafka unavailable")
    await asyncio.to_thread(kafka.start)
    for service in running:
        await asyncio.to_thread(service.wait_ready)
        clients = [entry["client_id"] for entry in service.logged("kafka unavailable")]
        assert len(clients) == len(set(clients)), f"said more than once: {clients}"
    assert len(writer.logged("store unavailable")) == 1
    await run.acknowledged(20)
    assert reader.terminate() == 0
    await run.caught_up()
    assert [flattener.terminate(), writer.terminate()] == [0, 0]
    await run.assert_exactly_once()
    assert run.verify().verdict == "complete"


async def test_a_broker_killed_under_load_is_waited_out_by_all_three(line: Callable[..., Line], kafka: Kafka) -> None:
    run = line(interval_ms=200)
    await run.create_topics()
    reader, flattener, writer = running = [run.start(service) for service in SERVICES]
    await run.acknowledged(20)
    await asyncio.to_thread(kafka.restart)
    await run.acknowledged(20)
    assert all(service.alive for service in running)
    assert reader.terminate() == 0, reader.tail()
    await run.caught_up()
    assert [flattener.terminate(), writer.terminate()] == [0, 0]
    await run.assert_exactly_once()
    assert run.verify().verdict == "complete"
