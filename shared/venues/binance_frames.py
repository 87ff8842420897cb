"""What a websocket frame of Binance is: a depth update, the answer to a control message, a notice. The same in all markets.

From the websocket pages of developers.binance.com (USDⓈ-M, COIN-M, spot) unless another source is named:
 1. A combined stream wraps each event: ``{"stream": "<name>", "data": {…}}``; a raw stream sends it bare.
 2. A depth update is ``{"e": "depthUpdate", "E", "T", "s", "U", "u", "pu", "b", "a"}``; spot has no T and no pu. Since
    2026-06-30 futures add ``ps`` and ``st``. The order of fields is not fixed and unknown fields are ignored.
 3. ``{"method": "SUBSCRIBE", "params": [names], "id": n}`` is answered ``{"result": null, "id": n}``, or with
    ``{"error": {"code", "msg"}, "id": n}``; ``{"code", "msg"}`` was seen as well. An unknown symbol is acknowledged as
    success and stays silent (a third party's measurement, 2026).
 4. Spot sends ``{"e": "serverShutdown", …}`` some time before it closes a connection.
 5. Stream names are in lower case.

Never does I/O, never alters a payload; raises `PoisonMessage` and nothing else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar

import msgspec

from shared.errors import PoisonMessage
from shared.venues.base import Closing, Frame, Reply, Update, UpdateEnvelope, Venue
from shared.venues.sequence import UpdateIds

if TYPE_CHECKING:
    from collections.abc import Sequence

_Id = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
_UNDECODABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_NOTHING = msgspec.Raw()
_SHOWN_CHARACTERS = 200


class _Event(msgspec.Struct, gc=False):
    """A depth update, or with another `e` something else; the levels are kept as they stand."""

    e: str | None = None
    s: str | None = None
    U: _Id | None = None
    u: _Id | None = None
    pu: _Id | None = None
    E: _Id | None = None
    T: _Id | None = None
    b: msgspec.Raw = _NOTHING  # never `Raw | None`: msgspec then takes nothing but null
    a: msgspec.Raw = _NOTHING


class _Refusal(msgspec.Struct, gc=False):
    code: int | None = None
    msg: str | None = None


class _Message(_Event, gc=False):
    """Any frame: a wrapper with `data`, a bare event, or a reply."""

    stream: str | None = None
    data: _Event | None = None
    id: int | None = None
    error: _Refusal | None = None
    code: int | None = None
    msg: str | None = None
    result: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


_MESSAGES = msgspec.json.Decoder(_Message)


class BinanceFrames(Venue):
    """The stream side of a market of Binance, as far as it is the same in all three."""

    stream_path = "/stream"
    max_streams = 1024
    max_age_seconds = 24 * 3600.0
    connects_per_five_minutes = 300
    plain_interval_ms: ClassVar[int]
    """The spacing of ``@depth`` without a suffix."""

    def check_interval(self, interval_ms: int) -> str | None:
        """As `Venue.check_interval`."""
        if interval_ms in self.update_intervals_ms:
            return None
        known = ", ".join(map(str, self.update_intervals_ms))
        return f"interval_ms {interval_ms} is no stream of {self.exchange} {self.market}: one of {known}"

    def stream_name(self, symbol: str, interval_ms: int) -> str:
        """Rule 5."""
        suffix = "" if interval_ms == self.plain_interval_ms else f"@{interval_ms}ms"
        return f"{symbol.lower()}@depth{suffix}"

    def subscribe(self, names: Sequence[str], request_id: int) -> str:
        """Rule 3."""
        return _control("SUBSCRIBE", names, request_id)

    def unsubscribe(self, names: Sequence[str], request_id: int) -> str:
        """Rule 3."""
        return _control("UNSUBSCRIBE", names, request_id)

    def read_frame(self, payload: bytes) -> Frame:
        """As `Venue.read_frame`; rules 1 to 4."""
        message = _decode(payload)
        event = message if message.data is None else message.data
        if event.e == "depthUpdate":
            return Update(*_identified(event, payload))
        if event.e == "serverShutdown":
            return Closing()
        if event.e is not None:
            raise PoisonMessage("unknown_event", f"an event {event.e[:50]!r}: {_shorten(payload)}")
        if message.error is not None:
            return Reply(message.id, f"{message.error.code}: {message.error.msg}")
        if message.code is not None:
            return Reply(message.id, f"{message.code}: {message.msg}")
        if message.id is not None and message.result is not msgspec.UNSET:
            return Reply(message.id, None)
        raise PoisonMessage("unknown_frame", f"neither an event nor an answer: {_shorten(payload)}")

    def parse_update(self, payload: bytes) -> UpdateEnvelope:
        """As `Venue.parse_update`; rules 1 and 2."""
        message = _decode(payload)
        event = message if message.data is None else message.data
        if event.e != "depthUpdate":
            raise PoisonMessage("not_an_update", f"not a depth update: {_shorten(payload)}")
        symbol, ids = _identified(event, payload)
        bids, asks = bytes(event.b), bytes(event.a)
        if bids[:1] != b"[" or asks[:1] != b"[":
            raise PoisonMessage("not_an_update", f"b or a is not an array: {_shorten(payload)}")
        return UpdateEnvelope(symbol, ids, event.E, event.T, bids, asks)


def _decode(payload: bytes) -> _Message:
    try:
        return _MESSAGES.decode(payload)
    except msgspec.ValidationError as error:
        raise PoisonMessage("bad_frame", f"{error}: {_shorten(payload)}") from error
    except _UNDECODABLE as error:
        reason = "truncated_frame" if "truncated" in str(error) else "bad_json"
        raise PoisonMessage(reason, f"{error}: {_shorten(payload)}") from error


def _identified(event: _Event, payload: bytes) -> tuple[str, UpdateIds]:
    if not event.s:
        raise PoisonMessage("no_symbol", f"a depth update without a symbol: {_shorten(payload)}")
    if event.U is None or event.u is None or event.u < event.U:
        raise PoisonMessage("bad_ids", f"a depth update without ids that rise: {_shorten(payload)}")
    return event.s, UpdateIds(event.U, event.u, event.pu)


def _control(method: str, names: Sequence[str], request_id: int) -> str:
    return msgspec.json.encode({"method": method, "params": list(names), "id": request_id}).decode()


def _shorten(payload: bytes) -> str:
    return repr(payload[:_SHOWN_CHARACTERS].decode(errors="replace"))
