"""One answer on its way out: what is meant, how it is delivered, and how much of it really left.

Delivery can fail on purpose (stall, reset, cut). `send` tells the truth about it: `complete` only when every byte was
taken by the socket.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from aiohttp import web

if TYPE_CHECKING:
    from simulator.book import Answer

Way = Literal[
    "whole",
    "stall",
    "slow",
    "reset-before-headers",
    "close-before-headers",
    "reset-after-headers",
    "cut",
    "chunked-cut",
]
SLOW_CHUNKS = 20
LOST_POLL_SECONDS = 0.05


@dataclass(slots=True, kw_only=True)
class Reply:
    """What to send. Faults change it before it goes."""

    status: int
    body: bytes
    headers: dict[str, str] = field(default_factory=dict)
    answer: Answer | None = None  # the book behind the body, while it still is one
    book: bool | None = False  # a correct reader records it; None: it may or may not
    way: Way = "whole"
    seconds: float = 0.0  # stall: 0 = for ever; slow: in all
    delay_seconds: float = 0.0  # before anything is sent
    share: float = 0.5  # of the body that a cut lets through
    encoded: bytes | None = None  # the body under its content coding, if it has one


@dataclass(frozen=True, slots=True)
class Delivery:
    """What became of it."""

    status: int | None
    sent_bytes: int
    complete: bool


async def send(request: web.Request, reply: Reply, stopping: asyncio.Event) -> tuple[web.StreamResponse, Delivery]:
    """Sends a reply its way. The response object is what the web server wants returned; the delivery is for the log."""
    response = web.StreamResponse(status=reply.status, headers=reply.headers)
    transport = request.transport
    if transport is None:
        return response, Delivery(None, 0, complete=False)
    transport.set_write_buffer_limits(high=0)  # so that draining means the socket took it all
    if reply.delay_seconds:
        await wait(request, reply.delay_seconds, stopping)
    if reply.way == "stall":
        await wait(request, reply.seconds or None, stopping)
        drop(transport, reset=False)
        return response, Delivery(None, 0, complete=False)
    if reply.way in {"reset-before-headers", "close-before-headers"}:
        drop(transport, reset=reply.way == "reset-before-headers")
        return response, Delivery(None, 0, complete=False)
    sent = 0
    try:
        if reply.way == "chunked-cut":
            response.enable_chunked_encoding()
        else:
            response.content_length = len(_payload(reply))
        await response.prepare(request)
        for part, pause_seconds in _parts(reply):
            if pause_seconds:
                await wait(request, pause_seconds, stopping)
            await response.write(part)
            await request.writer.drain()
            sent += len(part)
        if reply.way in {"reset-after-headers", "cut", "chunked-cut"}:
            await request.writer.drain()
            drop(transport, reset=reply.way == "reset-after-headers")
            return response, Delivery(reply.status, sent, complete=False)
        await response.write_eof()
        await request.writer.drain()
    except ConnectionError:
        return response, Delivery(reply.status, sent, complete=False)
    return response, Delivery(reply.status, sent, complete=request.transport is not None)


def _payload(reply: Reply) -> bytes:
    return reply.body if reply.encoded is None else reply.encoded


def _parts(reply: Reply) -> list[tuple[bytes, float]]:
    """The bytes to send as pieces, each with the pause before it."""
    body = _payload(reply)
    if reply.way == "reset-after-headers" or not body:
        return []
    if reply.way in {"cut", "chunked-cut"}:
        return [(body[: int(len(body) * reply.share)], 0.0)]
    if reply.way == "slow":
        size = -(-len(body) // SLOW_CHUNKS)
        pause = reply.seconds / SLOW_CHUNKS
        return [(body[start : start + size], pause) for start in range(0, len(body), size)]
    return [(body, 0.0)]


async def wait(request: web.Request, seconds: float | None, stopping: asyncio.Event) -> None:
    """Until the time is over (None = never), the client has gone, or the simulator stops."""
    loop = asyncio.get_running_loop()
    until = None if seconds is None else loop.time() + seconds
    while request.transport is not None and not stopping.is_set():
        left = LOST_POLL_SECONDS if until is None else min(LOST_POLL_SECONDS, until - loop.time())
        if left <= 0:
            return
        await asyncio.sleep(left)


def drop(transport: asyncio.Transport, *, reset: bool) -> None:
    """Ends the connection; with `reset` by a RST instead of a FIN."""
    if reset:
        sock = transport.get_extra_info("socket")
        if sock is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        transport.abort()
    else:
        transport.close()
