"""Brokers that refuse, freeze, vanish and come back: what is final, what waits, what is bounded, what is said once."""

import asyncio
import os
from contextlib import suppress

import pytest
from pydantic import SecretStr
from structlog.testing import capture_logs

from shared.errors import FatalError, RetryableError
from shared.kafka import Admin, Consumer, Producer, ProducerFailed, TopicPartition, read_range
from tests.support import eventually


@pytest.fixture
def impatient(broker, make_settings):
    """Settings with a request timeout of one second."""
    return make_settings(kafka={"bootstrap_servers": broker.bootstrap_servers, "request_timeout_ms": 1000})


@pytest.fixture
async def hasty(impatient):
    """A producer that waits a second for an answer."""
    client = Producer(impatient.kafka, client_id="contract-hasty", compression="none")
    await client.start()
    yield client
    await client.stop(1)


def events(logs, name):
    return [line for line in logs if line["event"] == name]


async def test_a_refused_record_ends_its_producer(make_topic, hasty):
    topic = await make_topic(partitions=2, max_message_bytes="5000")
    assert await (await hasty.send(topic, b"x", partition=0)) == 0
    refused = await hasty.send(topic, os.urandom(6000), partition=0)
    with pytest.raises(ProducerFailed, match=f"send to {topic}: .*MessageSizeTooLarge"):
        await refused
    assert hasty.failed
    for partition in (0, 1):
        with pytest.raises(ProducerFailed, match="MessageSizeTooLarge"):
            await hasty.send(topic, b"x", partition=partition)


async def test_one_failure_fails_all_that_is_outstanding(broker, make_topic, hasty):
    topic = await make_topic(partitions=3, max_message_bytes="5000")
    await (await hasty.send(topic, b"x", partition=2))
    broker.freeze()
    outstanding = [await hasty.send(topic, b"x", partition=partition) for partition in (0, 1, 0, 1)]
    with pytest.raises(ProducerFailed, match="Unrecognized partition"):
        await hasty.send(topic, b"x", partition=99)
    assert [type(future.exception()) for future in outstanding] == [ProducerFailed] * 4
    assert hasty.outstanding == 0


async def test_a_producer_that_runs_says_once_that_nothing_is_acknowledged_and_once_that_it_is_again(
    broker, make_topic, make_settings, monkeypatch
):
    monkeypatch.setattr("shared.kafka.producer.SILENCE_SECONDS", 0.5)
    monkeypatch.setattr("shared.kafka.producer.WATCH_SECONDS", 0.1)
    patient = Producer(make_settings(kafka={"bootstrap_servers": broker.bootstrap_servers}).kafka, client_id="patient")
    await patient.start()
    topic = await make_topic()
    with capture_logs() as logs:
        await (await patient.send(topic, b"x"))
        broker.freeze()
        waiting = await patient.send(topic, b"y")
        await eventually(lambda: events(logs, "kafka unavailable"), 10)
        broker.thaw()
        await waiting
        await (await patient.send(topic, b"z"))
    assert len(events(logs, "kafka unavailable")) == len(events(logs, "kafka recovered")) == 1
    await patient.stop(5)


async def test_a_new_producer_goes_on_after_a_failed_one(impatient, make_topic, hasty):
    topic = await make_topic(max_message_bytes="5000")
    with pytest.raises(ProducerFailed):
        await (await hasty.send(topic, os.urandom(6000)))
    await hasty.stop(1)
    successor = Producer(impatient.kafka, client_id="contract-successor")
    await successor.start()
    assert await (await successor.send(topic, b"x")) == 0
    await successor.stop(1)


async def test_a_topic_that_does_not_exist_ends_the_producer(broker, hasty, stream):
    broker.needs("refuse unknown topics")
    with pytest.raises(ProducerFailed, match=f"send to nowhere-{stream}: .*UnknownTopicOrPartition"):
        await hasty.send(f"nowhere-{stream}", b"x")
    assert hasty.failed


async def test_a_stopped_producer_sends_nothing(make_topic, hasty):
    topic = await make_topic()
    await hasty.stop(1)
    with pytest.raises(ProducerFailed, match="stopped"):
        await hasty.send(topic, b"x")


async def test_records_sent_while_the_broker_is_frozen_arrive_once_it_answers(settings, broker, make_topic, producer):
    topic = await make_topic()
    assert await (await producer.send(topic, b"0")) == 0
    broker.freeze()
    futures = [await producer.send(topic, str(n).encode()) for n in range(1, 50)]
    broker.thaw()
    assert [await future for future in futures] == list(range(1, 50))
    tp = TopicPartition(topic, 0)
    values = [record.value async for record in read_range(settings.kafka, tp, 0, 49, client_id="contract-reader")]
    assert values == [str(n).encode() for n in range(50)]


async def test_stop_of_a_producer_ends_although_the_broker_never_answers(broker, make_topic, producer):
    topic = await make_topic(partitions=2)
    await (await producer.send(topic, b"x", partition=0))
    broker.freeze()
    outstanding = [await producer.send(topic, b"x" * 900_000, partition=n % 2) for n in range(2)]
    async with asyncio.timeout(10):  # far below what the request itself waits, twice request_timeout_ms
        await producer.stop(0.5)
    for future in outstanding:
        with pytest.raises(ProducerFailed, match=r"not acknowledged within 0\.5 s of stop"):
            await future


