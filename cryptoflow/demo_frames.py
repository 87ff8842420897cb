"""What the exchange says of its streams: every event of a symbol since it was first subscribed to, and who was given it.

Reads the simulator's log of frames (`simulator.frame_truth`), whole at the end, or bit by bit while it grows.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from pathlib import Path

BookName = tuple[str, str]  # market, symbol
EVENT = b'{"what":"event"'
FRAME = b'{"what":"frame"'


class Event(msgspec.Struct, rename={"first_id": "U", "last_id": "u", "previous_id": "pu"}):
    """One event, whether anyone got it or not. `previous_id` is None on spot; `text` is what a frame carries."""

    market: str
    symbol: str
    first_id: int
    last_id: int
    previous_id: int | None
    text: str

    def sides(self) -> Sides:
        """Its levels, as texts."""
        return msgspec.json.decode(self.text, type=Sides)


class Sides(msgspec.Struct, rename={"bids": "b", "asks": "a"}):
    """The changed levels of an event: price and quantity."""

    bids: list[tuple[str, str]]
    asks: list[tuple[str, str]]


class _Frame(msgspec.Struct, rename={"last_id": "u"}):
    market: str
    symbol: str
    last_id: int
    delivered: bool


@dataclass(slots=True)
class Streamed:
    """Of one symbol: its events in order, and the final ids of those that were handed to a socket."""

    events: list[Event] = field(default_factory=list)
    delivered: set[int] = field(default_factory=set)


def read(path: Path) -> dict[BookName, Streamed]:
    """All of the log."""
    found: dict[BookName, Streamed] = defaultdict(Streamed)
    with path.open("rb") as lines:
        for line in lines:
            if line.startswith(EVENT):
                event = msgspec.json.decode(line, type=Event)
                found[event.market, event.symbol].events.append(event)
            elif line.startswith(FRAME):
                frame = msgspec.json.decode(line, type=_Frame)
                if frame.delivered:
                    found[frame.market, frame.symbol].delivered.add(frame.last_id)
    return found


class Served:
    """Counts the updates that were handed to a socket, by symbol, as the log grows."""

    def __init__(self, path: Path) -> None:
        self.updates: Counter[BookName] = Counter()
        self._path = path
        self._read_bytes = 0

    def look(self) -> None:
        """Count what is new; a line that is not whole yet is left for the next time."""
        with self._path.open("rb") as log:
            log.seek(self._read_bytes)
            new = log.read()
        whole = new[: new.rfind(b"\n") + 1]
        self._read_bytes += len(whole)
        for line in whole.splitlines():
            if line.startswith(FRAME):
                frame = msgspec.json.decode(line, type=_Frame)
                self.updates[frame.market, frame.symbol] += frame.delivered
