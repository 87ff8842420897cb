"""What a run has put into the lake, message by message, as anyone would read it: from the files alone, without our API."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from shared.lake.layout import parse_data_path

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from cryptoflow.demo_frames import BookName
    from shared.messages import Kind

Side = tuple[np.ndarray, np.ndarray]  # prices, quantities, in the order of the rows
_ID = {"fobs": "last_update_id", "fobd": "update_id"}


class Message(NamedTuple):
    """The rows of one raw record. Of a gap both sides are empty, and of its ids those before and behind the hole."""

    type: str  # update, snapshot or gap
    recv_ns: int
    first_id: int | None
    last_id: int | None  # of a snapshot the only one
    previous_id: int | None
    gap_since_us: int | None
    bids: Side
    asks: Side

    @property
    def rows(self) -> int:
        """Of levels."""
        return len(self.bids[0]) + len(self.asks[0])


def read(lake: Path, stream: str, kind: Kind) -> dict[BookName, list[Message]]:
    """Of each symbol its messages, in the order of their offsets."""
    files: dict[BookName, list[Path]] = defaultdict(list)
    for path in sorted(lake.glob(f"{kind}/**/{kind}-{stream}-*.parquet")):
        parsed = parse_data_path(path.relative_to(lake).as_posix())
        if parsed is not None:
            files[parsed.book.market, parsed.book.symbol].append(path)
    return {
        name: list(_messages(pa.concat_tables([pq.ParquetFile(path).read() for path in paths]), kind))
        for name, paths in files.items()
    }


def _messages(table: pa.Table, kind: Kind) -> Iterator[Message]:
    level = (
        table["level"].fill_null(0).to_numpy() if kind == "fobs" else np.zeros(table.num_rows)
    )  # updates: as they lie
    table = table.take(np.lexsort((level, table["raw_offset"].to_numpy(), table["raw_partition"].to_numpy())))
    partitions, offsets = table["raw_partition"].to_numpy(), table["raw_offset"].to_numpy()
    starts = np.flatnonzero((np.diff(offsets, prepend=-1) != 0) | (np.diff(partitions, prepend=-1) != 0))
    sides = [pc.fill_null(pc.equal(table["side"], side), fill_value=False).to_numpy() for side in ("bid", "ask")]
    prices, quantities = table["price"].to_numpy(), table["quantity"].to_numpy()
    facts = _facts(table.take(starts), kind)
    for fact, first, last in zip(facts, starts, [*starts[1:], len(offsets)], strict=True):
        rows = slice(first, last)
        bids, asks = ((prices[rows][side[rows]], quantities[rows][side[rows]]) for side in sides)
        yield Message(**fact, bids=bids, asks=asks)


def _facts(table: pa.Table, kind: Kind) -> Iterator[dict[str, Any]]:
    """What is not levels, from the first row of each message."""
    nothing = [None] * table.num_rows
    types = table["type"].to_pylist() if kind == "fobd" else nothing
    gaps = table["gap_cause"].is_valid().to_pylist()
    firsts = table["first_update_id"].to_pylist() if kind == "fobd" else nothing
    previous = table["prev_update_id"].to_pylist() if kind == "fobd" else nothing
    since_us = table["gap_since"].cast(pa.int64()).to_pylist()
    lasts, received = table[_ID[kind]].to_pylist(), table["recv_ns"].to_pylist()
    for index in range(table.num_rows):
        yield {
            "type": types[index] or ("gap" if gaps[index] else "snapshot"),
            "recv_ns": received[index],
            "first_id": firsts[index],
            "last_id": lasts[index],
            "previous_id": previous[index],
            "gap_since_us": since_us[index],
        }
