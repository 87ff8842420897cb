"""One connection's worth of symbols: a primary websocket, now and then a standby, and the hand-over between the two.

What the primary receives goes to the symbols' `BookSync`; what the standby receives waits, bounded, and is used from the
cut-over on, each symbol where its stream has come to: so a planned hand-over costs neither a gap nor a repeat. A
hand-over is ready when the standby has every subscription and what it holds of each symbol overlaps what is published.
A connection that ends without a standby is opened anew with full jitter. `step` decides all of it, from what is the case
and the time; it opens connections and closes them, and never waits.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from services.reader.connection import QUEUE_FULL
from services.reader.standby import Standby, Waiting
from shared import metrics
from shared.errors import PoisonMessage
from shared.log import get_logger
from shared.venues.base import SECOND_NS, Closing, Reply, Update

if TYPE_CHECKING:
    from collections.abc import Callable

    from services.reader.book_sync import BookSync
    from services.reader.connection import Link
    from services.reader.pressure import Pressure
    from shared.messages import GapCause
    from shared.venues.base import Venue

LARGEST_UPDATE_BYTES = 15 * 1024 * 1024
"""A larger one would not fit a Kafka record of 16 MiB with its headers."""
FIRST_BACKOFF_NS = SECOND_NS // 2
LONGEST_BACKOFF_NS = 60 * SECOND_NS
PLANNED = ("handed over", "stopped")
FLOWING_NS = 5 * SECOND_NS
"""A connection that brought an update of any symbol within so long is not the reason for another's silence."""

log = get_logger(__name__)


@dataclass(slots=True)
class Tracked:
    """A symbol in a slot."""

    sync: BookSync
    stream: str
    link: int | None = None  # the primary on which its subscription was acknowledged
    since_ns: int = 0  # when


