"""The s3writer as a process, between a broker and a store: every row once, whatever happens to it."""

import asyncio
import itertools
import random

import psutil
import pytest
from aiokafka import AIOKafkaConsumer
from aiokafka.admin import AIOKafkaAdminClient

from shared.kafka import Admin, TopicPartition
from shared.lake.store import open_store, open_url
from tests import containers, norm_records
from tests.norm_records import BTC, HOUR_NS, NOON_NS
from tests.support import eventually
from tests.writer_line import Line, all_buffered, all_stored, in_thread

PARTITIONS = 2
ONLY_KAFKA = pytest.mark.parametrize("broker", [pytest.param("kafka", marks=pytest.mark.docker)], indirect=True)
QUICK = {"writer": {"buffer": {"snapshot_flush_interval": 0.3}}}
SLOW = {"writer": {"buffer": {"snapshot_flush_interval": "1h"}}}


@pytest.fixture(params=["embedded", pytest.param("kafka", marks=pytest.mark.docker)])
def broker(request):
    return request.getfixturevalue("embedded_kafka" if request.param == "embedded" else "kafka")


@pytest.fixture
def config(make_config, broker):
    """A configuration of this test's own stream on the broker; the lake in a local folder."""
    channels = ("raw_fobs", "norm_fobs", "raw_fobd", "norm_fobd")
    # A killed writer's partitions are free after this; the embedded broker takes nothing under 6 s.
    quick = {"session_timeout_ms": 2000} if isinstance(broker, containers.Kafka) else {}

    def make(**more):
        base = {
            "kafka": {"bootstrap_servers": broker.bootstrap_servers, **quick, **more.pop("kafka", {})},
            "channels": {name: {"partitions": PARTITIONS} for name in channels},
        }
        return make_config(**base, **more)

    return make


@pytest.fixture
async def line(make_settings, broker):
    channels = ("raw_fobs", "norm_fobs", "raw_fobd", "norm_fobd")
    settings = make_settings(
        kafka={"bootstrap_servers": broker.bootstrap_servers},
        channels={name: {"partitions": PARTITIONS} for name in channels},
    )
    made = Line(settings, open_store(settings.storage))
    await made.open()
    yield made
    await made.close()


async def test_what_is_buffered_is_flushed_at_sigterm_and_every_row_is_there_once(line, config, services):
    for partition in range(PARTITIONS):
        await line.send(5, partition=partition)
    writer = await in_thread(services.start, "s3writer", config(**SLOW))
    await all_buffered(line, writer)
    assert not line.stored_rows()
    assert await in_thread(writer.terminate) == 0
    line.assert_all_stored_once()
    assert {flushed["trigger"] for flushed in writer.logged("flushed")} == {"shutdown"}


async def test_buffers_are_flushed_when_their_window_ends_and_committed(line, config, services):
    writer = await in_thread(services.start, "s3writer", config(**QUICK))
    await line.send(3)
    await all_stored(line)
    await eventually(lambda: writer.metric("cryptoflow_flushes_total", trigger="interval", outcome="written") >= 1)
    assert await committed(line, config) == line.norm_next[0]
    assert await in_thread(writer.terminate) == 0
    line.assert_all_stored_once()


@ONLY_KAFKA
async def test_rows_flush_a_buffer_before_its_window_ends(line, config, services):
    more = {"writer": {"buffer": {"snapshot_flush_interval": "1h", "max_rows": 60}}}
    writer = await in_thread(services.start, "s3writer", config(**more))
    await line.send(2)
    flushed = await in_thread(writer.wait_logged, "flushed")
    assert (flushed["trigger"], flushed["rows"]) == ("rows", 60)


@ONLY_KAFKA
async def test_the_memory_budget_flushes_the_largest_buffer_first(line, config, services):
    more = {"writer": {"buffer": {"snapshot_flush_interval": "1h", "max_bytes": 60_000}}}
    writer = await in_thread(services.start, "s3writer", config(**more))
    await line.send(1, partition=1)
    await all_buffered(line, writer)
    await line.send(20)
    flushed = await in_thread(writer.wait_logged, "flushed")
    assert (flushed["trigger"], flushed["partition"]) == ("bytes", 0)


