"""Where a consumer begins, what it was handed, what it lost, and reading a range again."""

import time

import pytest

from shared.errors import FatalError
from shared.kafka import OffsetsLost, OwnershipLost, TopicPartition, read_range
from tests.support import eventually


async def fill(producer, topic, count, partition=0, **more):
    for future in [await producer.send(topic, str(n).encode(), partition=partition, **more) for n in range(count)]:
        await future
    return TopicPartition(topic, partition)


async def test_a_group_without_commits_begins_at_the_beginning_of_the_log(make_topic, producer, admin, join):
    tp = await fill(producer, await make_topic(), 10)
    await admin.delete_records({tp: 4})
    async with join(tp.topic) as member:
        await member.take_until(6)
    assert member.offsets(tp) == [4, 5, 6, 7, 8, 9]


async def test_a_group_goes_on_from_its_commit(make_topic, producer, join):
    tp = await fill(producer, await make_topic(), 10)
    async with join(tp.topic) as first:
        await first.take_until(10)
        await first.consumer.commit({tp: 7}, first.consumer.epoch())
        assert await first.consumer.start_position(tp) == 7
    async with join(tp.topic) as second:
        await second.take_until(3)
    assert second.offsets(tp) == [7, 8, 9]


async def test_what_was_handed_out_and_not_committed_is_handed_out_again(make_topic, producer, join):
    tp = await fill(producer, await make_topic(), 5)
    for _ in range(2):
        async with join(tp.topic) as member:
            await member.take_until(5)
        assert member.offsets(tp) == [0, 1, 2, 3, 4]


async def test_the_place_sought_in_the_callback_beats_the_commit(make_topic, producer, join):
    tp = await fill(producer, await make_topic(), 10)
    async with join(tp.topic) as first:
        await first.take_until(10)
        await first.consumer.commit({tp: 7}, first.consumer.epoch())
    async with join(tp.topic, start_at={tp: 2}) as second:
        await second.take_until(8)
    assert second.offsets(tp) == list(range(2, 10))


async def test_the_position_is_what_was_handed_out_not_what_was_fetched_ahead(make_topic, producer, join):
    tp = await fill(producer, await make_topic(), 10)
    async with join(tp.topic) as member:
        assert await eventually(lambda: member.take(limit=3)) == 3
        assert member.consumer.position(tp) == 3
        assert await eventually(lambda: member.take(limit=3)) == 3
        assert member.consumer.position(tp) == 6
        await member.consumer.seek(tp, 1)
        assert member.consumer.position(tp) == 1
        await eventually(member.take)
    assert member.offsets(tp)[6:] == list(range(1, 10))


async def test_the_limit_holds_for_each_partition_and_starves_none(make_topic, producer, join):
    topic = await make_topic(partitions=3)
    for partition in range(3):
        await fill(producer, topic, 20, partition)
    async with join(topic) as member:
        while member.count < 60:
            before = {tp: len(records) for tp, records in member.records.items()}
            await member.take(limit=4)
            assert all(len(records) - before.get(tp, 0) <= 4 for tp, records in member.records.items())
    assert all(member.offsets(TopicPartition(topic, number)) == list(range(20)) for number in range(3))


async def test_a_paused_partition_hands_out_nothing_and_loses_nothing(make_topic, producer, join):
    topic = await make_topic(partitions=2)
    async with join(topic) as member:
        paused, open_ = TopicPartition(topic, 0), TopicPartition(topic, 1)
        await eventually(lambda: member.assigned and member.consumer.assignment())
        member.consumer.pause(paused)
        for tp in (paused, open_):
            await fill(producer, topic, 5, tp.partition)
        await member.take_until(5)
        assert (member.offsets(paused), member.offsets(open_)) == ([], [0, 1, 2, 3, 4])
        member.consumer.resume(paused)
        await member.take_until(10)
    assert member.offsets(paused) == [0, 1, 2, 3, 4]


async def test_lag_counts_records_and_their_age_and_is_zero_at_the_end(make_topic, producer, join):
    topic, hour_ago_ms = await make_topic(), time.time_ns() // 1_000_000 - 3_600_000
    tp = await fill(producer, topic, 10, timestamp_ms=hour_ago_ms)
    async with join(topic) as member:
        assert await eventually(lambda: member.take(limit=4)) == 4
        lag = member.consumer.lag(tp)
        assert lag.records == 6
        assert 3600 <= lag.seconds < 4000
        await member.take_until(10)
        lag = member.consumer.lag(tp)
        assert (lag.records, lag.seconds) == (0, 0.0)
        assert member.consumer.high_watermark(tp) == 10


