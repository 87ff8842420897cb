"""What an answer of Binance's REST means, by name. The three markets are one family here.

The rules, from the general-info and error-code pages of developers.binance.com unless another source is named:
 1. 429: a limit was broken, back off. ``Retry-After`` (seconds) is promised for spot and may be missing on futures;
    the window is a fixed clock minute, so without it the hold ends at the next one. At least a second is waited.
 2. 418: the address is banned for having gone on after 429, "from 2 minutes to 3 days". The end is in ``Retry-After``
    or in the text "banned until <epoch ms>"; the later counts; with neither, 120 s (a third party's measured default).
 3. 403: the firewall's (WAF) rule was broken. No duration is published: 300 s is ours.
 4. 451: the address is in a place the venue does not serve. It will not heal by itself soon: 900 s is ours.
 5. 408: the backend timed out. 500: internal error. Both are retryable for a GET.
 6. 503 has three texts: "Unknown error…" (status unknown), "Service Unavailable." and "Internal error; unable to
    process your request…" (both failed): for a GET all are retryable.
 7. The error body is ``{"code": <negative int>, "msg": "…"}``. -1003 TOO_MANY_REQUESTS is a 429, or a ban where its
    text says "banned"; -1121 invalid symbol (HTTP 400); -1008 overloaded; -1000, -1001, -1007 retryable. It may come
    with status 200 from a proxy: never taken for a book.
 8. ``X-MBX-USED-WEIGHT-1M`` on every response is what the address has used in the running minute.
 9. ``lastUpdateId`` of a symbol never falls: a lower one is a stale or foreign body.

Never does I/O, never alters a payload, never raises for what a venue sent except `PoisonMessage`.
"""

from __future__ import annotations

import re
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import msgspec

from shared.errors import PoisonMessage
from shared.venues.base import MINUTE_NS, SECOND_NS, Outcome, Reason, SnapshotEnvelope, Venue
from shared.venues.envelope import lift_arrays
from shared.venues.instruments import Instrument

if TYPE_CHECKING:
    from collections.abc import Mapping

DEFAULT_BAN_NS = 120 * SECOND_NS
WAF_BAN_NS = 300 * SECOND_NS
GEO_BLOCK_NS = 900 * SECOND_NS
LONGEST_BAN_NS = 3 * 24 * 60 * MINUTE_NS
TEXT_CHARACTERS = 200

_T = TypeVar("_T")
_UNDECODABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)  # the last: nested a thousand deep
_Int64 = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]


class _Book(msgspec.Struct, rename="camel"):
    last_update_id: _Int64
    bids: msgspec.Raw
    asks: msgspec.Raw
    event_ms: _Int64 | None = msgspec.field(default=None, name="E")
    transaction_ms: _Int64 | None = msgspec.field(default=None, name="T")
    symbol: str | None = None


class _Around(msgspec.Struct, rename="camel"):
    """A book whose levels were lifted out."""

    last_update_id: _Int64
    bids: None
    asks: None
    event_ms: _Int64 | None = msgspec.field(default=None, name="E")
    transaction_ms: _Int64 | None = msgspec.field(default=None, name="T")


class _Error(msgspec.Struct):
    code: int


class _RateLimit(msgspec.Struct, rename="camel"):
    rate_limit_type: str
    interval: str
    interval_num: int
    limit: Annotated[int, msgspec.Meta(gt=0)]


class _Listing(msgspec.Struct, rename="camel"):
    symbol: str
    status: str | None = None
    contract_status: str | None = None  # COIN-M's name for it
    base_asset: str | None = None
    quote_asset: str | None = None
    contract_type: str | None = None
    contract_size: int | float | str | None = None  # COIN-M
    onboard_date: int | None = None
    delivery_date: int | None = None
    filters: list[dict[str, Any]] = []


class _RateLimits(msgspec.Struct, rename="camel"):
    rate_limits: list[_RateLimit]


class _Instruments(msgspec.Struct):
    symbols: list[_Listing]


_BOOK = msgspec.json.Decoder(_Book)
_AROUND = msgspec.json.Decoder(_Around)
_ERROR = msgspec.json.Decoder(_Error)
_RATE_LIMITS = msgspec.json.Decoder(_RateLimits)
_INSTRUMENTS = msgspec.json.Decoder(_Instruments)

