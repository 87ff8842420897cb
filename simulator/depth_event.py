"""One depth event as it goes out: its ids for those who order and log, its text for those who listen.

Synthetic events are worded as the venue words them since 2026 (``ps`` and ``st`` on futures); recorded ones keep their
text and the wrapper they came in.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import msgspec

from simulator.markets import event_body
from simulator.websocket_frames import frame

if TYPE_CHECKING:
    from simulator.book import Diff
    from simulator.instruments import Instrument


@dataclass(slots=True)
class Event:
    """`text` is the bare event, of so many `levels`. `head` and `tail` are the recorded wrapper around it, if any."""

    symbol: str
    first_id: int  # U
    last_id: int  # u
    previous_id: int | None  # pu; None on spot
    event_ms: int  # E
    text: bytes
    head: bytes | None = None
    tail: bytes = b""
    levels: int = 0
    _frames: dict[str | None, bytes] = field(default_factory=dict)

    def payload(self, name: str | None) -> bytes:
        """What a message says: wrapped for the stream `name`, bare for None."""
        if name is None:
            return self.text
        if self.head is not None:  # verbatim, whatever cadence was asked for
            return self.head + self.text + self.tail
        return wrapped(name, self.text)

    def frame(self, name: str | None) -> bytes:
        """The websocket frame, made once for all connections."""
        made = self._frames.get(name)
        if made is None:
            made = self._frames[name] = frame(self.payload(name))
        return made


def wrapped(name: str, text: bytes) -> bytes:
    """A combined stream's message."""
    return b'{"stream":%s,"data":%s}' % (msgspec.json.encode(name), text)


def render(item: Instrument, diff: Diff) -> Event:
    """A synthetic event. Levels ascend on futures; on spot the best come first (both as recorded sessions show)."""
    spot = item.market == "spot"
    text = event_body(
        item.market,
        symbol=item.symbol,
        pair=item.pair,
        ids=(diff.first_id, diff.last_id, diff.previous_id),
        event_ms=diff.event_ms,
        transaction_ms=diff.transaction_ms,
        bids=_levels(item, diff.bids, descending=spot),
        asks=_levels(item, diff.asks, descending=False),
    )
    previous_id = None if spot else diff.previous_id
    levels = len(diff.bids) + len(diff.asks)
    return Event(item.symbol, diff.first_id, diff.last_id, previous_id, diff.event_ms, text, levels=levels)


def _levels(item: Instrument, changed: dict[int, int], *, descending: bool) -> bytes:
    return b",".join([item.level(tick, changed[tick]) for tick in sorted(changed, reverse=descending)])
