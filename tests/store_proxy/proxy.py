"""The way of one connection through the proxy: each of a client has one to the store."""

from __future__ import annotations

import asyncio
import socket
import struct
from typing import TYPE_CHECKING

from tests.store_proxy import wire

if TYPE_CHECKING:
    from tests.store_proxy.rules import Rules, Standing
    from tests.store_proxy.wire import Head

RESET = struct.pack("ii", 1, 0)  # SO_LINGER: on, 0 s: closing sends RST
TICKS_PER_SECOND = 20  # of what is slow
REFUSALS = {
    "refuse_before": ("500 Internal Server Error", "InternalError"),
    "conflict": ("409 Conflict", "ConditionalRequestConflict"),
    "throttle": ("429 Too Many Requests", "TooManyRequests"),
    "slow_down": ("503 Service Unavailable", "SlowDown"),
}
INSTEAD = {
    "lose_answer": REFUSALS["refuse_before"],
    "exists": ("412 Precondition Failed", "PreconditionFailed"),
}


class Cut(Exception):
    """The connection is to be reset now."""


class Proxy:
    """Serves clients of the store at `host` and `port`."""

    def __init__(self, host: str, port: int, rules: Rules) -> None:
        self._upstream = host, port
        self._rules = rules

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One client's connection, from its first request to its end."""
        connection = Connection(reader, writer, self._upstream, self._rules)
        try:
            while await connection.one():
                pass
        except (Cut, OSError, EOFError, wire.WireError, asyncio.LimitOverrunError):
            reset(writer)
        finally:
            connection.close()


class Connection:
    """A client's, and the store's for it, which is opened when it is needed."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        upstream: tuple[str, int],
        rules: Rules,
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._address = upstream
        self._rules = rules
        self._store: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def one(self) -> bool:
        """A request and its answer; whether another may follow."""
        head = await wire.read_head(self._reader)
        if head is None:
            return False
        standing = self._rules.pick(head)
        if standing is not None and standing.rule.kind in REFUSALS:
            return await self._refuse(head, standing)
        if head.expects:
            self._writer.write(wire.CONTINUE)
        body = await wire.read_body(self._reader, head)
        answer, content = await self._apply(head, body, standing)
        return await self._answer(head, answer, content, standing)

    def close(self) -> None:
        self._writer.close()
        if self._store is not None:
            self._store[1].close()

    async def _refuse(self, head: Head, standing: Standing) -> bool:
        """Nothing reaches the store. A body that waits for our leave is not let come, as stores do."""
        said = self._instead(head, standing, *REFUSALS[standing.rule.kind])
        if not head.expects:
            await wire.read_body(self._reader, head)
        await self._send(said)
        return not (head.closes or head.expects)

    async def _apply(self, head: Head, body: bytes, standing: Standing | None) -> tuple[Head, bytes]:
        """Let the store do it."""
        kind = None if standing is None else standing.rule.kind
        if standing is not None and kind == "stall" and standing.rule.where == "before":
            await standing.hold()
        reader, writer = await self._connected()
        half = kind == "reset_body" and len(body) > 0
        writer.write(head.raw)
        if head.expects:
            first = await wire.read_head(reader)
            if first is None:
                raise EOFError
            if first.status != wire.CONTINUES:  # it answers without having seen the body
                return first, await wire.read_content(reader, head.method, first)
        if standing is not None and kind == "slow":
            await _trickle(writer, body, standing.rule.bytes_per_second)
        else:
            writer.write(body[: len(body) // 2] if half else body)
            await writer.drain()
        if half:
            raise Cut
        return await wire.read_answer(reader, head.method)

    async def _answer(self, request: Head, head: Head, body: bytes, standing: Standing | None) -> bool:
        """What comes back, or less; whether the connection may go on."""
        whole = head.raw + body
        kind = None if standing is None else standing.rule.kind
        if standing is None:
            await self._send(whole)
        elif kind in INSTEAD:
            await self._send(self._instead(request, standing, *INSTEAD[kind]))
        elif kind == "truncate" and standing.rule.clean and body:
            await self._send(wire.shortened(head, body[: len(body) // 2]))
        elif kind in {"truncate", "reset_body"}:
            await self._send(whole[: -((len(body) + 1) // 2)] if body else whole[: len(whole) // 2])
            if kind == "reset_body":
                raise Cut
            return False
        elif kind == "slow":
            await _trickle(self._writer, whole, standing.rule.bytes_per_second)
        else:  # a stall: the answer's, or over
            if standing.rule.where == "after":
                await standing.hold()
            await self._send(whole)
        return not (request.closes or head.closes)

    def _instead(self, request: Head, standing: Standing, status: str, code: str) -> bytes:
        """An answer that is not the store's. Raises `Cut` where there is none at all."""
        rule = standing.rule
        cuts = rule.kind in {"refuse_before", "lose_answer"}
        if cuts and (rule.answer or self._rules.rng.choice(("reset", "error"))) == "reset":
            raise Cut
        return wire.answer(status, code, bodiless=request.method == "HEAD", retry_after_seconds=rule.retry_after)

    async def _send(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()

    async def _connected(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """The connection to the store; a new one where the store ended the old."""
        if self._store is not None and self._store[0].at_eof():
            self._store[1].close()
            self._store = None
        if self._store is None:
            self._store = await asyncio.open_connection(*self._address)
        return self._store


def reset(writer: asyncio.StreamWriter) -> None:
    """Ends a connection as a host does that knows nothing of it."""
    connection = writer.get_extra_info("socket")
    if connection is not None and not writer.is_closing():
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        writer.transport.abort()


async def _trickle(writer: asyncio.StreamWriter, data: bytes, bytes_per_second: int) -> None:
    step = max(1, bytes_per_second // TICKS_PER_SECOND)
    for start in range(0, len(data), step):
        writer.write(data[start : start + step])
        await writer.drain()
        await asyncio.sleep(1 / TICKS_PER_SECOND)
