"""``python -m simulator``: starts the exchange, prints one JSON line when it listens, ends at once on SIGTERM or SIGINT."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
import time
from typing import TYPE_CHECKING

import msgspec
from aiohttp import web

from simulator.arguments import build_exchange, build_faults, build_stream_limits, parser
from simulator.control import PREFIX, Control
from simulator.frame_truth import FrameTruth
from simulator.markets import MARKET_NAMES
from simulator.server import Server
from simulator.stream_connection import Shared
from simulator.stream_server import STREAM_URLS, StreamServer
from simulator.truth import Truth

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

SHUTDOWN_SECONDS = 0.5


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit code: 0 after a signal; what is wrong with the arguments or the address ends with 2."""
    made = parser()
    arguments = made.parse_args(argv)
    try:
        asyncio.run(serve(arguments))
    except (OSError, ValueError) as error:
        made.error(str(error))
    return 0


async def serve(arguments: argparse.Namespace) -> None:
    """Runs until a signal. Raises `OSError` (address, files) and `ValueError` (capture, faults)."""
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    exchange = build_exchange(arguments)
    faults = build_faults(arguments)
    limits = build_stream_limits(arguments)
    with contextlib.ExitStack() as stack:
        file = None if arguments.truth is None else stack.enter_context(arguments.truth.open("w", encoding="utf-8"))
        if arguments.truth_bodies is not None:
            arguments.truth_bodies.mkdir(parents=True, exist_ok=True)
        frames = None if arguments.truth_frames is None else stack.enter_context(arguments.truth_frames.open("wb"))
        server = Server(exchange, faults, Truth(file, arguments.truth_bodies), stopping)
        shared = Shared(limits, faults, FrameTruth(frames), stopping, time.monotonic)
        await _listen(server, StreamServer(exchange, shared), arguments)


async def _listen(server: Server, streams: StreamServer, arguments: argparse.Namespace) -> None:
    app = web.Application()
    app.add_routes([*server.routes(), *streams.routes(), *Control(server, streams).routes()])
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=SHUTDOWN_SECONDS)
    await runner.setup()
    try:
        await web.TCPSite(runner, arguments.host, arguments.port).start()
        _announce(arguments.host, runner.addresses[0][1])
        await streams.pump()
    finally:
        streams.end()
        await runner.cleanup()


def _announce(host: str, port: int) -> None:
    """The one line on stdout."""
    shown = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)
    url = f"http://{shown}:{port}"
    line = {
        "port": port,
        "rest": dict.fromkeys(MARKET_NAMES, url),
        "stream": {name: f"ws://{shown}:{port}{path}" for name, path in STREAM_URLS.items()},
        "control": url + PREFIX,
    }
    sys.stdout.write(msgspec.json.encode(line).decode() + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
