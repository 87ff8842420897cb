"""Every way in which an answer can go wrong, by name: refusals, HTTP failures and broken deliveries here, bodies beside.

The texts are the venue's (derivatives "General Info" and error-code pages). Nothing here decides when a fault acts.
"""

from __future__ import annotations

import gzip
from typing import TYPE_CHECKING, Any

from simulator.fault_bodies import BODY_KINDS
from simulator.faults import FaultContext, Kind
from simulator.markets import error_body
from simulator.reply import Reply
from simulator.weights import banned_text, too_many_text

if TYPE_CHECKING:
    from collections.abc import Callable

    from simulator.reply import Way

Args = dict[str, Any]
RETRY_SECONDS = 5
BAN_SECONDS = 120
FOREVER = 0.0
JSON = {"Content-Type": "application/json"}
HTML = {"Content-Type": "text/html"}
TEXTS_503 = {
    "unknown": "Unknown error, please check your request or try again later.",
    "unavailable": "Service Unavailable.",
    "internal": "Internal error; unable to process your request. Please try again.",
}
WAF_PAGE = b"<html><head><title>403 Forbidden</title></head><body><center><h1>403 Forbidden</h1></center></body></html>"
PROXY_PAGE = (
    b"<html><head><title>502 Bad Gateway</title></head><body><center><h1>502 Bad Gateway</h1></center></body></html>"
)
OUTAGE_PAGE = (
    b"<html><body><h1>503 Service Unavailable</h1>No server is available to handle this request.</body></html>"
)
LOCATION_TEXT = (
    "Service unavailable from a restricted location according to 'b. Eligibility' in the terms of service. "
    "Please contact customer service if you believe you received this message in error."
)


def _error(status: int, code: int, text: str) -> Callable[[FaultContext, Reply, Args], Reply]:
    def apply(_context: FaultContext, _reply: Reply, args: Args) -> Reply:
        body = error_body(int(args.get("code", code)), str(args.get("msg", text)))
        return Reply(status=status, body=body, headers=dict(JSON))

    return apply


def _page(status: int, page: bytes) -> Callable[[FaultContext, Reply, Args], Reply]:
    def apply(_context: FaultContext, _reply: Reply, _args: Args) -> Reply:
        return Reply(status=status, body=page, headers=dict(HTML))

    return apply


def _too_many(*, header: bool) -> Callable[[FaultContext, Reply, Args], Reply]:
    def apply(context: FaultContext, _reply: Reply, args: Args) -> Reply:
        limit = context.exchange.weights.limits[context.market.group]
        headers = JSON | ({"Retry-After": str(args.get("retry_after_seconds", RETRY_SECONDS))} if header else {})
        return Reply(status=429, body=error_body(-1003, too_many_text(context.address, limit)), headers=headers)

    return apply


def _banned(*, header: bool, text: bool = True) -> Callable[[FaultContext, Reply, Args], Reply]:
    """Says "banned until" without banning; `ban` bans."""

    def apply(context: FaultContext, _reply: Reply, args: Args) -> Reply:
        seconds = float(args.get("seconds", BAN_SECONDS))
        until_ms = context.now_ms + int(seconds * 1000)
        headers = JSON | ({"Retry-After": str(max(1, round(seconds)))} if header else {})
        words = banned_text(context.address, until_ms) if text else "Way too many requests."
        return Reply(status=418, body=error_body(-1003, words), headers=headers)

    return apply


def _ban(context: FaultContext, _reply: Reply, args: Args) -> Reply:
    seconds = float(args.get("seconds", BAN_SECONDS))
    until_ms = context.exchange.weights.ban(context.market.group, context.address, seconds, context.now_ms)
    headers = JSON | {"Retry-After": str(max(1, round(seconds)))}
    return Reply(status=418, body=error_body(-1003, banned_text(context.address, until_ms)), headers=headers)


def _too_many_ok(context: FaultContext, _reply: Reply, _args: Args) -> Reply:
    limit = context.exchange.weights.limits[context.market.group]
    return Reply(status=200, body=error_body(-1003, too_many_text(context.address, limit)), headers=dict(JSON))


def _delivered(way: Way, *, seconds: float = FOREVER) -> Callable[[FaultContext, Reply, Args], Reply]:
    """The right answer, delivered wrong."""

    def apply(_context: FaultContext, reply: Reply, args: Args) -> Reply:
        reply.way = way
        reply.seconds = float(args.get("seconds", seconds))
        reply.share = min(1.0, max(0.0, float(args.get("share", reply.share))))
        return reply

    return apply


