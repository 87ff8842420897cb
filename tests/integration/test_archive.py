"""The raw archive on real Kafka and a real store: what the raw topics held lies in the lake byte for byte, once."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from shared.kafka import Admin, TopicPartition
from shared.lake import archive
from shared.lake.kinds import is_archive
from shared.messages import KINDS, Book
from tests.config import merged
from tests.flattener_line import Topics
from tests.line import FLUSH, SERVICES, make_line, stream_source
from tests.raw_records import headers, record
from tests.support import eventually

if TYPE_CHECKING:
    from tests.line import Line
    from tests.processes import Service

pytestmark = [pytest.mark.docker, pytest.mark.timeout(420)]

PARTITIONS = 3
CHANNELS = {f"{side}_{kind}": {"partitions": PARTITIONS} for side in ("raw", "norm") for kind in KINDS}
BTC = Book("binance", "future", "BTCUSDT")


@pytest.fixture
def line(kafka, s3, services, make_config, prefix, tmp_path) -> Line:
    """The whole line, the archive off."""
    exchange = services.simulate("--seed", "3", "--symbols-per-market", "4")
    symbols = {"future": ["BTCUSDT", "ETHUSDT"], "spot": ["BTCUSDT", "ETHUSDT"]}
    return make_line(
        services,
        make_config,
        tmp_path,
        s3=s3,
        prefix=prefix,
        kafka={"bootstrap_servers": kafka.bootstrap_servers},
        channels=CHANNELS,
        source=stream_source(exchange, symbols, anchor_interval="5s", limit=100, polls={"interval_ms": 500}),
        writer=FLUSH,
    )


def with_archive(line: Line) -> Line:
    return replace(line, config=merged(dict(line.config), {"storage": {"s3": {"archive_raw": True}}}))


async def start_all(line: Line) -> dict[str, Service]:
    await line.create_topics()
    return {name: await asyncio.to_thread(line.start, name) for name in SERVICES}


async def archived(line: Line) -> None:
    """Waits until all that the raw topics hold now is archived."""
    ends = {kind: await line._ends(line.raw_topic(kind)) for kind in KINDS}

    def there() -> bool:
        for kind, of_kind in ends.items():
            for tp, end in of_kind.items():
                bounds = archive.bounds(line.store, kind, line.settings.kafka.stream, tp.partition) if end else None
                if end and (bounds is None or bounds.last + 1 < end):
                    return False
        return True

    await eventually(lambda: asyncio.to_thread(there), 90, f"{ends} is archived", every_seconds=0.5)


async def assert_archived_once(line: Line) -> int:
    """Every record of the raw topics lies in the archive, equal, and nothing else does. Gives how many there are."""
    count = 0
    for kind in KINDS:
        stored = [
            each
            for partition in archive.partitions(line.store, kind, line.settings.kafka.stream)
            for each in archive.records(line.store, kind, line.settings.kafka.stream, partition)
        ]
        assert stored == await line.raw_records(kind)
        count += len(stored)
    return count


async def stop(*processes: Service) -> None:
    for process in processes:
        assert await asyncio.to_thread(process.terminate) == 0


async def test_the_archive_holds_every_raw_record_once_through_kills_of_the_s3writer(line):
    line = with_archive(line)
    running = await start_all(line)
    await line.acknowledged(50, kind="fobd")
    await asyncio.to_thread(running["s3writer"].kill)
    for point in ("s3writer.after_claim:3:kill", "s3writer.after_object:4:kill"):
        writer = await asyncio.to_thread(lambda point=point: line.start("s3writer", ready=False, CRASH_POINT=point))
        await eventually(lambda writer=writer: not writer.alive, 90, f"killed at {point}")
    await line.acknowledged(50, kind="fobd")
    writer = await asyncio.to_thread(line.start, "s3writer")
    await stop(running["reader"])
    for kind in KINDS:
        await line.caught_up(kind=kind)
    await archived(line)
    assert await asyncio.to_thread(lambda: writer.metric("cryptoflow_stored_rows_total", kind="raw-fobd")) > 0
    await stop(running["flattener"], writer)
    assert await assert_archived_once(line) > 150
    for kind in KINDS:
        await line.assert_exactly_once(kind)
    report = await asyncio.to_thread(line.verify)
    assert report.verdict == "complete"
    assert {line.line.kind for line in report.lines} == {"fobs", "fobd", "raw-fobs", "raw-fobd"}


async def test_it_can_be_switched_on_later_off_and_on_again(line):
    running = await start_all(line)
    await line.acknowledged(20, kind="fobd")
    await line.caught_up(kind="fobd")
    await stop(running["s3writer"])
    assert not [found for found in (await asyncio.to_thread(line.verify)).lines if is_archive(found.line.kind)]

    writer = await asyncio.to_thread(with_archive(line).start, "s3writer")
    await archived(line)
    await stop(writer)
    until = archive.bounds(line.store, "fobd", line.settings.kafka.stream, 0)
    writer = await asyncio.to_thread(line.start, "s3writer")
    await line.acknowledged(20, kind="fobd")
    await line.caught_up(kind="fobd")
    await stop(writer)
    assert archive.bounds(line.store, "fobd", line.settings.kafka.stream, 0) == until

    writer = await asyncio.to_thread(with_archive(line).start, "s3writer")
    await stop(running["reader"])
    for kind in KINDS:
        await line.caught_up(kind=kind)
    await archived(line)
    await stop(running["flattener"], writer)
    await assert_archived_once(line)
    assert (await asyncio.to_thread(line.verify)).verdict == "complete"


ODD = {
    "as the reader writes it": (BTC.key, b'{"u":1}', headers(BTC)),
    "five megabytes": (BTC.key, bytes(range(256)) * 20_000, headers(BTC, seq=1)),
    "no headers": (BTC.key, b"not JSON", ()),
    "a version of tomorrow": (BTC.key, b"{}", (("v", b"2"), ("what", b"\xff\x00"))),
    "a header twice": (BTC.key, b"{}", (*headers(BTC, seq=2), ("seq", b"9"))),
    "another stream": (BTC.key, b"{}", headers(BTC, stream="other")),
    "no key": (None, b"", ()),
    "a key that is no book": (b"\xff\xfe", b"\x00", (("", b""),)),
    "a book that no folder can name": (b"a:b:" + b"x" * 400, b"{}", ()),
}


@pytest.fixture
async def topics(make_settings, make_config, kafka):
    more = {"kafka": {"bootstrap_servers": kafka.bootstrap_servers}, "channels": CHANNELS}
    made = Topics(make_settings(**more), "fobd")
    await made.create()
    made.config = make_config(
        **more, storage={"s3": {"archive_raw": True}}, writer={"buffer": {"delta_flush_interval": 0.3}}
    )
    return made


async def until_archived(topics, store, last):
    def there():
        bounds = archive.bounds(store, "fobd", topics.settings.kafka.stream, 0)
        return bounds is not None and bounds.last >= last

    await eventually(there, what=f"offset {last} is archived")


async def test_a_record_that_nothing_else_can_read_is_archived_verbatim(topics, services, line):
    await topics.publish([(*odd, 0) for odd in ODD.values()])
    store = replace(line, settings=topics.settings, opened=None).store
    writer = await asyncio.to_thread(services.start, "s3writer", topics.config)
    await until_archived(topics, store, len(ODD) - 1)
    await stop(writer)
    stored = list(archive.records(store, "fobd", topics.settings.kafka.stream, 0))
    assert stored == (await topics.all(topics.raw))[0]
    assert [(each.key, each.value, each.headers) for each in stored] == list(ODD.values())


async def test_what_kafka_deleted_before_it_was_archived_is_a_hole(topics, services, line):
    store = replace(line, settings=topics.settings, opened=None).store
    one = record(0)
    await topics.publish([(one.key, one.value, one.headers, 0)] * 4)
    async with Admin(topics.settings.kafka, client_id="test") as admin:
        await admin.delete_records({TopicPartition(topics.raw, 0): 2})
    writer = await asyncio.to_thread(services.start, "s3writer", topics.config)
    await until_archived(topics, store, 3)
    await stop(writer)
    await topics.publish([(one.key, one.value, one.headers, 0)] * 5)
    async with Admin(topics.settings.kafka, client_id="test") as admin:
        await admin.delete_records({TopicPartition(topics.raw, 0): 7})
    writer = await asyncio.to_thread(services.start, "s3writer", topics.config)
    await until_archived(topics, store, 8)
    await stop(writer)
    assert archive.bounds(store, "fobd", topics.settings.kafka.stream, 0) == archive.Bounds(2, 8, ((4, 6),))
    assert [each.offset for each in archive.records(store, "fobd", topics.settings.kafka.stream, 0)] == [2, 3, 7, 8]