_INTERVAL_SECONDS = {"SECOND": 1, "MINUTE": 60, "HOUR": 3600, "DAY": 86400}
_BANNED_UNTIL = re.compile(r"banned until (\d{10,16})")
_503_TEXTS: tuple[tuple[str, Reason], ...] = (
    ("unknown error", "unknown_error"),
    ("service unavailable", "unavailable"),
    ("internal error; unable to process", "internal_error_retry"),
)
_PLAIN_STATUSES: dict[int, Reason] = {400: "bad_request", 408: "backend_timeout", 500: "internal_error"}
_TOO_MANY_REQUESTS = -1003
_CODES: dict[int | None, Reason] = {-1121: "invalid_symbol", -1008: "overloaded"}
_OK, _FORBIDDEN, _TEAPOT, _TOO_MANY, _LEGAL, _UNAVAILABLE = 200, 403, 418, 429, 451, 503


class BinanceAnswers(Venue):
    """What a market of Binance answers, as far as it is the same in all three."""

    def classify(
        self,
        status: int,
        headers: Mapping[str, str],
        body: bytes,
        now_ns: int,
        *,
        symbol: str,
        last_update_id: int | None = None,
    ) -> Outcome:
        """As `Venue.classify`. The numbers in comments are the rules of this module's docstring."""
        if status == _OK:
            return _classify_body(headers, body, now_ns, symbol=symbol, last_update_id=last_update_id)
        code = _error_code(body)
        text = f"HTTP {status}: {_shorten(body)}"
        if status in {_TEAPOT, _TOO_MANY} or code == _TOO_MANY_REQUESTS:  # rules 1, 2, 7
            return _too_many(status, headers, body, now_ns, text)
        if status == _FORBIDDEN:  # rule 3
            return Outcome("waf_blocked", "stand_down", now_ns + (_retry_after_ns(headers, now_ns) or WAF_BAN_NS), text)
        if status == _LEGAL:  # rule 4
            return Outcome("geo_blocked", "stand_down", now_ns + GEO_BLOCK_NS, text)
        return Outcome(_CODES.get(code) or _plain_reason(status, body), text=text)  # rules 5, 6, 7

    def parse_snapshot(self, payload: bytes) -> SnapshotEnvelope:
        """As `Venue.parse_snapshot`; reasons ``empty_body``, ``html_body``, ``error_body``, ``bad_json``, ``not_a_book``."""
        lifted = lift_arrays(payload, b'"bids":', b'"asks":')
        if lifted is not None:
            try:
                around = _AROUND.decode(lifted[0])
                return SnapshotEnvelope(around.last_update_id, around.event_ms, around.transaction_ms, *lifted[1:])
            except _UNDECODABLE:
                pass  # the whole is decoded below, and says in words what is wrong with it
        book = _decode_book(payload)
        return SnapshotEnvelope(
            book.last_update_id, book.event_ms, book.transaction_ms, bytes(book.bids), bytes(book.asks)
        )

    def used_weight(self, headers: Mapping[str, str]) -> int | None:
        """Rule 8. A value that is no number is as good as none."""
        value = _header(headers, "x-mbx-used-weight-1m")
        return int(value) if value is not None and value.isascii() and value.isdigit() else None

    def weight_limit(self, exchange_info: bytes) -> int:
        """The tightest REQUEST_WEIGHT of exchangeInfo, per minute."""
        found = [
            limit.limit * 60 // (_INTERVAL_SECONDS[limit.interval] * limit.interval_num)
            for limit in _decode(_RATE_LIMITS, exchange_info).rate_limits
            if limit.rate_limit_type == "REQUEST_WEIGHT"
            and limit.interval in _INTERVAL_SECONDS
            and limit.interval_num > 0
        ]
        if not found:
            raise PoisonMessage("not_exchange_info", "exchangeInfo names no REQUEST_WEIGHT limit")
        return min(found)

    def instruments(self, exchange_info: bytes) -> list[Instrument]:
        """Tick = PRICE_FILTER.tickSize, lot = LOT_SIZE.stepSize ("pricePrecision: please do not use it as tickSize")."""
        return [_instrument(listing) for listing in _decode(_INSTRUMENTS, exchange_info).symbols]


def _classify_body(
    headers: Mapping[str, str], body: bytes, now_ns: int, *, symbol: str, last_update_id: int | None
) -> Outcome:
    try:
        book = _decode_book(body)
    except PoisonMessage as poison:
        code = _error_code(body)
        if code == _TOO_MANY_REQUESTS:
            return _too_many(_OK, headers, body, now_ns, str(poison))
        return Outcome(_CODES.get(code) or poison.reason, text=str(poison))  # type: ignore[arg-type]  # _decode_book's reasons are all Reasons
    if book.symbol is not None and book.symbol != symbol:
        return Outcome("foreign_symbol", text=f"asked for {symbol}, the body is of {book.symbol}")
    if last_update_id is not None and book.last_update_id < last_update_id:  # rule 9
        return Outcome(
            "went_backwards",
            text=f"lastUpdateId {book.last_update_id} after {last_update_id}",
            last_update_id=book.last_update_id,
        )
    return Outcome("ok", last_update_id=book.last_update_id)


