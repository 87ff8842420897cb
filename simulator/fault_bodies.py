"""Bodies that are wrong, or right and surprising: made from the answer that would have been given.

`valid` kinds are what an exchange may say and a recorder must keep; `invalid` ones are for the dead letters or refused;
`either` kinds are arguable, and no truth is claimed for them.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import msgspec

from simulator.book import Answer
from simulator.faults import FaultContext, Kind

if TYPE_CHECKING:
    from collections.abc import Callable

    from simulator.reply import Reply

Args = dict[str, Any]
Levels = list[list[Any]]
OVERSIZE_BYTES = 17 * 1024 * 1024  # more than max.message.bytes
LONG_PRICE = "12345678901234567890"  # 20 digits
LONG_QUANTITY = "0.12345678901234567890"
STALE_BY = 1_000_000
PAGE = b"<!DOCTYPE html><html><head><title>Maintenance</title></head><body>System upgrade in progress.</body></html>"


def _raw(body: bytes, content_type: str | None = None) -> Callable[[FaultContext, Reply, Args], Reply]:
    """A fixed body with status 200."""

    def apply(_context: FaultContext, reply: Reply, _args: Args) -> Reply:
        if content_type is not None:
            reply.headers["Content-Type"] = content_type
        return _invalid(reply, body)

    return apply


def _invalid(reply: Reply, body: bytes) -> Reply:
    reply.status, reply.body, reply.answer, reply.book = 200, body, None, False
    return reply


def _edited(
    edit: Callable[[dict[str, Any], Args], None], *, valid: bool | None
) -> Callable[[FaultContext, Reply, Args], Reply]:
    """The answer with one thing changed; `valid` None where a recorder may keep it or not. Leaves answers alone that are no book (an error, exchangeInfo)."""

    def apply(_context: FaultContext, reply: Reply, args: Args) -> Reply:
        if reply.answer is None:
            return reply
        value = msgspec.json.decode(reply.body)
        edit(value, args)
        body = msgspec.json.encode(value)
        if valid is False:
            return _invalid(reply, body)
        reply.body, reply.book = body, valid
        reply.answer = Answer(
            body, hashlib.sha256(body).hexdigest(), value["lastUpdateId"], len(value["bids"]), len(value["asks"])
        )
        return reply

    return apply


def _level(index: int, value: object) -> Callable[[dict[str, Any], Args], None]:
    """Writes one field of a level in the middle of the bids (or of the asks, where there are no bids)."""

    def edit(book: dict[str, Any], _args: Args) -> None:
        levels = _some(book)
        levels[len(levels) // 2][index] = value

    return edit


def _some(book: dict[str, Any]) -> Levels:
    levels: Levels = book["bids"] or book["asks"]
    if not levels:
        levels.append(["1.0", "1.0"])
    return levels


def _field(name: str, value: object) -> Callable[[dict[str, Any], Args], None]:
    def edit(book: dict[str, Any], _args: Args) -> None:
        book[name] = value

    return edit


def _drop(*names: str) -> Callable[[dict[str, Any], Args], None]:
    def edit(book: dict[str, Any], _args: Args) -> None:
        for name in names:
            book.pop(name, None)

    return edit


def _cross(book: dict[str, Any], _args: Args) -> None:
    if book["bids"] and book["asks"]:
        book["bids"][0][0], book["asks"][0][0] = book["asks"][0][0], book["bids"][0][0]


def _unsort(book: dict[str, Any], _args: Args) -> None:
    book["bids"].reverse()
    book["asks"].reverse()


def _one_side(book: dict[str, Any], args: Args) -> None:
    book["asks" if args.get("side", "bids") == "bids" else "bids"] = []


def _no_levels(book: dict[str, Any], _args: Args) -> None:
    book["bids"], book["asks"] = [], []


def _duplicate(book: dict[str, Any], _args: Args) -> None:
    for side in ("bids", "asks"):
        book[side] = [level for level in book[side] for _ in range(2)]


def _extra(book: dict[str, Any], _args: Args) -> None:
    book |= {"st": 1, "ps": "BTCUSDT", "note": {"of": ["2026"]}, "x": None}


def _long(book: dict[str, Any], _args: Args) -> None:
    levels = _some(book)
    levels[0] = [LONG_PRICE, LONG_QUANTITY]


def _zero(book: dict[str, Any], _args: Args) -> None:
    _some(book)[0][1] = "0.000"


def _short_level(book: dict[str, Any], _args: Args) -> None:
    del _some(book)[0][1]


def _long_level(book: dict[str, Any], _args: Args) -> None:
    for level in [*book["bids"], *book["asks"]]:
        level.append([])


def _null_level(book: dict[str, Any], _args: Args) -> None:
    levels: list[Any] = _some(book)
    levels[0] = None


def _numbers(book: dict[str, Any], _args: Args) -> None:
    for side in ("bids", "asks"):
        book[side] = [[float(price), float(quantity)] for price, quantity in book[side]]


def _text_id(book: dict[str, Any], _args: Args) -> None:
    book["lastUpdateId"] = str(book["lastUpdateId"])


def _stale(_context: FaultContext, reply: Reply, args: Args) -> Reply:
    """The book with an id from the past."""

    def edit(book: dict[str, Any], args: Args) -> None:
        book["lastUpdateId"] = max(1, book["lastUpdateId"] - int(args.get("by", STALE_BY)))

    return _edited(edit, valid=None)(_context, reply, args)


def _other_symbol(context: FaultContext, reply: Reply, args: Args) -> Reply:
    """Another symbol's book. Only COIN-M names the symbol in its body, so only there can a reader tell."""
    source = context.exchange.sources[context.market.name]
    others = [name for name in source.symbols() if name != context.symbol]
    if reply.answer is None or context.limit is None or not others:
        return reply
    answer = source.answer(str(args.get("symbol", others[0])), context.limit)
    return replace(reply, body=answer.body, answer=answer, book=False if context.market.name == "inverse" else None)


