"""The queue in front of the producer: bounded until acknowledged, gaps always taken, order kept."""

from __future__ import annotations

import asyncio

from services.reader.channel import Channel, RawRecord
from shared.messages import Book

BOOK = Book("binance", "future", "BTCUSDT")


def snapshot(size: int = 100) -> RawRecord:
    return RawRecord(BOOK, "snapshot", b"x" * size, 1)


def gap() -> RawRecord:
    return RawRecord(BOOK, "gap", b"{}", 1)


def room_for(records: int) -> int:
    return records * snapshot().size_bytes


async def test_a_snapshot_is_refused_when_there_is_no_room_and_taken_again_after_an_acknowledgement() -> None:
    channel = Channel(room_for(2))
    first = snapshot()
    assert channel.offer(first)
    assert channel.offer(snapshot())
    assert not channel.offer(snapshot())
    assert channel.take(1) == [first]
    assert not channel.offer(snapshot()), "taken is not acknowledged: its bytes are still held"
    channel.settle([first])
    assert channel.offer(snapshot())


async def test_a_gap_is_taken_however_full_the_queue_is() -> None:
    channel = Channel(room_for(1))
    channel.offer(snapshot())
    late = gap()
    channel.put(late)
    channel.take(1)
    assert channel.take(1) == [late]


async def test_a_gap_and_its_snapshot_are_taken_together_or_not_at_all() -> None:
    channel = Channel(room_for(1))
    channel.offer(snapshot())
    assert not channel.offer(snapshot(), after=gap())
    assert channel.waiting_records == 1
    channel.settle(channel.take(1))
    before, after = gap(), snapshot()
    assert channel.offer(after, after=before)
    assert channel.take(10**6) == [before, after]


async def test_one_record_larger_than_the_whole_queue_still_passes_alone() -> None:
    channel = Channel(10)
    assert channel.offer(snapshot())
    assert not channel.offer(snapshot())


async def test_the_consumer_sleeps_until_something_is_put_or_the_end_is_said() -> None:
    channel = Channel(room_for(9))
    waiting = asyncio.create_task(channel.wait())
    await asyncio.sleep(0)
    assert not waiting.done()
    channel.offer(snapshot())
    await waiting
    waiting = asyncio.create_task(channel.wait())
    await asyncio.sleep(0)
    assert not waiting.done()
    channel.close()
    await waiting
    assert channel.closed
    assert channel.take(1), "what was queued before the end can still be taken"


async def test_held_bytes_return_to_zero_when_all_is_settled() -> None:
    channel = Channel(room_for(9))
    for record in (snapshot(), gap(), snapshot(7)):
        (channel.put if record.type == "gap" else channel.offer)(record)
    while records := channel.take(1):
        channel.settle(records)
    assert channel.held_bytes == 0


async def test_as_many_records_are_taken_as_fit_and_always_one() -> None:
    channel = Channel(room_for(9))
    records = [snapshot() for _ in range(4)]
    for record in records:
        channel.put(record)
    assert channel.take(room_for(2)) == records[:2]
    assert channel.take(1) == records[2:3]
    assert channel.take(room_for(9)) == records[3:]
    assert channel.take(room_for(9)) == []


async def test_who_waits_for_room_goes_on_when_so_little_is_held() -> None:
    channel = Channel(room_for(4))
    records = [snapshot() for _ in range(4)]
    for record in records:
        channel.put(record)
    assert channel.full
    waiting = asyncio.create_task(channel.drained(room_for(2)))
    channel.settle(records[:2])
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert not waiting.done()
    assert not channel.full
    channel.settle(records[2:3])
    async with asyncio.timeout(5):
        await waiting
