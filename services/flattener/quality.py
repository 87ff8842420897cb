"""What is out of the ordinary about the books of a batch: counted here, never judged, never altered. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from shared.messages import RecordType
    from shared.venues.levels import Levels


@dataclass(frozen=True, slots=True)
class Quality:
    """How many books of a batch were out of the ordinary; levels of more than 15 significant digits.

    An update is no book: it lists prices in any order, on one side or both. Of updates only the empty ones are counted.
    """

    levels: int = 0
    empty: int = 0
    one_sided: int = 0
    crossed: int = 0  # best bid at or above best ask
    unsorted: int = 0  # a side that is not best first
    repeated: int = 0  # a side that names a price twice in a row
    imprecise: int = 0

    @classmethod
    def of(cls, types: Sequence[RecordType], levels: Levels) -> Quality:
        """Of messages of these types, whose sides, bids then asks of each, are those of `levels`."""
        empty = one_sided = crossed = unsorted = repeated = 0
        end = 0
        pairs = zip(levels.counts[0::2], levels.counts[1::2], strict=True)
        for type_, (bid_count, ask_count) in zip(types, pairs, strict=True):
            start, end = end, end + bid_count + ask_count
            if type_ != "snapshot":
                empty += start == end and type_ == "update"
                continue
            bids, asks = levels.prices[start : start + bid_count], levels.prices[start + bid_count : end]
            if not (bid_count and ask_count):
                empty += not bid_count and not ask_count
                one_sided += bool(bid_count or ask_count)
            in_order = True
            for best_first in (bids[::-1], asks):
                if not (best_first[1:] > best_first[:-1]).all():
                    in_order = False
                    unsorted += bool((best_first[1:] < best_first[:-1]).any())
                    repeated += bool((best_first[1:] == best_first[:-1]).any())
            if bid_count and ask_count:
                best_bid, best_ask = (bids[0], asks[0]) if in_order else (bids.max(), asks.min())
                crossed += bool(best_bid >= best_ask)
        return cls(len(levels.prices), empty, one_sided, crossed, unsorted, repeated, levels.imprecise)
