"""The order in which one symbol is published: its updates, the anchors among them, the gaps between them.

Pure: no I/O, no task, no clock; records go to `emit`, times are arguments (ns since the epoch). What it promises to a
consumer who reads the symbol's records in order:

1. Every update that was received is there, once, in the order of the stream; only repeats and late ones are dropped.
2. Where the chain of ids breaks stands one gap, before the first record behind the hole, with what happened in it.
3. An anchor is valid at its place: updates with u <= lastUpdateId lie before it, all others behind it.

For 3 the updates wait while an anchor's request is in flight: `HOLD_NS`, `HOLD_BYTES` at most. An anchor that is ahead
of the stream waits as long for the updates up to its id; one that is behind is refused, to be fetched again. If none can
be had in time the updates go out without it. Whether anything was lost in an outage is decided by the chain alone: a
gap goes out when the next update does not chain, or after `UNDECIDED_NS` without one.
Never opens a connection, never reads a level, never decides when a request may be sent.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

from services.reader.channel import RawRecord
from shared.messages import Gap
from shared.venues.base import SECOND_NS

if TYPE_CHECKING:
    from collections.abc import Callable

    from shared.messages import Book, GapCause
    from shared.venues.sequence import SequenceRule, UpdateIds

HOLD_NS = 3 * SECOND_NS
HOLD_BYTES = 4 * 1024 * 1024
UNDECIDED_NS = 30 * SECOND_NS
"""After a lost connection a gap goes out at once if neither an update nor an anchor has come for so long."""
BEHIND_NS = 10 * SECOND_NS
"""A snapshot has moved on and no update came for so long: the symbol is stale."""
CHECK_SOON_NS = 5 * SECOND_NS
"""A symbol that sent nothing since its connection came back is compared with a snapshot after so long."""
FIRST_RETRY_NS = SECOND_NS // 2
LONGEST_RETRY_NS = 60 * SECOND_NS

_GRAVITY: dict[GapCause, int] = {"malformed": 1, "disconnect": 2, "stale": 3, "produce": 4, "overflow": 5}

Want = Literal["gap", "interval", "check"]
"""Why an anchor is wanted: none stands since the last gap; it is time for another; a silent symbol is to be compared."""
Placed = Literal["placed", "waiting", "stale"]


@dataclass(frozen=True, slots=True)
class Anchor:
    """A snapshot as it was received."""

    last_update_id: int
    body: bytes
    sent_ns: int
    recv_ns: int
    limit: int


class _Held(NamedTuple):
    ids: UpdateIds
    payload: bytes
    recv_ns: int
    link: int


class BookSync:
    """One symbol. `link` numbers are those of the websockets."""

    def __init__(
        self,
        book: Book,
        rule: SequenceRule,
        emit: Callable[[RawRecord], None],
        *,
        ip: str | None,
        anchor_interval_ns: int,
        check_after_ns: int,
        random: Callable[[], float],
    ) -> None:
        self.book = book
        self.repeats = 0  # dropped since the last look
        self.resubscribe = False  # the symbol is stale: its subscription does not work
        self.request_open = False  # an anchor was asked for and has not come
        self.stopped = False
        self._rule = rule
        self._emit = emit
        self._ip = ip
        self._anchor_interval_ns = anchor_interval_ns
        self._check_after_ns = check_after_ns
        self._random = random
        self._last_id: int | None = None  # of the latest update since the last gap
        self._anchor_id: int | None = None  # of the latest anchor since the last gap
        self._last_good_ns: int | None = None
        self._cause: GapCause | None = None  # what happened since the latest update
        self._undecided_since_ns: int | None = None
        self._link: int | None = None
        self._held: deque[_Held] | None = None
        self._held_bytes = 0
        self._hold_until_ns = 0
        self._ahead: Anchor | None = None  # here, and waiting for its place
        self._behind: tuple[int, int] | None = None  # an id that a snapshot has and the stream has not; since when
        self._heard_ns = 0  # the latest update, or the start of its subscription
        self._check_ns = check_after_ns  # doubled with every check that found nothing
        self._want: Want | None = None
        self._want_at_ns = 0
        self._tries = 0

    @property
    def known_id(self) -> int | None:
        """The id up to which a consumer has the book; None since a gap."""
        if self._last_id is None or self._anchor_id is None:
            return self._last_id if self._anchor_id is None else self._anchor_id
        return max(self._last_id, self._anchor_id)

    @property
    def stream_id(self) -> int | None:
        """The final id of the latest update taken, published or held; None if there was none since a gap."""
        return self._held[-1].ids.last_id if self._held else self._last_id

    @property
    def anchored(self) -> bool:
        """Whether a consumer can have the book: an anchor stands since the last gap."""
        return self._anchor_id is not None

    def silent_ns(self, now_ns: int) -> int:
        """Since the latest update or subscription."""
        return now_ns - self._heard_ns

    # --- the stream ---------------------------------------------------------------------------------------------------

    def start(self, now_ns: int) -> None:
        """The symbol is recorded from here on; nothing is known of before."""
        self._gap("start", None, now_ns)

    def subscribed(self, link: int, now_ns: int) -> None:
        """Its subscription on the connection that counts was acknowledged."""
        self._link = link
        self._heard_ns = now_ns
        self._check_ns = self._check_after_ns
        if self._undecided_since_ns is not None:
            self._ask("check", now_ns + CHECK_SOON_NS)

    def update(self, ids: UpdateIds, payload: bytes, recv_ns: int, link: int) -> None:
        """The next update of the stream."""
        if self._held is None:
            self._take(ids, payload, recv_ns, link)
            return
        self._held.append(_Held(ids, payload, recv_ns, link))
        self._held_bytes += len(payload)
        self._heard_ns = recv_ns
        if self._ahead is not None:
            self._place_if_due(recv_ns)
        if self._held_bytes > HOLD_BYTES:
            self._go_on(recv_ns)

    def suspect(self, cause: GapCause) -> None:
        """Something happened that may have cost updates; the chain will tell."""
        if self.known_id is not None and _GRAVITY[cause] > _GRAVITY.get(self._cause or "start", 0):
            self._cause = cause

    def lost(self, cause: GapCause, now_ns: int) -> None:
        """The connection ended. If nothing decides it in time, this was a gap."""
        self.suspect(cause)
        self._behind = None
        if self.known_id is not None and self._undecided_since_ns is None:
            self._undecided_since_ns = now_ns

    def told_elsewhere(self, now_ns: int) -> None:
        """A gap of this symbol was published behind what went out so far (``produce``): another anchor is needed."""
        self._anchor_id = None
        self.want_anchor("gap", now_ns)

    def stop(self, now_ns: int) -> None:
        """The symbol is not recorded any more: all that waits goes out, then a gap."""
        self._go_on(now_ns)
        self._gap("stop", None, now_ns)
        self._want, self.stopped = None, True

    # --- anchors ------------------------------------------------------------------------------------------------------

    def wanted(self, now_ns: int) -> Want | None:
        """Why an anchor should be asked for now, if it should."""
        if self.request_open or self._ahead is not None or now_ns < self._want_at_ns:
            return None
        return self._want

    def want_anchor(self, why: Want, now_ns: int) -> None:
        """Ask for one as soon as can be."""
        self._tries = 0
        self._ask(why, now_ns)

    def anchor_sent(self, now_ns: int) -> None:
        """The request leaves: from here on updates wait."""
        if self._held is None:
            self._held, self._held_bytes = deque(), 0
        self._hold_until_ns = now_ns + HOLD_NS

    def anchor_failed(self, now_ns: int) -> None:
        """There is none: the updates go out, and it is tried again."""
        self.request_open = False
        self._go_on(now_ns)
        self._retry(now_ns)

    def anchor_arrived(self, anchor: Anchor, now_ns: int) -> Placed:
        """The answer came: put in its place, waiting for it, or older than what was published."""
        self.request_open = False
        if self._is_stale(anchor):
            self._go_on(now_ns)
            self._retry(now_ns)
            return "stale"
        if self._held is None:
            self._held, self._held_bytes = deque(), 0
        self._ahead = anchor
        self._hold_until_ns = now_ns + HOLD_NS
        self._place_if_due(now_ns)
        return "placed" if self._ahead is None else "waiting"

    def saw_snapshot(self, last_update_id: int, now_ns: int) -> None:
        """A snapshot that is no anchor has this id: the stream should reach it soon."""
        known = self._held[-1].ids.last_id if self._held else self.known_id
        if known is not None and last_update_id > known and self._behind is None and self._undecided_since_ns is None:
            self._behind = last_update_id, now_ns

    def tick(self, now_ns: int, *, live: bool) -> None:
        """What time alone decides. `live`: the symbol is subscribed on a connection that stands."""
        if self._held is not None and now_ns >= self._hold_until_ns:
            self._go_on(now_ns)
        if self._undecided_since_ns is not None and now_ns - self._undecided_since_ns >= UNDECIDED_NS:
            self._gap(self._cause or "disconnect", None, now_ns)
        if not live:
            return
        if self._behind is not None and now_ns - self._behind[1] >= BEHIND_NS:
            self._gap("stale", None, now_ns)
            self.resubscribe = True
        if now_ns - self._heard_ns >= self._check_ns:
            self._check_ns = min(2 * self._check_ns, max(self._anchor_interval_ns, self._check_after_ns))
            self._ask("check", now_ns)

    # --- inside -------------------------------------------------------------------------------------------------------

    def _take(self, ids: UpdateIds, payload: bytes, recv_ns: int, link: int) -> None:
        if self._last_id is not None:
            verdict = self._rule.after_update(self._last_id, ids)
            if verdict == "repeat":
                self.repeats += 1
                return
        elif self._anchor_id is not None:
            # What the anchor holds already is published all the same: it begins the chain.
            verdict = self._rule.after_anchor(self._anchor_id, ids)
        else:
            verdict = "next"
        if verdict == "gap":
            self._gap(self._cause or "sequence", ids.first_id, recv_ns)
        self._last_id = ids.last_id
        self._last_good_ns = self._heard_ns = recv_ns
        self._cause = self._undecided_since_ns = None
        self._check_ns = self._check_after_ns
        self._link = link
        if self._behind is not None and ids.last_id >= self._behind[0]:
            self._behind = None
        self._emit(RawRecord(self.book, "update", payload, recv_ns, self._ip, link=link, last_id=ids.last_id))

    def _gap(self, cause: GapCause, next_id: int | None, at_ns: int) -> None:
        gap = Gap(cause=cause, last_id=self.known_id, next_id=next_id, since_ns=self._last_good_ns)
        self._emit(RawRecord(self.book, "gap", gap.encode(), at_ns, self._ip, link=self._link))
        self._last_id = self._anchor_id = None
        self._cause = self._undecided_since_ns = self._behind = None
        self.want_anchor("gap", at_ns)

    def _is_stale(self, anchor: Anchor) -> bool:
        """Whether something that is not in the snapshot was published before it, or is missing behind it."""
        if self.known_id is not None:
            return anchor.last_update_id < self.known_id
        if not self._held or self._held[0].ids.last_id <= anchor.last_update_id:
            return False
        return self._rule.after_anchor(anchor.last_update_id, self._held[0].ids) == "gap"

    def _place_if_due(self, now_ns: int) -> None:
        """Once the stream has come to the anchor's id."""
        assert self._ahead is not None
        reached = self._held[-1].ids.last_id if self._held else self._last_id
        if reached is not None and reached >= self._ahead.last_update_id:
            self._go_on(now_ns)

    def _go_on(self, now_ns: int) -> None:
        """Nothing waits any more: updates and, where there is one, the anchor in its place among them."""
        held, self._held = self._held or deque(), None
        anchor, self._ahead = self._ahead, None
        if anchor is not None:
            while held and held[0].ids.last_id <= anchor.last_update_id:
                self._take(*held.popleft())
            self._gap_before(anchor, held[0] if held else None, now_ns)
            self._put_anchor(anchor, now_ns)
        for update in held:
            self._take(*update)

    def _gap_before(self, anchor: Anchor, following: _Held | None, now_ns: int) -> None:
        """A hole that ends before the anchor is told before it; one behind it by the update that shows it."""
        if self._last_id is None:
            return
        if following is None:
            if self._undecided_since_ns is not None and self._last_id < anchor.last_update_id:
                self._gap(self._cause or "disconnect", None, now_ns)
        elif (
            self._rule.after_update(self._last_id, following.ids) == "gap"
            and self._rule.after_anchor(anchor.last_update_id, following.ids) == "next"
        ):
            self._gap(self._cause or "sequence", following.ids.first_id, following.recv_ns)

    def _put_anchor(self, anchor: Anchor, now_ns: int) -> None:
        self._anchor_id = anchor.last_update_id
        self._last_good_ns = anchor.recv_ns
        self._tries = 0
        if self._last_id == anchor.last_update_id:
            self._cause = self._undecided_since_ns = None  # the book has not moved: nothing was lost
        elif self._last_id is not None and self._last_id < anchor.last_update_id:
            self._behind = anchor.last_update_id, now_ns
        self._want, self._want_at_ns = "interval", now_ns + int(self._anchor_interval_ns * (0.9 + 0.1 * self._random()))
        record = RawRecord(
            self.book,
            "snapshot",
            anchor.body,
            anchor.recv_ns,
            self._ip,
            anchor.sent_ns,
            anchor.limit,
            self._link,
            anchor.last_update_id,
        )
        self._emit(record)

    def _ask(self, why: Want, at_ns: int) -> None:
        """A gap comes first; a check does not put off what is due anyway."""
        if self._want == "gap" and why != "gap":
            return
        if why == "check" and self._want is not None and self._want_at_ns <= at_ns:
            return
        self._want, self._want_at_ns = why, at_ns

    def _retry(self, now_ns: int) -> None:
        ceiling_ns = min(LONGEST_RETRY_NS, FIRST_RETRY_NS * 2**self._tries)
        self._tries = min(self._tries + 1, 10)
        self._want = self._want or "interval"
        self._want_at_ns = now_ns + int(ceiling_ns * (0.5 + 0.5 * self._random()))
