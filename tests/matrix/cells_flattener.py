"""What flatteners leave on the norm topic when they overlap, are upgraded, or meet what cannot be read."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING

from services.flattener.cut import Cut
from services.flattener.message import read
from services.flattener.normalise import Normaliser
from shared.kafka import Producer, TopicPartition
from shared.messages import NormHeaders, SourceRange
from tests.matrix import operator
from tests.matrix.cells import LOSSY, Cell
from tests.matrix.cells_crash import frozen
from tests.matrix.cells_topics import refused
from tests.matrix.world import KINDS
from tests.support import eventually

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from services.flattener.message import Message
    from shared.kafka import Record
    from shared.messages import Header, Kind
    from tests.matrix.world import World
    from tests.processes import Service

Sending = tuple[TopicPartition, bytes, "bytes | None", "list[Header]"]

REACH_SECONDS = 60.0
FROZEN_AT = ("before_produce", "after_produce", "after_ack", "before_commit")
CEILING_RECORDS = 1100  # more than the latest 1000 that the ceiling looks at
NEWER = ("v", b"99")


async def zombie(world: World) -> None:
    """A flattener freezes beyond its session, another cuts the same raw records otherwise; then the first goes on."""
    await world.begin()
    sizes = world.rng.sample((1, 50, 130, 700, 8192), 3)
    place = f"flattener.{world.rng.choice(FROZEN_AT)}:{world.rng.randint(2, 12)}:stop"
    await asyncio.gather(world.start("reader"), world.start("s3writer"))
    victim = await _flattener(world, sizes[0], crash=place)
    await eventually(lambda: frozen(victim), REACH_SECONDS, f"{victim.name} freezes")
    await _flattener(world, sizes[1])
    await world.load(world.rng.randint(5, 20))
    victim.resume()
    await world.load(10)
    await _flattener(world, sizes[2])
    await world.load(10)


async def copies(world: World) -> None:
    """Ranges land again that were taken long ago, cut otherwise; and some of another, before the flattener sends its own."""
    await world.begin()
    await world.start_all()
    await world.load(20)
    [flattener] = world.alive("flattener")
    for _ in range(3):
        flattener.pause()
        await world.load(world.rng.randint(1, 10))
        for kind in KINDS:
            await _send(world, _recut(world, kind, await _sent(world, kind)))
            await _send(world, _recut(world, kind, await _unsent(world, kind)))
        flattener.resume()
        await world.load(world.rng.randint(1, 5))


async def upgrade_of_norm_records(world: World) -> None:
    """A copy in words of tomorrow stands between copies of today: nothing behind it is taken before it is gone."""
    await world.begin()
    await world.start_all()
    await world.load(15)
    kind = world.rng.choice(KINDS)
    norm_copies = list(_recut(world, kind, await _sent(world, kind)))
    middle = world.rng.randrange(len(norm_copies) + 1)
    tp = TopicPartition(norm_copies[0][0].topic, norm_copies[0][0].partition)
    newer: Sending = (tp, b"what only tomorrow can read", None, [NEWER])
    offsets = await _send(world, [*norm_copies[:middle], newer, *norm_copies[middle:]])
    [writer] = world.alive("s3writer")
    stopped = await asyncio.to_thread(writer.wait_logged, "partition stopped")
    assert f"{tp.topic}/{tp.partition}@{offsets[middle]}" in stopped["reason"], stopped
    await world.load(10)
    await _stands(world, writer, "s3writer", tp, offsets[middle])
    await operator.delete_records(world, {tp: offsets[middle] + 1})
    await world.end([writer])
    await world.start("s3writer")
    await world.load(5)


async def upgrade_of_raw_records(world: World) -> None:
    """A raw record in words of tomorrow: its partition stands uncommitted, until the record is given up, and declared."""
    await world.begin()
    await world.start_all()
    await world.load(10)
    kind = world.rng.choice(KINDS)
    tp, like = await _busy(world, kind)
    headers = [NEWER if name == "v" else (name, value) for name, value in like.headers]
    [offset] = await _send(world, [(tp, like.value, like.key, headers)])
    world.poisoned.add((kind, tp.partition, offset))
    [flattener] = world.alive("flattener")
    stopped = await asyncio.to_thread(flattener.wait_logged, "unknown version")
    assert f"{tp.topic}/{tp.partition} stands at offset {offset}" in stopped["reason"], stopped
    await world.load(10)
    await _stands(world, flattener, "flattener", tp, offset)
    await world.keep()
    await operator.delete_records(world, {tp: offset + 1})
    await world.end([flattener])
    await world.start("flattener")
    await world.load(5)


async def poison(world: World) -> None:
    """Bytes that are nothing, under good headers and under bad ones, in the middle of everything, again and again."""
    await world.begin()
    await world.start_all()
    await world.load(10)
    for _ in range(3):
        for kind in KINDS:
            tp, like = await _busy(world, kind)
            await _poison(world, kind, [_spoiled(world, tp, like) for _ in range(world.rng.randint(1, 4))])
        await world.load(world.rng.randint(1, 5))


async def ceiling(world: World, kind: Kind) -> None:
    """More poison than may be given up: the service ends and says so, and goes on when it may give up more."""
    await world.begin()
    await world.start_all()
    await world.load(5)
    tp, like = await _busy(world, kind)
    await _poison(world, kind, [(tp, b"nonsense", like.key, list(like.headers))] * CEILING_RECORDS)
    [flattener] = world.alive("flattener")
    for each in (flattener, await world.start("flattener", ready=False)):
        await refused(each, "processor.dead_letter_ceiling", "bad_json")
    await world.start("flattener", CRYPTOFLOW_PROCESSOR__DEAD_LETTER_CEILING="1")
    await world.load(5)


async def _flattener(world: World, rows: int, **crash: str) -> Service:
    size = {"CRYPTOFLOW_PROCESSOR__BATCH_SIZE": str(rows)}
    return await world.start("flattener", ready=not crash, crash=crash.get("crash", ""), **size)


async def _busy(world: World, kind: Kind) -> tuple[TopicPartition, Record]:
    """A partition that has records, and a record of levels from it."""
    records = [
        r for r in await world.line.raw_records(kind) if dict(r.headers)["type"] != b"gap" and r.value[:1] == b"{"
    ]
    record = world.rng.choice(records)
    return TopicPartition(record.topic, record.partition), record


async def _sent(world: World, kind: Kind) -> list[Message]:
    """Neighbours among raw records that are on the norm topic, as the flattener reads them."""
    place, mine = await _partition(world, kind)
    known = [record for record in mine if record.offset < place]
    first = world.rng.randrange(len(known))
    return [read(kind, record) for record in known[first : first + world.rng.randint(1, 30)]]


async def _unsent(world: World, kind: Kind) -> list[Message]:
    """From somewhat before what a flattener has committed, to the end."""
    place, mine = await _partition(world, kind)
    first = place - world.rng.randint(0, 10)
    return [read(kind, record) for record in mine if record.offset >= first]


async def _partition(world: World, kind: Kind) -> tuple[int, list[Record]]:
    """One that has records: where its flattener goes on, and all of them."""
    committed = await operator.committed(world, "flattener")
    raw = [record for record in await world.line.raw_records(kind) if committed.get(_of(record))]
    tp = _of(world.rng.choice(raw))
    return committed[tp], [record for record in raw if _of(record) == tp]


def _recut(world: World, kind: Kind, messages: Sequence[Message]) -> Iterable[Sending]:
    """Their norm records, cut at random."""
    normaliser = Normaliser(kind)
    at = 0
    while at < len(messages):
        some = tuple(messages[at : at + world.rng.randint(1, 8)])
        at += len(some)
        tp = _of(some[0].record)
        cut = Cut(some[0].record.offset, some[-1].record.offset, some)
        for piece in normaliser.pieces(cut):
            src = SourceRange(tp.topic, tp.partition, piece.cut.first, piece.cut.last)
            headers = NormHeaders(stream=world.stream, src=src, dead=len(piece.flattened.poison)).encode()
            yield TopicPartition(world.partitions("norm", kind)[0].topic, tp.partition), piece.value, None, headers


def _spoiled(world: World, tp: TopicPartition, like: Record) -> Sending:
    value = world.rng.choice((b"", b"nonsense", like.value[: len(like.value) // 2], b"\xff" * 40, b"[]"))
    headers = list(like.headers)
    if world.rng.random() < 0.2:
        headers = [(name, b"no number" if name == "recv_ns" else text) for name, text in headers]
    return tp, value, like.key, headers


async def _poison(world: World, kind: Kind, sendings: Sequence[Sending]) -> None:
    offsets = await _send(world, sendings)
    world.poisoned.update((kind, tp.partition, offset) for (tp, *_), offset in zip(sendings, offsets, strict=True))


async def _send(world: World, sendings: Iterable[Sending]) -> list[int]:
    """Straight to Kafka; gives the offsets."""
    producer = Producer(world.line.settings.kafka, client_id="planter", compression="none")
    await producer.start()
    try:
        sent = [
            await producer.send(tp.topic, value, key=key, partition=tp.partition, headers=headers)
            for tp, value, key, headers in sendings
        ]
        return [await future for future in sent]
    finally:
        await producer.stop(10)


async def _stands(world: World, service: Service, name: operator.Grouped, tp: TopicPartition, offset: int) -> None:
    """It says that it is not ready, and nothing is committed beyond what it does not know."""
    assert not await asyncio.to_thread(service.ready), f"{service.name} is ready"
    assert (await operator.committed(world, name)).get(tp, 0) <= offset


def _of(record: Record) -> TopicPartition:
    return TopicPartition(record.topic, record.partition)


CELLS = [
    Cell("flattener zombie with other cuts", zombie),
    Cell("flattener copies land late", copies),
    Cell("flattener upgrade between norm copies", upgrade_of_norm_records),
    Cell("flattener upgrade in raw records", upgrade_of_raw_records, LOSSY),
    Cell("flattener poison", poison),
    *(Cell(f"flattener dead-letter ceiling of {kind}", partial(ceiling, kind=kind)) for kind in KINDS),
]
