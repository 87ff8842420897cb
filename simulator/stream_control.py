"""Control messages of a stream connection: read, judged, worded. Pure: no socket, no subscription is kept here.

From the websocket pages of developers.binance.com: ``{"method", "params", "id"}``; an answer repeats the id. What cannot
be read is answered with code 2 "Invalid request: …".
"""

from __future__ import annotations

from dataclasses import dataclass, field

import msgspec

Id = int | str | None
METHODS = ("SUBSCRIBE", "UNSUBSCRIBE", "LIST_SUBSCRIPTIONS", "SET_PROPERTY", "GET_PROPERTY")
INVALID = 2
TOO_MANY_STREAMS = 3


class ControlError(Exception):
    """A message that cannot be obeyed, with the id to answer under."""

    def __init__(self, text: str, request_id: Id) -> None:
        super().__init__(text)
        self.text = text
        self.request_id = request_id


@dataclass(frozen=True, slots=True)
class ControlRequest:
    """One that can."""

    method: str
    request_id: Id
    names: list[str] = field(default_factory=list)
    combined: bool | None = None  # of SET_PROPERTY


def read_request(text: str | bytes) -> ControlRequest:
    """Reads one message. Raises `ControlError`."""
    try:
        message = msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ControlError(str(error), None) from error
    if not isinstance(message, dict):
        raise ControlError("expected an object", None)
    request_id = message.get("id")
    if (
        isinstance(request_id, bool)
        or not isinstance(request_id, Id)
        or (isinstance(request_id, int) and request_id < 0)
    ):
        raise ControlError("request ID must be an unsigned integer", None)
    method = message.get("method")
    if method is None:
        raise ControlError("missing field `method`", request_id)
    if method not in METHODS:
        raise ControlError(f"unknown variant `{method}`, expected one of {', '.join(METHODS)}", request_id)
    return _with_params(method, message.get("params"), request_id)


def _with_params(method: str, params: object, request_id: Id) -> ControlRequest:
    match method, params:
        case (("SUBSCRIBE" | "UNSUBSCRIBE"), list()) if all(isinstance(name, str) for name in params):
            return ControlRequest(method, request_id, params)
        case "SET_PROPERTY", ["combined", bool(combined)]:
            return ControlRequest(method, request_id, combined=combined)
        case ("LIST_SUBSCRIPTIONS", _) | ("GET_PROPERTY", ["combined"]):
            return ControlRequest(method, request_id)
    raise ControlError(f"params do not fit {method}", request_id)


def result(value: object, request_id: Id) -> bytes:
    """``{"result":…,"id":…}``."""
    return msgspec.json.encode({"result": value, "id": request_id})


def refusal(code: int, text: str, request_id: Id) -> bytes:
    """``{"error":{"code":…,"msg":…},"id":…}``."""
    return msgspec.json.encode({"error": {"code": code, "msg": text}, "id": request_id})
