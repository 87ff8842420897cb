"""Selections: what a pattern has, and that every symbol has one shard, whoever asks."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.reader.symbols import EVERYTHING, Selection, SymbolList, is_pattern, owner

CHINESE = "币安人生USDT"
TRADING = ("BTCUSDT", "ETHUSDT", "ETHBTC", CHINESE)


def of_shards(configured: list[str], *shards: list[str]) -> list[Selection]:
    lists = [SymbolList(entries) for entries in shards]
    return [Selection(SymbolList(configured), lists, place) for place in range(len(lists))]


@pytest.mark.parametrize(
    ("pattern", "symbol", "matches"),
    [
        pytest.param("*USDT", "BTCUSDT", True, id="any text before"),
        pytest.param("*USDT", "USDT", True, id="no text is text"),
        pytest.param("*USDT", "BTCUSDT_250926", False, id="to the end"),
        pytest.param("USDT*", "BTCUSDT", False, id="from the start"),
        pytest.param("*usdt", "BTCUSDT", False, id="case counts"),
        pytest.param("*USDT", CHINESE, True, id="non-ASCII in the symbol"),
        pytest.param("币安*", CHINESE, True, id="non-ASCII in the pattern"),
        pytest.param("????USDT", CHINESE, True, id="a character is one whatever its bytes"),
        pytest.param("?USDT", "BTCUSDT", False, id="one character and no more"),
        pytest.param("?BTCUSDT", "BTCUSDT", False, id="one character and no less"),
        pytest.param("[BE]*", "BTCUSDT", False, id="a bracket is no class"),
        pytest.param("[BE]*", "[BE]TH", True, id="a bracket is a bracket"),
        pytest.param("[!B]*", "ETHUSDT", False, id="nor a negated class"),
        pytest.param("A.*", "AXB", False, id="a dot is a dot"),
        pytest.param("BTC-USDT*", "BTC-USDT-SWAP", True, id="a dash is a dash"),
        pytest.param("A|B*", "B1", False, id="a bar is a bar"),
        pytest.param("*", "", True, id="everything"),
    ],
)
def test_a_pattern_knows_two_wildcards_and_nothing_else(pattern, symbol, matches) -> None:
    assert is_pattern(pattern)
    assert (symbol in SymbolList([pattern])) is matches


def test_one_of_several_patterns_or_ids_is_enough() -> None:
    symbols = SymbolList(["*BTC", "BTC*", "DOGEUSDT"])
    assert [symbol in symbols for symbol in ("ETHBTC", "BTCUSDT", "DOGEUSDT", "DOGE", "ETHUSDT")] == [
        True,
        True,
        True,
        False,
        False,
    ]


def test_an_empty_list_has_nothing() -> None:
    assert "" not in SymbolList()
    assert not SymbolList()


def test_without_shards_all_that_is_configured_and_trades_is_recorded() -> None:
    selection = Selection(SymbolList(["ETHBTC", "*USDT", "GONE"]))
    assert selection.of(TRADING) == set(TRADING)
    assert selection.explicit == {"ETHBTC", "GONE"}
    assert selection.has_patterns


def test_a_list_without_patterns_needs_no_instrument_list() -> None:
    selection = Selection(SymbolList(["BTCUSDT", CHINESE]))
    assert selection.explicit == {"BTCUSDT", CHINESE}
    assert not selection.has_patterns
    assert selection.of(TRADING) == {"BTCUSDT", CHINESE}


def test_the_shard_that_names_a_symbol_has_it_wherever_it_stands_in_the_file() -> None:
    pattern, names = of_shards(["*USDT"], ["*"], ["ETHUSDT"])
    assert pattern.of(TRADING) == {"BTCUSDT", CHINESE}
    assert names.of(TRADING) == names.explicit == {"ETHUSDT"}
    assert not names.has_patterns


def test_else_the_first_shard_with_a_pattern_for_it_has_it() -> None:
    first, second = of_shards(["*"], ["*USDT"], ["ETH*"])
    assert first.of(TRADING) == {"BTCUSDT", "ETHUSDT", CHINESE}
    assert second.of(TRADING) == {"ETHBTC"}


def test_a_configured_symbol_belongs_to_the_shard_whose_pattern_has_it_before_any_instrument_list() -> None:
    first, second = of_shards(["BTCUSDT", "ETHUSDT"], ["B*"], ["*"])
    assert (first.explicit, second.explicit) == ({"BTCUSDT"}, {"ETHUSDT"})
    assert not first.has_patterns
    assert not second.has_patterns


def test_what_a_shard_names_is_recorded_only_as_far_as_it_is_configured() -> None:
    (selection,) = of_shards(["*USDT"], ["BTCUSDT", "ETHBTC"])
    assert selection.explicit == {"BTCUSDT"}


def test_what_is_configured_and_in_no_shard_can_be_told() -> None:
    for selection in of_shards(["*USDT"], ["B*"], ["ETH*"]):
        assert selection.unassigned(TRADING) == {CHINESE}


@pytest.mark.parametrize(
    ("configured", "shard", "something"),
    [
        (["BTCUSDT"], ["*"], True),
        (["*"], ["B*"], True),
        (["*"], [], False),
        (["BTCUSDT"], ["ETH*"], False),
        ([], ["*"], False),
    ],
    ids=["an id", "patterns", "nothing of this market", "nothing that is configured", "nothing configured"],
)
def test_a_selection_of_nothing_is_false(configured, shard, something) -> None:
    assert bool(Selection(SymbolList(configured), [SymbolList(shard)])) is something


symbols = st.text("ABé币[", min_size=1, max_size=3)
patterns = st.text("AB币[*?", min_size=1, max_size=3).filter(is_pattern)
entries = st.lists(symbols | patterns, max_size=4)


@st.composite
def files(draw) -> list[list[str]]:
    """Shard files that the checks let through: nothing stands in two shards."""
    drawn = draw(st.lists(entries, min_size=1, max_size=5))
    seen: set[str] = set()
    shards = []
    for one in drawn:
        shards.append([entry for entry in dict.fromkeys(one) if entry not in seen])
        seen.update(one)
    return shards


@given(entries, files(), st.sets(symbols, max_size=20))
def test_each_trading_symbol_that_is_configured_and_covered_has_exactly_one_shard(configured, file, trading) -> None:
    selections = of_shards(configured, *file)
    wanted = {symbol for symbol in trading if symbol in SymbolList(configured)}
    covered = {symbol for symbol in wanted if any(symbol in SymbolList(one) for one in file)}
    taken = sorted(symbol for selection in selections for symbol in selection.of(trading))
    assert taken == sorted(covered)
    assert all(selection.unassigned(trading) == wanted - covered for selection in selections)


@given(entries, files(), st.sets(symbols, max_size=20))
def test_a_shard_without_patterns_learns_nothing_from_the_instrument_list(configured, file, trading) -> None:
    for selection in of_shards(configured, *file):
        assert selection.explicit & trading <= selection.of(trading)
        assert selection.has_patterns or selection.of(trading) <= selection.explicit


@given(entries, st.sets(symbols, max_size=20))
def test_a_catch_all_in_the_last_shard_takes_what_no_other_has(file, trading) -> None:
    lists = [SymbolList(file), EVERYTHING]
    assert all(owner(symbol, lists) == (0 if symbol in lists[0] else 1) for symbol in trading)