def _delay(_context: FaultContext, reply: Reply, args: Args) -> Reply:
    reply.delay_seconds = float(args.get("seconds", 1.0))
    return reply


def _compressed(_context: FaultContext, reply: Reply, args: Args) -> Reply:
    """Compressed as a content coding; with `corrupt` the checksum at its end is wrong."""
    body = gzip.compress(reply.body, mtime=0)
    if args.get("corrupt"):
        body = body[:-8] + bytes(8)
        reply.book = False
    reply.encoded = body
    reply.headers["Content-Encoding"] = "gzip"
    return reply


def _redirect(_context: FaultContext, _reply: Reply, args: Args) -> Reply:
    return Reply(status=302, body=b"", headers={"Location": str(args.get("location", "/_sim/health"))})


KINDS: dict[str, Kind] = {
    kind.name: kind
    for kind in (
        Kind("http_429", "429 with Retry-After (args: retry_after_seconds)", "refused", _too_many(header=True)),
        Kind("http_429_no_retry_after", "429 without Retry-After", "refused", _too_many(header=False)),
        Kind("http_418", "418 with Retry-After and 'banned until' (args: seconds)", "refused", _banned(header=True)),
        Kind("http_418_no_retry_after", "418, 'banned until' in its text alone", "refused", _banned(header=False)),
        Kind("http_418_bare", "418, says nothing of how long", "refused", _banned(header=False, text=False)),
        Kind("ban", "a real ban of the address from the budget (args: seconds)", "refused", _ban),
        Kind("http_403", "403 of the firewall, HTML", "refused", _page(403, WAF_PAGE)),
        Kind(
            "http_408",
            "408 backend timeout",
            "refused",
            _error(
                408,
                -1007,
                "Timeout waiting for response from backend server. Send status unknown; execution status unknown.",
            ),
        ),
        Kind("http_451", "451 restricted location", "refused", _error(451, 0, LOCATION_TEXT)),
        Kind("http_500", "500 internal", "refused", _error(500, -1001, TEXTS_503["internal"])),
        Kind("http_502", "502 of a proxy, HTML", "refused", _page(502, PROXY_PAGE)),
        Kind("http_503_unknown", "503 'Unknown error'", "refused", _error(503, -1000, TEXTS_503["unknown"])),
        Kind(
            "http_503_unavailable",
            "503 'Service Unavailable.'",
            "refused",
            _error(503, -1016, TEXTS_503["unavailable"]),
        ),
        Kind("http_503_internal", "503 'Internal error'", "refused", _error(503, -1001, TEXTS_503["internal"])),
        Kind("html_503", "503, HTML", "refused", _page(503, OUTAGE_PAGE)),
        Kind(
            "overloaded_503",
            "503 with -1008",
            "refused",
            _error(
                503, -1008, "Server is currently overloaded with other requests. Please try again in a few minutes."
            ),
        ),
        Kind("code_1003_status_200", "-1003 with status 200", "refused", _too_many_ok),
        Kind(
            "json_error_status_200",
            "an error object with status 200 (args: code, msg)",
            "refused",
            _error(200, -1000, "An unknown error occurred while processing the request."),
        ),
        Kind(
            "invalid_symbol", "400 -1121 though the symbol is listed", "refused", _error(400, -1121, "Invalid symbol.")
        ),
        Kind("redirect", "302 elsewhere (args: location)", "refused", _redirect),
        Kind("stall", "never answers (args: seconds, then closes)", "transport", _delivered("stall")),
        Kind("delay", "the right answer, late (args: seconds)", "valid", _delay),
        Kind("slow_body", "the right answer, in dribbles (args: seconds)", "valid", _delivered("slow", seconds=2.0)),
        Kind(
            "reset_before_headers",
            "connection reset before anything is sent",
            "transport",
            _delivered("reset-before-headers"),
        ),
        Kind(
            "close_before_headers",
            "connection closed before anything is sent",
            "transport",
            _delivered("close-before-headers"),
        ),
        Kind(
            "reset_after_headers", "connection reset after the headers", "transport", _delivered("reset-after-headers")
        ),
        Kind(
            "truncated_body",
            "Content-Length larger than the bytes, then closed (args: share)",
            "transport",
            _delivered("cut"),
        ),
        Kind(
            "chunked_cut", "chunked, closed before the last chunk (args: share)", "transport", _delivered("chunked-cut")
        ),
        Kind("gzip", "the right answer, compressed (args: corrupt)", "valid", _compressed),
        *BODY_KINDS,
    )
}
