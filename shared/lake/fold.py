"""Levels in the order they were sent, folded to the book they leave: the last write of each price. Pure numpy."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from shared.lake.book import Levels
from shared.lake.deltas import ASK, BID

if TYPE_CHECKING:
    import numpy.typing as npt

    from shared.lake.deltas import Deltas


class Side(NamedTuple):
    """The levels of one side that are there, by rising price."""

    price: npt.NDArray[np.float64]
    quantity: npt.NDArray[np.float64]


Sides = tuple[Side, Side]  # bids, asks: as BID and ASK index them
_NONE = Side(np.empty(0), np.empty(0))
NOTHING: Sides = (_NONE, _NONE)


class Bound(NamedTuple):
    """How far an anchor knows a side; see `shared.lake.book.Levels`."""

    whole: bool
    worst: float | None


def folded(before: Sides, deltas: Deltas, messages: list[int]) -> Sides:
    """What is left of `before` once these messages, whose order is the one given and rises, are applied to it."""
    if not messages:
        return before
    rows = _rows(deltas, messages)
    side, price, quantity = deltas.side[rows], deltas.price[rows], deltas.quantity[rows]
    return tuple(  # type: ignore[return-value]
        _last_writes(
            np.concatenate([before[which].price, price[side == which]]),
            np.concatenate([before[which].quantity, quantity[side == which]]),
        )
        for which in (BID, ASK)
    )


def bounds(deltas: Deltas, anchor: int) -> tuple[Bound, Bound]:
    """How far the snapshot `anchor` knows its bids and its asks."""
    rows = slice(int(deltas.starts[anchor]), int(deltas.starts[anchor + 1]))
    side, price, limit = deltas.side[rows], deltas.price[rows], deltas.depth_limit[anchor]
    found = []
    for which, worst in ((BID, np.min), (ASK, np.max)):
        prices = price[side == which]
        whole = limit is not None and len(prices) < limit
        found.append(Bound(whole, float(worst(prices)) if len(prices) else None))
    return found[BID], found[ASK]


def levels(sides: Sides, known: tuple[Bound, Bound]) -> tuple[Levels, Levels]:
    """Bids and asks as people want them: best first, what lies beyond the anchor marked."""
    bid, ask = sides[BID], sides[ASK]
    bids = _marked(bid.price[::-1], bid.quantity[::-1], known[BID], np.less)
    return bids, _marked(ask.price, ask.quantity, known[ASK], np.greater)


def _marked(
    price: npt.NDArray[np.float64], quantity: npt.NDArray[np.float64], known: Bound, beyond: np.ufunc
) -> Levels:
    if known.whole:
        marks = np.zeros(len(price), np.bool_)
    elif known.worst is None:
        marks = np.ones(len(price), np.bool_)
    else:
        marks = beyond(price, known.worst)
    return Levels(price, quantity, marks, known.whole, known.worst)


def _rows(deltas: Deltas, messages: list[int]) -> slice | npt.NDArray[np.int64]:
    first, last = messages[0], messages[-1]
    start, end = int(deltas.starts[first]), int(deltas.starts[last + 1])
    if len(messages) == last + 1 - first:
        return slice(start, end)
    taken = np.zeros(last + 1 - first, np.bool_)
    taken[np.array(messages) - first] = True
    return start + np.flatnonzero(np.repeat(taken, np.diff(deltas.starts[first : last + 2])))


def _last_writes(price: npt.NDArray[np.float64], quantity: npt.NDArray[np.float64]) -> Side:
    order = np.argsort(price, kind="stable")  # of equal prices the last written comes last
    price, quantity = price[order], quantity[order]
    last = np.append(price[1:] != price[:-1], True) if len(price) else np.empty(0, np.bool_)
    there = last & (quantity != 0)
    return Side(price[there], quantity[there])
