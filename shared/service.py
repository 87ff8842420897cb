"""Runs a service: settings, logs, signals, HTTP, one TaskGroup, an ordered drain, and an exit code that tells the truth.

    0 drained   1 fatal   2 the configuration is wrong   3 not drained within 30 s   130, 143 told twice to end

Knows no service: `main` is given a name and a coroutine. That coroutine returns by itself once `Lifecycle.stopping` is
set and all it holds is drained; to return before is a failure.
"""

from __future__ import annotations

import argparse
import asyncio
import faulthandler
import gc
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import uvloop

from shared import crash_points, http, metrics
from shared.errors import ConfigError, FatalError
from shared.log import configure, get_logger
from shared.settings import load

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping, Sequence

    from shared.settings import Settings

    Serve = Callable[[Settings, "Lifecycle"], Awaitable[None]]

DRAINED, FATAL, MISCONFIGURED, NOT_DRAINED = 0, 1, 2, 3
DRAIN_SECONDS = 30.0
BEAT_SECONDS = 5.0
GC_OBJECTS = 50_000  # new ones between two looks of the garbage collector
UNWIND_SECONDS = 5.0  # after the end is decided; then the process ends whatever still hangs

Result = TypeVar("Result")

_log = get_logger(__name__)


class Lifecycle:
    """What a service and its runner say to each other."""

    drain_seconds = DRAIN_SECONDS

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.stopping = asyncio.Event()
        self._clock = clock
        self._beat = clock()
        self._waiting: dict[str, str] = {"service": "starting"}
        self.told = False  # by a first signal
        self.beat()

    def beat(self) -> None:
        """The loop made progress: an iteration, or a wait for something that is known to be down."""
        self._beat = self._clock()
        metrics.PROGRESS.set_to_current_time()

    def ready(self, what: str, ok: bool, why: str = "") -> None:  # noqa: FBT001 - reads as a sentence
        """`what` (kafka, assignment, store) is ready, or is not and `why`."""
        self._waiting.pop("service", None)
        self._waiting.pop(what, None)
        if not ok:
            self._waiting[what] = why or "not ready"
        metrics.READY.set(0 if self.not_ready() else 1)

    def stop(self) -> None:
        """Asks the service to drain."""
        self.stopping.set()
        metrics.READY.set(0)

    async def unless_stopped(self, work: Coroutine[object, object, Result]) -> Result | None:
        """The work's result, however long it waits for others; None if the service was told to stop before its end."""
        working = asyncio.ensure_future(work)
        stopped = asyncio.ensure_future(self.stopping.wait())
        try:
            while not working.done() and not stopped.done():
                self.beat()
                await asyncio.wait({working, stopped}, timeout=BEAT_SECONDS, return_when=asyncio.FIRST_COMPLETED)
            return working.result() if working.done() else None
        finally:
            for task in (working, stopped):
                task.cancel()
            await asyncio.wait({working, stopped})

    def idle_seconds(self) -> float:
        """Since the last `beat`."""
        return self._clock() - self._beat

    def not_ready(self) -> Mapping[str, str]:
        """What is not ready, and why."""
        return self._waiting | ({"service": "stopping"} if self.stopping.is_set() else {})


def main(service: str, serve: Serve, argv: Sequence[str] | None = None) -> int:
    """Runs `serve` until it has drained after SIGTERM or SIGINT; gives the exit code.

    `argv` (default: the process's): ``--config PATH`` (or ``-config PATH``) and any number of ``--set KEY=VALUE``.
    """
    arguments = _arguments(service, argv)
    try:
        settings = load(arguments.config, overrides(arguments.set))
    except ConfigError as error:
        print(error, file=sys.stderr)  # noqa: T201 - there is no log before there are settings
        return MISCONFIGURED
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # until the loop listens: no traceback for Ctrl-C
    configure(settings.logging, service, environment=settings.cryptoflow.environment)
    crash_points.announce()
    metrics.STARTED.set_to_current_time()
    metrics.BUILD_INFO.labels(
        name=settings.cryptoflow.name,
        environment=settings.cryptoflow.environment,
        version=settings.cryptoflow.version,
        service=service,
        release=release(),
    ).set(1)
    _calm_the_collector()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        code = runner.run(_supervise(service, serve, settings))
        _leave_within(UNWIND_SECONDS, code)
    _log.info("service ended", exit_code=code)
    return code