class Slot:
    """`open_link` makes a connection and runs it, or says that none may be opened now; `bury` takes what is no update."""

    def __init__(
        self,
        venue: Venue,
        pressure: Pressure,
        *,
        open_link: Callable[[Slot, int], Link | None],
        bury: Callable[[bytes, int, int, PoisonMessage], None],
        max_age_ns: int,
        silence_ns: int,
        random: Callable[[], float],
    ) -> None:
        self.tracked: dict[str, Tracked] = {}
        self.updates = 0  # received since the last look
        self.overlaps = 0  # dropped, of both connections of a hand-over, since the last look
        self.unwanted = 0
        self._venue = venue
        self._pressure = pressure
        self._open_link = open_link
        self._bury = bury
        self._max_age_ns = max_age_ns
        self._silence_ns = silence_ns
        self._random = random
        self._primary: Link | None = None
        self._standby: Standby | None = None
        self._retire_ns = 0  # when the primary is to be handed over
        self._failures = 0
        self._next_attempt_ns = 0

    @property
    def links(self) -> list[Link]:
        """The connections there are."""
        standby = None if self._standby is None else self._standby.link
        return [link for link in (self._primary, standby) if link is not None]

    @property
    def primary(self) -> Link | None:
        """The connection that counts."""
        return self._primary

    def is_away(self, ip: str | None) -> bool:
        """Whether the symbols' updates come over another source address than this one."""
        return self._primary is not None and self._primary.ip != ip

    def track(self, symbol: str, tracked: Tracked, now_ns: int) -> None:
        """Record this symbol from now on."""
        self.tracked[symbol] = tracked
        tracked.sync.start(now_ns)
        self._want()

    def drop(self, symbol: str, now_ns: int) -> None:
        """Record it no more."""
        self.tracked.pop(symbol).sync.stop(now_ns)
        self._want()

    def retire(self, now_ns: int) -> None:
        """Hand the primary over as soon as can be."""
        self._retire_ns = min(self._retire_ns, now_ns)

    def stop(self, now_ns: int) -> None:
        """All connections have ended: what is held goes out, and the ends are told."""
        for symbol in list(self.tracked):
            self.drop(symbol, now_ns)

    def close(self, reason: str) -> None:
        """End the connections."""
        for link in self.links:
            link.close(reason)

    # --- what connections say -----------------------------------------------------------------------------------------

    def frame(self, link: Link, payload: bytes, recv_ns: int) -> None:
        """One frame of one of the connections."""
        try:
            if len(payload) > LARGEST_UPDATE_BYTES:
                raise PoisonMessage("too_large", f"a frame of {len(payload)} bytes; {LARGEST_UPDATE_BYTES} is the most")  # noqa: TRY301 - told as any other
            frame = self._venue.read_frame(payload)
        except PoisonMessage as poison:
            self._spoiled(link, payload, recv_ns, poison)
            return
        if type(frame) is Update:
            link.heard(recv_ns)
            self.updates += 1
            tracked = self.tracked.get(frame.symbol)
            if tracked is None:
                self.unwanted += 1
            elif link is self._primary:
                tracked.sync.update(frame.ids, payload, recv_ns, link.number, link.ip)
            elif self._standby is not None and link is self._standby.link:
                self._standby.add(tracked.sync, Waiting(frame.ids, payload, recv_ns))
        elif type(frame) is Reply:
            link.answered(frame)
        elif type(frame) is Closing and link is self._primary:
            log.info("connection will be closed by the venue", link=link.number)
            self._retire_ns = recv_ns

    def _spoiled(self, link: Link, payload: bytes, recv_ns: int, poison: PoisonMessage) -> None:
        """A frame that is no update: whether it hid one the chains tell."""
        self._bury(payload, recv_ns, link.number, poison)
        if link is self._primary:
            self._suspect("malformed")
        elif self._standby is not None and link is self._standby.link:
            self._standby.spoiled = True

    async def relief(self) -> bool:
        """See `Pressure.relief`."""
        return await self._pressure.relief()

    # --- what time and the state of the connections decide ------------------------------------------------------------

    def step(self, now_ns: int) -> None:
        """Look at everything once."""
        if self._pressure.overflowed:
            self.close(QUEUE_FULL)
        self._reap(now_ns)
        self._watch(now_ns)
        if self._primary is None:
            self._primary = self._connect(now_ns)
            if self._primary is not None:
                self._retire_ns = now_ns + int(self._max_age_ns * (0.9 + 0.1 * self._random()))
        elif self._standby is None:
            if now_ns >= self._retire_ns and self._primary.complete:
                link = self._connect(now_ns)
                self._standby = None if link is None else Standby(link, self._venue.sequence)
        elif self._standby.ready([tracked.sync for tracked in self.tracked.values()], now_ns):
            self._cut_over("planned")
        self._tick(now_ns)

    def _reap(self, now_ns: int) -> None:
        """Let go of what has ended."""
        if self._standby is not None and self._standby.link.ended is not None:
            self._ended(self._standby.link, now_ns)
            self._standby = None
        if self._primary is not None and self._primary.ended is not None:
            self._ended(self._primary, now_ns)
            cause: GapCause = "overflow" if self._primary.ended == QUEUE_FULL else "disconnect"
            for tracked in self.tracked.values():
                tracked.sync.lost(cause, now_ns)
                tracked.link = None
            self._primary = None
            if self._standby is not None:
                self._cut_over("forced")

    def _ended(self, link: Link, now_ns: int) -> None:
        """Count a failure unless it had worked, and put off the next attempt."""
        self._failures = 0 if link.updates else self._failures + 1
        how = "planned" if link.ended in PLANNED else "broken"
        metrics.CONNECTIONS_ENDED.labels(self._venue.exchange, self._venue.market, how).inc()
        if how == "broken" and self._failures <= 1:  # further failures in a row are counted, not said
            log.warning("connection ended", link=link.number, reason=link.ended, updates=link.updates)
        ceiling_ns = min(LONGEST_BACKOFF_NS, FIRST_BACKOFF_NS * 2 ** min(self._failures, 10))
        self._next_attempt_ns = now_ns + int(ceiling_ns * self._random())

    def _watch(self, now_ns: int) -> None:
        for link in self.links:
            if self.tracked and link.connected and now_ns - link.heard_ns > self._silence_ns:
                link.close("no update within reader.silence_timeout")

    def _connect(self, now_ns: int) -> Link | None:
        if not self.tracked or now_ns < self._next_attempt_ns or self._pressure.overflowed:
            return None
        link = self._open_link(self, now_ns)
        if link is not None:
            link.want([tracked.stream for tracked in self.tracked.values()])
        return link

    def _cut_over(self, how: str) -> None:
        """The standby is the primary from here on."""
        standby, self._standby = self._standby, None
        assert standby is not None
        old, link = self._primary, standby.link
        self._primary = link
        self._retire_ns = link.opened_ns + int(self._max_age_ns * (0.9 + 0.1 * self._random()))
        if standby.spoiled:
            self._suspect("malformed")
        for tracked in self.tracked.values():
            for update in standby.take(tracked.sync):
                tracked.sync.update(update.ids, update.payload, update.recv_ns, link.number, link.ip)
        self.overlaps += standby.overlaps
        if old is not None:
            old.close("handed over")
            metrics.CONNECTIONS_ENDED.labels(self._venue.exchange, self._venue.market, "planned").inc()
        metrics.HANDOVERS.labels(self._venue.exchange, self._venue.market, how).inc()
        log.info("connection handed over", how=how, link=link.number, symbols=len(self.tracked))

    def _tick(self, now_ns: int) -> None:
        primary = self._primary
        flowing = primary is not None and primary.connected and now_ns - primary.heard_ns < FLOWING_NS
        for tracked in self.tracked.values():
            if primary is not None and tracked.link != primary.number and tracked.stream in primary.subscribed:
                tracked.link, tracked.since_ns = primary.number, now_ns
                tracked.sync.subscribed(primary.number, now_ns)
            tracked.sync.tick(now_ns, live=flowing and tracked.link is not None)
            if tracked.sync.resubscribe:
                tracked.sync.resubscribe = False
                if primary is not None:
                    log.warning("symbol stale", symbol=tracked.sync.book.symbol, link=primary.number)
                    primary.renew(tracked.stream)
                    tracked.link = None

    def _suspect(self, cause: GapCause) -> None:
        for tracked in self.tracked.values():
            tracked.sync.suspect(cause)

    def _want(self) -> None:
        streams = [tracked.stream for tracked in self.tracked.values()]
        for link in self.links:
            link.want(streams)
