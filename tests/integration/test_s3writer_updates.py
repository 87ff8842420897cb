"""The s3writer with both kinds at once, between real Kafka and a real S3 store: updates too are there once, in their time."""

import itertools
from dataclasses import replace

import pytest

from shared.lake.store_s3 import S3Store
from tests.support import eventually
from tests.writer_line import Line, all_stored, in_thread

pytestmark = pytest.mark.docker

PARTITIONS = 2
CHANNELS = {name: {"partitions": PARTITIONS} for name in ("raw_fobs", "norm_fobs", "raw_fobd", "norm_fobd")}
QUICK = {"snapshot_flush_interval": 0.3, "delta_flush_interval": 0.3}


@pytest.fixture
async def books(make_settings, kafka, s3, prefix, monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", s3.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", s3.secret_key)
    settings = make_settings(kafka={"bootstrap_servers": kafka.bootstrap_servers}, channels=CHANNELS)
    made = Line(settings, S3Store(s3.bucket, prefix, endpoint_url=s3.endpoint_url, region=s3.region))
    await made.open()
    yield made
    await made.close()


@pytest.fixture
async def updates(books):
    made = replace(books, kind="fobd", batches=[], raw_next={}, norm_next={})
    await made.open()
    yield made
    await made.close()


@pytest.fixture
def start(make_config, kafka, services, s3, prefix):
    async def start(**buffer):
        config = make_config(
            kafka={"bootstrap_servers": kafka.bootstrap_servers, "session_timeout_ms": 2000},
            channels=CHANNELS,
            storage={"s3": {"enabled": True, "prefix": prefix}},
            writer={"buffer": buffer},
        )
        return await in_thread(lambda: services.start("s3writer", config, environ=s3.environ))

    return start


async def test_both_kinds_are_stored_once_and_the_lake_is_complete(books, updates, start):
    for line, partition in itertools.product((books, updates), range(PARTITIONS)):
        await line.send(4, partition=partition, messages=20)
    writer = await start(**QUICK)
    await all_stored(books)
    await all_stored(updates)
    assert await in_thread(writer.terminate) == 0
    assert set(updates.stored().column("type").to_pylist()) == {"update", "snapshot", "gap"}
    assert 0.0 in updates.stored().column("quantity").to_pylist()
    for line in (books, updates):
        line.assert_all_stored_once()
    report = books.verified()
    assert report.verdict == "complete"
    assert {(line.line.kind, line.line.partition) for line in report.lines} == {
        (kind, partition) for kind in ("fobs", "fobd") for partition in range(PARTITIONS)
    }


@pytest.mark.parametrize("quick", ["fobs", "fobd"])
async def test_each_kind_is_flushed_at_its_own_interval(books, updates, start, quick):
    writer = await start(
        snapshot_flush_interval=0.3 if quick == "fobs" else "1h", delta_flush_interval=0.3 if quick == "fobd" else "1h"
    )
    soon, late = (books, updates) if quick == "fobs" else (updates, books)
    for _ in range(3):  # three windows of the quick kind, none of the other
        await late.send(2)
        await soon.send(2)
        await all_stored(soon)
    await eventually(
        # a rebalance in between hands records out again
        lambda: writer.metric("cryptoflow_consumed_records_total", topic=late.topic) >= 6,
        what="all is buffered",
    )
    assert writer.metric("cryptoflow_flushes_total", kind=late.kind) == late.stored_rows() == 0
    assert writer.metric("cryptoflow_flushes_total", kind=soon.kind, trigger="interval") >= 3
    assert await in_thread(writer.terminate) == 0
    for line in (books, updates):
        line.assert_all_stored_once()


async def test_killed_at_any_moment_it_stores_every_row_of_both_kinds_once(books, updates, start):
    for objects in (3, 6, 10):
        writer = await start(**QUICK)
        for partition in range(PARTITIONS):
            await books.send(2, partition=partition)
            await updates.send(2, partition=partition)
        await eventually(lambda least=objects: len(books.store.list("_claims/")) >= least, what="something was stored")
        await in_thread(writer.kill)
    writer = await start(**QUICK)
    await all_stored(books)
    await all_stored(updates)
    assert await in_thread(writer.terminate) == 0
    for line in (books, updates):
        line.assert_all_stored_once()
