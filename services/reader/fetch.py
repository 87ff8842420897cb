"""One HTTP GET from one source address: the bytes, or the name of what went wrong.

The body is what the venue sent after transport decoding (chunks, gzip): those bytes are published as they are. TLS is
verified, proxies of the environment and cookies are ignored, redirects are not followed. Never judges a status or a body.
"""

from __future__ import annotations

import errno
import ipaddress
import socket
import ssl
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import aiohttp
from yarl import URL

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType

    from shared.venues.base import Reason

_OK = 200


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole response. Times are ns since the epoch: when the request left, when the last byte was here."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    sent_ns: int
    recv_ns: int
    ip: str | None = None  # the source address it was asked from; None = the default route


class FetchFailed(Exception):
    """There is no answer that can be judged. `reason` is a bounded word of `shared.venues.base.Reason`."""

    def __init__(self, reason: Reason, text: str) -> None:
        super().__init__(text)
        self.reason: Reason = reason


class Source:
    """HTTP connections from one source address (`ip` None = the default route), kept alive and bounded in number."""

    def __init__(self, ip: str | None, *, timeout_seconds: float, max_connections: int, user_agent: str) -> None:
        self.ip = ip
        self._timeout = aiohttp.ClientTimeout(total=timeout_seconds)
        self._max_connections = max_connections
        self._user_agent = user_agent
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        trace = aiohttp.TraceConfig()
        trace.on_request_headers_sent.append(_note_sent)
        connector = connector_from(self.ip, limit=self._max_connections)
        self._session = aiohttp.ClientSession(
            connector=connector,
            timeout=self._timeout,
            trace_configs=[trace],
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={"User-Agent": self._user_agent, "Accept-Encoding": "gzip"},
            trust_env=False,
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        assert self._session is not None
        await self._session.close()

    async def get(self, url: str, *, max_body_bytes: int) -> Answer:
        """The answer, whatever its status. Raises `FetchFailed`.

        Of an answer whose status is not 200 as much of the body as could be had: a ban is a ban, its text torn or not.
        """
        assert self._session is not None
        sent = [time.time_ns()]
        try:
            # encoded: the adapter has done it, and a second pass could alter it
            async with self._session.get(
                URL(url, encoded=True), allow_redirects=False, trace_request_ctx=sent
            ) as response:
                body = bytearray()
                failure = await _read(response, body, max_body_bytes)
                if failure is not None and response.status == _OK:
                    raise failure
                return Answer(response.status, response.headers, bytes(body), sent[0], time.time_ns(), self.ip)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise _named(error) from error


async def _read(response: aiohttp.ClientResponse, body: bytearray, max_body_bytes: int) -> FetchFailed | None:
    try:
        async for chunk in response.content.iter_any():
            body += chunk
            if len(body) > max_body_bytes:
                response.close()
                return FetchFailed("oversize_body", f"the body is larger than {max_body_bytes} bytes")
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        return _named(error)
    return None


async def _note_sent(_session: object, context: Any, _params: object) -> None:
    context.trace_request_ctx[0] = time.time_ns()


def _named(error: Exception) -> FetchFailed:
    text = f"{type(error).__name__}: {error}"
    return FetchFailed(_reason(error), text)


def _reason(error: Exception) -> Reason:
    known: tuple[tuple[type[Exception] | tuple[type[Exception], ...], Reason], ...] = (
        (TimeoutError, "timeout"),
        (aiohttp.ClientConnectorDNSError, "name_resolution"),
        ((aiohttp.ClientSSLError, aiohttp.ServerFingerprintMismatch, ssl.SSLError), "tls"),
        (aiohttp.ClientPayloadError, "truncated_body"),
        ((aiohttp.ServerDisconnectedError, ConnectionResetError, BrokenPipeError), "reset"),
    )
    for kind, reason in known:
        if isinstance(error, kind):
            return reason
    by_number: dict[int | None, Reason] = {
        errno.ECONNREFUSED: "refused",
        errno.ECONNRESET: "reset",
        errno.EPIPE: "reset",
        errno.EADDRNOTAVAIL: "source_address",
        errno.ETIMEDOUT: "timeout",
    }
    return by_number.get(getattr(error, "errno", None), "network")


def connector_from(ip: str | None, *, limit: int) -> aiohttp.TCPConnector:
    """Connections from one source address, `limit` of them at most (0: any number).

    An address of one family reaches only hosts of that family.
    """
    if ip is None:
        return aiohttp.TCPConnector(limit=limit)
    family = socket.AF_INET6 if ipaddress.ip_address(ip).version == 6 else socket.AF_INET  # noqa: PLR2004
    return aiohttp.TCPConnector(limit=limit, local_addr=(ip, 0), family=family)