@ONLY_KAFKA
async def test_killed_at_random_moments_it_stores_every_row_once(line, config, services):
    moments = random.Random(7)
    for _ in range(6):
        writer = await in_thread(services.start, "s3writer", config(**QUICK))
        objects = len(line.store.list("")) + moments.randint(1, 6)
        for partition in itertools.islice(itertools.cycle(range(PARTITIONS)), 30):
            await line.send(1, partition=partition)
            if len(line.store.list("")) >= objects:
                break
        else:
            await eventually(lambda least=objects: len(line.store.list("")) >= least, what="something was stored")
        await in_thread(writer.kill)
    writer = await in_thread(services.start, "s3writer", config(**QUICK))
    await all_stored(line)
    assert await in_thread(writer.terminate) == 0
    line.assert_all_stored_once()


@ONLY_KAFKA
async def test_two_writers_share_the_partitions_and_take_over_from_each_other(line, config, services):
    first = await in_thread(services.start, "s3writer", config(**QUICK))
    await line.send(4)
    second = await in_thread(services.start, "s3writer", config(**QUICK))
    for partition in (0, 1, 0, 1):
        await line.send(2, partition=partition)
    await all_stored(line)
    await line.send(3, partition=0)
    await line.send(3, partition=1)
    await in_thread(first.kill)
    await all_stored(line)
    assert await in_thread(second.terminate) == 0
    line.assert_all_stored_once()


@ONLY_KAFKA
async def test_of_two_writers_told_to_end_together_each_stores_what_it_holds(line, config, services):
    settings = config(kafka={"session_timeout_ms": 30_000}, **SLOW)
    first = await in_thread(services.start, "s3writer", settings)
    frozen = {"CRASH_POINT": "s3writer.before_claim:1:stop"}
    second = await in_thread(lambda: services.start("s3writer", settings, environ=frozen))
    for partition in range(PARTITIONS):
        await line.send(5, partition=partition)

    def held(*writers):
        return [writer.metric("cryptoflow_writer_buffer_bytes") for writer in writers]

    await eventually(lambda: sum(held(first, second)) == line.sent_bytes, what="everything is buffered")
    assert all(held(first, second)), "each holds a part"
    ending = asyncio.create_task(in_thread(second.terminate))
    await eventually(
        lambda: psutil.Process(second.pid).status() == psutil.STATUS_STOPPED, what="it freezes in its drain"
    )
    assert await in_thread(first.terminate) == 0, "it leaves the group"
    second.resume()
    assert await ending == 0
    line.assert_all_stored_once()


@ONLY_KAFKA
async def test_a_reset_or_deleted_group_changes_nothing(line, config, services):
    writer = await in_thread(services.start, "s3writer", config(**QUICK))
    await line.send(5)
    await all_stored(line)
    assert await in_thread(writer.terminate) == 0
    before = [entry.path for entry in line.store.list("")]
    await commit(line, config, 0)
    writer = await in_thread(services.start, "s3writer", config(**QUICK))
    assert await in_thread(writer.terminate) == 0
    nameless = config(**QUICK, cryptoflow={"name": "another-group"})
    writer = await in_thread(services.start, "s3writer", nameless)
    assert [entry.path for entry in line.store.list("")] == before
    await line.send(5)
    await all_stored(line)
    assert await in_thread(writer.terminate) == 0
    line.assert_all_stored_once()


@ONLY_KAFKA
async def test_a_claim_whose_files_are_missing_is_finished(line, config, services):
    writer = await in_thread(services.start, "s3writer", config(**SLOW))
    await line.send(5)
    await all_buffered(line, writer)
    assert await in_thread(writer.terminate) == 0
    for entry in line.store.list("fobs/")[1:]:
        (line.settings.storage.local.path / entry.path).unlink()
    writer = await in_thread(services.start, "s3writer", config(**SLOW))
    assert writer.logged("claim incomplete")
    line.assert_all_stored_once()


