"""What a feed shows of itself: connections, symbols, updates, and whose place another address has taken.

It looks at the slots and takes what they have counted since the last look. Never counts an update by itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from shared import metrics
from shared.log import get_logger
from shared.venues.base import SECOND_NS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from services.reader.slot import Slot
    from shared.venues.base import Venue

log = get_logger(__name__)


class FeedMeters:
    """Of one market from one source address (`ip` None = the default route)."""

    def __init__(self, venue: Venue, ip: str | None, stale_seconds: float) -> None:
        self._market = venue.exchange, venue.market
        self._ip = ip
        self._stale_ns = int(stale_seconds * SECOND_NS)
        self._away = 0  # symbols whose updates come over another address
        names = *self._market, ip or "default"
        self._connections = metrics.CONNECTIONS.labels(*names)
        self._wanted = metrics.CONNECTIONS_WANTED.labels(*names)
        self._subscribed = metrics.SYMBOLS_SUBSCRIBED.labels(*names)
        self._silent = metrics.SYMBOLS_SILENT.labels(*names)
        self._unanchored = metrics.SYMBOLS_WITHOUT_ANCHOR.labels(*names)
        self._taken_over = metrics.SYMBOLS_TAKEN_OVER.labels("fobd", *names)
        self._received = metrics.UPDATES_RECEIVED.labels(*self._market)
        self._repeats = metrics.UPDATES_DROPPED.labels(*self._market, "repeat")
        self._overlaps = metrics.UPDATES_DROPPED.labels(*self._market, "overlap")
        self._unwanted = metrics.UPDATES_DROPPED.labels(*self._market, "unwanted")

    def show(self, slots: Sequence[Slot], now_ns: int) -> None:
        """All of it."""
        syncs = [tracked.sync for slot in slots for tracked in slot.tracked.values()]
        self._connections.set(sum(link.connected for slot in slots for link in slot.links))
        self._wanted.set(sum(bool(slot.tracked) for slot in slots))
        self._subscribed.set(len(syncs))
        self._silent.set(sum(sync.silent_ns(now_ns) > self._stale_ns for sync in syncs))
        self._unanchored.set(sum(not sync.anchored for sync in syncs))
        for slot in slots:
            self._received.inc(slot.updates)
            self._overlaps.inc(slot.overlaps)
            self._unwanted.inc(slot.unwanted)
            slot.updates = slot.overlaps = slot.unwanted = 0
        for sync in syncs:
            self._repeats.inc(sync.repeats)
            sync.repeats = 0
        self._show_away(sum(len(slot.tracked) for slot in slots if slot.is_away(self._ip)))

    def _show_away(self, away: int) -> None:
        """Said when it begins and when it ends."""
        before, self._away = self._away, away
        self._taken_over.set(away)
        if bool(before) != bool(away):
            say, event = (log.warning, "streams taken over") if away else (log.info, "streams taken over no more")
            say(event, exchange=self._market[0], market=self._market[1], ip=self._ip, symbols=away or before)