async def test_records_deleted_under_a_position_are_reported_with_both_ends(make_topic, producer, admin, join):
    tp = await fill(producer, await make_topic(), 10)
    await admin.delete_records({tp: 6})
    async with join(tp.topic, start_at={tp: 2}) as member:
        with pytest.raises(OffsetsLost) as lost:
            await member.take_until(1)
        assert (lost.value.tp, lost.value.position, lost.value.beginning) == (tp, 2, 6)
        await member.consumer.seek(tp, lost.value.beginning)
        await member.take_until(4)
    assert member.offsets(tp) == [6, 7, 8, 9]


async def test_a_loss_in_one_partition_keeps_no_record_of_another_back(make_topic, producer, admin, join):
    topic = await make_topic(partitions=2)
    lost_tp, whole = await fill(producer, topic, 10, 0), await fill(producer, topic, 10, 1)
    await admin.delete_records({lost_tp: 10})
    losses = []
    async with join(topic, start_at={lost_tp: 0, whole: 0}) as member:

        async def both_told():
            try:
                await member.take(limit=3)
            except OffsetsLost as lost:
                losses.append((lost.tp, lost.beginning))
                await member.consumer.seek(lost.tp, lost.beginning)
            return losses and member.count >= 10

        await eventually(both_told)
    assert losses == [(lost_tp, 10)]
    assert member.offsets(whole) == list(range(10))


async def test_a_position_beyond_the_log_means_another_topic_and_is_fatal(make_topic, producer, join):
    tp = await fill(producer, await make_topic(), 3)
    async with join(tp.topic, start_at={tp: 50}) as member:
        with pytest.raises(FatalError, match=r"ends at offset 3, before the position 50: was the topic re-created\?"):
            await member.take_until(1)


async def test_a_range_is_read_again_exactly(settings, make_topic, producer, join):
    tp = await fill(producer, await make_topic(), 100)
    async with join(tp.topic) as member:
        await member.take_until(100)
        again = [record async for record in member.consumer.read_range(tp, 20, 29)]
        assert [record.offset for record in again] == list(range(20, 30))
        assert again == member.records[tp][20:30]
        assert [record async for record in member.consumer.read_range(tp, 5, 4)] == []
        assert member.consumer.position(tp) == 100


async def test_a_range_that_begins_before_the_log_is_lost(settings, make_topic, producer, admin):
    tp = await fill(producer, await make_topic(), 10)
    await admin.delete_records({tp: 4})
    with pytest.raises(OffsetsLost) as lost:
        [record async for record in read_range(settings.kafka, tp, 2, 6, client_id="contract-reader")]
    assert (lost.value.position, lost.value.beginning) == (2, 4)


async def test_a_range_that_ends_after_the_log_is_fatal(settings, make_topic, producer):
    tp = await fill(producer, await make_topic(), 10)
    with pytest.raises(FatalError, match="ends at offset 10, before 12"):
        [record async for record in read_range(settings.kafka, tp, 8, 12, client_id="contract-reader")]


async def test_a_partition_that_is_not_assigned_has_no_position(make_topic, producer, join):
    tp = await fill(producer, await make_topic(), 1)
    other = TopicPartition(tp.topic, 9)
    async with join(tp.topic) as member:
        await member.take_until(1)
        for ask in (member.consumer.position, member.consumer.lag, member.consumer.high_watermark):
            with pytest.raises(OwnershipLost, match="/9 is not assigned"):
                ask(other)
        with pytest.raises(OwnershipLost, match="not assigned"):
            await member.consumer.seek(other, 0)


async def test_the_ends_of_a_log_are_known(make_topic, producer, admin):
    topic = await make_topic(partitions=2)
    tp, empty = await fill(producer, topic, 10), TopicPartition(topic, 1)
    await admin.delete_records({tp: 4})
    assert await admin.beginning_offsets([tp, empty]) == {tp: 4, empty: 0}
    assert await admin.end_offsets([tp, empty]) == {tp: 10, empty: 0}
