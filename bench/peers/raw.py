"""What the peers that are scripts of our own know of a raw record: its headers, and where the levels are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

SIDES = {"fobs": ("bids", "asks"), "fobd": ("b", "a")}


def said(kind: str, value: dict[str, Any]) -> tuple[dict[str, Any], list[list[str]], list[list[str]]]:
    """The message without the wrapper of a combined stream, its bids, its asks."""
    inner = value.get("data", value)
    bids, asks = SIDES[kind]
    return inner, inner[bids], inner[asks]


def shared(kind: str, inner: dict[str, Any], headers: Iterable[tuple[str, bytes]]) -> dict[str, Any]:
    """What all rows of a message have in common, but for where it lies."""
    named = dict(headers)
    found: dict[str, Any] = {
        "symbol": named["symbol"].decode(),
        "recv_ns": int(named["recv_ns"]),
        "event_time": inner.get("E"),
        "transaction_time": inner.get("T"),
    }
    if kind == "fobs":
        return found | {"last_update_id": inner["lastUpdateId"], "depth_limit": int(named["limit"])}
    ids = {"first_update_id": inner["U"], "update_id": inner["u"], "prev_update_id": inner.get("pu")}
    return found | ids | {"conn": named["conn"].decode()}
