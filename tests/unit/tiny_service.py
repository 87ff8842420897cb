"""A service of a few lines, run as a real process by test_service.py: ``python -m tests.unit.tiny_service BEHAVIOUR …``."""

import asyncio
import logging
import sys
import threading
import time
import warnings
from pathlib import Path

from shared.errors import ConfigError, FatalError, RetryableError
from shared.log import get_logger
from shared.service import main

log = get_logger("services.tiny")


async def drains(settings, lifecycle):
    lifecycle.ready("kafka", ok=True)
    await lifecycle.stopping.wait()
    log.info("drained")


async def never_ready(settings, lifecycle):
    lifecycle.ready("kafka", ok=True)
    lifecycle.ready("assignment", ok=False, why="no partition yet")
    await lifecycle.stopping.wait()


async def never_beats(settings, lifecycle):
    lifecycle.idle_seconds = lambda: 61.0
    await lifecycle.stopping.wait()


async def hangs(settings, lifecycle):
    lifecycle.drain_seconds = 0.2
    log.info("hanging")
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        log.info("cancelled")
        raise


async def hangs_in_a_thread(settings, lifecycle):
    lifecycle.drain_seconds = 0.2
    log.info("hanging")
    await asyncio.to_thread(threading.Event().wait)


async def refuses_to_be_cancelled(settings, lifecycle):
    lifecycle.drain_seconds = 0.2
    log.info("hanging")
    while True:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            log.info("cancelled")


async def drains_for_ever(settings, lifecycle):
    log.info("hanging")
    await asyncio.Event().wait()


async def blocks_the_loop(settings, lifecycle):
    log.info("hanging")
    while True:
        time.sleep(0.01)  # noqa: ASYNC251 - that is the point


async def fatal(settings, lifecycle):
    raise FatalError("topic raw-fobs has 3 partitions, config says 6")


async def fatal_in_a_group(settings, lifecycle):
    async def waits():
        try:
            await asyncio.Event().wait()
        finally:
            log.info("sibling cancelled")

    async with asyncio.TaskGroup() as group:
        group.create_task(waits())
        await asyncio.sleep(0)
        group.create_task(fatal(settings, lifecycle))


async def misconfigured(settings, lifecycle):
    raise ConfigError(["shards.yml: one", "shards.yml: two"])


async def fails(settings, lifecycle):
    raise RetryableError("nobody caught this")


async def fails_while_draining(settings, lifecycle):
    log.info("hanging")
    await lifecycle.stopping.wait()
    raise FatalError("the last flush was refused")


async def returns_at_once(settings, lifecycle):
    lifecycle.ready("kafka", ok=True)


async def cancels_itself(settings, lifecycle):
    raise asyncio.CancelledError


async def fails_when_cancelled(settings, lifecycle):
    lifecycle.drain_seconds = 0.2
    log.info("hanging")
    try:
        await asyncio.Event().wait()
    finally:
        raise FatalError("the claim was refused")


async def logs(settings, lifecycle):
    logging.getLogger("asyncio").warning("broker %s is away", 1)
    logging.getLogger("asyncio").info("chatter")
    warnings.warn("old thing", DeprecationWarning, stacklevel=1)
    log.info("secrets", sasl_password="hunter2", plain="text", path=Path("x"))
    log.debug("detail")
    try:
        await fails(settings, lifecycle)
    except RetryableError:
        log.exception("trouble")
    await lifecycle.stopping.wait()


if __name__ == "__main__":
    sys.exit(main("tiny", globals()[sys.argv[1]], sys.argv[2:]))
