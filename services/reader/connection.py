"""One websocket of one source address: opened, subscribed, read until it ends. What its frames mean is its owner's affair.

Text is taken as bytes, as it came; the receive time is read when the frame leaves the socket's parser, before anything
else is done with it. While reading is held up by a full queue (`services.reader.pressure`: 5 s at most) frames wait in
the socket, and theirs is when they are read. TLS is verified, proxies of the environment are ignored, redirects are not followed, frames are
capped. Control messages keep to half of what the venue allows. Never reconnects, never judges an update.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Protocol

import aiohttp

from services.reader.pace import Pace
from shared.log import get_logger
from shared.venues.base import SECOND_NS

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable

    from shared.venues.base import Outcome, Reply, Venue

MAX_FRAME_BYTES = 64 * 1024 * 1024
CONNECT_SECONDS = 10.0
CLOSE_SECONDS = 1.0
ACK_SECONDS = 10.0
PING_SECONDS = 20.0
"""Our own pings: a half-open connection has no other sign. No pong within half of it ends the connection."""
STREAMS_PER_MESSAGE = 50
"""SUBSCRIBE by chunks: venues limit the size of a control message, and none says to what."""
CONTROL_SHARE = 0.5
QUEUE_FULL = "queue full"
"""Why a connection ended whose frames could not be taken."""

log = get_logger(__name__)


class Owner(Protocol):
    """Who reads a link's frames."""

    def frame(self, link: Link, payload: bytes, recv_ns: int) -> None:
        """One frame, as it came."""

    async def relief(self) -> bool:
        """Returns once frames can be taken again, at once as a rule; False: not for a long time, this link has to end."""


