"""The websocket side of all markets: where it answers, who may connect, what a SUBSCRIBE does, and the pump.

Each market has its own prefix, as all share one port: ``/ws-future`` (with ``/public`` and ``/market`` below it, and
unrouted as it was before 2026), ``/ws-inverse``, ``/ws-spot``. ``/stream`` wraps events, ``/ws`` sends them bare.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from functools import partial
from typing import TYPE_CHECKING

from aiohttp import web

from simulator import stream_control
from simulator.markets import MARKET_NAMES, MarketName
from simulator.stream_connection import CLOSING_SECONDS, Connection, Shared
from simulator.stream_control import ControlError, ControlRequest, read_request
from simulator.stream_limits import Attempts
from simulator.websocket_frames import frame

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from simulator.exchange import Exchange

PUMP_SECONDS = 0.01
TRUTH_SECONDS = 0.2
ROOTS: dict[MarketName, dict[str, bool]] = {  # below a market's prefix: whether depth is served there
    "future": {"": True, "/public": True, "/market": False},
    "inverse": {"": True},
    "spot": {"": True},
}
STREAM_URLS: dict[MarketName, str] = {"future": "/ws-future/public", "inverse": "/ws-inverse", "spot": "/ws-spot"}


class StreamServer:
    """Connections and the task that moves the books."""

    def __init__(self, exchange: Exchange, shared: Shared) -> None:
        self.exchange = exchange
        self.truth = shared.truth
        self._shared = shared
        self._attempts = Attempts(shared.limits.connects_per_five_minutes)
        self._connections: dict[int, Connection] = {}
        self._opened = 0
        self._sent: Counter[MarketName] = Counter()
        self._sent_levels: Counter[MarketName] = Counter()
        self._closed: Counter[str] = Counter()
        self._truth_at = 0.0
        for name, source in exchange.sources.items():
            source.feed.observers.append(partial(shared.truth.event, name))

    def routes(self) -> list[web.RouteDef]:
        """Every path of every market."""
        return [
            web.get(f"/ws-{market}{root}{tail}", self._handler(market, combined=combined, routed=routed))
            for market in MARKET_NAMES
            for root, routed in ROOTS[market].items()
            for tail, combined in (("/stream", True), ("/ws{names:(?:/.*)?}", False))
        ]

    async def pump(self) -> None:
        """Moves books, connections and the log on until the end."""
        while not self._shared.stopping.is_set():
            self.tick()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._shared.stopping.wait(), PUMP_SECONDS)

    def tick(self) -> None:
        """One round of the pump."""
        now = self._shared.now()
        self.exchange.advance()
        for connection in tuple(self._connections.values()):
            connection.tick(now)
        self.flush()
        if now >= self._truth_at:
            self._truth_at = now + TRUTH_SECONDS
            self.truth.flush()

    def flush(self) -> None:
        """Writes whatever is queued to the sockets."""
        for connection in tuple(self._connections.values()):
            connection.flush()

    def end(self) -> None:
        """Ends every connection and the log."""
        for connection in tuple(self._connections.values()):
            connection.drop("stop", reset=False)
            self._forget(connection)
        self.truth.flush()

    def counters(self) -> dict[str, object]:
        """Diffs sent by market and levels in them, events published, connections, faults that hit."""
        sent, levels = self._sent.copy(), self._sent_levels.copy()
        for connection in self._connections.values():
            sent[connection.feed.market] += connection.sent
            levels[connection.feed.market] += connection.sent_levels
        connections = Counter(connection.feed.market for connection in self._connections.values())
        return {
            "frames": dict(sent),
            "levels": dict(levels),
            "events": {name: source.feed.events for name, source in self.exchange.sources.items()},
            "connections": dict(connections),
            "opened": self._opened,
            "closed": dict(self._closed),
            "by_fault": dict(self._shared.faults.stream_hits),
        }

    def _handler(
        self, market: MarketName, *, combined: bool, routed: bool
    ) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        async def handle(request: web.Request) -> web.StreamResponse:
            listed = request.match_info["names"].lstrip("/") if not combined else request.query.get("streams", "")
            names = [name for name in listed.split("/") if name]
            refused = self._refusal(market, request, names)
            if refused is not None:
                return refused
            socket = web.WebSocketResponse(timeout=CLOSING_SECONDS, autoping=False, autoclose=False, compress=False)
            await socket.prepare(request)
            self._opened += 1
            feed = self.exchange.sources[market].feed
            connection = Connection(self._opened, feed, request, self._shared, combined=combined, routed=routed)
            self._connections[connection.number] = connection
            self._note(connection, "opened", port=_port(request), path=request.path_qs)
            self._listen(connection, names)
            try:
                await connection.run(socket, self._obey)
            finally:
                self._forget(connection)
            return socket

        return handle

    def _refusal(self, market: MarketName, request: web.Request, names: list[str]) -> web.Response | None:
        address = request.remote or ""
        if not self._attempts.take(market, address, self._shared.now()):
            return web.Response(status=429, text="Too many connection attempts")
        rule = self._shared.faults.pick_stream("handshake", market=market, symbol=None, address=address)
        if rule is not None:
            return web.Response(status=int(rule.args.get("status", 503)))
        if len(names) > self._shared.limits.max_streams:
            return web.Response(status=400, text="Too many streams")
        return None

    def _obey(self, connection: Connection, text: str | bytes) -> None:
        """Answers one control message."""
        try:
            request = read_request(text)
        except ControlError as error:
            answer = stream_control.refusal(stream_control.INVALID, f"Invalid request: {error.text}", error.request_id)
            connection.put(frame(answer))
            return
        answered = self._answer(connection, request)
        if request.method in {"SUBSCRIBE", "UNSUBSCRIBE"}:
            self._note(
                connection,
                request.method.lower(),
                params=request.names,
                id=request.request_id,
                answer="none" if answered is None else "error" if b'"error"' in answered[:8] else "ack",
            )
        if answered is not None:
            connection.put(frame(answered))

    def _answer(self, connection: Connection, request: ControlRequest) -> bytes | None:
        if request.method == "SUBSCRIBE":
            return self._subscribe(connection, request)
        value: object = None
        if request.method == "UNSUBSCRIBE":
            for name in request.names:
                if name in connection.names:
                    del connection.names[name]
                    connection.feed.remove(connection, name)
        elif request.method == "LIST_SUBSCRIPTIONS":
            value = list(connection.names)
        elif request.combined is not None:
            connection.combined = request.combined
        else:
            value = connection.combined
        return stream_control.result(value, request.request_id)

    def _subscribe(self, connection: Connection, request: ControlRequest) -> bytes | None:
        rule = None
        for name in request.names:
            rule = rule or self._shared.faults.pick_stream(
                "subscribe",
                market=connection.feed.market,
                symbol=name.partition("@")[0].upper(),
                address=connection.address,
            )
        if rule is not None and rule.kind == "reject_subscribe":
            text = str(rule.args.get("msg", "Invalid request: too many parameters"))
            return stream_control.refusal(int(rule.args.get("code", stream_control.INVALID)), text, request.request_id)
        limit = self._shared.limits.max_streams
        if len(connection.names.keys() | request.names) > limit:
            text = f"Invalid request: more than {limit} streams on one connection"
            return stream_control.refusal(stream_control.TOO_MANY_STREAMS, text, request.request_id)
        if rule is None or not rule.args.get("ignored"):
            self._listen(connection, request.names)
        return None if rule is not None else stream_control.result(None, request.request_id)

    def _listen(self, connection: Connection, names: list[str]) -> None:
        """Subscribes; books are brought up to now first, so that the first diff is the first event after it."""
        feed = connection.feed
        for name in names:
            connection.names[name] = None
            symbol = feed.depth_symbol(name) if connection.routed else None
            if symbol is not None:
                self.exchange.sources[feed.market].watch(symbol, self.truth)
                feed.add(symbol, connection, name)

    def _forget(self, connection: Connection) -> None:
        if self._connections.pop(connection.number, None) is None:
            return
        connection.feed.remove(connection)
        connection.end()
        self._sent[connection.feed.market] += connection.sent
        self._sent_levels[connection.feed.market] += connection.sent_levels
        self._closed[str(connection.reason)] += 1
        self._note(connection, "closed", reason=connection.reason, code=connection.code)

    def _note(self, connection: Connection, what: str, **fields: object) -> None:
        self.truth.note(
            what,
            conn=connection.number,
            market=connection.feed.market,
            ip=connection.address,
            at_ns=time.time_ns(),
            **fields,
        )


def _port(request: web.Request) -> int | None:
    """The client's, which tells its connections apart."""
    peer = request.transport.get_extra_info("peername") if request.transport is not None else None
    return None if peer is None else int(peer[1])