async def test_stop_of_a_consumer_ends_although_the_broker_never_answers(broker, make_topic, producer, join):
    topic = await make_topic()
    await (await producer.send(topic, b"x"))
    async with join(topic) as member:
        await member.take_until(1)
        broker.freeze()
        async with asyncio.timeout(8):
            await member.consumer.stop(0.5)
        broker.thaw()


async def test_a_commit_that_is_not_answered_may_be_tried_again(impatient, broker, make_topic, producer, stream):
    tp = TopicPartition(await make_topic(), 0)
    await (await producer.send(tp.topic, b"x"))

    async def ignore(_):
        """Let the consumer choose its start."""

    consumer = Consumer(
        impatient.kafka,
        client_id="contract-commit",
        group=f"contract-{stream}",
        topics=[tp.topic],
        on_assigned=ignore,
        on_revoked=ignore,
    )
    await consumer.start()
    await eventually(lambda: consumer.fetch(0.5))
    epoch = consumer.epoch()
    broker.freeze()
    with pytest.raises(RetryableError, match="commit"):
        await consumer.commit({tp: 1}, epoch)
    broker.thaw()

    async def committed():
        try:
            await consumer.commit({tp: 1}, consumer.epoch())
        except RetryableError:
            return False
        return await consumer.start_position(tp) == 1

    await eventually(committed)
    await consumer.stop()


async def test_a_client_waits_for_kafka_and_says_so_once(impatient, broker):
    broker.freeze()
    with capture_logs() as logs:
        client = Producer(impatient.kafka, client_id="contract-waiting")
        starting = asyncio.create_task(client.start())
        await eventually(lambda: events(logs, "kafka unavailable"))
        await asyncio.wait([starting], timeout=3)  # more attempts, no more lines
        assert not starting.done()
        broker.thaw()
        await starting
    assert len(events(logs, "kafka unavailable")) == len(events(logs, "kafka recovered")) == 1
    await client.stop(1)


@pytest.mark.parametrize("kind", ["producer", "consumer", "admin"])
async def test_waiting_for_kafka_can_be_cancelled(impatient, broker, kind):
    broker.freeze()

    async def ignore(_):
        """Never called."""

    async def enter():
        async with Admin(impatient.kafka, client_id="contract-cancelled"):
            pytest.fail("a frozen broker answered")

    options = {"group": "contract", "topics": ["contract"], "on_assigned": ignore, "on_revoked": ignore}
    start = {
        "producer": lambda: Producer(impatient.kafka, client_id="contract-cancelled").start(),
        "consumer": lambda: Consumer(impatient.kafka, client_id="contract-cancelled", **options).start(),
        "admin": enter,
    }[kind]
    with capture_logs() as logs:
        starting = asyncio.create_task(start())
        await eventually(lambda: events(logs, "kafka unavailable"))
        starting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await starting


async def test_refused_credentials_are_fatal_at_once(broker, make_settings):
    broker.needs("refuse credentials")
    login = {
        "sasl_mechanism": "PLAIN",
        "sasl_username": "who",
        "sasl_password": SecretStr("x"),
        "security_protocol": "SASL_PLAINTEXT",
    }
    kafka = make_settings(kafka={"bootstrap_servers": broker.bootstrap_servers}).kafka.model_copy(update=login)
    with pytest.raises(
        FatalError, match=rf"kafka {broker.bootstrap_servers}: it takes no login, and kafka.security_protocol"
    ):
        await Producer(kafka, client_id="contract-login").start()


async def test_a_frozen_broker_is_an_outage_that_a_consumer_survives(broker, make_topic, producer, join, monkeypatch):
    monkeypatch.setattr("shared.kafka.silence.SILENCE_SECONDS", 1.0)
    tp = TopicPartition(await make_topic(), 0)
    await (await producer.send(tp.topic, b"x"))
    async with join(tp.topic) as member:
        await member.take_until(1)
        with capture_logs() as logs:
            broker.freeze()

            async def noticed():
                await member.take(0.2)
                return events(logs, "kafka unavailable")

            await eventually(noticed)
            for _ in range(5):
                assert await member.take(0.2) == 0
            broker.thaw()
            sending = asyncio.create_task(_send_again(producer, tp.topic))
            await member.take_until(2)
            await sending
        assert len(events(logs, "kafka unavailable")) == 1
        assert len(events(logs, "kafka recovered")) == 1
    assert member.offsets(tp) == [0, 1]


async def _send_again(producer, topic):
    return await (await producer.send(topic, b"y"))


async def test_a_killed_broker_loses_nothing_it_acknowledged_and_all_go_on(broker, make_topic, producer, join):
    broker.needs("restart")
    tp = TopicPartition(await make_topic(), 0)
    sent = []

    async def send():
        sent.append(await producer.send(tp.topic, str(len(sent)).encode()))

    async with join(tp.topic) as member:
        for _ in range(100):
            await send()
        await member.take_until(100)
        broker.server.kill()
        for _ in range(100):
            await send()
        starting = asyncio.create_task(asyncio.to_thread(broker.server.start))
        while not starting.done():
            assert await member.take(0.5) >= 0
        await starting
        await member.take_until(200)

        async def committed():
            with suppress(RetryableError):  # a broker that has just come back may not know yet that it coordinates
                await member.consumer.commit({tp: 200}, member.consumer.epoch())
                return True
            return False

        await eventually(committed)
    assert [await future for future in sent] == list(range(200))
    assert [record.value for record in member.records[tp]] == [str(n).encode() for n in range(200)]
