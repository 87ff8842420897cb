"""At each crash point of each service: SIGKILL, a stop beyond the session, and, where a task can be held, a rebalance."""

from __future__ import annotations

import asyncio
import signal
from functools import partial
from typing import TYPE_CHECKING

import psutil

from shared.crash_points import HOLDABLE, POINTS
from shared.kafka import MAX_RECORD_BYTES
from tests.matrix.cells import Cell
from tests.support import eventually

if TYPE_CHECKING:
    from shared.crash_points import Action
    from tests.matrix.world import World
    from tests.processes import Service

REACH_SECONDS = 60.0
SMALL_BYTES = 300
NOISY = 0.2  # of the runs have a store that is not well either
FREEZE_SECONDS = 5.0  # of a reader, which nobody replaces; others wait for their session to end
REPEATED = (
    "produce",
    "ack",
    "origin",
    "claim",
    "object",
    "commit",
)  # places that a healthy service passes again and again


async def crash(world: World, point: str, action: Action) -> None:
    """Let the service get there, and let the fault happen."""
    await world.begin()
    if world.rng.random() < NOISY:
        world.noise(0.05)
    name = point.split(".", maxsplit=1)[0]
    times = world.rng.randint(1, 4) if point.endswith(REPEATED) else 1
    await _prelude(world, point)
    running = await world.start_all(**{name: f"{point}:{times}:{action}"})
    victim = running[name]
    await _provoke(world, point, victim)
    if action == "kill":
        code = await asyncio.to_thread(victim.wait, REACH_SECONDS)
        assert code == -signal.SIGKILL, f"{victim.name} ended with {code} before it got to {point}\n{victim.tail()}"
        await world.start(name)
    elif action == "hold":
        await asyncio.to_thread(victim.wait_logged, "crash point reached", REACH_SECONDS)
        await world.start(name)
    else:
        await eventually(lambda: frozen(victim), REACH_SECONDS, f"{victim.name} freezes at {point}")
        if name == "reader":
            await asyncio.sleep(FREEZE_SECONDS)
        else:
            await world.start(name)
        victim.resume()
        if point == "reader.in_shutdown":  # it was told to end, and goes on with that
            assert await asyncio.to_thread(victim.wait, REACH_SECONDS) == 0, victim.tail()
            await world.start(name)
    await world.load(world.rng.randint(5, 30))


def frozen(service: Service) -> bool:
    """Whether SIGSTOP got it. Raises `AssertionError` if it ended."""
    assert service.alive, f"{service.name} ended with {service.popen.returncode}\n{service.tail()}"
    return bool(psutil.Process(service.pid).status() == psutil.STATUS_STOPPED)


async def _prelude(world: World, point: str) -> None:
    """What has to lie there before the victim starts."""
    if point == "s3writer.in_rebuild":  # a claim without its files
        running = await world.start_all(s3writer="s3writer.after_claim:1:kill")
        await asyncio.to_thread(running["s3writer"].wait, REACH_SECONDS)
        await world.end([running["reader"], running["flattener"]])


async def _provoke(world: World, point: str, victim: Service) -> None:
    """Bring a victim to a place that it does not pass by itself."""
    if point.endswith("in_revoke"):
        await asyncio.to_thread(victim.wait_ready)
        await world.start(victim.name.split("-")[0], ready=False)
    elif point.endswith("in_shutdown"):
        await asyncio.to_thread(victim.wait_ready)
        await world.load(10)
        victim.popen.terminate()
    elif point == "reader.in_recovery":  # its producer has to fail: Kafka refuses books, and takes gaps
        await asyncio.to_thread(victim.wait_ready)
        await world.load(5)
        topic = world.line.raw_topic("fobs")
        await world.limit_messages(topic, SMALL_BYTES)
        await asyncio.to_thread(victim.wait_logged, "crash point reached", REACH_SECONDS)
        await world.limit_messages(topic, MAX_RECORD_BYTES)


CELLS = [
    Cell(f"crash {point} {action}", partial(crash, point=point, action=action))
    for action in ("kill", "stop", "hold")
    for point in POINTS
    if action != "hold" or point in HOLDABLE
]
