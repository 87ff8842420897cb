"""HTTP/1.1 as the proxy needs it: messages as the bytes they came in, and where each ends. Nothing is re-encoded.

A signature covers the method, the path and query as they were sent, and headers: whatever is passed on stays to the byte.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio

MOST_BYTES = 256 * 1024 * 1024
CONTINUES = 100
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
BODILESS = (204, 304)


class WireError(Exception):
    """What came is no HTTP/1.1, or more than the proxy holds."""


@dataclass(frozen=True, slots=True)
class Head:
    """The first line and the headers of a message. `raw` ends with the empty line."""

    raw: bytes
    first: tuple[str, str, str]
    headers: dict[str, str]  # by lower-case name

    @property
    def method(self) -> str:
        return self.first[0]

    @property
    def target(self) -> str:
        """Path and query of a request, as they were sent."""
        return self.first[1]

    @property
    def status(self) -> int:
        return int(self.first[1])

    @property
    def closes(self) -> bool:
        """Whether the connection ends after this message."""
        return self.headers.get("connection", "").lower() == "close"

    @property
    def expects(self) -> bool:
        """Whether the body waits for "100 Continue"."""
        return self.headers.get("expect", "").lower() == "100-continue"


async def read_head(reader: asyncio.StreamReader) -> Head | None:
    """The next message's; None where the other side ended in order before it. Raises `IncompleteReadError` in it."""
    try:
        raw = await reader.readuntil(b"\r\n\r\n")
    except EOFError as error:
        if not error.partial:  # type: ignore[attr-defined]
            return None
        raise
    lines = raw.decode("latin-1").split("\r\n")
    first = (*lines[0].split(" ", 2), "", "")
    headers = {}
    for line in lines[1:-2]:
        name, _, value = line.partition(":")
        headers[name.strip().lower()] = value.strip()
    return Head(raw, (first[0], first[1], first[2]), headers)


async def read_body(reader: asyncio.StreamReader, head: Head) -> bytes:
    """A request's body, in the frame that it came in."""
    if head.headers.get("transfer-encoding", "").lower() == "chunked":
        return await _chunks(reader)
    return await reader.readexactly(_bounded(int(head.headers.get("content-length", 0))))


async def read_answer(reader: asyncio.StreamReader, method: str) -> tuple[Head, bytes]:
    """The next answer that is final. Raises `EOFError` where the connection ended before its end."""
    head = await read_head(reader)
    while head is not None and head.status < 200:
        head = await read_head(reader)
    if head is None:
        raise EOFError
    return head, await read_content(reader, method, head)


async def read_content(reader: asyncio.StreamReader, method: str, head: Head) -> bytes:
    """The body of an answer to `method`, in its frame."""
    if method == "HEAD" or head.status in BODILESS:
        return b""
    framed = "content-length" in head.headers or "transfer-encoding" in head.headers
    return await (read_body(reader, head) if framed else reader.read())


def answer(status: str, code: str, *, bodiless: bool, retry_after_seconds: int | None = None) -> bytes:
    """An answer of the proxy's own, in the words of S3."""
    body = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>The proxy was told so</Message></Error>".encode()
    lines = [f"HTTP/1.1 {status}", "Content-Type: application/xml", f"Content-Length: {len(body)}"]
    if retry_after_seconds is not None:
        lines.append(f"Retry-After: {retry_after_seconds}")
    return "\r\n".join([*lines, "", ""]).encode() + (b"" if bodiless else body)


def shortened(head: Head, body: bytes) -> bytes:
    """A whole answer that says of itself that it is only as long as `body`."""
    lines = head.raw.decode("latin-1").split("\r\n")
    kept = [line for line in lines[:-2] if not line.lower().startswith(("content-length:", "transfer-encoding:"))]
    return "\r\n".join([*kept, f"Content-Length: {len(body)}", "", ""]).encode("latin-1") + body


async def _chunks(reader: asyncio.StreamReader) -> bytes:
    raw = bytearray()
    while True:
        line = await reader.readuntil(b"\r\n")
        size = int(line.split(b";")[0], 16)
        raw += line
        _bounded(len(raw) + size)
        if size == 0:
            break
        raw += await reader.readexactly(size + 2)
    while (line := await reader.readuntil(b"\r\n")) != b"\r\n":  # trailers
        raw += line
    return bytes(raw + line)


def _bounded(size_bytes: int) -> int:
    if size_bytes > MOST_BYTES:
        raise WireError(f"a body of {size_bytes} bytes; the proxy holds {MOST_BYTES}")
    return size_bytes