@ONLY_KAFKA
async def test_another_writers_claim_wins_and_is_finished(line, config, services):
    """Another's claim for a shorter range turns up while ours is buffered."""
    await line.send(5)
    other = open_url(str(line.settings.storage.local.path.with_name("other")))
    short = await in_thread(services.start, "s3writer", config(**SLOW, storage={"local": {"path": other.url}}))
    await all_buffered(line, short)
    assert await in_thread(short.terminate) == 0
    await line.send(5)
    await commit(line, config, 0)
    writer = await in_thread(services.start, "s3writer", config(**SLOW))
    await all_buffered(line, writer)
    claim = next(path for path in line_claims(other) if not path.endswith("origin.json"))
    assert line.store.create(claim, other.get(claim))
    assert await in_thread(writer.terminate) == 0
    assert [flushed["outcome"] for flushed in writer.logged("flushed")] == ["adopted"]
    writer = await in_thread(services.start, "s3writer", config(**QUICK))
    await all_stored(line)
    assert await in_thread(writer.terminate) == 0
    line.assert_all_stored_once()


@ONLY_KAFKA
async def test_what_kafka_lost_is_listed_and_the_line_goes_on(line, config, services):
    writer = await in_thread(services.start, "s3writer", config(**SLOW))
    await line.send(5)
    await all_buffered(line, writer)
    assert await in_thread(writer.terminate) == 0
    gone = [entry.path for entry in line.store.list("fobs/")]
    for path in gone:
        (line.settings.storage.local.path / path).unlink()
    await line.send(5)
    line.batches = line.batches[5:]
    async with Admin(line.settings.kafka, client_id="test") as admin:
        await admin.delete_records({TopicPartition(line.topic, 0): 5})
    writer = await in_thread(services.start, "s3writer", config(**QUICK))
    await all_stored(line)
    assert await in_thread(writer.terminate) == 0
    assert line.stored().equals(line.sent())
    (loss,) = line.verified().losses
    assert (loss.first, loss.last, sorted(loss.files)) == (0, 4, gone)


@ONLY_KAFKA
async def test_norm_records_deleted_before_they_were_stored_leave_a_hole_in_the_claims(line, config, services):
    writer = await in_thread(services.start, "s3writer", config(**QUICK))
    await line.send(2)
    await all_stored(line)
    assert await in_thread(writer.terminate) == 0
    await line.send(3)
    async with Admin(line.settings.kafka, client_id="test") as admin:
        await admin.delete_records({TopicPartition(line.topic, 0): 4})
    line.batches = [*line.batches[:2], line.batches[-1]]
    writer = await in_thread(services.start, "s3writer", config(**QUICK))
    await all_stored(line)
    assert await in_thread(writer.terminate) == 0
    assert line.stored().equals(line.sent())
    (loss,) = line.verified().losses
    assert (loss.first, loss.last) == (6, 11)


async def test_a_record_of_an_unknown_version_stops_its_partition_and_no_other(line, config, services):
    await line.send(2)
    await line.send_raw(b"new", 0, 0, headers=[("v", b"2")])
    writer = await in_thread(lambda: services.start("s3writer", config(**QUICK), ready=False))
    stopped = await in_thread(writer.wait_logged, "partition stopped")
    assert "upgrade" in stopped["reason"]
    assert f"{line.topic}/0@2" in stopped["reason"]
    assert not writer.ready()
    for partition, unknown in (("0", 1), ("1", 0)):
        where = {"topic": line.topic, "partition": partition}
        assert await in_thread(lambda where=where: writer.metric("cryptoflow_unknown_version", **where)) == unknown
    await line.send(2, partition=1)
    await all_stored(line)
    assert await committed(line, config) == 2
    assert await in_thread(writer.terminate) == 0
    line.assert_all_stored_once()


