"""The HTTP endpoint of a service: /metrics, /healthz, /readyz. It only tells; nothing can be changed through it."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Protocol

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from shared.errors import FatalError
from shared.log import get_logger

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

STALLED_AFTER_SECONDS = 60.0

_log = get_logger(__name__)


class Probe(Protocol):
    """What a service says of itself."""

    def idle_seconds(self) -> float:
        """Since the loop last made progress."""

    def not_ready(self) -> Mapping[str, str]:
        """What is not ready, and why; empty = ready."""


@asynccontextmanager
async def serving(host: str, port: int, probe: Probe) -> AsyncIterator[int]:
    """Listens while the block runs; gives the port, which is a free one where `port` is 0.

    Raises `FatalError` if the address cannot be listened on.
    """
    runner = web.AppRunner(app(probe), access_log=None)
    await runner.setup()
    try:
        try:
            await web.TCPSite(runner, host, port).start()
        except OSError as error:
            raise FatalError(f"cannot listen on metrics.host {host} metrics.port {port}: {error.strerror}") from error
        bound: int = runner.addresses[0][1]
        _log.info("http listening", host=host, port=bound)
        yield bound
    finally:
        await runner.cleanup()


def app(probe: Probe) -> web.Application:
    """The three routes over `probe`."""

    async def metrics(_: web.Request) -> web.Response:
        return web.Response(body=generate_latest(), headers={"Content-Type": CONTENT_TYPE_LATEST})

    async def healthz(_: web.Request) -> web.Response:
        idle_seconds = probe.idle_seconds()
        healthy = idle_seconds < STALLED_AFTER_SECONDS
        return web.json_response(
            {"ok": healthy, "idle_seconds": round(idle_seconds, 3)}, status=200 if healthy else 503
        )

    async def readyz(_: web.Request) -> web.Response:
        waiting = dict(probe.not_ready())
        return web.json_response({"ok": not waiting, "not_ready": waiting}, status=503 if waiting else 200)

    application = web.Application()
    application.add_routes([web.get("/metrics", metrics), web.get("/healthz", healthz), web.get("/readyz", readyz)])
    return application
