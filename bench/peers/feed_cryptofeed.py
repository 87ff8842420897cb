"""cryptofeed with its Kafka backend: Binance futures' books from a simulated exchange to a topic, until SIGTERM.

    feed_cryptofeed.py REST_URL STREAM_URL BOOTSTRAP TOPIC SYMBOL...

Only its addresses are changed: it knows the exchange's own, and takes no websocket without TLS.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any

from cryptofeed import FeedHandler, connection
from cryptofeed.backends.kafka import BookKafka
from cryptofeed.connection import RestEndpoint, WebsocketEndpoint
from cryptofeed.defines import L2_BOOK
from cryptofeed.exchanges import BinanceFutures

NEVER = 10**12  # updates between two whole books: it is to publish what it receives
CONNECT = connection.connect


class Simulated(BinanceFutures):
    """The simulated exchange in Binance's place."""


class OneTopic(BookKafka):
    """Its own topics are one a book; the bench counts one."""

    def __init__(self, topic: str, **options: Any) -> None:
        super().__init__(snapshot_interval=NEVER, **options)
        self._topic = topic

    def topic(self, data: dict[str, Any]) -> str:  # noqa: ARG002
        return self._topic


def without_tls(address: str, **options: Any) -> Any:
    return CONNECT(address.replace("wss://", "ws://"), **options)


def main() -> None:
    rest, stream, bootstrap, topic, *symbols = sys.argv[1:]
    connection.connect = without_tls
    secure = stream.replace("ws://", "wss://")
    Simulated.websocket_endpoints = [WebsocketEndpoint(secure, options={"compression": None})]
    Simulated.rest_endpoints = [RestEndpoint(rest, routes=BinanceFutures.rest_endpoints[0].routes)]
    handler = FeedHandler({"uvloop": True, "log": {"filename": "cryptofeed.log", "level": "INFO", "disabled": False}})
    asyncio.set_event_loop(asyncio.new_event_loop())  # it takes the one that is there, and uvloop makes none by itself
    callback = OneTopic(topic, bootstrap_servers=bootstrap, acks=1)
    handler.add_feed(Simulated(symbols=symbols, channels=[L2_BOOK], callbacks={L2_BOOK: callback}))
    handler.run()


if __name__ == "__main__":
    main()
