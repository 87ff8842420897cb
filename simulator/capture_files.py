"""The files of a recorded session, read: REST answers, and the depth events of its websocket with their verbatim text."""

from __future__ import annotations

import gzip
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import msgspec

from simulator.depth_event import Event
from simulator.markets import MARKETS, MarketName

if TYPE_CHECKING:
    from pathlib import Path

DEPTH_MARK = b"depthUpdate"


class Recorded(msgspec.Struct):
    """One file of ``http/``."""

    url: str
    body: str


class _Line(msgspec.Struct):
    """One line of ``ws.jsonl``."""

    raw: str


class _Frame(msgspec.Struct):
    """A combined stream's frame."""

    data: msgspec.Raw


class _Ids(msgspec.Struct):
    """What orders an event, and its levels, unread."""

    E: int
    s: str
    U: int
    u: int
    pu: int | None = None
    b: list[msgspec.Raw] = []
    a: list[msgspec.Raw] = []


_LINES = msgspec.json.Decoder(_Line)
_FRAMES = msgspec.json.Decoder(_Frame)
_IDS = msgspec.json.Decoder(_Ids)


def read_answers(folder: Path) -> list[Recorded]:
    """The HTTP answers of a session, in order. Raises `ValueError` where the folder is no capture."""
    files = sorted((folder / "http").glob("*.json"))
    if not files:
        raise ValueError(f"{folder} is not a capture: it has no http/*.json")
    return [msgspec.json.decode(file.read_bytes(), type=Recorded) for file in files]


def read_events(folder: Path) -> list[Event]:
    """All depth events of a session in recorded order."""
    plain, packed = folder / "ws.jsonl", folder / "ws.jsonl.gz"
    if plain.exists():
        lines = plain.read_bytes().splitlines()
    elif packed.exists():
        lines = gzip.decompress(packed.read_bytes()).splitlines()
    else:
        return []
    return [_event(_LINES.decode(line).raw.encode()) for line in lines if DEPTH_MARK in line]


def captured_markets(folder: Path) -> set[MarketName]:
    """The markets a folder has depth answers of, known from the paths of the recorded urls."""
    return {
        name
        for recorded in read_answers(folder)
        for name, market in MARKETS.items()
        if urlsplit(recorded.url).path == market.prefix + "/depth"
    }


def _event(raw: bytes) -> Event:
    text = bytes(_FRAMES.decode(raw).data)
    head, _, tail = raw.partition(text)
    ids = _IDS.decode(text)
    return Event(ids.s, ids.U, ids.u, ids.pu, ids.E, text, head, tail, levels=len(ids.b) + len(ids.a))
