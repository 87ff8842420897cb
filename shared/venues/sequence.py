"""Whether one depth update follows another: next, a repeat, or a gap. One rule per venue; pure, no I/O, no memory.

The rules answer two questions. `after_update`: does an update follow the update with this final id? `after_anchor`:
does it follow a snapshot with this ``lastUpdateId``? Who asks keeps the state: the reader for each symbol it
publishes, `shared.lake.book` for each book it rebuilds.
"""

from __future__ import annotations

from typing import Literal, Protocol

import msgspec

Verdict = Literal["next", "repeat", "gap"]


class UpdateIds(msgspec.Struct, frozen=True, gc=False):
    """The ids of one depth update: it covers all changes of its symbol after `prev_id` (where given) up to `last_id`."""

    first_id: int  # U
    last_id: int  # u
    prev_id: int | None = None  # pu: the last_id of the update before it; None where the venue gives none


class SequenceRule(Protocol):
    """The rule of one venue."""

    def after_update(self, last_id: int, update: UpdateIds) -> Verdict:
        """Whether `update` follows the update whose final id is `last_id`."""

    def after_anchor(self, anchor_id: int, update: UpdateIds) -> Verdict:
        """Whether `update` follows the snapshot whose last update id is `anchor_id`."""


class ChainedByPrevious:
    """Binance USDⓈ-M and COIN-M futures: ids are shared by all symbols and sparse, only ``pu`` chains.

    Source: "How to manage a local order book correctly" (USDⓈ-M and COIN-M), and what captured traffic shows of it.

    1. "While listening to the stream, each new event's pu should be equal to the previous event's u": else a gap.
    2. An event with u at or below the last one repeats or comes late: its changes are in what was taken already.
    3. "Drop any event where u is < lastUpdateId in the snapshot." u == lastUpdateId is the same: the snapshot holds
       it (14 of 40 captured sessions begin so; applying it would change nothing).
    4. "The first processed event should have U <= lastUpdateId AND u >= lastUpdateId."
    5. If the event with u == lastUpdateId was dropped (3), the next one has pu == lastUpdateId: accepted.
    6. lastUpdateId may also lie between pu and U: no change of this symbol has an id there, so nothing is missing.
       4, 5 and 6 together are pu <= lastUpdateId < u; a pu above lastUpdateId is a gap.
    7. An event without pu chains to nothing: after an update it is a gap, after an anchor only (4) can hold.
    """

    def after_update(self, last_id: int, update: UpdateIds) -> Verdict:
        """Rules 1, 2 and 7."""
        if update.last_id <= last_id:  # 2
            return "repeat"
        return "next" if update.prev_id == last_id else "gap"  # 1, 7

    def after_anchor(self, anchor_id: int, update: UpdateIds) -> Verdict:
        """Rules 3 to 7."""
        if update.last_id <= anchor_id:  # 3
            return "repeat"
        if update.first_id <= anchor_id:  # 4
            return "next"
        return "next" if update.prev_id is not None and update.prev_id <= anchor_id else "gap"  # 5, 6, 7


class ContiguousIds:
    """Binance spot: ids count every change of a symbol without a hole; there is no ``pu``.

    Source: "How to manage a local order book correctly" (spot).

    1. "U of each event is the previous event's u + 1": above it is a gap.
    2. An event with u at or below the last one repeats or comes late.
    3. An event that begins at or below the last id and ends above it holds what is next, and repeats the rest: taken,
       as quantities are absolute.
    4. "Discard any buffered event where u is <= lastUpdateId of the snapshot."
    5. "The first buffered event should now have lastUpdateId within its [U;u] range", which with (4) is
       U <= lastUpdateId + 1 <= u; a U above that is a gap.
    """

    def after_update(self, last_id: int, update: UpdateIds) -> Verdict:
        """Rules 1 to 3."""
        if update.last_id <= last_id:  # 2
            return "repeat"
        return "next" if update.first_id <= last_id + 1 else "gap"  # 1, 3

    def after_anchor(self, anchor_id: int, update: UpdateIds) -> Verdict:
        """Rules 4 and 5."""
        if update.last_id <= anchor_id:  # 4
            return "repeat"
        return "next" if update.first_id <= anchor_id + 1 else "gap"  # 5