def _instrument(listing: _Listing) -> Instrument:
    filters = {entry.get("filterType"): entry for entry in listing.filters}
    size = listing.contract_size
    return Instrument(
        symbol=listing.symbol,
        status=listing.status or listing.contract_status or "",
        base=listing.base_asset,
        quote=listing.quote_asset,
        contract_type=listing.contract_type,
        tick_size=filters.get("PRICE_FILTER", {}).get("tickSize"),
        lot_size=filters.get("LOT_SIZE", {}).get("stepSize"),
        multiplier=None if size is None else str(size),
        onboard_ms=listing.onboard_date,
        delivery_ms=listing.delivery_date,
    )


def _decode_book(payload: bytes) -> _Book:
    start = payload.lstrip()[:1]
    if not start:
        raise PoisonMessage("empty_body", "the body is empty")
    if start == b"<":
        raise PoisonMessage("html_body", f"the body is HTML: {_shorten(payload)}")
    try:
        book = _BOOK.decode(payload)
    except msgspec.ValidationError as error:
        if _error_code(payload) is not None:
            raise PoisonMessage("error_body", f"an error in place of a book: {_shorten(payload)}") from error
        raise PoisonMessage("not_a_book", f"{error}: {_shorten(payload)}") from error
    except _UNDECODABLE as error:
        reason = "truncated_body" if "truncated" in str(error) else "bad_json"
        raise PoisonMessage(reason, f"{error}: {_shorten(payload)}") from error
    for name, side in (("bids", book.bids), ("asks", book.asks)):
        if bytes(side)[:1] != b"[":
            raise PoisonMessage("not_a_book", f"{name} is not an array: {_shorten(payload)}")
    return book


def _too_many(status: int, headers: Mapping[str, str], body: bytes, now_ns: int, text: str) -> Outcome:
    wait_ns = _retry_after_ns(headers, now_ns)
    until_ns = _banned_until_ns(body, now_ns)
    if status == _TEAPOT or until_ns is not None:
        ends = [end for end in (until_ns, None if wait_ns is None else now_ns + wait_ns) if end is not None]
        return Outcome("banned", "stand_down", max(ends, default=now_ns + DEFAULT_BAN_NS), text)
    next_minute_ns = (now_ns // MINUTE_NS + 1) * MINUTE_NS
    until_ns = next_minute_ns if wait_ns is None else now_ns + max(wait_ns, SECOND_NS)
    return Outcome("rate_limited", "hold", until_ns, text)


def _plain_reason(status: int, body: bytes) -> Reason:
    if status == _UNAVAILABLE:
        said = body[:TEXT_CHARACTERS].decode(errors="replace").lower()
        return next((reason for words, reason in _503_TEXTS if words in said), "unavailable")
    return _PLAIN_STATUSES.get(status, "unexpected_status")


def _error_code(body: bytes) -> int | None:
    try:
        return _ERROR.decode(body).code
    except _UNDECODABLE:
        return None


def _decode(decoder: msgspec.json.Decoder[_T], body: bytes) -> _T:
    try:
        return decoder.decode(body)
    except _UNDECODABLE as error:
        raise PoisonMessage("not_exchange_info", f"{error}: {_shorten(body)}") from error


def _retry_after_ns(headers: Mapping[str, str], now_ns: int) -> int | None:
    """Seconds, or a date as HTTP allows; None where it is missing, nonsense or longer than the longest ban."""
    value = _header(headers, "retry-after")
    if value is None:
        return None
    if value.isascii() and value.isdigit() and len(value) <= len(str(LONGEST_BAN_NS)):
        wait_ns = int(value) * SECOND_NS
    else:
        try:
            wait_ns = int(parsedate_to_datetime(value).timestamp() * SECOND_NS) - now_ns
        except (ValueError, OverflowError):
            return None
    return wait_ns if 0 <= wait_ns <= LONGEST_BAN_NS else None


def _banned_until_ns(body: bytes, now_ns: int) -> int | None:
    match = _BANNED_UNTIL.search(body[: 4 * TEXT_CHARACTERS].decode(errors="replace"))
    if match is None:
        return None
    until_ns = int(match[1]) * 1_000_000
    return until_ns if now_ns < until_ns <= now_ns + LONGEST_BAN_NS else now_ns + DEFAULT_BAN_NS


def _header(headers: Mapping[str, str], name: str) -> str | None:
    """Header names are case-insensitive; a plain dict is searched for its own spelling."""
    found = headers.get(name)
    if found is None:
        found = next((value for key, value in headers.items() if key.lower() == name), None)
    return found.strip() if found is not None else None


def _shorten(body: bytes) -> str:
    return repr(body[:TEXT_CHARACTERS].decode(errors="replace"))
