"""One symbol of a recorded session: its snapshot, and the book rebuilt from it by the venue's own rule.

Texts stay as they were received; numbers are used for order alone.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import msgspec

from simulator.book import Answer
from simulator.markets import depth_body

if TYPE_CHECKING:
    from simulator.depth_event import Event
    from simulator.markets import Market


Pair = tuple[str, str]


class _Changes(msgspec.Struct):
    """What an event does to a book."""

    b: list[Pair]
    a: list[Pair]
    T: int | None = None


_CHANGES = msgspec.json.Decoder(_Changes)


class CaptureBook:
    """The recorded body, and the book from it on. `events` are appended in recorded order before the first `advance`.

    `passed` of them have gone out (or would have, had anyone listened).
    """

    def __init__(self, market: Market, symbol: str, body: bytes, limit: int) -> None:
        value = msgspec.json.decode(body)
        self.symbol = symbol
        self.events: list[Event] = []
        self.passed = 0
        self.polled = False
        self.body = body
        self.recorded_limit = limit
        self.recorded_id: int = value["lastUpdateId"]
        self.last_update_id = self.recorded_id
        self._market = market
        self._pair = str(value.get("pair", symbol))
        self._snapshot_ms: int | None = value.get("E")
        self._event_ms: int = value.get("E", 0)
        self._transaction_ms: int = value.get("T", 0)
        self._bids = _side(value["bids"])
        self._asks = _side(value["asks"])
        self._next = 0
        self._answers = {
            limit: Answer(
                body,
                hashlib.sha256(body).hexdigest(),
                self.last_update_id,
                len(value["bids"]),
                len(value["asks"]),
                recorded=True,
            )
        }

    @property
    def begin_ms(self) -> int:
        """The earliest event time known of this symbol."""
        known = [event.event_ms for event in self.events[:1]] + ([self._snapshot_ms] if self._snapshot_ms else [])
        return min(known, default=0)

    def recorded_levels(self) -> tuple[list[Pair], list[Pair]]:
        """Bids and asks of the recorded body, best first."""
        value = msgspec.json.decode(self.body)
        return list(_side(value["bids"]).values()), list(_side(value["asks"]).values())

    def sample(self) -> Pair:
        """The texts of one price and one quantity, which show the venue's decimals."""
        return next(iter((self._bids or self._asks or {0.0: ("1.0", "1")}).values()))

    def advance(self) -> None:
        """Applies every event that has passed, but for those the snapshot holds already (u ≤ lastUpdateId)."""
        for event in self.events[self._next : self.passed]:
            if event.last_id > self.last_update_id:
                self._apply(event)
                self._answers.clear()
        self._next = self.passed

    def answer(self, limit: int) -> Answer:
        """The depth answer of now: the recorded one while nothing moved and as many levels are asked for as then."""
        answer = self._answers.get(limit)
        if answer is None:
            bids, asks = self.levels(limit)
            body = depth_body(
                self._market.name,
                symbol=self.symbol,
                pair=self._pair,
                last_update_id=self.last_update_id,
                event_ms=self._event_ms,
                transaction_ms=self._transaction_ms,
                bids=_render(bids),
                asks=_render(asks),
            )
            answer = Answer(body, hashlib.sha256(body).hexdigest(), self.last_update_id, len(bids), len(asks))
            self._answers[limit] = answer
        return answer

    def levels(self, limit: int | None = None) -> tuple[list[Pair], list[Pair]]:
        """Bids and asks, best first, texts as received; the whole book where no limit is given."""
        bids = [self._bids[price] for price in sorted(self._bids, reverse=True)[:limit]]
        asks = [self._asks[price] for price in sorted(self._asks)[:limit]]
        return bids, asks

    def sha256(self) -> str:
        """The whole book's digest by the captures' rule: ``b <price> <qty>`` lines, then ``a`` lines, best first."""
        bids, asks = self.levels()
        digest = hashlib.sha256()
        for letter, side in (("b", bids), ("a", asks)):
            for price, quantity in side:
                digest.update(f"{letter} {price} {quantity}\n".encode())
        return digest.hexdigest()

    def _apply(self, event: Event) -> None:
        changes = _CHANGES.decode(event.text)
        for side, levels in ((self._bids, changes.b), (self._asks, changes.a)):
            for price, quantity in levels:
                if quantity.strip("0.") == "":
                    side.pop(float(price), None)
                else:
                    side[float(price)] = (price, quantity)
        self.last_update_id = event.last_id
        self._event_ms = event.event_ms
        self._transaction_ms = event.event_ms if changes.T is None else changes.T


def _side(levels: list[list[Any]]) -> dict[float, Pair]:
    return {float(price): (price, quantity) for price, quantity, *_ in levels}


def _render(levels: list[Pair]) -> bytes:
    return ",".join([f'["{price}","{quantity}"]' for price, quantity in levels]).encode()
