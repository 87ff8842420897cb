"""The levels of many books at once: raw JSON arrays of ``["price","quantity"]`` to exact float64 columns.

Each value is the correctly rounded float64 of the venue's text. No Python object is made per level where the text is
plain (digits and dots in strings, no whitespace), which is all a venue sends in practice; anything else goes, array by
array, through an exact slow path that either understands it or says why not. Never alters the order, never drops a
level, never does I/O. An impossible level (not a number, not finite, a negative quantity) spoils its whole array.
"""

from __future__ import annotations

import json
import re
from bisect import bisect_left
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import accumulate
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import simdjson

from shared.errors import PoisonMessage

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

EXACT_DIGITS = 15
"""Any decimal of so many significant digits survives a float64; a longer one may not (it stays in the raw topic)."""

_NUMBER_BYTES = b"0123456789."
_LEVEL_SKELETON = b'["",""],'
_DECIMAL = re.compile(r"-?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?", re.ASCII)
_SHOWN_CHARACTERS = 60
_DOCUMENT_BYTES = 65_536  # text, masks, tape and values together stay within a core's cache


class Side(msgspec.Struct, frozen=True, gc=False):
    """One array, its shape known: `text` is it whole where it is plain and still to be parsed; else `values` are read."""

    count: int
    text: bytes = b""
    values: Floats | None = None
    imprecise: int = 0


@dataclass(frozen=True, slots=True)
class Levels:
    """The levels of some sides, one side after the other in the order given."""

    prices: Floats
    quantities: Floats
    counts: list[int]  # levels of each side; 0 where it is poison
    imprecise: int = 0  # values with more than `EXACT_DIGITS` significant digits
    poison: dict[int, PoisonMessage] = field(default_factory=dict)  # by position of the side


def scan(array: bytes) -> Side:
    """How many levels a raw JSON array holds. Raises `PoisonMessage` (``bad_levels``, ``not_a_number``, …).

    Digits and dots taken out, a plain array leaves a text that only its number of levels decides: what is not where it
    belongs, a bracket or a comma inside a string too, shows here. A count is final, its numbers are not yet read.
    """
    skeleton = array.translate(None, _NUMBER_BYTES)
    count = len(skeleton) // len(_LEVEL_SKELETON)
    if count and skeleton == _skeleton(count):
        return Side(count, array)
    return Side(0) if array == b"[]" else _read_exactly(array)


@lru_cache(maxsize=512)
def _skeleton(count: int) -> bytes:
    """A plain array of so many levels without its digits and dots."""
    return b"[" + (_LEVEL_SKELETON * count)[:-1] + b"]"