async def test_a_damaged_record_ends_the_service_and_its_offset_is_named(line, config, services):
    await line.send(1)
    await line.send_raw(b"not Arrow", 3, 3)
    writer = await in_thread(lambda: services.start("s3writer", config(**QUICK), ready=False))
    assert await in_thread(writer.wait) == 1
    assert f"{line.topic}/0@1 cannot be decoded" in writer.logged("service failed")[0]["reason"]


async def test_a_raw_topic_made_anew_is_refused_by_a_record_that_reaches_beyond_what_is_stored(line, config, services):
    await line.send(2)
    writer = await in_thread(services.start, "s3writer", config(**QUICK))
    await all_stored(line)
    last = line.raw_next[0] + 3
    later = norm_records.rows([(raw, BTC, NOON_NS + HOUR_NS + raw) for raw in range(last + 1)])
    await line.send_raw(norm_records.value(later), 0, last)
    assert await in_thread(writer.wait) == 1
    assert "the raw topic was re-created: set a new stream" in writer.logged("service failed")[0]["reason"]
    line.assert_all_stored_once()


@ONLY_KAFKA
async def test_a_norm_topic_made_anew_is_refused_also_when_it_has_grown_past_what_is_stored(line, config, services):
    await line.send(2)
    writer = await in_thread(services.start, "s3writer", config(**QUICK))
    await all_stored(line)
    assert await in_thread(writer.terminate) == 0
    before = [entry.path for entry in line.store.list("")]
    await make_anew(line)
    await line.send(5)
    writer = await in_thread(lambda: services.start("s3writer", config(**QUICK), ready=False))
    assert await in_thread(writer.wait) == 1
    assert "the topic was re-created: set a new kafka.stream" in writer.logged("service failed")[0]["reason"]
    assert [entry.path for entry in line.store.list("")] == before


async def test_another_environments_lake_is_refused(line, config, services):
    path = f"_claims/v1/fobs/{line.settings.kafka.stream}/00000/origin.json"
    line.store.create(path, b'{"v":1,"first":0,"cluster_id":"other","topic":"norm-fobs"}')
    writer = await in_thread(lambda: services.start("s3writer", config(**QUICK), ready=False))
    assert await in_thread(writer.wait) == 1
    assert "two environments share a prefix" in writer.logged("service failed")[0]["reason"]


async def test_a_wrong_partition_count_is_refused(line, config, services):
    wrong = config(**QUICK)
    for name in ("raw_fobs", "norm_fobs"):
        wrong["channels"][name]["partitions"] = 5
    writer = await in_thread(lambda: services.start("s3writer", wrong, ready=False))
    assert await in_thread(writer.wait) == 1
    assert "has 2 partitions, the settings say 5" in writer.logged("service failed")[0]["reason"]


def line_claims(store):
    return [entry.path for entry in store.list("_claims/v1/")]


async def committed(line, config):
    async with group_member(line, config) as consumer:
        return await consumer.committed(TopicPartition(line.topic, 0))


async def commit(line, config, offset):
    """Reset the group, as an operator's tool does while no member is there."""

    async def moved():
        async with group_member(line, config) as consumer:
            consumer.assign([TopicPartition(line.topic, 0)])
            await consumer.commit({TopicPartition(line.topic, 0): offset})
            return True

    await eventually(moved)


async def make_anew(line):
    """The norm topic, empty; what else the line holds stays."""
    await line.close()
    admin = AIOKafkaAdminClient(bootstrap_servers=line.settings.kafka.bootstrap_servers)
    await admin.start()
    try:
        await admin.delete_topics([line.topic])

        async def gone():
            return line.topic not in await admin.list_topics()

        await eventually(gone)
    finally:
        await admin.close()
    await line.open()


def group_member(line, config):
    made = config()
    return AIOKafkaConsumer(
        bootstrap_servers=line.settings.kafka.bootstrap_servers,
        group_id=f"{made['cryptoflow']['name']}-s3writer-{line.settings.kafka.stream}",
        enable_auto_commit=False,
    )