def _calm_the_collector() -> None:
    """Records wait by thousands, none of them in a cycle, and what the imports made stays.

    To look through all that after every 700 new objects, as Python does by itself, was a quarter of the flattener's time
    under backlog and a third of the s3writer's.
    """
    gc.freeze()
    gc.set_threshold(GC_OBJECTS)


def release() -> str:
    """The installed version of this package."""
    from importlib.metadata import version  # noqa: PLC0415 - 20 ms that only a start needs

    return version("cryptoflow")


def overrides(pairs: Sequence[str]) -> dict[str, str | None]:
    """``KEY=VALUE`` texts as `load` takes them; the later wins, one without ``=`` has the value None."""
    return {key: value if equals else None for key, equals, value in (pair.partition("=") for pair in pairs)}


async def _supervise(service: str, serve: Serve, settings: Settings) -> int:
    lifecycle = Lifecycle()
    _listen_to_signals(lifecycle)
    _log.info("service starting", name=settings.cryptoflow.name, release=release(), stream=settings.kafka.stream)
    code = DRAINED
    try:
        async with http.serving(settings.metrics.host, settings.metrics.port, lifecycle), asyncio.TaskGroup() as group:
            serving = group.create_task(_serve(service, serve, settings, lifecycle), name=service)
            serving.add_done_callback(lambda _: lifecycle.stop())
            await lifecycle.stopping.wait()
            done, _ = await asyncio.wait({serving}, timeout=lifecycle.drain_seconds)
            if not done:
                code = NOT_DRAINED
                _log.error("drain limit exceeded", limit_seconds=lifecycle.drain_seconds)
                _leave_within(UNWIND_SECONDS, code)
                serving.cancel()
    except (FatalError, ExceptionGroup) as error:
        told = _told(error)
        return code or told
    if serving.cancelled() and code == DRAINED:
        _log.error("service failed", reason=f"{service} was cancelled from within")
        return FATAL
    return code


async def _serve(service: str, serve: Serve, settings: Settings, lifecycle: Lifecycle) -> None:
    await serve(settings, lifecycle)
    if not lifecycle.stopping.is_set():
        raise FatalError(f"{service} ended without being asked to")


def _listen_to_signals(lifecycle: Lifecycle) -> None:
    """The first SIGTERM or SIGINT drains, the second ends at once, even while the loop is busy."""
    loop = asyncio.get_running_loop()

    def told(number: int, _: object) -> None:
        if lifecycle.told:
            os._exit(128 + number)
        lifecycle.told = True
        loop.call_soon_threadsafe(_log.info, "service stopping")
        loop.call_soon_threadsafe(lifecycle.stop)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, told)
    faulthandler.register(signal.SIGUSR1)


def _told(error: FatalError | ExceptionGroup[Exception]) -> int:
    """Logs what ended the service, one line per foreseen error, the whole traceback of any other; gives the exit code."""
    leaves = list(_leaves(error))
    for leaf in leaves:
        if isinstance(leaf, ConfigError):
            print(leaf, file=sys.stderr)  # noqa: T201 - as it is printed before there are logs
        elif isinstance(leaf, FatalError):
            _log.error("service failed", reason=str(leaf), kind=type(leaf).__name__)
        else:
            _log.error("service failed", reason=repr(leaf), exc_info=leaf)
    return MISCONFIGURED if all(isinstance(leaf, ConfigError) for leaf in leaves) else FATAL


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from _leaves(inner)
    else:
        yield error


def _leave_within(seconds: float, code: int) -> None:
    """Ends the process with `code` after `seconds`, whatever still hangs: a thread in a system call outlives its task."""
    timer = threading.Timer(seconds, os._exit, [code])
    timer.daemon = True
    timer.start()


def _arguments(service: str, argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog=f"python -m services.{service}", allow_abbrev=False)
    parser.add_argument("--config", "-config", type=Path, metavar="PATH", help="YAML file (config/config.yml if there)")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="one setting; repeatable")
    return parser.parse_args(argv)
