"""The publisher: order, headers, and what a failed producer leaves behind.

Kafka's client is scripted here; the tests on brokers are in tests/integration/test_reader_service.py.
"""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from services.reader.channel import Channel, RawRecord
from services.reader.publisher import FRUITLESS_MAX_SECONDS, Publisher
from shared.errors import FatalError, RetryableError
from shared.messages import Book, Gap, RawHeaders
from tests.support import eventually

BTC, ETH = Book("binance", "future", "BTCUSDT"), Book("binance", "spot", "ETHUSDT")


class Script:
    """A Kafka client that acknowledges, waits or fails as told. One instance is one incarnation."""

    def __init__(self, topic: list, *, acknowledge: bool = True, fail_at: int | None = None) -> None:
        self.topic = topic
        self.acknowledge = acknowledge
        self.fail_at = fail_at  # the n-th send raises
        self.sends = 0
        self.pending: list[asyncio.Future[int]] = []
        self.stopped = False
        self.failure: BaseException | None = None

    async def start(self) -> None:
        if self.failure is not None:
            raise self.failure

    async def send_batch(self, topic, partition, records):  # noqa: ARG002 - as Kafka's client
        queued = []
        for key, value, headers in records:  # a batch of its own for each, so that they can end apart
            self.sends += 1
            if self.sends == self.fail_at:
                self.fail()
                raise RetryableError("no leader")
            future = asyncio.get_running_loop().create_future()
            self.topic.append((key, value, RawHeaders.decode(headers)))
            if self.acknowledge:
                future.set_result(len(self.topic) - 1)
            else:
                self.pending.append(future)
            queued.append((future, 1))
        return queued

    def fail(self) -> None:
        for future in self.pending:
            if not future.done():
                future.set_exception(RetryableError("no leader"))
                future.exception()  # as Kafka's client: nobody has to ask every future
        self.pending.clear()

    async def stop(self, timeout_seconds: float) -> None:  # noqa: ARG002 - as Kafka's client
        self.stopped = True
        self.fail()


def snapshot(book: Book, recv_ns: int) -> RawRecord:
    return RawRecord(book, "snapshot", b'{"n":%d}' % recv_ns, recv_ns, "10.0.0.1", recv_ns - 1, 100)


class Rig:
    def __init__(self, *scripts: Script, limit_bytes: int = 10**6) -> None:
        self.channel = Channel(limit_bytes)
        self.scripts = list(scripts)
        self.ready: list[bool] = []
        self.publisher = Publisher(
            self.channel,
            lambda: scripts[len(self.used())],
            kind="fobs",
            topic="raw-fobs",
            partitions=1,
            dead_letter_topic="dead-letters",
            dead_letter_partitions=1,
            stream="main",
            origin="host:1",
            ready=lambda _what, ok, _why: self.ready.append(ok),
        )

    def used(self) -> list[Script]:
        return [script for script in self.scripts if script.stopped]


async def run(rig: Rig, *records: RawRecord) -> None:
    for record in records:
        assert rig.channel.offer(record)
    rig.channel.close()
    async with asyncio.timeout(10):
        await rig.publisher.run()


async def test_records_go_out_in_order_verbatim_with_all_headers() -> None:
    topic: list = []
    rig = Rig(Script(topic))
    await run(rig, snapshot(BTC, 10), snapshot(ETH, 11), snapshot(BTC, 12))
    assert [value for _, value, _ in topic] == [b'{"n":10}', b'{"n":11}', b'{"n":12}']
    key, _, headers = topic[2]
    assert key == BTC.key
    assert headers == RawHeaders(
        stream="main",
        exchange="binance",
        market="future",
        symbol="BTCUSDT",
        type="snapshot",
        recv_ns=12,
        conn="host:1:1",
        seq=1,
        sent_ns=11,
        limit=100,
        ip="10.0.0.1",
    )
    assert rig.channel.held_bytes == 0


async def test_room_is_free_only_when_kafka_has_acknowledged() -> None:
    script = Script([], acknowledge=False)
    rig = Rig(script)
    rig.channel.offer(snapshot(BTC, 1))
    task = asyncio.create_task(rig.publisher.run())
    await eventually(lambda: script.pending)
    assert rig.channel.held_bytes > 0
    assert rig.publisher.unacknowledged_records == 1
    script.pending[0].set_result(0)
    await eventually(lambda: rig.channel.held_bytes == 0)
    rig.channel.close()
    await task


