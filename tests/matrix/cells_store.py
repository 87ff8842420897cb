"""The store fails: before applying, after applying, with every refusal, slowly, halfway, for good and by chance."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, get_args

from tests.matrix.cells import Cell
from tests.matrix.world import NOISE, SETTLE_SECONDS
from tests.support import eventually

if TYPE_CHECKING:
    from tests.matrix.world import World
    from tests.store_proxy.rules import Kind, Verb

CLAIMS = "_claims/v1/"
FILES = "/fob"  # of data, whatever their kind
HITS = 3
Loss = Literal["killed", "frozen", "joined"]  # SIGKILL, SIGSTOP beyond the session, a rebalance
FAULTS: dict[Verb, tuple[Kind, ...]] = {
    "create": (
        "refuse_before", "lose_answer", "conflict", "exists", "throttle", "slow_down", "reset_body", "slow",
    ),
    "get": ("refuse_before", "lose_answer", "throttle", "slow_down", "reset_body", "truncate", "slow"),
    "tail": ("refuse_before", "lose_answer", "throttle", "slow_down", "reset_body", "truncate", "slow"),
    "list": ("refuse_before", "lose_answer", "throttle", "slow_down", "reset_body", "truncate", "slow"),
}  # fmt: skip


async def failing(world: World, verb: Verb, kind: Kind) -> None:
    """One verb fails in one way, at a rate, while writers flush and are replaced."""
    await world.begin()
    await world.start_all()
    await world.flushed()
    path = world.rng.choice((CLAIMS, FILES, world.prefix)) if verb == "create" else world.prefix
    chance = world.rng.uniform(0.2, 0.5)
    rule = world.proxy.rule(kind, verb=verb, path=path, probability=chance, **options_of(world, kind))
    if verb == "create":
        await met(world, rule, HITS)
    while await asyncio.to_thread(world.proxy.hits, rule) < HITS:
        await world.replace("s3writer")  # who comes reads where the lake ends
    await world.load(world.rng.randint(5, 20))


def options_of(world: World, kind: Kind) -> dict[str, Any]:
    """What a fault leaves open."""
    if kind == "truncate":
        return {"clean": world.rng.random() < 0.5}
    if kind == "slow":
        return {"bytes_per_second": world.rng.randint(5_000, 30_000)}
    if kind in {"throttle", "slow_down"}:
        return {"retry_after": world.rng.choice((None, 1))}
    return {}


async def lost(world: World, path: str) -> None:
    """The answers of all creations there are lost, and the writer dies with what it does not know."""
    await world.begin()
    await world.start_all()
    await world.flushed()
    rule = world.proxy.rule("lose_answer", verb="create", path=path, count=world.rng.randint(1, 8))
    await met(world, rule, 1)
    if world.rng.random() < 0.7:
        await world.replace("s3writer")
    await world.load(world.rng.randint(5, 20))


async def late(world: World, path: str, loss: Loss) -> None:
    """Creations are held, their writer loses its partitions, and they land when another has them, or nearly."""
    await world.begin()
    writer = (await world.start_all())["s3writer"]
    await world.flushed()
    rule = world.proxy.rule("stall", verb="create", path=path, seconds=SETTLE_SECONDS)
    await met(world, rule, world.rng.randint(1, 3))
    if loss == "killed":
        writer.kill()
    elif loss == "frozen":
        writer.pause()
    world.proxy.close(rule)
    successor = await world.start("s3writer", ready=False)
    if world.rng.random() < 0.5:  # else they land while it looks where the lake ends
        await asyncio.to_thread(successor.wait_ready)
    await asyncio.sleep(world.rng.uniform(0, 1.5))
    world.proxy.lift(rule)
    await asyncio.to_thread(successor.wait_ready)
    if loss == "frozen":
        writer.resume()
    await world.load(world.rng.randint(5, 20))


async def given_up(world: World) -> None:
    """A creation is held until its caller gives it up and asks again; then the first lands."""
    await world.begin()
    writer = (await world.start_all())["s3writer"]
    path = world.rng.choice((CLAIMS, FILES))
    rule = world.proxy.rule("stall", verb="create", path=path, count=1)
    await asyncio.to_thread(writer.wait_logged, "store unavailable", SETTLE_SECONDS)
    await asyncio.to_thread(writer.wait_logged, "store recovered", SETTLE_SECONDS)
    world.proxy.lift(rule)
    await world.load(10)


async def held_answer(world: World) -> None:
    """It is applied, the answer does not come, the writer is asked to leave: it drains when the store goes on."""
    await world.begin()
    writer = (await world.start_all())["s3writer"]
    await world.flushed()
    rule = world.proxy.rule("stall", verb="create", path=world.rng.choice((CLAIMS, FILES)), where="after")
    await met(world, rule, 1)
    writer.popen.terminate()
    await world.start("s3writer", ready=False)
    await asyncio.sleep(world.rng.uniform(0, 2))
    world.proxy.lift(rule)
    assert await asyncio.to_thread(writer.wait) == 0, f"{writer.name} did not drain\n{writer.tail()}"
    await world.load(10)


async def noise(world: World) -> None:
    """A fifth of all calls fails in one way or another, from the first claim to the last."""
    await world.begin()
    world.noise(0.2)
    await world.start_all()
    await world.flushed(4)
    await world.replace("s3writer")
    await world.load(world.rng.randint(10, 40))
    await world.flushed(2)


async def outage(world: World) -> None:
    """Nothing is answered well for some seconds, now and then; sometimes a writer starts or leaves meanwhile."""
    await world.begin()
    await world.start_all()
    for _ in range(world.rng.randint(1, 3)):
        rule = world.proxy.rule(world.rng.choice(("refuse_before", "lose_answer", "slow_down")))
        await met(world, rule, 1)
        if world.rng.random() < 0.3:
            await world.replace("s3writer", ready=False)
        await asyncio.sleep(world.rng.uniform(0.5, 3))
        world.proxy.lift(rule)
        await world.flushed()


async def at_start(world: World) -> None:
    """Everything starts while the store fails, its probe and the reader's instrument lists included."""
    await world.begin()
    rule = world.proxy.rule(world.rng.choice(("refuse_before", "lose_answer", "slow_down", "reset_body")))
    async with asyncio.TaskGroup() as group:
        group.create_task(world.start_all())
        await met(world, rule, HITS)
        world.proxy.lift(rule)
        fault, verb = world.rng.choice(NOISE)
        rule = world.proxy.rule(fault, verb=verb, probability=0.2)
    world.proxy.lift(rule)
    await world.load(10)


