"""Levels: every value is the correctly rounded float64 of its text, and what is no level is refused by name."""

from __future__ import annotations

import json
import math
from decimal import Decimal

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from shared.errors import PoisonMessage
from shared.venues.levels import LevelParser, scan

PARSER = LevelParser()

plain = st.from_regex(r"\A[0-9]{1,24}(\.[0-9]{1,24})?\Z", fullmatch=True)
short = st.decimals(min_value=0, max_value=10**7, places=8).map(str)
tiny = st.integers(0, 400).flatmap(lambda n: st.from_regex(r"\A[0-9]{1,20}\Z").map(lambda d: "0." + "0" * n + d))
huge = st.integers(0, 400).flatmap(lambda n: st.from_regex(r"\A[1-9][0-9]{0,20}\Z").map(lambda d: d + "0" * n))
scientific = st.floats(min_value=0, allow_nan=False, allow_infinity=False).map(repr)
numbers = st.one_of(plain, short, tiny, huge, scientific)
books = st.lists(st.lists(st.tuples(numbers, numbers), max_size=6), min_size=1, max_size=6)


def text(levels, separators=(",", ":")) -> bytes:
    return json.dumps(levels, separators=separators).encode()


def one(array: bytes):
    """Price and quantity of the levels of one side; raises what is wrong with it."""
    levels = PARSER.parse([scan(array)])
    for poison in levels.poison.values():
        raise poison
    return list(zip(levels.prices.tolist(), levels.quantities.tolist(), strict=True))


@given(books)
@example(
    [[("4.9406564584124654e-324", "2.4703282292062327e-324")], [("179769313486231570814527423731704356798070", "1")]]
)
@example([[("0." + "0" * 323 + "49406564584124654", "9007199254740993")], []])
@example([[("18446744073709551615", "18446744073709551616")], [("9223372036854775807", "9223372036854775808")]])
@settings(max_examples=150)
def test_values_are_the_rounded_text_in_the_order_given(sides):
    expected = [[(float(p), float(q)) for p, q in side] for side in sides]
    bad = {i for i, side in enumerate(expected) if any(math.isinf(value) for level in side for value in level)}
    levels = PARSER.parse([scan(text(side)) for side in sides if not scan_fails(text(side))])
    wanted = [level for i, side in enumerate(expected) if i not in bad for level in side]
    assert list(zip(levels.prices.tolist(), levels.quantities.tolist(), strict=True)) == wanted


def scan_fails(array: bytes) -> bool:
    try:
        scan(array)
    except PoisonMessage:
        return True
    return False


@given(st.lists(st.tuples(numbers, numbers), max_size=40))
def test_numbers_beyond_15_significant_digits_are_counted(levels):
    def digits(number: str) -> int:
        return len("".join(map(str, Decimal(number).as_tuple().digits)).strip("0"))

    if not any(math.isinf(float(value)) for level in levels for value in level):
        counted = PARSER.parse([scan(text(levels))]).imprecise
        assert counted == sum(digits(value) > 15 for level in levels for value in level)


@pytest.mark.parametrize(
    ("number", "is_imprecise"),
    [
        ("123456789012345", False),
        ("1234567890123456", True),
        ("0.123456789012345", False),
        ("0.1234567890123456", True),
        ("0.000000000000000000123456789012345", False),
        ("123456.789012345", False),
        ("123456.7890123456", True),
        ("123456789012345.00000000", False),
        ("100000000000000000000", False),
        ("1000000000000001", True),
        ("0.00000000000000000000", False),
        ("1234567890123.45e2", False),
        ("1234567890123456e-2", True),
    ],
)
def test_the_sixteenth_significant_digit_counts(number, is_imprecise):
    levels = [[number, "1.5"], ["64000.10", number]]
    assert PARSER.parse([scan(text(levels))]).imprecise == 2 * is_imprecise


def test_a_side_of_many_levels_spans_several_documents():
    sides = [[[f"{i}.{j}", str(i * j)] for j in range(1000)] for i in range(1, 30)]
    levels = PARSER.parse([scan(text(side)) for side in sides])
    assert levels.counts == [1000] * 29
    assert levels.prices.tolist() == [float(price) for side in sides for price, _ in side]
    assert levels.quantities.tolist() == [float(quantity) for side in sides for _, quantity in side]


@pytest.mark.parametrize(
    ("array", "expected"),
    [
        pytest.param(b"[]", [], id="no level"),
        pytest.param(b"[ ]", [], id="no level, a space"),
        pytest.param(b'[["1","2"]]', [(1, 2)], id="one level"),
        pytest.param(b'[ ["1", "2"] ]', [(1, 2)], id="spaces"),
        pytest.param(b"[[1.5,2]]", [(1.5, 2)], id="JSON numbers"),
        pytest.param(b'[["1e2","2E-2"]]', [(100, 0.02)], id="exponents"),
        pytest.param(b'[["-1","2"]]', [(-1, 2)], id="negative price, as spreads have"),
        pytest.param(b'[["007","0.50"]]', [(7, 0.5)], id="leading and trailing zeros"),
        pytest.param(b'[["1.",".5"]]', [(1, 0.5)], id="a dot at an end"),
        pytest.param(b'[["123456789012345678901234567890","1"]]', [(1.2345678901234568e29, 1)], id="30 digits"),
        pytest.param(b'[["\\u0031","2"]]', [(1, 2)], id="an escaped digit"),
        pytest.param(b'[["1","0"]]', [(1, 0)], id="quantity 0"),
    ],
)
def test_what_is_unusual_but_clear_is_understood(array, expected):
    assert one(array) == expected