async def test_a_failed_producer_leaves_one_gap_per_symbol_first_in_a_new_conn_and_nothing_is_sent_twice() -> None:
    topic: list = []
    broken, fresh = Script(topic, acknowledge=False, fail_at=4), Script(topic)
    rig = Rig(broken, fresh)
    rig.channel.offer(snapshot(BTC, 1))
    task = asyncio.create_task(rig.publisher.run())
    await eventually(lambda: broken.pending)
    broken.pending.pop().set_result(0)  # acknowledged
    for record in (snapshot(BTC, 2), snapshot(ETH, 3), snapshot(BTC, 4)):
        rig.channel.offer(record)
    await eventually(lambda: broken.sends == 4)
    rig.channel.offer(snapshot(ETH, 5))
    rig.channel.close()
    await task
    sent = [(h.symbol, h.type, h.recv_ns, h.conn, h.seq) for _, _, h in topic]
    assert sent[:3] == [
        ("BTCUSDT", "snapshot", 1, "host:1:1", 0),
        ("BTCUSDT", "snapshot", 2, "host:1:1", 1),
        ("ETHUSDT", "snapshot", 3, "host:1:1", 0),
    ]
    after = sent[3:]
    assert [(symbol, type_, conn, seq) for symbol, type_, _, conn, seq in after] == [
        ("BTCUSDT", "gap", "host:1:2", 0),
        ("ETHUSDT", "gap", "host:1:2", 0),
        ("ETHUSDT", "snapshot", "host:1:2", 1),
    ]
    assert after[-1][2] == 5
    gaps = {h.symbol: Gap.decode(value) for _, value, h in topic if h.type == "gap"}
    assert gaps == {"BTCUSDT": Gap(cause="produce", since_ns=1), "ETHUSDT": Gap(cause="produce")}
    assert Counter(value for _, value, h in topic if h.type == "snapshot").most_common(1)[0][1] == 1
    assert rig.channel.held_bytes == 0
    assert rig.ready == [True, False, True]


async def test_a_producer_that_fails_while_nothing_is_queued_is_replaced_at_once() -> None:
    topic: list = []
    broken, fresh = Script(topic, acknowledge=False), Script(topic)
    rig = Rig(broken, fresh)
    rig.channel.offer(snapshot(BTC, 1))
    task = asyncio.create_task(rig.publisher.run())
    await eventually(lambda: broken.pending)
    broken.fail()
    await eventually(lambda: fresh.sends == 1)
    assert topic[-1][2].type == "gap"
    rig.channel.close()
    await task


async def test_a_gap_that_is_lost_with_the_next_producer_too_is_told_by_the_one_after() -> None:
    topic: list = []
    first, second, third = Script(topic, acknowledge=False), Script(topic, fail_at=1), Script(topic)
    rig = Rig(first, second, third)
    rig.channel.offer(snapshot(BTC, 1))
    task = asyncio.create_task(rig.publisher.run())
    await eventually(lambda: first.pending)
    first.fail()
    rig.channel.close()
    await task
    assert [(h.type, h.conn) for _, _, h in topic] == [("snapshot", "host:1:1"), ("gap", "host:1:3")]
    assert Gap.decode(topic[-1][1]).cause == "produce"


async def test_a_kafka_that_refuses_everything_is_asked_less_and_less_until_it_takes_something(monkeypatch) -> None:
    ceilings: list[float] = []
    monkeypatch.setattr("services.reader.publisher.random.uniform", lambda _least, most: ceilings.append(most) or 0.0)
    topic: list = []
    refused = [Script(topic, fail_at=1) for _ in range(8)]
    rig = Rig(*refused, Script(topic, fail_at=3), Script(topic))
    await run(rig, *(snapshot(BTC, number) for number in range(1, 5)))
    assert ceilings == sorted(ceilings)
    assert ceilings[1] > ceilings[0] > 0
    assert ceilings[-1] == ceilings[-2] == FRUITLESS_MAX_SECONDS
    assert len(ceilings) == len(refused) - 1, "one that fails after all went well is replaced at once"


async def test_what_was_acknowledged_in_the_same_moment_as_the_failure_is_no_loss() -> None:
    topic: list = []
    broken, fresh = Script(topic, acknowledge=False), Script(topic)
    rig = Rig(broken, fresh)
    rig.channel.offer(snapshot(BTC, 1))
    rig.channel.offer(snapshot(ETH, 2))
    task = asyncio.create_task(rig.publisher.run())
    await eventually(lambda: len(broken.pending) == 2)
    btc, eth = broken.pending
    eth.set_exception(RetryableError("no leader"))
    btc.set_result(0)
    await eventually(lambda: fresh.sends == 1)
    rig.channel.close()
    await task
    assert [h.symbol for _, _, h in topic if h.type == "gap"] == ["ETHUSDT"]


async def test_credentials_that_are_refused_end_the_publisher() -> None:
    script = Script([])
    script.failure = FatalError("refused")
    with pytest.raises(FatalError, match="refused"):
        await run(Rig(script), snapshot(BTC, 1))
