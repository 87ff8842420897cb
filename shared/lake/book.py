"""One order book at one instant, as the deltas of the lake give it. Data and its forms; how it comes about: `rebuild`.

Levels are numpy arrays, best first. Beyond the worst price of an anchor that was cut at its `depth_limit`, only levels
that changed since are known: they are marked, and what lies between them is not claimed to be empty.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from shared.lake.instant import instant_text

if TYPE_CHECKING:
    from typing import Self

    import numpy.typing as npt

    from shared.lake.gap import Gap
    from shared.messages import Book as BookKey

METADATA_PREFIX = "cryptoflow."


@dataclass(frozen=True, slots=True)
class Levels:
    """One side, best first: `price`, `quantity` (float64) and `beyond_anchor` (bool), all of one length.

    `whole`: the anchor held all levels there were. Else the side is known down (asks: up) to `known_to`, the anchor's
    worst price; rows `beyond_anchor` have changed since, and others may lie between them. None: nothing was in the anchor.
    """

    price: npt.NDArray[np.float64]
    quantity: npt.NDArray[np.float64]
    beyond_anchor: npt.NDArray[np.bool_]
    whole: bool
    known_to: float | None

    def __len__(self) -> int:
        return len(self.price)

    def best(self, depth: int | None) -> Self:
        """The same side cut to its `depth` best levels."""
        cut = slice(depth)
        return type(self)(self.price[cut], self.quantity[cut], self.beyond_anchor[cut], self.whole, self.known_to)


@dataclass(frozen=True, slots=True, kw_only=True)
class Anchor:
    """The snapshot a book was rebuilt from. `recv_ns`: its receipt, ns since the epoch."""

    recv_ns: int
    update_id: int | None
    depth_limit: int | None  # levels asked for, a side
    raw_offset: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Book:
    """A book as of `at_ns`. With `gaps`, it is the book as it was before the first of them, and no newer one is known."""

    key: BookKey
    at_ns: int
    stream: str
    raw_partition: int
    bids: Levels
    asks: Levels
    anchor: Anchor
    update_id: int | None  # of the last update in it
    last_recv_ns: int  # receipt of the last update in it; of the anchor where there is none
    updates: int  # applied to the anchor
    gaps: tuple[Gap, ...] = ()

    @property
    def age_seconds(self) -> float:
        """How long before `at_ns` the last update in it was received."""
        return (self.at_ns - self.last_recv_ns) / 1e9

    def to_arrow(self) -> pa.Table:
        """Columns side (``bid``, ``ask``), level (1 = best), price, quantity, beyond_anchor; bids first, best first.

        The rest of the book is in the schema's metadata, as ``cryptoflow.*``; gaps and anchor as JSON.
        """
        sides = (self.bids, self.asks)
        columns = {
            "side": pa.array(np.repeat(["bid", "ask"], [len(side) for side in sides]), pa.string()),
            "level": pa.array(np.concatenate([np.arange(1, len(side) + 1) for side in sides]), pa.int32()),
            "price": pa.array(np.concatenate([side.price for side in sides]), pa.float64()),
            "quantity": pa.array(np.concatenate([side.quantity for side in sides]), pa.float64()),
            "beyond_anchor": pa.array(np.concatenate([side.beyond_anchor for side in sides]), pa.bool_()),
        }
        metadata = {
            f"{METADATA_PREFIX}{name}": value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
            for name, value in self._facts().items()
        }
        return pa.table(columns).replace_schema_metadata(metadata)

    def as_dict(self) -> dict[str, Any]:
        """Everything, for JSON: times as ns and, in UTC, as text; each level as ``[price, quantity, beyond_anchor]``."""
        levels = {
            name: [list(level) for level in zip(*(column.tolist() for column in columns), strict=True)]
            for name, columns in (
                ("bids", (self.bids.price, self.bids.quantity, self.bids.beyond_anchor)),
                ("asks", (self.asks.price, self.asks.quantity, self.asks.beyond_anchor)),
            )
        }
        return self._facts() | levels

    def _facts(self) -> dict[str, Any]:
        return {
            "exchange": self.key.exchange,
            "market": self.key.market,
            "symbol": self.key.symbol,
            "at": instant_text(self.at_ns),
            "at_ns": self.at_ns,
            "stream": self.stream,
            "raw_partition": self.raw_partition,
            "update_id": self.update_id,
            "updates": self.updates,
            "last_update": instant_text(self.last_recv_ns),
            "last_update_ns": self.last_recv_ns,
            "age_seconds": self.age_seconds,
            "anchor": {
                "time": instant_text(self.anchor.recv_ns),
                "recv_ns": self.anchor.recv_ns,
                "update_id": self.anchor.update_id,
                "depth_limit": self.anchor.depth_limit,
                "raw_offset": self.anchor.raw_offset,
            },
            "known": {
                "bids": {"whole": self.bids.whole, "to_price": self.bids.known_to},
                "asks": {"whole": self.asks.whole, "to_price": self.asks.known_to},
            },
            "gaps": [gap.as_dict() for gap in self.gaps],
        }
