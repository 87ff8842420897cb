"""``python -m simulator``: starts the exchange, prints one JSON line when it listens, ends at once on SIGTERM or SIGINT."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
from typing import TYPE_CHECKING

import msgspec
from aiohttp import web

from simulator.arguments import build_exchange, build_faults, parser
from simulator.control import PREFIX, Control
from simulator.markets import MARKET_NAMES
from simulator.server import Server
from simulator.truth import Truth

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

ADVANCE_SECONDS = 1.0
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
    with contextlib.ExitStack() as stack:
        file = None if arguments.truth is None else stack.enter_context(arguments.truth.open("w", encoding="utf-8"))
        if arguments.truth_bodies is not None:
            arguments.truth_bodies.mkdir(parents=True, exist_ok=True)
        await _listen(Server(exchange, faults, Truth(file, arguments.truth_bodies), stopping), arguments)


async def _listen(server: Server, arguments: argparse.Namespace) -> None:
    app = web.Application()
    app.add_routes([*server.routes(), *Control(server).routes()])
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=SHUTDOWN_SECONDS)
    await runner.setup()
    try:
        await web.TCPSite(runner, arguments.host, arguments.port).start()
        _announce(arguments.host, runner.addresses[0][1])
        while not server.stopping.is_set():
            server.exchange.advance()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(server.stopping.wait(), ADVANCE_SECONDS)
    finally:
        await runner.cleanup()


def _announce(host: str, port: int) -> None:
    """The one line on stdout."""
    shown = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)
    url = f"http://{shown}:{port}"
    line = {"port": port, "rest": dict.fromkeys(MARKET_NAMES, url), "control": url + PREFIX}
    sys.stdout.write(msgspec.json.encode(line).decode() + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
