"""The source addresses of this process, and which of them goes out for one that cannot (`reader.rebalance_on_ban`).

An address is out of requests of a weight group while the venue refuses it there, out of websockets of a market while its
handshakes are refused, and out of everything while it is not on this host. Then, and only then, another one takes its
place; without the setting none ever does. The rules:
1. only an address of the same family (IPv4, IPv6): what one reaches the other may not;
2. a request goes to the address with the most weight to spare in its group: within that one's own budget, its own polls
   kept free (`services.reader.weight`, rule 5); where none has enough it waits, and is missed for the first reason;
3. a websocket is opened from the address with the fewest, by a permit of that one's pace;
4. what is due next goes out from the own address again as soon as it is no longer out; its websockets come back by a
   planned hand-over once it has been so for `SETTLED_SECONDS`.
A refused handshake is no reason to try again and again: at least `REFUSED_SECONDS`, doubled each time.
Never sends, never opens, never knows a symbol.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from services.reader.pace import Pace
from services.reader.shards import is_local
from shared.log import get_logger
from shared.venues.base import MINUTE_NS, SECOND_NS

if TYPE_CHECKING:
    from collections.abc import Callable

    import aiohttp

    from services.reader.requests import Requester
    from shared.venues.base import Outcome, Venue

CONNECT_SHARE = 0.8
"""Of the venue's connection attempts: others may use the address."""
WATCH_SECONDS = 1.0
"""To bind a socket costs microseconds."""
SETTLED_SECONDS = 10
REFUSED_SECONDS = 120
LONGEST_REFUSED_SECONDS = 3_600

log = get_logger(__name__)


@dataclass(slots=True)
class _Door:
    """How one market takes websockets of one address."""

    pace: Pace
    refused_until_ns: int = 0
    refusals: int = 0  # in a row


@dataclass(eq=False, slots=True)
class Way:
    """One source address: its requests, its websockets (`session` binds it), and how many of these are open."""

    requester: Requester
    session: aiohttp.ClientSession
    websockets: int = 0
    back_ns: int = 0  # since when it is on this host again
    _doors: dict[tuple[str, str], _Door] = field(default_factory=dict)

    @property
    def ip(self) -> str | None:
        """None = the default route."""
        return self.requester.ip

    @property
    def missing(self) -> bool:
        """Whether the address has gone from this host."""
        return self.requester.missing

    def door(self, venue: Venue) -> _Door:
        """The market's."""
        market = venue.exchange, venue.market
        if market not in self._doors:
            self._doors[market] = _Door(Pace(int(venue.connects_per_five_minutes * CONNECT_SHARE), 5 * MINUTE_NS))
        return self._doors[market]

    def opens(self, venue: Venue, now_ns: int) -> bool:
        """Whether websockets can be had."""
        return not self.missing and now_ns >= self.door(venue).refused_until_ns

    def opened(self, venue: Venue) -> None:
        """A websocket was had."""
        self.door(venue).refusals = 0

    def refused(self, venue: Venue, refusal: Outcome, now_ns: int) -> None:
        """The venue answered a handshake with something else."""
        door = self.door(venue)
        if refusal.action == "stand_down":
            seconds = min(REFUSED_SECONDS * 2**door.refusals, LONGEST_REFUSED_SECONDS)
            door.refusals = min(door.refusals + 1, 10)
            door.refused_until_ns = max(refusal.until_ns or 0, now_ns + seconds * SECOND_NS)


class Ways:
    """All of them. With `rebalance` false, or a single one, nobody stands in for anybody.

    `ready` is `Lifecycle.ready`; `local` says whether an address is on this host.
    """

    def __init__(
        self,
        *,
        rebalance: bool,
        ready: Callable[[str, bool, str], None] = lambda _what, _ok, _why: None,
        local: Callable[[str], bool] = is_local,
    ) -> None:
        self._rebalance = rebalance
        self._ready = ready
        self._local = local
        self._ways: list[Way] = []

    def add(self, way: Way) -> Way:
        """One more."""
        self._ways.append(way)
        return way

    def for_request(self, own: Requester, venue: Venue, weight: int, now_ns: int) -> Requester | None:
        """Who can ask in the place of an address that is out (rules 1 and 2)."""
        others = [way.requester for way in self._others(own.ip)]
        best = max(others, key=lambda other: other.spare(venue, now_ns), default=None)
        return best if best is not None and best.spare(venue, now_ns) >= weight else None

    def for_websocket(self, own: Way, venue: Venue, now_ns: int) -> Way | None:
        """From where to open one now, its permit taken; None: not now (rules 1 and 3)."""
        chosen = [own]
        if not own.opens(venue, now_ns):
            others = [way for way in self._others(own.ip) if way.opens(venue, now_ns)]
            chosen = [way for way in others if not way.requester.is_out(venue, now_ns)] or chosen
        permitted = [way for way in chosen if way.door(venue).pace.next_ns(now_ns) <= now_ns]
        way = min(permitted, key=lambda way: way.websockets, default=None)
        if way is not None:
            way.door(venue).pace.take(now_ns)
        return way

    def is_back(self, own: Way, venue: Venue, now_ns: int) -> bool:
        """Whether websockets that others opened for it should come back (rule 4)."""
        since_ns = max(own.back_ns, own.door(venue).refused_until_ns)
        return own.opens(venue, now_ns) and now_ns - since_ns >= SETTLED_SECONDS * SECOND_NS

    async def watch(self, clock: Callable[[], int]) -> None:
        """See which addresses are on this host, until cancelled."""
        while self._rebalance and len(self._ways) > 1:
            with suppress(OSError):  # no file descriptor left: nothing is known
                self.look(clock())
            await asyncio.sleep(WATCH_SECONDS)

    def look(self, now_ns: int) -> None:
        """Once. What changed is said."""
        for way in self._ways:
            if way.ip is None or self._local(way.ip) != way.missing:
                continue
            way.requester.missing = not way.missing
            why = "the address has gone from this host" if way.missing else ""
            self._ready(f"source address {way.ip}", not way.missing, why)
            if way.missing:
                log.warning("source address missing", ip=way.ip)
            else:
                way.back_ns = now_ns
                log.info("source address back", ip=way.ip)

    def _others(self, ip: str | None) -> list[Way]:
        if not self._rebalance or ip is None:
            return []
        return [way for way in self._ways if way.ip is not None and way.ip != ip and (":" in way.ip) == (":" in ip)]
