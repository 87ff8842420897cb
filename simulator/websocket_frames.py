"""Websocket frames as a server writes them (RFC 6455): whole, unmasked, uncompressed. Pure bytes, no socket.

Made here rather than by the web server's own writer, so that one event is framed once for all who listen and a batch of
frames is one write.
"""

from __future__ import annotations

TEXT = 0x81  # the last fragment, and the opcode
BINARY = 0x82
CLOSE = 0x88
PING = 0x89
PONG = 0x8A
SHORT_MAX = 125
MEDIUM_MAX = 0xFFFF
CONTROL_MAX = 125  # bytes of a control frame's payload


def frame(payload: bytes, kind: int = TEXT) -> bytes:
    """One frame."""
    size = len(payload)
    if size <= SHORT_MAX:
        return bytes((kind, size)) + payload
    if size <= MEDIUM_MAX:
        return bytes((kind, 126)) + size.to_bytes(2, "big") + payload
    return bytes((kind, 127)) + size.to_bytes(8, "big") + payload


def close_frame(code: int, text: str = "") -> bytes:
    """A close frame with its code and reason."""
    return frame((code.to_bytes(2, "big") + text.encode())[:CONTROL_MAX], CLOSE)