@pytest.mark.parametrize(
    ("array", "reason"),
    [
        pytest.param(b"", "bad_levels", id="nothing"),
        pytest.param(b"null", "bad_levels", id="null"),
        pytest.param(b"{}", "bad_levels", id="an object"),
        pytest.param(b'"[]"', "bad_levels", id="a string"),
        pytest.param(b"[" * 100_000, "bad_levels", id="nested without end"),
        pytest.param(b'[["1","2"]', "bad_levels", id="not closed"),
        pytest.param(b'[["1","2"],]', "bad_levels", id="a comma too many"),
        pytest.param(b'[["1","2"]]]', "bad_levels", id="a bracket too many"),
        pytest.param(b'[["1""2"]]', "bad_levels", id="no comma between"),
        pytest.param(b'[[1"2","3"]]', "bad_levels", id="a digit before a string"),
        pytest.param(b'[["1\xff","2"]]', "bad_levels", id="not UTF-8"),
        pytest.param(b"[[]]", "bad_level", id="an empty level"),
        pytest.param(b'[["1"]]', "bad_level", id="a price alone"),
        pytest.param(b'[["1","2","3"]]', "bad_level", id="three elements"),
        pytest.param(b'[["1","2","3"],["4"]]', "bad_level", id="three and one"),
        pytest.param(b'["1","2"]', "bad_level", id="not nested"),
        pytest.param(b'[["1","2"],null]', "bad_level", id="a null level"),
        pytest.param(b'[["1",["2"]]]', "not_a_number", id="a nested quantity"),
        pytest.param(b'[["1,2","3"]]', "not_a_number", id="a comma in a string"),
        pytest.param(b'[["1],[2","3"]]', "not_a_number", id="brackets in a string"),
        pytest.param(b'[["1","],["],["2","3"]]', "not_a_number", id="a level boundary as a string"),
        pytest.param(b'[["[]","1,2"]]', "not_a_number", id="an array and two numbers as strings"),
        pytest.param(b'[["1 2","3"]]', "not_a_number", id="a space in a number"),
        pytest.param(b'[["1.2.3","4"]]', "not_a_number", id="two dots"),
        pytest.param(b'[["","1"]]', "not_a_number", id="an empty string"),
        pytest.param(b'[[".","1"]]', "not_a_number", id="a dot alone"),
        pytest.param(b'[["1_000","1"]]', "not_a_number", id="an underscore"),
        pytest.param(b'[["0x10","1"]]', "not_a_number", id="hexadecimal"),
        pytest.param(b'[["+1","1"]]', "not_a_number", id="a plus"),
        pytest.param(b'[["\\uff11","1"]]', "not_a_number", id="a full-width digit"),
        pytest.param(b'[["\\ud800","1"]]', "not_a_number", id="a lone surrogate"),
        pytest.param(b'[[true,"1"]]', "not_a_number", id="a boolean"),
        pytest.param(b'[[null,"1"]]', "not_a_number", id="a null price"),
        pytest.param(b'[["NaN","1"]]', "not_finite", id="NaN"),
        pytest.param(b'[[NaN,"1"]]', "not_finite", id="bare NaN"),
        pytest.param(b'[["1","-Infinity"]]', "not_finite", id="infinity"),
        pytest.param(b'[["1e400","1"]]', "not_finite", id="beyond float64"),
        pytest.param(b'[["' + b"9" * 400 + b'","1"]]', "not_finite", id="400 digits"),
        pytest.param(b'[["1","-0.1"]]', "negative_quantity", id="a negative quantity"),
    ],
)
def test_what_is_no_level_is_refused_by_name(array, reason):
    with pytest.raises(PoisonMessage) as refused:
        one(array)
    assert refused.value.reason == reason
    str(refused.value).encode()  # it goes into a header


def test_one_bad_side_leaves_the_others_as_they_are():
    good, bad, strange = text([["1", "2"], ["3", "4"]]), b'[["1.2.3","4"]]', b'[["5e0", "6"]]'
    levels = PARSER.parse([scan(array) for array in (good, bad, b"[]", strange, good)])
    assert levels.counts == [2, 0, 0, 1, 2]
    assert levels.prices.tolist() == [1, 3, 5, 1, 3]
    assert levels.quantities.tolist() == [2, 4, 6, 2, 4]
    assert [(index, poison.reason) for index, poison in levels.poison.items()] == [(1, "not_a_number")]


@given(
    st.lists(
        st.sampled_from([b"[", b"]", b'"', b",", b"1", b"2.5", b'["1","2"]', b'"],["', b'","', b" ", b"0"]), max_size=14
    )
)
@settings(max_examples=400)
def test_any_text_is_read_as_json_reads_it_or_refused(pieces):
    array = b"[" + b"".join(pieces) + b"]"
    try:
        decoded = json.loads(array)
        expected = [(float(p), float(q)) for p, q in decoded] if all(map(is_level, decoded)) else None
    except ValueError:
        expected = None
    try:
        found = one(array)
    except PoisonMessage:
        found = None
    assert found == expected


def is_level(level) -> bool:
    return isinstance(level, list) and len(level) == 2 and all(is_number(value) for value in level)


def is_number(value) -> bool:
    is_text = isinstance(value, str) and value != "" and all(c in "0123456789." for c in value)
    return (is_text or isinstance(value, (int, float))) and not isinstance(value, bool)
