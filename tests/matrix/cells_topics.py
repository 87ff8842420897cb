"""Topics that are another's, of another size, or made anew: services refuse, in words, until a new stream is said."""

from __future__ import annotations

import asyncio
import tempfile
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from shared import topics
from tests.embedded import embedded_kafka
from tests.line import SERVICES
from tests.matrix import operator
from tests.matrix.cells import COMPLETE, Cell
from tests.matrix.judge import judged
from tests.matrix.world import KINDS, PARTITIONS
from tests.support import eventually

if TYPE_CHECKING:
    from shared.lake.store import Entry
    from tests.line import Line
    from tests.matrix.operator import Side
    from tests.matrix.world import World
    from tests.processes import Service

REFUSE_SECONDS = 60.0
RECREATED = ("re-created", "stream")
SIDES: dict[str, tuple[Side, ...]] = {
    "raw topics": ("raw",),
    "norm topics": ("norm",),
    "all topics": ("raw", "norm"),
}


async def made_anew(world: World, sides: tuple[Side, ...]) -> None:
    """While the line is at rest: topics are deleted and created again, grow or not, and all is started as it was."""
    await _at_rest(world)
    before = await asyncio.to_thread(_stored, world)
    old = {side: await operator.bounds(world, operator.partitions_of(world, side)) for side in sides}
    await operator.make_anew(world, _names(world, sides))
    grow = [side for side in sides if world.rng.random() < 0.5]
    await world.start("reader")
    if "raw" in grow:
        await _grown(world, old["raw"])
    running = [await world.start("flattener", ready=False)]
    if "norm" in grow:
        await _grown(world, old["norm"])
    running.append(await world.start("s3writer", ready=False))
    await _one_refuses(running)
    await _nothing_written(world, before)
    await _new_stream(world)


async def made_anew_under_services(world: World, sides: tuple[Side, ...]) -> None:
    """The same, while flattener and s3writer run and wait for more; then they are started again."""
    await _at_rest(world)
    running = await asyncio.gather(*(world.start(service) for service in SERVICES[1:]))
    before = await asyncio.to_thread(_stored, world)
    await operator.make_anew(world, _names(world, sides))
    await world.start("reader")
    await world.load(world.rng.randint(1, 15))
    for service in running:  # a member that saw a topic go looks for it again every five minutes
        if service.alive:
            service.kill()
        else:
            await refused(service, *RECREATED)
    await _one_refuses([await world.start(service, ready=False) for service in SERVICES[1:]])
    await _nothing_written(world, before)
    await _new_stream(world)


async def two_environments(world: World) -> None:
    """A line of another Kafka, or of other topics, is pointed at the lake of this one: it ends, this one goes on."""
    await world.begin()
    await world.start_all()
    await world.load(10)
    await world.flushed()
    if world.rng.random() < 0.5:
        with tempfile.TemporaryDirectory() as folder, embedded_kafka(Path(folder)) as other:
            # The embedded broker takes no session shorter than this.
            kafka = {"bootstrap_servers": other.bootstrap_servers, "session_timeout_ms": 6000}
            await _refused_environment(world.configured(kafka=kafka))
    else:
        names = {
            f"{side}_{kind}": {"topic": f"{side}-{kind}-{world.stream}-b"} for side in ("raw", "norm") for kind in KINDS
        }
        await _refused_environment(world.configured(cryptoflow={"name": "another"}, channels=names))
    await world.load(10)


async def partition_count_of_settings(world: World) -> None:
    """Settings say another number of partitions than the topics have: nothing starts with them."""
    await world.begin()
    await world.start_all()
    await world.load(5)
    counts = {f"{side}_{kind}": {"partitions": PARTITIONS + 1} for side in ("raw", "norm") for kind in KINDS}
    wrong = world.configured(channels=counts)
    for service in SERVICES:
        await refused(
            await asyncio.to_thread(wrong.start, service, ready=False), "the count is fixed", "new kafka.stream"
        )
    await world.load(5)


async def partition_count_of_a_topic(world: World) -> None:
    """A topic gets one partition more: nothing starts on it again, and a new stream goes on."""
    await _at_rest(world)
    side = world.rng.choice(("raw", "norm"))
    await operator.add_partition(world, world.rng.choice(_names(world, (side,))), PARTITIONS + 1)
    for service in SERVICES:
        await refused(await world.start(service, ready=False), "the count is fixed", "new kafka.stream")
    await _new_stream(world)


async def refused(service: Service, *words: str) -> None:
    """It ends with exit code 1 and says why."""
    code = await asyncio.to_thread(service.wait, REFUSE_SECONDS)
    reasons = "; ".join(line["reason"] for line in service.logged("service failed"))
    assert code == 1, f"{service.name} ended with {code}: {reasons}"
    assert all(word in reasons for word in words), f"{service.name}: {reasons}"


async def _at_rest(world: World) -> None:
    """Everything that is there lies in the lake, judged, and nothing runs."""
    await world.begin()
    await world.start_all()
    await world.load(world.rng.randint(5, 15))
    await world.settle()
    await judged(world, COMPLETE)


async def _grown(world: World, old: operator.Bounds) -> None:
    """Until the partitions reach beyond where they ended before."""
    _, old_ends = old

    async def beyond() -> bool:
        _, ends = await operator.bounds(world, list(old_ends))
        return all(ends[tp] > end for tp, end in old_ends.items() if end)

    await eventually(beyond, REFUSE_SECONDS, f"topics made anew grow beyond {old_ends}")


async def _one_refuses(running: list[Service]) -> None:
    await eventually(lambda: not all(service.alive for service in running), REFUSE_SECONDS, "one of them refuses")
    for service in running:
        if not service.alive:
            await refused(service, *RECREATED)


async def _refused_environment(line: Line) -> None:
    await topics.create(line.settings)
    await refused(
        await asyncio.to_thread(line.start, "s3writer", ready=False), "two environments share a prefix", "stream"
    )


async def _nothing_written(world: World, before: list[Entry]) -> None:
    """The services end, and the lake is what it was."""
    for process in world.processes.all:
        if process is not world.exchange and process.alive:
            process.kill()
    now = await asyncio.to_thread(_stored, world)
    new = sorted({entry.path for entry in now} - {entry.path for entry in before})
    assert now == before, f"written to a line whose topics were made anew: {new}"


async def _new_stream(world: World) -> None:
    await world.renew()
    await world.start_all()
    await world.load(10)


def _names(world: World, sides: tuple[Side, ...]) -> list[str]:
    return [world.partitions(side, kind)[0].topic for side in sides for kind in KINDS]


def _stored(world: World) -> list[Entry]:
    """All that lies in the lake of both kinds, and its claims."""
    store = world.direct.store
    return [entry for prefix in (*(f"{kind}/" for kind in KINDS), "_claims/") for entry in store.walk(prefix)]


CELLS = [
    *(Cell(f"kafka {words} made anew", partial(made_anew, sides=sides)) for words, sides in SIDES.items()),
    *(
        Cell(f"kafka {words} made anew under services", partial(made_anew_under_services, sides=sides))
        for words, sides in SIDES.items()
    ),
    Cell("kafka two environments on one prefix", two_environments),
    Cell("kafka partition count of settings", partition_count_of_settings),
    Cell("kafka partition count of a topic", partition_count_of_a_topic),
]
