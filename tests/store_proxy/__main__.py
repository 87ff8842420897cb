"""``python -m tests.store_proxy --upstream URL --seed N``: an S3 store in front of a real one, that fails as it is told.

Prints one JSON line when it listens: its port, and the URL of its control. Ends at once on SIGTERM or SIGINT.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import sys
from urllib.parse import urlsplit

from aiohttp import web

from tests.store_proxy.control import Control
from tests.store_proxy.proxy import Proxy
from tests.store_proxy.rules import Rules


def main() -> int:
    made = argparse.ArgumentParser(prog="python -m tests.store_proxy", description=__doc__)
    made.add_argument("--upstream", required=True, help="the store, as http://host:port")
    made.add_argument("--seed", type=int, default=1, help="of what happens by chance")
    arguments = made.parse_args()
    asyncio.run(serve(arguments.upstream, arguments.seed))
    return 0


async def serve(upstream: str, seed: int) -> None:
    """Until a signal."""
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    rules = Rules(seed)
    parts = urlsplit(upstream)
    assert parts.hostname, upstream
    assert parts.port, upstream
    server = await asyncio.start_server(Proxy(parts.hostname, parts.port, rules).serve, "127.0.0.1", 0)
    runner = web.AppRunner(Control(rules).app(), access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        control = f"http://127.0.0.1:{runner.addresses[0][1]}"
        sys.stdout.write(json.dumps({"port": server.sockets[0].getsockname()[1], "control": control}) + "\n")
        sys.stdout.flush()
        await stopping.wait()
    finally:
        server.close()
        await runner.cleanup()


if __name__ == "__main__":
    sys.exit(main())
