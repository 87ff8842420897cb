"""The rows of one book's deltas in memory: one entry per message, and its levels as arrays. No object per level.

All rows are of one stream and raw partition, in the order of their raw offsets, which is the order they are true in.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from shared.errors import FatalError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

UPDATE, SNAPSHOT, GAP = range(3)
BID, ASK, NO_SIDE = 0, 1, -1
COLUMNS = (
    "recv_ns",
    "type",
    "first_update_id",
    "update_id",
    "prev_update_id",
    "depth_limit",
    "side",
    "price",
    "quantity",
    "gap_cause",
    "gap_since",
    "raw_offset",
)

_OF_ROWS = ("side", "price", "quantity")
_OF_MESSAGES = [name for name in COLUMNS if name not in _OF_ROWS]
_TYPES: dict[str | None, int] = {"update": UPDATE, "snapshot": SNAPSHOT, "gap": GAP}
_SIDES: dict[str | None, int] = {"bid": BID, "ask": ASK, None: NO_SIDE}


class MessageIds(NamedTuple):
    """The ids of one update, by the names the rules of sequence know them by."""

    first_id: int
    last_id: int
    prev_id: int | None


class Piece(NamedTuple):
    """Some rows in a quarter of the memory: what is of a message is there once per message."""

    offsets: npt.NDArray[np.int64]  # raw, of each row
    side: npt.NDArray[np.int8]  # BID, ASK, NO_SIDE
    price: npt.NDArray[np.float64]
    quantity: npt.NDArray[np.float64]
    messages: pa.Table  # a row per message, the other columns; one that goes on in another piece is in both

    @classmethod
    def of(cls, table: pa.Table) -> Piece:
        """From a table with the columns `COLUMNS`, in the order of a file. Raises `FatalError` for a side not known."""
        offsets = _numpy(table["raw_offset"])
        messages = table.select(_OF_MESSAGES).take(_first_rows(offsets))
        for index, field in enumerate(messages.schema):  # so that tables with other dictionaries join
            if pa.types.is_dictionary(field.type):
                messages = messages.set_column(index, field.name, messages.column(index).cast(pa.string()))
        return cls(offsets, _sides(table["side"]), _numpy(table["price"]), _numpy(table["quantity"]), messages)

    def anchor_at(self, at_ns: int) -> int | None:
        """The raw offset of the last snapshot in it that was received at or before an instant."""
        is_anchor = pc.equal(self.messages["type"], "snapshot").to_numpy()
        found = np.flatnonzero(is_anchor & (_numpy(self.messages["recv_ns"]) <= at_ns))
        return int(_numpy(self.messages["raw_offset"])[found].max()) if len(found) else None

    @property
    def last_recv_ns(self) -> int:
        """The latest receive time in it."""
        return int(_numpy(self.messages["recv_ns"]).max(initial=0))


@dataclass(frozen=True, slots=True)
class Deltas:
    """Messages (lists, one entry each) and their rows (arrays). Message `i` has the rows ``starts[i]:starts[i + 1]``."""

    raw_offset: list[int]
    recv_ns: list[int]
    kind: list[int]  # UPDATE, SNAPSHOT, GAP
    first_id: list[int | None]
    update_id: list[int | None]
    prev_id: list[int | None]
    depth_limit: list[int | None]
    gap_cause: list[str | None]
    gap_since_us: list[int | None]
    starts: npt.NDArray[np.int64]
    side: npt.NDArray[np.int8]
    price: npt.NDArray[np.float64]
    quantity: npt.NDArray[np.float64]
    anchors: npt.NDArray[np.int64]  # which messages are snapshots
    anchors_recv_ns: npt.NDArray[np.int64]

    @classmethod
    def of(cls, pieces: Sequence[Piece]) -> Deltas:
        """From pieces in any order. Raises `FatalError` for a type that is not known."""
        ordered = sorted(pieces, key=lambda piece: int(piece.offsets[0]) if len(piece.offsets) else -1)
        offsets = np.concatenate([piece.offsets for piece in ordered])
        rows = tuple(np.concatenate([getattr(piece, name) for piece in ordered]) for name in _OF_ROWS)
        if (offsets[1:] < offsets[:-1]).any():  # one message of two files lies between those of another
            order = np.argsort(offsets, kind="stable")
            offsets, rows = offsets[order], tuple(column[order] for column in rows)
        messages = pa.concat_tables([piece.messages for piece in ordered])
        messages = messages.take(np.unique(_numpy(messages["raw_offset"]), return_index=True)[1])
        kind = [_known(_TYPES, "type", word) for word in messages["type"].to_pylist()]
        recv_ns = messages["recv_ns"].to_pylist()
        anchors = np.flatnonzero(np.array(kind, np.int8) == SNAPSHOT)
        side, price, quantity = rows
        return cls(
            raw_offset=messages["raw_offset"].to_pylist(),
            recv_ns=recv_ns,
            kind=kind,
            first_id=messages["first_update_id"].to_pylist(),
            update_id=messages["update_id"].to_pylist(),
            prev_id=messages["prev_update_id"].to_pylist(),
            depth_limit=messages["depth_limit"].to_pylist(),
            gap_cause=messages["gap_cause"].to_pylist(),
            gap_since_us=messages["gap_since"].cast(pa.int64()).to_pylist(),
            starts=np.append(_first_rows(offsets), len(offsets)),
            side=side,
            price=price,
            quantity=quantity,
            anchors=anchors,
            anchors_recv_ns=np.array(recv_ns, np.int64)[anchors],
        )

    def __len__(self) -> int:
        return len(self.kind)

    def anchor_at(self, at_ns: int) -> int | None:
        """The last message, by raw offset, that is a snapshot received at or before an instant."""
        found = np.flatnonzero(self.anchors_recv_ns <= at_ns)
        return int(self.anchors[found[-1]]) if len(found) else None

    def ids(self, message: int) -> MessageIds | None:
        """The ids of an update; None where the venue gave none."""
        first_id, last_id = self.first_id[message], self.update_id[message]
        return None if first_id is None or last_id is None else MessageIds(first_id, last_id, self.prev_id[message])


def _first_rows(offsets: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Where a message begins."""
    begins = np.ones(len(offsets), np.bool_)
    begins[1:] = offsets[1:] != offsets[:-1]
    return np.flatnonzero(begins)


def _numpy(column: pa.ChunkedArray) -> npt.NDArray[Any]:
    """Without nulls: a gap row has no price, and no row of a level is one."""
    filled = column.combine_chunks().fill_null(0) if column.null_count else column
    return cast("npt.NDArray[Any]", filled.to_numpy())


def _sides(column: pa.ChunkedArray) -> npt.NDArray[np.int8]:
    if not len(column):
        return np.empty(0, np.int8)
    words = column.combine_chunks()
    if not pa.types.is_dictionary(words.type):
        words = words.dictionary_encode()
    codes = [_known(_SIDES, "side", word) for word in words.dictionary.to_pylist()]
    by_code = np.array([*codes, NO_SIDE], np.int8)
    return cast("npt.NDArray[np.int8]", by_code[words.indices.fill_null(len(codes)).to_numpy()])


def _known(words: dict[str | None, int], column: str, word: str | None) -> int:
    code = words.get(word)
    if code is None:
        raise FatalError(f"a row has {column} {word!r}: written by a newer release? upgrade this one")
    return code
