"""Membership: who holds which partition, what a rebalance does to commits, and what callbacks may do."""

import asyncio

import pytest

from shared.errors import FatalError
from shared.kafka import Epoch, OwnershipLost, TopicPartition
from tests.support import eventually


async def fill(producer, topic, partitions, count):
    futures = [
        await producer.send(topic, str(n).encode(), partition=p) for p in range(partitions) for n in range(count)
    ]
    for future in futures:
        await future
    return {TopicPartition(topic, number) for number in range(partitions)}


async def settle(*members):
    """Fetches with all members until every one of them has partitions."""

    async def shared():
        await asyncio.gather(*(member.take(0.1) for member in members))
        held = [member.consumer.assignment() for member in members]
        return all(held) and sum(map(len, held)) == len(set.union(*held)) == 4

    await eventually(shared, what=f"{len(members)} members share 4 partitions")


async def test_two_members_share_the_partitions_and_hand_them_back(make_topic, producer, join):
    topic = await make_topic(partitions=4)
    every = await fill(producer, topic, 4, 5)
    async with join(topic) as first:
        await first.take_until(20)
        assert first.consumer.assignment() == every
        async with join(topic) as second:
            await settle(first, second)
            assert first.consumer.assignment() | second.consumer.assignment() == every
            assert len(first.consumer.assignment()) == len(second.consumer.assignment()) == 2
            assert first.revoked[0] == every
        await settle(first)
        assert first.consumer.assignment() == every


async def test_a_committed_record_is_handed_out_once_through_rebalances(make_topic, producer, join):
    topic = await make_topic(partitions=4)
    await fill(producer, topic, 4, 50)

    async def work(member):
        before = {tp: len(records) for tp, records in member.records.items()}
        await member.take(0.1, limit=10)
        for tp, records in member.records.items():
            if len(records) > before.get(tp, 0):
                try:
                    await member.consumer.commit({tp: records[-1].offset + 1}, member.consumer.epoch())
                except OwnershipLost:
                    del records[before.get(tp, 0) :]  # another member will be handed them

    async with join(topic) as first:
        await eventually(lambda: work_until(work, first, 40))
        async with join(topic) as second:

            async def done():
                await asyncio.gather(work(first), work(second))
                return first.count + second.count >= 200

            await eventually(done, what="200 records")
    seen = sorted((tp.partition, offset) for m in (first, second) for tp in m.records for offset in m.offsets(tp))
    assert seen == [(partition, offset) for partition in range(4) for offset in range(50)]


async def work_until(work, member, count):
    await work(member)
    return member.count >= count


async def test_a_commit_of_an_earlier_epoch_is_refused(make_topic, producer, join):
    topic = await make_topic(partitions=4)
    await fill(producer, topic, 4, 5)
    async with join(topic) as first:
        await first.take_until(20)
        before = first.consumer.epoch()
        async with join(topic) as second:
            await settle(first, second)
            mine = next(iter(first.consumer.assignment()))
            assert first.consumer.epoch() != before
            with pytest.raises(OwnershipLost, match="rebalanced since"):
                await first.consumer.commit({mine: 5}, before)
            assert await first.consumer.start_position(mine) == 0
            await first.consumer.commit({mine: 5}, first.consumer.epoch())
            assert await first.consumer.start_position(mine) == 5


async def test_the_broker_refuses_an_epoch_that_only_it_knows_to_be_old(make_topic, producer, join, monkeypatch):
    """What the check before the request cannot see: the group moves on while the commit is on its way."""
    topic = await make_topic(partitions=4)
    await fill(producer, topic, 4, 5)
    async with join(topic) as first:
        await first.take_until(20)
        before = first.consumer.epoch()
        async with join(topic) as second:
            await settle(first, second)
            mine = next(iter(first.consumer.assignment()))
            monkeypatch.setattr(first.consumer, "epoch", lambda: before)
            with pytest.raises(OwnershipLost, match="commit of"):
                await first.consumer.commit({mine: 5}, before)
            assert await first.consumer.start_position(mine) == 0


async def test_a_member_that_was_removed_is_told_at_its_next_commit(make_topic, producer, join):
    tp = TopicPartition(await make_topic(), 0)
    await fill(producer, tp.topic, 1, 5)
    async with join(tp.topic) as member:
        await member.take_until(5)
        stranger = Epoch(member.consumer.epoch().generation, "somebody-else")
        with pytest.raises(OwnershipLost):
            await member.consumer.commit({tp: 5}, stranger)
        assert await member.consumer.start_position(tp) == 0


async def test_a_commit_for_a_partition_of_somebody_else_is_refused(make_topic, producer, join):
    topic = await make_topic(partitions=4)
    await fill(producer, topic, 4, 5)
    async with join(topic) as first, join(topic) as second:
        await settle(first, second)
        theirs = next(iter(second.consumer.assignment()))
        with pytest.raises(OwnershipLost, match="is not assigned"):
            await first.consumer.commit({theirs: 5}, first.consumer.epoch())


