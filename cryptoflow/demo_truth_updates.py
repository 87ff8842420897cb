"""Compares the updates in the lake with the events of the exchange's streams.

From the first event that a socket was given to the last one in the lake each must lie there once, in order, with its ids
and its levels, zero quantities included; what is missing must lie where a gap row stands between its neighbours. What
was given to a socket after the last one must be followed by a gap row (`stop`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from cryptoflow.demo_frames import BookName, Event, Streamed
    from cryptoflow.demo_stored import Message, Side


@dataclass(slots=True)
class UpdatesFound:
    """`updates` lie in the lake; `levels` were sent with them, `removals` of these with quantity 0; `rows` were found."""

    updates: int = 0
    levels: int = 0
    removals: int = 0
    rows: int = 0
    gap_rows: int = 0
    in_gaps: int = 0  # missing between two that are there, and covered by a gap row
    on_their_way: int = 0  # given to the socket when the reader stopped, and covered by its last gap row


def compare_updates(
    name: BookName, streamed: Streamed, messages: Sequence[Message], result: UpdatesFound, problems: list[str]
) -> None:
    """Adds one symbol to `result`, and what is wrong with it to `problems`."""
    first = min(streamed.delivered, default=None)
    events = [event for event in streamed.events if first is not None and event.last_id >= first]
    place = {event.last_id: index for index, event in enumerate(events)}
    reached, in_gap = 0, False
    for message in messages:
        if message.type == "gap":
            result.gap_rows += 1
            in_gap = reached > 0  # what stands before the first update says nothing of the time after it
        elif message.type == "update":
            index = place.get(message.last_id or 0)
            if index is None or index < reached:
                problems.append(f"{name}: update {message.last_id} lies in the lake, and was not sent then")
                continue
            if in_gap:
                result.in_gaps += index - reached
            elif index > reached:
                problems.append(f"{name}: {_words(events[reached:index])}, and no gap row stands there")
            reached, in_gap = index + 1, False
            _compare(name, events[index], message, result, problems)
    left = [event for event in events[reached:] if event.last_id in streamed.delivered]
    if in_gap:
        result.on_their_way += len(left)
    elif left:
        problems.append(f"{name}: {_words(left)}, and no gap row follows")


def exact(side: Side, served: Iterable[Sequence[str]]) -> bool:
    """Whether these are the float64 of the served texts, in the served order."""
    found = zip(side[0].tolist(), side[1].tolist(), strict=True)
    return list(found) == [(float(price), float(quantity)) for price, quantity in served]


def _compare(name: BookName, event: Event, message: Message, result: UpdatesFound, problems: list[str]) -> None:
    sent = event.sides()
    quantities = [float(quantity) for _, quantity in (*sent.bids, *sent.asks)]
    result.updates += 1
    result.levels += len(quantities)
    result.removals += quantities.count(0.0)
    result.rows += message.rows
    ids = message.first_id, message.previous_id
    if ids != (event.first_id, event.previous_id) or not (
        exact(message.bids, sent.bids) and exact(message.asks, sent.asks)
    ):
        problems.append(f"{name}: update {event.last_id} differs from what was sent")


def _words(events: Sequence[Event]) -> str:
    one = len(events) == 1
    which = f"update {events[0].last_id} was" if one else f"updates {events[0].last_id} to {events[-1].last_id} were"
    return f"{which} sent and {'does' if one else 'do'} not lie in the lake"
