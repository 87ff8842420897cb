"""Every way in which a stream can go wrong, by name. A rule with the path ``stream`` acts on what its kind is about.

``handshake`` kinds act on an attempt to connect, ``subscribe`` kinds on a SUBSCRIBE, ``frame`` kinds on the next diff
that is due to a connection. Nothing here decides when a fault acts; `Outlet` carries it out.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from simulator.depth_event import wrapped
from simulator.websocket_frames import BINARY, frame

if TYPE_CHECKING:
    from collections.abc import Callable

    from simulator.outlet import Outgoing, Outlet

When = Literal["handshake", "subscribe", "frame"]
Args = dict[str, Any]
GARBAGE_BYTES = 64
GOING_AWAY = 1001


@dataclass(frozen=True, slots=True)
class FrameKind:
    """One way to go wrong. `effect`: lost (at least this diff), reordered, late or extra (nothing is lost), refused."""

    name: str
    what: str
    effect: str
    when: When
    apply: Callable[[Outlet, Outgoing, Args], None] | None = None  # frame kinds alone


def _drop_connection(outlet: Outlet, out: Outgoing, args: Args) -> None:
    outlet.lose(out, "drop_connection")
    outlet.link.drop("drop_connection", reset=bool(args.get("reset", True)))


def _close_code(outlet: Outlet, out: Outgoing, args: Args) -> None:
    outlet.lose(out, "close_code")
    outlet.link.close(int(args.get("code", GOING_AWAY)), str(args.get("text", "")), "close_code")


def _silence(kind: Literal["half_open", "stall_forever"]) -> Callable[[Outlet, Outgoing, Args], None]:
    def apply(outlet: Outlet, out: Outgoing, _args: Args) -> None:
        outlet.silence = kind
        outlet.lose(out, kind)

    return apply


def _stall(outlet: Outlet, out: Outgoing, args: Args) -> None:
    outlet.hold(out, float(args.get("seconds", 1.0)))


def _skip(outlet: Outlet, out: Outgoing, _args: Args) -> None:
    outlet.lose(out, "skip")


def _duplicate(outlet: Outlet, out: Outgoing, _args: Args) -> None:
    outlet.send(out, "duplicate")
    outlet.send(out, "duplicate")


def _reorder(outlet: Outlet, out: Outgoing, _args: Args) -> None:
    outlet.put_after_next(out)


def _garbage(outlet: Outlet, out: Outgoing, args: Args) -> None:
    """Alike in every run: made from the event's id."""
    noise = Random(out.event.last_id).randbytes(int(args.get("bytes", GARBAGE_BYTES)))
    made = frame(noise, BINARY) if args.get("binary") else frame(b"<" + noise.hex().encode())
    _instead(outlet, out, made, "garbage", extra=bool(args.get("extra")))


def _truncated(outlet: Outlet, out: Outgoing, args: Args) -> None:
    payload = out.event.payload(out.name)
    share = min(0.99, max(0.01, float(args.get("share", 0.5))))
    _instead(outlet, out, frame(payload[: max(1, int(len(payload) * share))]), "truncated_frame")


def _unknown_event(outlet: Outlet, out: Outgoing, args: Args) -> None:
    event = {
        "e": str(args.get("event", "somethingNew")),
        "E": out.event.event_ms,
        "s": out.event.symbol,
        "x": [1, None],
    }
    text = msgspec.json.encode(event)
    made = frame(text if out.name is None else wrapped(out.name, text))
    _instead(outlet, out, made, "unknown_event", extra=True)


def _no_symbol(outlet: Outlet, out: Outgoing, _args: Args) -> None:
    name = rb'"s":\s*%s\s*,' % re.escape(msgspec.json.encode(out.event.symbol))
    _instead(outlet, out, frame(re.sub(name, b"", out.event.payload(out.name), count=1)), "no_symbol")


def _mute_symbol(outlet: Outlet, out: Outgoing, args: Args) -> None:
    outlet.feed.mute(out.event.symbol, float(args.get("seconds", 60.0)))
    outlet.lose(out, "mute_symbol")


def _instead(outlet: Outlet, out: Outgoing, made: bytes, kind: str, *, extra: bool = False) -> None:
    outlet.link.put(made)
    if extra:
        outlet.send(out, kind)
    else:
        outlet.lose(out, kind)


FRAME_KINDS: dict[str, FrameKind] = {
    kind.name: kind
    for kind in (
        FrameKind("refuse_connection", "no handshake: HTTP 503 (args: status)", "refused", "handshake"),
        FrameKind("reject_subscribe", "SUBSCRIBE answered by an error (args: code, msg)", "refused", "subscribe"),
        FrameKind(
            "no_ack", "SUBSCRIBE done, not answered (args: ignored, then it is not done)", "refused", "subscribe"
        ),
        FrameKind("drop_connection", "TCP reset (args: reset, false: closed)", "lost", "frame", _drop_connection),
        FrameKind("close_code", "a close frame (args: code, text)", "lost", "frame", _close_code),
        FrameKind(
            "half_open",
            "the socket stays, nothing is sent or answered any more",
            "lost",
            "frame",
            _silence("half_open"),
        ),
        FrameKind("stall", "diffs held back, then sent in order (args: seconds)", "late", "frame", _stall),
        FrameKind("stall_forever", "pings answered, no diff any more", "lost", "frame", _silence("stall_forever")),
        FrameKind("skip", "one diff not sent", "lost", "frame", _skip),
        FrameKind("duplicate", "one diff sent twice", "extra", "frame", _duplicate),
        FrameKind("reorder", "a diff after the next one of its symbol", "reordered", "frame", _reorder),
        FrameKind(
            "garbage",
            "no JSON in a diff's place (args: bytes, binary, extra: the diff follows)",
            "lost",
            "frame",
            _garbage,
        ),
        FrameKind("truncated_frame", "a diff's text cut (args: share)", "lost", "frame", _truncated),
        FrameKind("unknown_event", "another event before a diff (args: event)", "extra", "frame", _unknown_event),
        FrameKind("no_symbol", "a diff without its symbol", "lost", "frame", _no_symbol),
        FrameKind("mute_symbol", "a symbol's diffs reach nobody (args: seconds)", "lost", "frame", _mute_symbol),
    )
}
