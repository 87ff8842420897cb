"""The recipe for a book, message by message: which updates of a stream follow its anchor, and where that ends.

1. Messages are taken in the order of their raw offsets; what was received after the instant is never used.
2. The book begins with the last snapshot that had been received.
3. An update at or below the book's id is skipped; one that chains is applied and sets the id. At the first one that was
   received after the instant the book is complete: receive times of updates may cross where two connections meet, the
   chain may not be cut in the middle.
4. Snapshots received after the instant are passed over: updates that waited for one lie behind it, though they were
   received before it, and follow the update before it.
5. A gap row, or an update that does not chain, ends the book.
6. An instant may lie in a hole that was told only later. So the first message after the book decides: a gap row that
   reaches back to the instant, or an update that does not chain, is a gap of this book too.

Pure: the rows come as `Deltas`, the venue's rule as an argument.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol

from shared.lake import fold
from shared.lake.book import Anchor, Book
from shared.lake.deltas import GAP, SNAPSHOT
from shared.lake.gap import BROKEN_CHAIN, Gap, row_times

if TYPE_CHECKING:
    from shared.lake.deltas import Deltas
    from shared.messages import Book as BookKey

Verdict = Literal["next", "repeat", "gap"]


class SequenceRule(Protocol):
    """A venue's rule of sequence: what of `shared.venues` the lake, which knows no venue, has to be given.

    `update` has the fields of `shared.lake.deltas.MessageIds`.
    """

    def after_update(self, last_id: int, update: Any) -> Verdict:
        """Whether an update follows the one whose final id is `last_id`."""

    def after_anchor(self, anchor_id: int, update: Any) -> Verdict:
        """Whether an update follows the snapshot whose id is `anchor_id`."""


@dataclass(slots=True)
class _State:
    """A book under way."""

    anchor: int
    position: int  # the next message to look at
    at_ns: int
    update_id: int | None
    last_recv_ns: int
    sides: fold.Sides
    known: tuple[fold.Bound, fold.Bound]
    pending: list[int] = field(default_factory=list)  # applied by id, not yet folded
    updates: int = 0
    ended: Gap | None = None


class Rebuilder:
    """The books of one stream and raw partition at any instants. Rising ones cost only what lies between them."""

    def __init__(self, key: BookKey, stream: str, raw_partition: int, deltas: Deltas, rule: SequenceRule) -> None:
        self._key = key
        self._stream = stream
        self._partition = raw_partition
        self._deltas = deltas
        self._rule = rule
        self._state: _State | None = None

    def anchor_recv_ns(self, at_ns: int) -> int | None:
        """Receipt of the anchor that a book at this instant begins with; None where there is none."""
        anchor = self._deltas.anchor_at(at_ns)
        return None if anchor is None else self._deltas.recv_ns[anchor]

    def at(self, at_ns: int) -> tuple[Book, bool]:
        """The book at an instant that has an anchor, and whether it is decided that no hole holds the instant.

        Undecided is only what no message of this stream follows.
        """
        state = self._resumed(at_ns)
        self._advance(state)
        gaps: tuple[Gap, ...]
        if state.ended is not None:
            gaps, decided = (state.ended, *self._later_gaps(state)), True
        else:
            hole, decided = self._ahead(state)
            gaps = () if hole is None else (hole,)
        state.sides, state.pending = fold.folded(state.sides, self._deltas, state.pending), []
        bids, asks = fold.levels(state.sides, state.known)
        deltas, anchor = self._deltas, state.anchor
        book = Book(
            key=self._key,
            at_ns=at_ns,
            stream=self._stream,
            raw_partition=self._partition,
            bids=bids,
            asks=asks,
            anchor=Anchor(
                recv_ns=deltas.recv_ns[anchor],
                update_id=deltas.update_id[anchor],
                depth_limit=deltas.depth_limit[anchor],
                raw_offset=deltas.raw_offset[anchor],
            ),
            update_id=state.update_id,
            last_recv_ns=state.last_recv_ns,
            updates=state.updates,
            gaps=gaps,
        )
        return book, decided

    def _resumed(self, at_ns: int) -> _State:
        anchor = self._deltas.anchor_at(at_ns)
        if anchor is None:
            raise ValueError(f"no anchor at or before {at_ns}")
        state = self._state
        if state is None or state.anchor != anchor or at_ns < state.at_ns:
            state = self._state = _State(
                anchor=anchor,
                position=anchor + 1,
                at_ns=at_ns,
                update_id=self._deltas.update_id[anchor],
                last_recv_ns=self._deltas.recv_ns[anchor],
                sides=fold.folded(fold.NOTHING, self._deltas, [anchor]),
                known=fold.bounds(self._deltas, anchor),
            )
        state.at_ns = at_ns
        return state

    def _advance(self, state: _State) -> None:
        deltas = self._deltas
        while state.ended is None and state.position < len(deltas):
            message = state.position
            if deltas.kind[message] == GAP:
                if deltas.recv_ns[message] > state.at_ns:
                    return
                state.ended = self._row_gap(message)
            elif deltas.kind[message] != SNAPSHOT:
                verdict = self._verdict(state, message)
                if verdict != "repeat":
                    if deltas.recv_ns[message] > state.at_ns:
                        return
                    if verdict == "gap":
                        state.ended = self._broken(state, message)
                    else:
                        self._apply(state, message)
            state.position += 1

    def _apply(self, state: _State, message: int) -> None:
        state.update_id = self._deltas.update_id[message]
        state.last_recv_ns = self._deltas.recv_ns[message]
        state.pending.append(message)
        state.updates += 1

    def _verdict(self, state: _State, message: int) -> Verdict:
        ids = self._deltas.ids(message)
        if ids is None or state.update_id is None:
            return "gap"  # what has no id follows nothing
        follows = self._rule.after_update if state.updates else self._rule.after_anchor
        return follows(state.update_id, ids)

    def _ahead(self, state: _State) -> tuple[Gap | None, bool]:
        """The hole that holds the instant, if one does, and whether that is decided."""
        deltas = self._deltas
        for message in range(state.position, len(deltas)):
            if deltas.kind[message] == GAP:
                gap = self._row_gap(message)
                # `gap_since` is the last good time, in microseconds: in that one the book was still known.
                before = gap.since_ns is None or gap.since_ns // 1000 < state.at_ns // 1000
                return (gap if before else None), True
            if deltas.kind[message] != SNAPSHOT:
                verdict = self._verdict(state, message)
                if verdict != "repeat":
                    return (self._broken(state, message) if verdict == "gap" else None), True
        return None, False

    def _later_gaps(self, state: _State) -> list[Gap]:
        """Gap rows between the end of the book and the next anchor that had been received."""
        deltas, found = self._deltas, []
        for message in range(state.position, len(deltas)):
            if deltas.kind[message] == SNAPSHOT:
                break
            if deltas.kind[message] == GAP and deltas.recv_ns[message] <= state.at_ns:
                found.append(self._row_gap(message))
        return found

    def _row_gap(self, message: int) -> Gap:
        deltas = self._deltas
        cause, recv_ns = deltas.gap_cause[message] or "unknown", deltas.recv_ns[message]
        since_ns, until_ns = row_times(cause, recv_ns, deltas.gap_since_us[message])
        return Gap(
            kind="fobd",
            stream=self._stream,
            raw_partition=self._partition,
            cause=cause,
            told_ns=recv_ns,
            since_ns=since_ns,
            until_ns=until_ns,
            book=self._key,
            last_id=deltas.prev_id[message],
            next_id=deltas.first_id[message],
            raw_offset=deltas.raw_offset[message],
        )

    def _broken(self, state: _State, message: int) -> Gap:
        deltas = self._deltas
        return Gap(
            kind="fobd",
            stream=self._stream,
            raw_partition=self._partition,
            cause=BROKEN_CHAIN,
            told_ns=deltas.recv_ns[message],
            since_ns=state.last_recv_ns,
            until_ns=deltas.recv_ns[message],
            book=self._key,
            last_id=state.update_id,
            next_id=deltas.first_id[message],
            raw_offset=deltas.raw_offset[message],
        )