async def server_killed(world: World) -> None:
    """The store itself gets SIGKILL, and starts again on the same disk."""
    await world.begin()
    await world.start_all()
    await world.flushed()
    await asyncio.sleep(world.rng.uniform(0, 1))
    await asyncio.to_thread(world.s3.kill)
    if world.rng.random() < 0.3:
        await world.replace("s3writer", ready=False)
    await asyncio.to_thread(world.s3.start)
    await world.load(10)


async def server_paused(world: World) -> None:
    """The store hangs: connections stay, nothing is answered."""
    await world.begin()
    await world.start_all()
    await world.flushed()
    await asyncio.sleep(world.rng.uniform(0, 1))
    await asyncio.to_thread(world.s3.pause)
    if world.rng.random() < 0.5:
        await world.replace("s3writer", ready=False)
    await asyncio.sleep(world.rng.uniform(1, 5))
    await asyncio.to_thread(world.s3.resume)
    await world.load(10)


async def slow(world: World) -> None:
    """A store so slow that two writers are always in the middle of something, and one of them dies."""
    await world.begin()
    await world.start_all()
    await world.start("s3writer")
    world.proxy.rule("slow", path=world.prefix, bytes_per_second=world.rng.randint(5_000, 20_000))
    await world.flushed(2)
    await world.replace("s3writer")
    await world.load(world.rng.randint(10, 20))


async def met(world: World, rule: int, hits: int) -> None:
    """Until so many requests have met this fault."""

    def there() -> bool:
        return world.proxy.hits(rule) >= hits

    await eventually(lambda: asyncio.to_thread(there), SETTLE_SECONDS, "the store is asked")


CELLS = [
    *(Cell(f"store {verb} {kind}", partial(failing, verb=verb, kind=kind)) for verb in FAULTS for kind in FAULTS[verb]),
    *(
        Cell(f"store answers lost of {of}", partial(lost, path=path))
        for of, path in (("claims", CLAIMS), ("files", FILES))
    ),
    *(
        Cell(f"store {of} land late, writer {loss}", partial(late, path=path, loss=loss))
        for of, path in (("claims", CLAIMS), ("files", FILES))
        for loss in get_args(Loss)
    ),
    Cell("store stall given up", given_up),
    Cell("store answer held at SIGTERM", held_answer),
    Cell("store noise", noise),
    Cell("store outage", outage),
    Cell("store fails at the start", at_start),
    Cell("store killed", server_killed),
    Cell("store paused", server_paused),
    Cell("store slow, two writers", slow),
]
