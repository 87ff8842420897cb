"""What a record is after its way through a broker: bytes, key, headers, time, place and order."""

import os
import time

import pytest

from shared.errors import PoisonMessage
from shared.kafka import MAX_RECORD_BYTES, Producer, TopicPartition, partition_for, read_range

MIB = 1024 * 1024


async def read(settings, tp, first, last):
    return [record async for record in read_range(settings.kafka, tp, first, last, client_id="contract-reader")]


async def test_a_record_comes_back_as_it_was_sent(settings, make_topic, producer):
    topic, now_ms = await make_topic(partitions=2), time.time_ns() // 1_000_000
    headers = [("v", b"1"), ("symbol", "币安人生USDT".encode()), ("empty", b"")]
    sent = await producer.send(topic, b"\x00\xff", key=b"k", partition=1, headers=headers, timestamp_ms=now_ms - 7)
    assert await sent == 0
    [record] = await read(settings, TopicPartition(topic, 1), 0, 0)
    assert (record.topic, record.partition, record.offset) == (topic, 1, 0)
    assert (record.key, record.value, record.headers) == (b"k", b"\x00\xff", tuple(headers))
    assert record.timestamp_ms == now_ms - 7


async def test_a_record_without_key_headers_and_time_gets_a_time(settings, make_topic, producer):
    topic, before_ms = await make_topic(), time.time_ns() // 1_000_000
    await (await producer.send(topic, b"x"))
    [record] = await read(settings, TopicPartition(topic, 0), 0, 0)
    assert (record.key, record.headers) == (None, ())
    assert record.timestamp_ms >= before_ms


async def test_one_key_always_goes_to_one_partition(make_topic, producer, admin):
    topic = await make_topic(partitions=6)
    for future in [await producer.send(topic, b"x", key=b"binance:spot:BTCUSDT") for _ in range(20)]:
        await future
    ends = await admin.end_offsets([TopicPartition(topic, number) for number in range(6)])
    assert sorted(ends.values()) == [0, 0, 0, 0, 0, 20]


async def test_the_default_partitioner_is_the_java_clients(make_topic, producer, admin):
    """murmur2 of the key: other clients that publish or look for a key find the same partition."""
    topic = await make_topic(partitions=6)
    await (await producer.send(topic, b"x", key=b"binance:spot:BTCUSDT"))
    ends = await admin.end_offsets([TopicPartition(topic, number) for number in range(6)])
    assert [tp.partition for tp, end in ends.items() if end] == [(_murmur2(b"binance:spot:BTCUSDT") & 0x7FFFFFFF) % 6]


@pytest.mark.parametrize("compression", ["lz4", "zstd", "none"])
async def test_every_compression_carries_twelve_megabytes(settings, make_topic, compression):
    topic = await make_topic(max_message_bytes=str(MAX_RECORD_BYTES))
    value = os.urandom(3 * MIB) + b"9.99,1.5;" * MIB
    client = Producer(settings.kafka, client_id="contract-large", compression=compression)
    await client.start()
    try:
        assert await (await client.send(topic, value)) == 0
    finally:
        await client.stop(10)
    [record] = await read(settings, TopicPartition(topic, 0), 0, 0)
    assert record.value == value


async def test_a_record_above_the_limit_is_refused_unsent_and_the_producer_goes_on(make_topic, producer):
    topic = await make_topic(max_message_bytes=str(MAX_RECORD_BYTES))
    with pytest.raises(PoisonMessage, match="16777216 is the most") as refused:
        await producer.send(topic, b"x" * MAX_RECORD_BYTES)
    assert refused.value.reason == "too_large"
    assert not producer.failed
    assert await (await producer.send(topic, b"x")) == 0


async def test_records_stand_in_the_order_of_their_sends_across_batches(settings, make_topic, producer):
    topic = await make_topic()
    values = [number.to_bytes(4, "big") * 2000 for number in range(500)]  # 4 MB: several batches
    futures = [await producer.send(topic, value, partition=0) for value in values]
    assert [await future for future in futures] == list(range(500))
    assert [record.value for record in await read(settings, TopicPartition(topic, 0), 0, 499)] == values


async def test_stop_waits_for_what_is_outstanding(settings, make_topic):
    topic = await make_topic()
    client = Producer(settings.kafka, client_id="contract-stop")
    await client.start()
    futures = [await client.send(topic, b"x" * 1000) for _ in range(500)]
    await client.stop(10)
    assert [future.result() for future in futures] == list(range(500))
    assert client.outstanding == 0


def _murmur2(data: bytes) -> int:
    length, mask = len(data), 0xFFFFFFFF
    value = (0x9747B28C ^ length) & mask
    for start in range(0, length - length % 4, 4):
        k = int.from_bytes(data[start : start + 4], "little") * 0x5BD1E995 & mask
        k = (k ^ (k >> 24)) * 0x5BD1E995 & mask
        value = value * 0x5BD1E995 & mask ^ k
    if rest := data[length - length % 4 :]:
        value = (value ^ int.from_bytes(rest, "little")) * 0x5BD1E995 & mask
    value = (value ^ (value >> 13)) * 0x5BD1E995 & mask
    return value ^ (value >> 15)


async def test_a_batch_of_many_records_comes_back_whole_and_in_order_with_an_offset_for_its_first(
    settings, make_topic, producer
):
    topic = await make_topic(partitions=2)
    numbers = range(2000)  # several batches
    records = [(b"k%d" % n, bytes([n % 256]) * 1000, [("seq", str(n).encode())]) for n in numbers]
    queued = await producer.send_batch(topic, 1, records[:1500])
    queued += await producer.send_batch(topic, 1, records[1500:])
    assert len(queued) > 2
    first = 0
    for future, count in queued:
        assert await future == first
        first += count
    assert first == len(records)
    found = await read(settings, TopicPartition(topic, 1), 0, len(records) - 1)
    assert [(record.key, record.value, list(record.headers)) for record in found] == records


async def test_a_batch_may_hold_one_record_as_large_as_any(settings, make_topic, producer):
    topic = await make_topic()
    large = b"x" * (12 * MIB)
    queued = await producer.send_batch(topic, 0, [(b"k", b"small", []), (b"k", large, []), (b"k", b"small", [])])
    for future, _ in queued:
        await future
    found = await read(settings, TopicPartition(topic, 0), 0, 2)
    assert [len(record.value) for record in found] == [5, 12 * MIB, 5]


async def test_a_batch_goes_where_its_keys_go_alone(make_topic, producer, admin):
    topic = await make_topic(partitions=6)
    keys = [f"binance:spot:SYM{number}USDT".encode() for number in range(40)]
    for key in keys:
        await (await producer.send(topic, b"x", key=key))
    alone = await admin.end_offsets([TopicPartition(topic, number) for number in range(6)])
    placed = [partition_for(key, 6) for key in keys]
    assert {tp.partition: end for tp, end in alone.items()} == {n: placed.count(n) for n in range(6)}