class Link:
    """A connection. `run` ends when it does, and says why; it never raises for what the network or the venue did.

    `ip` is the source address that `session` binds (None = the default route).
    """

    def __init__(
        self,
        number: int,
        url: str,
        venue: Venue,
        *,
        owner: Owner,
        session: aiohttp.ClientSession,
        ip: str | None = None,
        clock: Callable[[], int] = time.time_ns,
    ) -> None:
        self.number = number
        self.ip = ip
        self.opened_ns = clock()
        self.heard_ns = clock()  # the latest update; until there was one, the latest subscription
        self.updates = 0
        self.connected = False
        self.ended: str | None = None  # why
        self.refusal: Outcome | None = None  # what the venue answered instead of a handshake
        self.subscribed: set[str] = set()  # streams the venue has acknowledged
        self._url = url
        self._venue = venue
        self._owner = owner
        self._session = session
        self._clock = clock
        self._wanted: frozenset[str] = frozenset()
        self._forgotten: set[str] = set()
        self._socket: aiohttp.ClientWebSocketResponse[bool] | None = None
        self._closing: str | None = None
        self._work = asyncio.Event()
        self._requests: dict[int, tuple[str, frozenset[str], float]] = {}  # id → method, streams, when it is overdue
        self._next_id = 1
        self._task: asyncio.Task[object] | None = None

    def want(self, streams: Collection[str]) -> None:
        """The streams this connection is to carry: subscribed and unsubscribed as they change."""
        self._wanted = frozenset(streams)
        self._work.set()

    def renew(self, stream: str) -> None:
        """Unsubscribe and subscribe again: the venue seems to have forgotten it."""
        self._forgotten.add(stream)
        self._work.set()

    @property
    def complete(self) -> bool:
        """Whether every wanted stream was acknowledged."""
        return self.connected and self._wanted <= self.subscribed

    def heard(self, recv_ns: int) -> None:
        """An update came."""
        self.heard_ns = recv_ns
        self.updates += 1

    def answered(self, reply: Reply) -> None:
        """The answer to a control message came."""
        method, streams, _ = self._requests.pop(reply.id or 0, ("", frozenset(), 0.0))
        if reply.error is not None:
            log.warning("control message refused", link=self.number, method=method or None, said=reply.error)
            self.close("subscription refused")
        elif method == "SUBSCRIBE":
            self.subscribed |= streams
            self.heard_ns = max(self.heard_ns, self._clock())
        self._work.set()

    def close(self, reason: str) -> None:
        """End it, now; `run` returns soon."""
        if self._closing is None:
            self._closing = reason
            if self._task is not None:
                self._task.cancel()

    async def run(self) -> str:
        """Until it ends: the reason, in a few words. Cancelled from outside it raises as any task does."""
        self._task = asyncio.current_task()
        try:
            self.ended = await self._run()
        except asyncio.CancelledError:
            if self._closing is None or _cancelled_from_outside():
                self.ended = "cancelled"
                raise
            self.ended = self._closing
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            if isinstance(error, aiohttp.WSServerHandshakeError):
                self.refusal = self._venue.classify(error.status, error.headers or {}, b"", self._clock(), symbol="")
            self.ended = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        finally:
            self.connected = False
            self.ended = self.ended or "broken"
        return self.ended

    async def _run(self) -> str:
        if self._closing is not None:
            return self._closing
        async with asyncio.timeout(CONNECT_SECONDS):
            socket = await self._session.ws_connect(
                self._url,
                max_msg_size=MAX_FRAME_BYTES,
                heartbeat=PING_SECONDS,
                decode_text=False,
                timeout=aiohttp.ClientWSTimeout(ws_close=CLOSE_SECONDS),
            )
        self._socket, self.connected = socket, True
        self.heard_ns = self._clock()
        controlling = asyncio.create_task(self._control(socket))
        try:
            return await self._read(socket)
        finally:
            controlling.cancel()
            with suppress(asyncio.CancelledError):
                await controlling
            with suppress(aiohttp.ClientError, OSError, TimeoutError):
                async with asyncio.timeout(CLOSE_SECONDS):
                    await socket.close()

    async def _read(self, socket: aiohttp.ClientWebSocketResponse[bool]) -> str:
        text, binary = aiohttp.WSMsgType.TEXT, aiohttp.WSMsgType.BINARY
        receive, clock, frame, relief = socket.receive, self._clock, self._owner.frame, self._owner.relief
        while True:
            message = await receive()
            recv_ns = clock()
            if message.type is text or message.type is binary:
                frame(self, message.data, recv_ns)
                if not await relief():
                    return self._closing or QUEUE_FULL
            elif message.type is aiohttp.WSMsgType.ERROR:
                return f"{type(message.data).__name__}: {message.data}"
            else:
                return f"closed by the venue, code {socket.close_code}"

    async def _control(self, socket: aiohttp.ClientWebSocketResponse[bool]) -> None:
        """Brings the subscriptions to what is wanted, one message at a time, and sees to their answers."""
        allowed = max(1, int(self._venue.messages_per_second * CONTROL_SHARE))
        pace = Pace(allowed, SECOND_NS, apart_ns=SECOND_NS // allowed)
        while True:
            self._work.clear()
            loop_seconds = asyncio.get_running_loop().time()
            if any(overdue < loop_seconds for _, _, overdue in self._requests.values()):
                self.close("a control message was not answered")
                return
            message = self._next_message(loop_seconds + ACK_SECONDS)
            if message is None:
                with suppress(TimeoutError):
                    async with asyncio.timeout(1.0 if self._requests else None):
                        await self._work.wait()
                continue
            now_ns = time.monotonic_ns()
            at_ns = pace.next_ns(now_ns)
            await asyncio.sleep((at_ns - now_ns) / SECOND_NS)
            pace.take(at_ns)
            try:
                await socket.send_str(message)
            except (aiohttp.ClientError, OSError) as error:
                self.close(f"a control message could not be sent: {error}")
                return

    def _next_message(self, overdue_seconds: float) -> str | None:
        """What to say next, noted as asked for; None if nothing is to be said."""
        asked = {
            stream for method, streams, _ in self._requests.values() if method == "SUBSCRIBE" for stream in streams
        }
        for method, missing, words in (
            (
                "UNSUBSCRIBE",
                self.subscribed & (self._forgotten | (self.subscribed - self._wanted)),
                self._venue.unsubscribe,
            ),
            ("SUBSCRIBE", self._wanted - self.subscribed - asked, self._venue.subscribe),
        ):
            if missing:
                chosen = _some(missing)
                number, self._next_id = self._next_id, self._next_id + 1
                self._requests[number] = method, frozenset(chosen), overdue_seconds
                if method == "UNSUBSCRIBE":
                    self.subscribed -= set(chosen)
                    self._forgotten -= set(chosen)
                return words(chosen, number)
        return None


def _some(streams: Iterable[str]) -> list[str]:
    return sorted(streams)[:STREAMS_PER_MESSAGE]


def _cancelled_from_outside() -> bool:
    """`close` cancels once; whoever else wants the task to end has cancelled it as well."""
    task = asyncio.current_task()
    assert task is not None
    if task.cancelling() > 1:
        return True
    task.uncancel()
    return False
