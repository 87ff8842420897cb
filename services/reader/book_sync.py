"""The order in which one symbol is published: its updates, the anchors among them, the gaps between them.

Pure: no I/O, no task, no clock; records go to `emit`, times are arguments (ns since the epoch). What it promises to a
consumer who reads the symbol's records in order:

1. Every update that was received is there, once, in the order of the stream; only repeats and late ones are dropped.
2. Where the chain of ids breaks stands one gap, before the first record behind the hole, with what happened in it.
3. An anchor is valid at its place: updates with u <= lastUpdateId lie before it, all others behind it.

For 3 the updates wait while an anchor's request is in flight: `HOLD_NS`, `HOLD_BYTES` at most. An anchor that is ahead
of the stream waits as long for the updates up to its id; those that come later still stand behind it, where a consumer
skips them. One that is behind is refused, to be fetched again, and so is one that was asked for before the connection
stood if no update shows what was lost meanwhile. If none can be had in time the updates go out without it. Whether
anything was lost in an outage is decided by the chain alone: a gap goes out when the next update does not chain, or
after `UNDECIDED_NS` without one.
Never opens a connection, never reads a level, never decides when a request may be sent.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Literal

from services.reader.anchor_due import AnchorDue, Want
from services.reader.channel import RawRecord
from services.reader.hold import HeldUpdate, Hold
from shared.messages import Gap
from shared.venues.base import SECOND_NS

if TYPE_CHECKING:
    from collections.abc import Callable

    from shared.messages import Book, GapCause
    from shared.venues.sequence import SequenceRule, UpdateIds, Verdict

HOLD_NS = 3 * SECOND_NS
HOLD_BYTES = 4 * 1024 * 1024
UNDECIDED_NS = 30 * SECOND_NS
"""After a lost connection a gap goes out at once if neither an update nor an anchor has come for so long."""
BEHIND_NS = 10 * SECOND_NS
"""A snapshot has moved on and no update came for so long: the symbol is stale."""
CHECK_SOON_NS = 5 * SECOND_NS
"""A symbol that sent nothing since its connection came back is compared with a snapshot after so long."""

_GRAVITY: dict[GapCause, int] = {"malformed": 1, "disconnect": 2, "stale": 3, "produce": 4, "overflow": 5}

Placed = Literal["placed", "waiting", "stale"]


@dataclass(frozen=True, slots=True)
class Anchor:
    """A snapshot as it was received."""

    last_update_id: int
    body: bytes
    sent_ns: int
    recv_ns: int
    limit: int
    ip: str | None = None  # the source address it was asked from


class BookSync:
    """One symbol. `link` numbers are those of the websockets; `ip` is the source address it belongs to."""

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
        self.anchored = False  # whether a consumer can have the book: an anchor stands since the last gap
        self._rule = rule
        self._emit = emit
        self._ip = ip
        self._due = AnchorDue(anchor_interval_ns, check_after_ns, random)
        self._last_id: int | None = None  # of the latest update since the last gap
        self._first_anchor_id: int | None = None  # since the last gap: the chain's beginning while there is no update
        self._anchor_id: int | None = None  # of the latest anchor since the last gap
        self._floor_id: int | None = None  # of the latest update before a gap that the connection survived
        self._last_good_ns: int | None = None
        self._cause: GapCause | None = None  # what happened since the latest update
        self._undecided_since_ns: int | None = None
        self._link: int | None = None
        self._down = True  # no subscription works
        self._up_ns = 0  # since when one does
        self._hold: Hold | None = None
        self._ahead: Anchor | None = None  # here, and waiting for its place
        self._behind: tuple[int, int] | None = None  # an id that a snapshot has and the stream has not; since when

    @property
    def known_id(self) -> int | None:
        """The id up to which a consumer has the book; None since a gap."""
        if self._last_id is None or self._anchor_id is None:
            return self._last_id if self._anchor_id is None else self._anchor_id
        return max(self._last_id, self._anchor_id)

    @property
    def stream_id(self) -> int | None:
        """The final id of the latest update taken, published or held; None if there was none since a gap."""
        held_id = self._hold.last_id if self._hold else None
        return self._last_id if held_id is None else held_id

    def silent_ns(self, now_ns: int) -> int:
        """Since the latest update or subscription."""
        return self._due.silent_ns(now_ns)

    # --- the stream ---------------------------------------------------------------------------------------------------

    def start(self, now_ns: int) -> None:
        """The symbol is recorded from here on; nothing is known of before."""
        self._gap("start", None, now_ns)

    def subscribed(self, link: int, now_ns: int) -> None:
        """Its subscription on the connection that counts was acknowledged."""
        self._due.heard(now_ns)
        self._in_order(partial(self._subscribed, link, now_ns))

    def update(self, ids: UpdateIds, payload: bytes, recv_ns: int, link: int, ip: str | None) -> None:
        """The next update of the stream, and the source address it came to."""
        if self._hold is None:
            self._take(ids, payload, recv_ns, link, ip)
            return
        self._hold.add(HeldUpdate(ids, payload, recv_ns, link, ip))
        self._due.heard(recv_ns)
        if self._ahead is not None:
            self._place_if_due(recv_ns)
        if self._hold is not None and self._hold.size_bytes > HOLD_BYTES:
            self._go_on(recv_ns)

    def suspect(self, cause: GapCause) -> None:
        """Something happened that may have cost updates; the chain will tell."""
        self._in_order(partial(self._suspect, cause))

    def lost(self, cause: GapCause, now_ns: int) -> None:
        """The connection ended. If nothing decides it in time, this was a gap."""
        self._in_order(partial(self._lost, cause, now_ns))

    def told_elsewhere(self, now_ns: int) -> None:
        """A gap of this symbol was published behind what went out so far (``produce``): another anchor is needed."""
        self.anchored = False
        self.want_anchor("gap", now_ns)

    def stop(self, now_ns: int) -> None:
        """The symbol is not recorded any more: all that waits goes out, then a gap."""
        self._go_on(now_ns)
        self._gap("stop", None, now_ns)
        self._due.nevermore()
        self.stopped = True

    # --- anchors ------------------------------------------------------------------------------------------------------

    def wanted(self, now_ns: int) -> Want | None:
        """Why an anchor should be asked for now, if it should."""
        return None if self.request_open or self._ahead is not None else self._due.why(now_ns)

    def want_anchor(self, why: Want, now_ns: int) -> None:
        """Ask for one as soon as can be."""
        self._due.ask_now(why, now_ns)

    def anchor_sent(self, now_ns: int) -> None:
        """The request leaves: from here on updates wait."""
        self._wait(now_ns)

    def anchor_failed(self, now_ns: int) -> None:
        """There is none: the updates go out, and it is tried again."""
        self.request_open = False
        self._go_on(now_ns)
        self._due.retry(now_ns)

    def anchor_arrived(self, anchor: Anchor, now_ns: int) -> Placed:
        """The answer came: put in its place, waiting for it, or older than what was published."""
        self.request_open = False
        if self._is_stale(anchor):
            self._go_on(now_ns)
            self._due.retry(now_ns)
            return "stale"
        self._wait(now_ns)
        self._ahead = anchor
        return self._place_if_due(now_ns)

    def saw_snapshot(self, last_update_id: int, now_ns: int) -> None:
        """A snapshot that is no anchor has this id: the stream should reach it soon."""
        held_id = self._hold.last_id if self._hold else None  # of a repeat it may be below what is known
        known = max((id_ for id_ in (self.known_id, held_id) if id_ is not None), default=None)
        if known is not None and last_update_id > known and self._behind is None and self._undecided_since_ns is None:
            self._behind = last_update_id, now_ns

    def tick(self, now_ns: int, *, live: bool) -> None:
        """What time alone decides. `live`: the symbol is subscribed on a connection that stands."""
        if self._hold is not None and now_ns >= self._hold.until_ns:
            self._go_on(now_ns)
        held = self._hold is not None and self._hold.last_id is not None  # then the chain is about to tell
        if self._undecided_since_ns is not None and now_ns - self._undecided_since_ns >= UNDECIDED_NS and not held:
            self._gap(self._cause or "disconnect", None, now_ns)
        if not live:
            return
        if self._behind is not None and now_ns - self._behind[1] >= BEHIND_NS and not held:
            self._gap("stale", None, now_ns)
            self._down = self.resubscribe = True
        self._due.check_if_silent(now_ns)

    # --- inside: the stream -------------------------------------------------------------------------------------------

    def _in_order(self, event: Callable[[], None]) -> None:
        """Behind the updates that wait: it says nothing about them."""
        if self._hold is not None and self._hold.last_id is not None:
            self._hold.add_event(event)
        else:
            event()

    def _subscribed(self, link: int, now_ns: int) -> None:
        if self._down:
            self._down, self._up_ns = False, now_ns
        if link != self._link:
            self._link, self._floor_id = link, None
        if self._undecided_since_ns is not None:
            self._due.ask("check", now_ns + CHECK_SOON_NS)

    def _suspect(self, cause: GapCause) -> None:
        if self.known_id is not None and _GRAVITY[cause] > _GRAVITY.get(self._cause or "start", 0):
            self._cause = cause

    def _lost(self, cause: GapCause, now_ns: int) -> None:
        self._suspect(cause)
        self._down, self._behind = True, None
        if self.known_id is not None and self._undecided_since_ns is None:
            self._undecided_since_ns = now_ns

    def _take(self, ids: UpdateIds, payload: bytes, recv_ns: int, link: int, ip: str | None) -> None:
        verdict = self._verdict(ids)
        if verdict == "repeat":
            self.repeats += 1
            return
        if verdict == "gap":
            self._gap(self._cause or "sequence", ids.first_id, recv_ns)
        if self._down:
            self._down, self._up_ns = False, recv_ns
        self._last_id = ids.last_id
        self._last_good_ns = recv_ns
        self._due.heard(recv_ns)
        self._cause = self._undecided_since_ns = None
        self._link = link
        if self._behind is not None and ids.last_id >= self._behind[0]:
            self._behind = None
        self._emit(RawRecord(self.book, "update", payload, recv_ns, ip, link=link, last_id=ids.last_id))

    def _verdict(self, ids: UpdateIds) -> Verdict:
        if self._last_id is not None:
            return self._rule.after_update(self._last_id, ids)
        if self._floor_id is not None and ids.last_id <= self._floor_id:
            return "repeat"
        if self._first_anchor_id is not None:
            # What the anchor holds already is published all the same: it begins the chain.
            return "gap" if self._rule.after_anchor(self._first_anchor_id, ids) == "gap" else "next"
        return "next"

    def _gap(self, cause: GapCause, next_id: int | None, at_ns: int) -> None:
        gap = Gap(cause=cause, last_id=self.known_id, next_id=next_id, since_ns=self._last_good_ns)
        self._emit(RawRecord(self.book, "gap", gap.encode(), at_ns, self._ip, link=self._link))
        if self._last_id is not None and self._undecided_since_ns is None:
            self._floor_id = self._last_id
        self._last_id = self._anchor_id = self._first_anchor_id = None
        self._cause = self._undecided_since_ns = self._behind = None
        self.anchored = False
        self.want_anchor("gap", at_ns)

    # --- inside: anchors ----------------------------------------------------------------------------------------------

    @property
    def _reached_id(self) -> int | None:
        """The id of the latest update, or of the anchor where the chain begins; None since a gap."""
        return self._first_anchor_id if self._last_id is None else self._last_id

    def _wait(self, now_ns: int) -> None:
        if self._hold is None:
            self._hold = Hold(0)
        self._hold.until_ns = now_ns + HOLD_NS

    def _is_stale(self, anchor: Anchor) -> bool:
        """Whether something that is not in the snapshot was published before it."""
        return self.known_id is not None and anchor.last_update_id < self.known_id

    def _place_if_due(self, now_ns: int) -> Placed:
        """Once the stream has come to the anchor's id."""
        assert self._ahead is not None
        assert self._hold is not None
        reached = self._reached_id if self._hold.last_id is None else self._hold.last_id
        if reached is None or reached < self._ahead.last_update_id:
            return "waiting"
        return "placed" if self._go_on(now_ns) else "stale"

    def _go_on(self, now_ns: int) -> bool:
        """Nothing waits any more: updates and, where there is one, the anchor in its place among them. True = it was."""
        hold, self._hold = self._hold or Hold(0), None
        anchor, self._ahead = self._ahead, None
        placed = False
        if anchor is not None:
            self._replay(hold, anchor.last_update_id)
            placed = self._tells(anchor, hold.first)
            if placed:
                self._gap_before(anchor, hold.first, now_ns)
                self._put_anchor(anchor, hold.first, now_ns)
            else:
                self._due.retry(now_ns)
        self._replay(hold, None)
        return placed

    def _replay(self, hold: Hold, through_id: int | None) -> None:
        for one in hold.pop(through_id):
            if isinstance(one, HeldUpdate):
                self._take(*one)
            else:
                one()

    def _tells(self, anchor: Anchor, following: HeldUpdate | None) -> bool:
        """Whether what was lost before the anchor, or is missing behind it, can be known here."""
        reached = self._reached_id
        if following is not None:
            return reached is not None or self._rule.after_anchor(anchor.last_update_id, following.ids) == "next"
        if self._down:
            return False
        return anchor.sent_ns >= self._up_ns or (reached is not None and self._undecided_since_ns is None)

    def _gap_before(self, anchor: Anchor, following: HeldUpdate | None, now_ns: int) -> None:
        """A hole that ends before the anchor is told before it; one behind it by the update that shows it."""
        reached = self._reached_id
        if reached is None:
            return
        if following is None:
            if self._undecided_since_ns is not None and reached < anchor.last_update_id:
                self._gap(self._cause or "disconnect", None, now_ns)
        elif (
            self._verdict(following.ids) == "gap"
            and self._rule.after_anchor(anchor.last_update_id, following.ids) == "next"
        ):
            self._gap(self._cause or "sequence", following.ids.first_id, following.recv_ns)

    def _put_anchor(self, anchor: Anchor, following: HeldUpdate | None, now_ns: int) -> None:
        reached = self._reached_id
        if reached is None:
            self._first_anchor_id = anchor.last_update_id
        elif reached < anchor.last_update_id:
            self._behind = anchor.last_update_id, now_ns
        elif following is None and self._undecided_since_ns is not None:
            self._cause = self._undecided_since_ns = None  # the book has not moved: nothing was lost
        self._anchor_id = anchor.last_update_id
        self.anchored = True
        self._last_good_ns = anchor.recv_ns
        self._due.placed(now_ns)
        record = RawRecord(
            self.book,
            "snapshot",
            anchor.body,
            anchor.recv_ns,
            anchor.ip,
            anchor.sent_ns,
            anchor.limit,
            self._link,
            anchor.last_update_id,
        )
        self._emit(record)