def _oversize(_context: FaultContext, reply: Reply, args: Args) -> Reply:
    size = int(args.get("bytes", OVERSIZE_BYTES))
    head, _, _ = reply.body.rpartition(b"}")
    body = head + b',"pad":"'
    return _invalid(reply, body + b"x" * max(0, size - len(body) - 2) + b'"}')


def _damaged(damage: Callable[[bytes], bytes]) -> Callable[[FaultContext, Reply, Args], Reply]:
    """The body's bytes changed after the JSON was written."""

    def apply(_context: FaultContext, reply: Reply, _args: Args) -> Reply:
        return _invalid(reply, damage(reply.body))

    return apply


def _bare_nan(body: bytes) -> bytes:
    return body.replace(b'[["', b'[[NaN,"1"],["', 1)


def _bad_utf8(body: bytes) -> bytes:
    return body.replace(b'[["', b'[["\xff\xfe', 1)


BODY_KINDS: tuple[Kind, ...] = (
    Kind("empty_body", "status 200, no bytes", "invalid", _raw(b"")),
    Kind("html_200", "a maintenance page with status 200", "invalid", _raw(PAGE, "text/html")),
    Kind("not_a_book", "valid JSON, an object, not a book", "invalid", _raw(b'{"serverTime":1767225600000}')),
    Kind("json_array", "valid JSON, an array", "invalid", _raw(b"[]")),
    Kind("json_null", "valid JSON, null", "invalid", _raw(b"null")),
    Kind(
        "json_cut", "a JSON text that ends early, Content-Length right", "invalid", _damaged(lambda b: b[: len(b) // 2])
    ),
    Kind("trailing_bytes", "bytes after the JSON text", "invalid", _damaged(lambda b: b + b"{}")),
    Kind("invalid_utf8", "bytes that are no UTF-8 within a price", "invalid", _damaged(_bad_utf8)),
    Kind("nan_literal", "a bare NaN, which is no JSON", "invalid", _damaged(_bare_nan)),
    Kind("oversize_body", "a book padded beyond what Kafka takes (args: bytes)", "invalid", _oversize),
    Kind("negative_quantity", "a negative quantity", "invalid", _edited(_level(1, "-1.000"), valid=False)),
    Kind("nan_text", 'a quantity "NaN"', "invalid", _edited(_level(1, "NaN"), valid=False)),
    Kind("infinity_text", 'a price "Infinity"', "invalid", _edited(_level(0, "Infinity"), valid=False)),
    Kind("overflow_number", "a price beyond float64", "invalid", _edited(_level(0, "1e400"), valid=False)),
    Kind("not_a_number", 'a price "abc"', "invalid", _edited(_level(0, "abc"), valid=False)),
    Kind("empty_number", 'a price ""', "invalid", _edited(_level(0, ""), valid=False)),
    Kind("null_price", "a price null", "invalid", _edited(_level(0, None), valid=False)),
    Kind("null_level", "a level null", "invalid", _edited(_null_level, valid=False)),
    Kind("short_level", "a level without quantity", "invalid", _edited(_short_level, valid=False)),
    Kind("levels_not_array", "bids an object", "invalid", _edited(_field("bids", {}), valid=False)),
    Kind("missing_bids", "no bids", "invalid", _edited(_drop("bids"), valid=False)),
    Kind("missing_id", "no lastUpdateId", "invalid", _edited(_drop("lastUpdateId"), valid=False)),
    Kind("text_id", "lastUpdateId a text", "invalid", _edited(_text_id, valid=False)),
    Kind("huge_id", "lastUpdateId beyond 64 bits", "invalid", _edited(_field("lastUpdateId", 2**64 - 1), valid=False)),
    Kind("other_symbol", "another symbol's book (args: symbol); COIN-M's body tells", "either", _other_symbol),
    Kind("stale_id", "lastUpdateId from the past (args: by)", "either", _stale),
    Kind("crossed", "best bid above best ask", "valid", _edited(_cross, valid=True)),
    Kind("unsorted", "worst levels first", "valid", _edited(_unsort, valid=True)),
    Kind("one_sided", "one side empty (args: side, the one kept)", "valid", _edited(_one_side, valid=True)),
    Kind("empty_book", "both sides empty", "valid", _edited(_no_levels, valid=True)),
    Kind("duplicate_levels", "every level twice", "valid", _edited(_duplicate, valid=True)),
    Kind("zero_quantity", 'a quantity "0.000"', "valid", _edited(_zero, valid=True)),
    Kind("extra_fields", "unknown fields in the object", "valid", _edited(_extra, valid=True)),
    Kind(
        "extra_level_fields",
        "a third element in every level, as spot once had",
        "either",
        _edited(_long_level, valid=None),
    ),
    Kind("long_numbers", "20 digits before and after the point", "valid", _edited(_long, valid=True)),
    Kind("number_levels", "prices and quantities as JSON numbers", "either", _edited(_numbers, valid=None)),
)
