"""Raw records out of the topics for the commands: all of a range once, whatever retention takes while they are read."""

from __future__ import annotations

import asyncio
import os

import pytest

from cryptoflow.raw_topics import RawTopics
from shared import topics
from shared.kafka import Admin, Producer, TopicPartition
from shared.lake.raw_source import RawLine

RECORDS = 24
ONLY_KAFKA = pytest.mark.parametrize("broker", [pytest.param("kafka", marks=pytest.mark.docker)], indirect=True)
VALUE_BYTES = 500_000  # four of them are fetched ahead


@pytest.fixture(params=["embedded", pytest.param("kafka", marks=pytest.mark.docker)])
def broker(request):
    return request.getfixturevalue("embedded_kafka" if request.param == "embedded" else "kafka")


@pytest.fixture
async def settings(make_settings, broker):
    made = make_settings(kafka={"bootstrap_servers": broker.bootstrap_servers})
    await topics.create(made)
    producer = Producer(made.kafka, client_id="test", compression="none")
    await producer.start()
    for _ in range(RECORDS):
        await (await producer.send(made.channels.raw_fobs.topic, os.urandom(VALUE_BYTES), partition=0))
    await producer.stop(10)
    return made


def line_of(source, settings, **changes) -> RawLine:
    fields = {
        "kind": "fobs",
        "stream": settings.kafka.stream,
        "partition": 0,
        "topic": settings.channels.raw_fobs.topic,
        "cluster_id": source.cluster_id,
    }
    return RawLine(**(fields | changes))


async def test_a_range_is_read_once_and_in_order(settings):
    def read() -> list[int]:
        with RawTopics(settings) as source:
            line = line_of(source, settings)
            assert source.held(line).spans == ((0, RECORDS - 1),)
            assert [record.offset for record in source.records(line, 20, 19)] == []
            return [record.offset for record in source.records(line, 3, 20)]

    assert await asyncio.to_thread(read) == list(range(3, 21))


@ONLY_KAFKA  # the embedded broker hands out all of it at once
async def test_what_retention_takes_meanwhile_is_passed_over_and_no_longer_held(settings):
    tp = TopicPartition(settings.channels.raw_fobs.topic, 0)

    async def delete() -> None:
        async with Admin(settings.kafka, client_id="test") as admin:
            await admin.delete_records({tp: 18})

    def read() -> tuple[list[int], object]:
        with RawTopics(settings) as source:
            line, offsets = line_of(source, settings), []
            assert source.held(line).spans
            for record in source.records(line, 0, RECORDS - 1):
                if not offsets:
                    asyncio.run(delete())
                offsets.append(record.offset)
            return offsets, source.held(line).spans

    offsets, held = await asyncio.to_thread(read)
    assert held == ((18, RECORDS - 1),)
    assert offsets == sorted(set(offsets))
    assert offsets[-6:] == list(range(18, RECORDS))
    assert 17 not in offsets


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"stream": "other"}, "these raw records were of stream other"),
        ({"topic": "elsewhere"}, "the raw records were in topic elsewhere"),
        ({"cluster_id": "other"}, "they were in Kafka cluster other"),
        ({"partition": 999}, "has no "),
        ({"partition": 1}, "is empty"),
    ],
)
async def test_other_raw_records_than_the_topics_are_not_held(settings, changes, why):
    def held():
        with RawTopics(settings) as source:
            return source.held(line_of(source, settings, **changes))

    found = await asyncio.to_thread(held)
    assert found.spans == ()
    assert why in found.why