async def test_the_owner_may_commit_while_its_partitions_are_taken_away(broker, make_topic, producer, join):
    broker.needs("commit while rebalancing")
    topic = await make_topic(partitions=4)
    await fill(producer, topic, 4, 5)
    async with join(topic) as first:
        await first.take_until(20)
        epoch = first.consumer.epoch()

        async def commit(tps):
            await first.consumer.commit({tp: first.consumer.position(tp) for tp in tps}, epoch)
            first.revoked.append(tps)

        first.consumer._on_revoked = commit
        async with join(topic) as second:
            await settle(first, second)
            assert first.revoked
            assert [await second.consumer.start_position(tp) for tp in second.consumer.assignment()] == [5, 5]
            assert second.count == 0


async def test_nothing_is_handed_out_before_the_callback_has_finished(make_topic, producer, join):
    topic = await make_topic(partitions=4)
    tps = await fill(producer, topic, 4, 5)
    async with join(topic) as first:
        await first.take_until(20)
        await first.consumer.commit(dict.fromkeys(tps, 2), first.consumer.epoch())
    gate, entered = asyncio.Event(), asyncio.Event()
    async with join(topic) as first:
        seek_all = first.on_assigned

        async def slow(assigned):
            entered.set()
            await gate.wait()
            await seek_all(assigned)

        first.consumer._on_assigned = slow
        first.records.clear()
        first.start_at = dict.fromkeys(tps, 4)
        async with join(topic) as second:
            fetching = asyncio.create_task(eventually(lambda: entered.is_set() or first.take(0.1)))
            await eventually(lambda: second.take(0.1) or entered.is_set())
            await fetching
            first.records.clear()
            for _ in range(3):
                assert await first.take(0.2) == 0
            gate.set()
            await eventually(lambda: first.take(0.2))
    assert all(first.offsets(tp) == [4] for tp in first.records)


async def test_an_error_in_a_callback_comes_out_of_fetch(make_topic, producer, join, settings):
    topic = await make_topic()
    await fill(producer, topic, 1, 1)
    async with join(topic) as member:
        await member.take_until(1)

        async def broken(_):
            raise FatalError("two environments share a prefix")

        member.consumer._on_assigned = broken
        async with join(topic):
            with pytest.raises(FatalError, match="two environments share a prefix"):
                await eventually(lambda: member.take(0.1))


async def test_a_member_without_partitions_is_told_so_and_waits_for_one(make_topic, producer, join):
    tp = TopicPartition(await make_topic(), 0)
    await fill(producer, tp.topic, 1, 5)
    async with join(tp.topic) as first, join(tp.topic) as second:

        async def settled():
            await asyncio.gather(first.take(0.1), second.take(0.1))
            return sorted(len(tps) for member in (first, second) for tps in member.assigned[-1:]) == [0, 1]

        await eventually(settled, what="one has the partition, the other was told that it has none")
        holder, idle = (first, second) if first.assigned[-1] else (second, first)
        await eventually(lambda: holder.count >= 5 or holder.take(0.1))
        assert idle.consumer.assignment() == set()
        await holder.consumer.stop()
        idle.records.clear()
        await idle.take_until(5)


async def test_a_stopped_consumer_is_out_of_the_group_at_once(make_topic, producer, join):
    """It leaves: the next one does not wait for its session to expire."""
    topic = await make_topic(partitions=4)
    await fill(producer, topic, 4, 1)
    for _ in range(3):
        async with join(topic) as member:
            await member.take_until(4)
    with pytest.raises(OwnershipLost):
        member.consumer.epoch()


async def test_a_fetch_that_a_rebalance_overtakes_costs_no_record(make_topic, producer, join):
    """What it took of a partition that was sought already may not be handed out yet: it must be taken again."""
    topic = await make_topic(partitions=4)
    tps = await fill(producer, topic, 4, 5)
    gate, sought = asyncio.Event(), asyncio.Event()
    async with join(topic) as first:
        await first.take_until(20)
        await first.consumer.commit(dict.fromkeys(tps, 5), first.consumer.epoch())
        seek_all = first.on_assigned

        async def slow(assigned):
            await seek_all(assigned)
            sought.set()
            await gate.wait()

        first.consumer._on_assigned = slow
        overtaken = asyncio.create_task(first.take(5.0))
        async with join(topic) as second:
            await sought.wait()
            await fill(producer, topic, 4, 3)
            await overtaken
            gate.set()

            async def all_seen():
                await asyncio.gather(first.take(0.1), second.take(0.1))
                return first.count + second.count >= 20 + 12

            await eventually(all_seen, what="the records of the time of the rebalance")
            new = sorted((tp.partition, n) for m in (first, second) for tp in m.records for n in m.offsets(tp) if n > 4)
            assert new == [(partition, offset) for partition in range(4) for offset in (5, 6, 7)]
