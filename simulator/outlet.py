"""What becomes of the diffs of one connection between the feed and the socket: sent, held back, or lost on purpose.

Every diff that was due to a connection is logged once with its fate (a duplicate twice). A state that a fault brought
about (silence, a stall) ends with its time or its connection, not with the rule.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

from simulator.frame_faults import FRAME_KINDS

if TYPE_CHECKING:
    from collections.abc import Callable

    from simulator.depth_event import Event
    from simulator.faults import Faults
    from simulator.feed import Feed


class Link(Protocol):
    """The connection as its outlet needs it."""

    address: str

    def put(self, data: bytes) -> None:
        """Queues one websocket frame."""

    def log(self, event: Event, fault: str | None, *, delivered: bool) -> None:
        """Notes a diff's fate."""

    def close(self, code: int, text: str, reason: str) -> None:
        """Says goodbye."""

    def drop(self, reason: str, *, reset: bool) -> None:
        """Ends without a word."""


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A diff that is due. `name` is the stream's, None on a raw connection."""

    event: Event
    name: str | None


class Outlet:
    """One connection's. `now` is in seconds."""

    def __init__(self, link: Link, feed: Feed, faults: Faults, now: Callable[[], float]) -> None:
        self.link = link
        self.feed = feed
        self.silence: Literal["half_open", "stall_forever"] | None = None
        self._faults = faults
        self._now = now
        self._held: list[Outgoing] = []
        self._held_until = 0.0
        self._late: dict[str, Outgoing] = {}

    def take(self, out: Outgoing) -> None:
        """One diff from the feed."""
        if self.silence is not None:
            self.lose(out, self.silence)
        elif self._held:
            self._held.append(out)
        elif self.feed.muted(out.event.symbol):
            self.lose(out, "mute_symbol")
        else:
            rule = self._faults.pick_stream(
                "frame", market=self.feed.market, symbol=out.event.symbol, address=self.link.address
            )
            apply = None if rule is None else FRAME_KINDS[rule.kind].apply
            if rule is None or apply is None:
                self.send(out, None)
            else:
                apply(self, out, rule.args)

    def send(self, out: Outgoing, fault: str | None) -> None:
        """Sends a diff, and after it the one that waited for it."""
        self.link.put(out.event.frame(out.name))
        self.link.log(out.event, fault, delivered=True)
        late = self._late.pop(out.event.symbol, None)
        if late is not None:
            self.send(late, "reorder")

    def lose(self, out: Outgoing, fault: str) -> None:
        """A diff that this connection never gets."""
        self.link.log(out.event, fault, delivered=False)

    def hold(self, out: Outgoing, seconds: float) -> None:
        """Holds this diff and all after it back."""
        self._held.append(out)
        self._held_until = self._now() + seconds

    def put_after_next(self, out: Outgoing) -> None:
        """Sends a diff after the next one of its symbol."""
        if out.event.symbol in self._late:
            self.send(out, "reorder")
        else:
            self._late[out.event.symbol] = out

    def release(self) -> None:
        """Sends what was held back, once its time is over."""
        if self._held and self._now() >= self._held_until:
            held, self._held = self._held, []
            for out in held:
                self.send(out, "stall")

    def end(self) -> None:
        """The connection is over: what waits is lost."""
        for out in self._held:
            self.lose(out, "stall")
        for out in self._late.values():
            self.lose(out, "reorder")
        self._held, self._late = [], {}