class LevelParser:
    """Reads scanned sides. Keeps a parser and scratch memory, so each thread needs its own."""

    def __init__(self) -> None:
        self._parser = simdjson.Parser()
        self._document = np.empty(0, np.uint8)
        self._kept = np.empty(0, np.bool_)

    def parse(self, sides: Sequence[Side]) -> Levels:
        """All levels of all sides. A side that turns out impossible is in `Levels.poison` and has no levels."""
        counts = [side.count for side in sides]
        texts = [side.text for side in sides if side.text]
        if len(texts) == len(counts) - counts.count(0):
            documents = [self._parse_plain(document) for document in _documents(texts)]
            values = [document for document, _ in documents if document is not None]
            if len(values) == len(documents):
                imprecise = sum(imprecise for _, imprecise in documents)
                levels = Levels(*_columns(values), counts, imprecise)
                assert len(levels.prices) == sum(counts)
                return levels
        return self._parse_one_by_one(sides)

    def _parse_one_by_one(self, sides: Sequence[Side]) -> Levels:
        parts: list[Floats] = []
        poison: dict[int, PoisonMessage] = {}
        imprecise = 0
        for index, side in enumerate(sides):
            try:
                values, digits = self._parse_side(side)
            except PoisonMessage as error:
                poison[index] = error.bare()
                values, digits = np.empty(0), 0
            parts.append(values)
            imprecise += digits
        return Levels(*_columns(parts), [len(values) // 2 for values in parts], imprecise, poison)

    def _parse_side(self, side: Side) -> tuple[Floats, int]:
        values, imprecise = self._parse_plain(side.text) if side.text else (side.values, side.imprecise)
        if values is None and side.text:
            exact = _read_exactly(side.text)
            values, imprecise = exact.values, exact.imprecise
        return values if values is not None else np.empty(0), imprecise

    def _parse_plain(self, sides: bytes) -> tuple[Floats | None, int]:
        """Price, quantity, price, … of plain sides, and how many of them are imprecise; None where JSON refuses them.

        `sides` are their texts with commas between. Quotes and brackets become spaces, which leaves one flat JSON array
        of numbers; scan() has proven the shape. JSON's grammar does the rest: it refuses ``1.``, ``.5``, ``007``,
        ``1.2.3``, an empty string, and the parser refuses integers above 64 bits and what rounds to infinity. Those
        texts go the slow way.
        """
        text = np.frombuffer(sides, np.uint8)
        size = len(text)
        if size + 2 > len(self._document):
            self._document = np.empty(2 * size + 2, np.uint8)
            self._kept = np.empty(2 * size, np.bool_)
        document, kept = self._document[: size + 2], self._kept[:size]
        body = document[1:-1]
        np.subtract(text, ord(","), out=body)  # wraps: ',' 0, '.' 2, digits 4 to 13, quotes and brackets above
        np.less_equal(body, 13, out=kept)
        imprecise = _count_imprecise(text, kept)
        np.multiply(text, kept.view(np.uint8), out=body)
        np.bitwise_or(
            body, ord(" "), out=body
        )  # whose bit digits, dots and commas have; a maximum takes ten times as long
        document[0], document[-1] = ord("["), ord("]")
        try:
            parsed: Any = self._parser.parse(document.tobytes())
        except (ValueError, RuntimeError):  # the latter for integers above 64 bits
            return None, 0
        values: Floats = np.frombuffer(parsed.as_buffer(of_type="d"), np.float64)
        del parsed  # the parser cannot be used again while its document lives
        return values, imprecise


def _documents(texts: Sequence[bytes]) -> Iterator[bytes]:
    """`texts` joined by commas in runs of about `_DOCUMENT_BYTES`, never empty."""
    sizes = list(accumulate(map(len, texts)))
    start = taken = 0
    while start < len(texts):
        end = bisect_left(sizes, taken + _DOCUMENT_BYTES, start) + 1
        yield b",".join(texts[start:end])
        start, taken = end, sizes[min(end, len(sizes)) - 1]


def _columns(parts: Sequence[Floats]) -> tuple[Floats, Floats]:
    """Prices and quantities out of price, quantity, price, …"""
    total = sum(len(values) for values in parts) // 2
    prices, quantities = np.empty(total), np.empty(total)
    end = 0
    for values in parts:
        start, end = end, end + len(values) // 2
        prices[start:end], quantities[start:end] = values[0::2], values[1::2]
    return prices, quantities


def _count_imprecise(text: NDArray[np.uint8], kept: NDArray[np.bool_]) -> int:
    """How many numbers have more than `EXACT_DIGITS` significant digits. `kept`: digits, dots and (alone) commas.

    Such a number is at least 16 characters long, so it fills three aligned words of 4 in a row: where no three words
    are full, which is the rule, that is the whole cost. Padded numbers (spot has 8 decimals) need the second test.
    """
    words = kept[: len(kept) // 4 * 4].view(np.uint32) == 0x01010101  # noqa: PLR2004
    if not (words[:-2] & words[1:-1] & words[2:]).any():
        return 0
    run = kept
    for length in (1, 2, 4, 8):
        run = run[:-length] & run[length:]  # now: a number goes on for 2, 4, 8, 16 characters from here
    if not run.any():
        return 0
    around = slice(int(run.argmax()), len(kept) - int(run[::-1].argmax()))  # from the first to the last such number
    text, kept = text[around], kept[around]
    edges = np.flatnonzero(np.diff(kept, prepend=False, append=False))
    starts, ends = edges[0::2], edges[1::2]
    long = ends - starts > EXACT_DIGITS
    starts, ends = starts[long], ends[long]
    nonzero = np.flatnonzero((text >= ord("1")) & kept)
    first = np.searchsorted(nonzero, starts)
    last = np.searchsorted(nonzero, ends) - 1
    has_value = first <= last
    first, last = nonzero[first[has_value]], nonzero[last[has_value]]
    dots = np.flatnonzero(text == ord("."))
    dots_within = np.searchsorted(dots, last) - np.searchsorted(dots, first)
    return int(np.count_nonzero(last - first + 1 - dots_within > EXACT_DIGITS))


def _read_exactly(array: bytes) -> Side:
    """The slow path: any JSON array of two-element arrays of decimal strings or JSON numbers."""
    try:
        levels = json.loads(array, parse_int=_Text, parse_float=_Text, parse_constant=_Text)
    except (ValueError, RecursionError) as error:
        raise PoisonMessage("bad_levels", f"not an array of levels: {error!a}") from error
    if not isinstance(levels, list):
        raise PoisonMessage("bad_levels", f"not an array of levels: {_shown(levels)}")
    values: list[float] = []
    imprecise = 0
    for level in levels:
        if not isinstance(level, list) or len(level) != 2:  # noqa: PLR2004 - a price and a quantity
            raise PoisonMessage("bad_level", f"not a price and a quantity: {_shown(level)}")
        for text in level:
            values.append(_read_number(text))
            imprecise += _significant_digits(text) > EXACT_DIGITS
        if values[-1] < 0:
            raise PoisonMessage("negative_quantity", f"quantity {values[-1]} at price {values[-2]}")
    return Side(len(levels), values=np.array(values, np.float64), imprecise=imprecise)


class _Text(str):
    """A JSON number's own text."""

    __slots__ = ()


def _read_number(text: Any) -> float:
    if isinstance(text, str) and _DECIMAL.fullmatch(text):
        value = float(text)
        if abs(value) != float("inf"):
            return value
    elif not isinstance(text, str) or text.lower().lstrip("+-") not in {"nan", "inf", "infinity"}:
        raise PoisonMessage("not_a_number", f"{_shown(text)} is not a decimal number")
    raise PoisonMessage("not_finite", f"{_shown(text)} is not a finite float64")


def _significant_digits(text: str) -> int:
    digits = re.split("[eE]", text)[0].lstrip("-").replace(".", "").strip("0")
    return len(digits)


def _shown(value: object) -> str:
    """Pure ASCII: a lone surrogate from JSON cannot be encoded in a header."""
    return ascii(value)[:_SHOWN_CHARACTERS]
