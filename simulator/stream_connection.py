"""One websocket connection: what the client says is counted and obeyed, what the feed brings goes through its outlet.

Frames are queued and written in batches straight to the transport (the pump's `flush`, or at once after an answer), so
that acks, pings and diffs keep their order. Nothing is awaited while writing: a client that does not read is found by
its buffer.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, NamedTuple

from aiohttp import WSMessage, WSMsgType, web

from simulator.outlet import Outgoing, Outlet
from simulator.reply import drop, wait
from simulator.stream_limits import Window
from simulator.websocket_frames import PING, PONG, close_frame, frame

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from simulator.depth_event import Event
    from simulator.faults import Faults
    from simulator.feed import Feed
    from simulator.frame_truth import Fate, FrameTruth
    from simulator.stream_limits import StreamLimits

POLICY = 1008
GOING_AWAY = 1001
CLOSING_SECONDS = 1.0  # for the client's answer to a close frame
SLOW_SECONDS = 1.0  # over the buffer's limit
ENDED = {WSMsgType.CLOSE, WSMsgType.CLOSING, WSMsgType.CLOSED, WSMsgType.ERROR}


class Shared(NamedTuple):
    """What all connections have in common."""

    limits: StreamLimits
    faults: Faults
    truth: FrameTruth
    stopping: asyncio.Event
    now: Callable[[], float]  # seconds


class Connection:
    """See the module. `obey` answers one text message; `reason` says in the end why it is over."""

    def __init__(
        self, number: int, feed: Feed, request: web.Request, shared: Shared, *, combined: bool, routed: bool = True
    ) -> None:
        self.number = number
        self.feed = feed
        self.names: dict[str, None] = {}  # subscribed, in order
        self.combined = combined
        self.routed = routed  # False: on a path that carries no depth
        self.address = request.remote or ""
        self.sent = 0  # diffs handed to the socket
        self.sent_levels = 0  # in them
        self.reason: str | None = None
        self.code: int | None = None
        self.outlet = Outlet(self, feed, shared.faults, shared.now)
        self._request = request
        self._shared = shared
        transport = request.transport
        assert transport is not None
        self._transport: asyncio.Transport = transport
        self._out: list[bytes] = []
        self._fates: list[Fate] = []
        self._rate = Window(shared.limits.messages(feed.market), 1.0)
        now = shared.now()
        age = shared.limits.max_age_seconds
        self._ends_at = now + age if age else None
        self._notice_at = now + age - shared.limits.notice_seconds() if age and feed.market == "spot" else None
        self._ping_at = now + shared.limits.ping_every(feed.market)
        self._pong_at = now
        self._slow_since: float | None = None
        self._gone_at: float | None = None  # when the transport is cut if the client does not answer the close

    async def run(self, socket: web.WebSocketResponse, obey: Callable[[Connection, str | bytes], None]) -> None:
        """Reads until the end, however it comes."""
        while True:
            message: WSMessage = await socket.receive()
            if message.type in ENDED:
                break
            if self.outlet.silence != "half_open" and self.reason is None:
                self._hear(message, obey)
                self.flush()
        if self.outlet.silence == "half_open":
            await wait(self._request, None, self._shared.stopping)
        elif message.type is WSMsgType.CLOSE and self.reason is None:
            self.put(close_frame(message.data or POLICY))
        self.reason = self.reason or ("client" if message.type is WSMsgType.CLOSE else "lost")
        self.code = self.code or (message.data if message.type is WSMsgType.CLOSE else None)
        self.flush()
        drop(self._transport, reset=False)

    def end(self) -> None:
        """Logs what will never be sent."""
        self.outlet.end()
        self.flush()

    def deliver(self, event: Event, name: str) -> None:
        """See `Listener`."""
        if self.reason is None:
            self.outlet.take(Outgoing(event, name if self.combined else None))

    def buffered_bytes(self) -> int:
        """See `Listener`."""
        return self._transport.get_write_buffer_size()

    def put(self, data: bytes) -> None:
        """See `Link`."""
        self._out.append(data)

    def log(self, event: Event, fault: str | None, *, delivered: bool) -> None:
        """See `Link`."""
        if delivered:
            self.sent += 1
            self.sent_levels += event.levels
        if self._shared.truth.on:
            self._fates.append((event, fault, delivered))

    def flush(self) -> None:
        """Writes what is queued."""
        gone = self._transport.is_closing()
        if self._out:
            if not gone:
                self._transport.write(b"".join(self._out))
            self._out.clear()
        if self._fates:
            fates = [(event, fault, False) for event, fault, _ in self._fates] if gone else self._fates
            self._shared.truth.frames(self.number, self.feed.market, fates, time.time_ns())
            self._fates.clear()

    def close(self, code: int, text: str, reason: str) -> None:
        """A close frame; the transport is cut soon after where the client does not answer."""
        if self.reason is None:
            self.put(close_frame(code, text))
            self._over(reason, code)
            self._gone_at = self._shared.now() + CLOSING_SECONDS

    def drop(self, reason: str, *, reset: bool) -> None:
        """No close frame: a FIN, or a RST that destroys what is on its way."""
        if self.reason is None:
            self._over(reason, None)
        drop(self._transport, reset=reset)

    def tick(self, now: float) -> None:
        """What is due by time."""
        if self._gone_at is not None and now >= self._gone_at:
            self._transport.abort()
        if self.reason is not None or self.outlet.silence == "half_open":
            return
        self.outlet.release()
        limits = self._shared.limits
        if self._ends_at is not None and now >= self._ends_at:
            self.close(GOING_AWAY, "", "max_age")
        elif now - self._pong_at >= limits.pong_within(self.feed.market):
            self.close(POLICY, "Pong timeout", "pong_timeout")
        elif self._is_slow(now):
            self._over("slow_consumer", None)
            self._transport.abort()
        else:
            if now >= self._ping_at:
                self._ping_at = now + limits.ping_every(self.feed.market)
                self.put(frame(b"%d" % (time.time_ns() // 1_000_000), PING))
            if self._notice_at is not None and now >= self._notice_at:
                self._notice_at = None
                self.put(frame(b'{"e":"serverShutdown","E":%d}' % (time.time_ns() // 1_000_000)))

    def _hear(self, message: WSMessage, obey: Callable[[Connection, str | bytes], None]) -> None:
        if not self._rate.take(self._shared.now()):
            self.close(POLICY, "Too many requests", "too_many_requests")
        elif message.type is WSMsgType.PING:
            self.put(frame(bytes(message.data), PONG))
        elif message.type is WSMsgType.PONG:
            self._pong_at = self._shared.now()
        else:
            obey(self, message.data)

    def _is_slow(self, now: float) -> bool:
        limit = self._shared.limits.slow_consumer_bytes
        if not limit or self.buffered_bytes() <= limit:
            self._slow_since = None
            return False
        if self._slow_since is None:
            self._slow_since = now
        return now - self._slow_since >= SLOW_SECONDS

    def _over(self, reason: str, code: int | None) -> None:
        """No more diffs from here on: what was queued goes out first."""
        self.reason, self.code = reason, code
        self.feed.remove(self)
        self.flush()
