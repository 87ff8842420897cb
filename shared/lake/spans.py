"""Ranges of offsets, both ends included, rising and apart from one another. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable

    import numpy.typing as npt

Span: TypeAlias = tuple[int, int]
Spans: TypeAlias = tuple[Span, ...]


def within(spans: Iterable[Span], first: int, last: int) -> Spans:
    """What of these ranges lies in first..last."""
    cut = ((max(begin, first), min(end, last)) for begin, end in spans)
    return tuple((begin, end) for begin, end in cut if begin <= end)


def without(spans: Iterable[Span], holes: Iterable[Span]) -> Spans:
    """These ranges less the holes."""
    left = tuple(spans)
    for first, last in holes:
        left = (*within(left, 0, first - 1), *(span for span in within(left, last + 1, 2**63)))
    return tuple(sorted(left))


def count(spans: Iterable[Span]) -> int:
    """How many offsets these are."""
    return sum(last - first + 1 for first, last in spans)


def holds(spans: Iterable[Span], offset: int) -> bool:
    """Whether an offset lies in one of these ranges."""
    return any(first <= offset <= last for first, last in spans)


def mask(spans: Spans, offsets: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """For each offset whether it lies in one of these ranges."""
    firsts = np.array([first for first, _ in spans], np.int64)
    lasts = np.array([last for _, last in spans], np.int64)
    at = np.searchsorted(firsts, offsets, side="right") - 1
    inside = at >= 0
    inside[inside] = offsets[inside] <= lasts[at[inside]]
    return inside
