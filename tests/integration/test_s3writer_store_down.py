"""The s3writer while its store, a real one, is down: at the start, in the middle, and at the end."""

import pytest

from shared.lake.store_s3 import S3Store
from tests.support import eventually
from tests.writer_line import Line, all_buffered, all_stored, in_thread

pytestmark = pytest.mark.docker

PARTITIONS = 2
CHANNELS = {name: {"partitions": PARTITIONS} for name in ("raw_fobs", "norm_fobs", "raw_fobd", "norm_fobd")}
INTERVAL_SECONDS = 0.3


@pytest.fixture
async def line(make_settings, embedded_kafka, s3, prefix, monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", s3.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", s3.secret_key)
    settings = make_settings(kafka={"bootstrap_servers": embedded_kafka.bootstrap_servers}, channels=CHANNELS)
    made = Line(settings, S3Store(s3.bucket, prefix, endpoint_url=s3.endpoint_url, region=s3.region))
    await made.open()
    yield made
    await made.close()


@pytest.fixture
def start(make_config, embedded_kafka, services, s3, prefix):
    async def start(*, ready=True, **buffer):
        config = make_config(
            kafka={"bootstrap_servers": embedded_kafka.bootstrap_servers},
            channels=CHANNELS,
            storage={"s3": {"enabled": True, "prefix": prefix}},
            writer={"buffer": {"snapshot_flush_interval": INTERVAL_SECONDS, **buffer}},
        )
        return await in_thread(lambda: services.start("s3writer", config, environ=s3.environ, ready=ready))

    return start


async def test_rows_go_into_a_real_s3_store_once(line, start):
    for partition in range(PARTITIONS):
        await line.send(5, partition=partition)
    writer = await start()
    await all_stored(line)
    assert await in_thread(writer.terminate) == 0
    line.assert_all_stored_once()


async def test_a_store_that_is_down_at_the_start_is_waited_for_and_said_once(line, start, s3):
    await line.send(5)
    s3.kill()
    writer = await start(ready=False)
    await in_thread(writer.wait_logged, "store unavailable")
    await eventually(lambda: writer.metric("cryptoflow_store_failures_total") >= 3)
    assert not writer.ready()
    await in_thread(s3.start)
    await in_thread(writer.wait_ready)
    await all_stored(line)
    assert len(writer.logged("store unavailable")) == len(writer.logged("store recovered")) == 1
    assert await in_thread(writer.terminate) == 0
    line.assert_all_stored_once()


async def test_a_store_that_goes_down_stops_fetching_at_the_budget_and_loses_nothing(line, start, s3):
    budget = 100_000
    writer = await start(max_bytes=budget)
    await line.send(2)
    await all_stored(line)
    s3.kill()
    await line.send(150)
    await in_thread(writer.wait_logged, "store unavailable")
    await eventually(lambda: writer.metric("cryptoflow_writer_buffer_bytes") >= budget, what="the budget is full")
    assert not writer.ready()
    consumed = writer.metric("cryptoflow_consumed_records_total")
    failures = writer.metric("cryptoflow_store_failures_total")
    await line.send(50)
    await eventually(lambda: writer.metric("cryptoflow_store_failures_total") > failures)
    assert writer.metric("cryptoflow_consumed_records_total") == consumed
    await in_thread(s3.start)
    await all_stored(line)
    await in_thread(writer.wait_ready)
    assert await in_thread(writer.terminate) == 0
    line.assert_all_stored_once()


async def test_told_to_end_while_the_store_is_down_it_says_that_it_did_not_drain(line, start, s3):
    writer = await start(snapshot_flush_interval=3600)
    await line.send(2)
    await all_buffered(line, writer)
    s3.kill()
    assert await in_thread(writer.terminate, 45) == 3
    await in_thread(s3.start)
    assert not line.stored_rows()
    writer = await start()
    await all_stored(line)
    assert await in_thread(writer.terminate) == 0
    line.assert_all_stored_once()
