"""Asking for the anchors that a market's symbols want: gaps first, then what is due, one request per symbol at a time.

Whether an anchor may be asked for yet, and where its answer goes, is the symbol's `BookSync`'s affair; when a request is
sent is the `Requester`'s. An anchor is not asked for before its stream flows, so that the snapshot is not older than it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from services.reader.book_sync import Anchor
from services.reader.weight import ANCHOR, REFRESH
from shared import metrics
from shared.log import get_logger
from shared.venues.base import MINUTE_NS, SECOND_NS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from services.reader.desk import Desk, Purpose
    from services.reader.fetch import Answer
    from services.reader.slot import Tracked
    from shared.venues.base import MissCause, Reason

FLOW_NS = SECOND_NS
"""Waited after a subscription for its first update before the snapshot is asked for: a quiet symbol has none."""

log = get_logger(__name__)


class Anchors:
    """The anchors of one market from one source address; `limit` levels a side."""

    def __init__(self, desk: Desk, limit: int) -> None:
        self._desk = desk
        self._limit = limit
        names = desk.venue.exchange, desk.venue.market
        self._placed = metrics.ANCHORS.labels(*names, "placed")
        self._stale = metrics.ANCHORS.labels(*names, "stale")
        self._failed = metrics.ANCHORS.labels(*names, "failed")

    def ask(self, tracked: Iterable[Tracked], now_ns: int) -> None:
        """Ask for what is wanted now of symbols whose streams flow."""
        for each in tracked:
            sync = each.sync
            why = sync.wanted(now_ns)
            if why is None or each.link is None:
                continue
            if sync.stream_id is None and now_ns - each.since_ns < FLOW_NS:
                continue
            priority = ANCHOR if why == "gap" else REFRESH
            wish = _AnchorWish(self, each)
            expires_ns = now_ns + MINUTE_NS
            sync.request_open = self._desk.ask(
                sync.book.symbol, self._limit, wish, priority=priority, expires_ns=expires_ns
            )

    def took(self, tracked: Tracked, answer: Answer, last_update_id: int, now_ns: int) -> None:
        """A snapshot came."""
        if tracked.sync.stopped:
            return
        anchor = Anchor(last_update_id, answer.body, answer.sent_ns, answer.recv_ns, self._limit, answer.ip)
        if tracked.sync.anchor_arrived(anchor, now_ns) == "stale":
            self._stale.inc()
        else:
            self._placed.inc()

    def missed(self, tracked: Tracked, reason: Reason, now_ns: int) -> None:
        """None came."""
        self._failed.inc()
        log.debug("no anchor", symbol=tracked.sync.book.symbol, reason=reason)
        tracked.sync.anchor_failed(now_ns)


class _AnchorWish:
    """One symbol's wish."""

    purpose: Purpose = "anchor"

    def __init__(self, anchors: Anchors, tracked: Tracked) -> None:
        self._anchors = anchors
        self._tracked = tracked

    def sent(self, now_ns: int) -> None:
        """From here on the symbol's updates wait."""
        if not self._tracked.sync.stopped:
            self._tracked.sync.anchor_sent(now_ns)

    def took(self, answer: Answer, last_update_id: int, now_ns: int) -> None:
        """See `Anchors.took`."""
        self._anchors.took(self._tracked, answer, last_update_id, now_ns)

    def missed(self, reason: Reason, _cause: MissCause, now_ns: int) -> None:
        """See `Anchors.missed`."""
        self._anchors.missed(self._tracked, reason, now_ns)
