"""Which symbols of a market are recorded from one source address: what is configured, divided by the shards. Pure.

Lists hold ids and patterns: ``*`` is any text, ``?`` any one character, everything else stands for itself, in its case.
Several hosts share one shard file and never ask each other, so the division is a function of the file alone:
1. the shard that names a symbol has it;
2. else the first shard, in the order of the file, that has a pattern for it.
So every symbol has at most one shard, whatever the venue lists next. Never knows what is listed: that is an argument.
"""

from __future__ import annotations

import re
from fnmatch import translate
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

NOTHING = r"(?!)"


def is_pattern(entry: str) -> bool:
    """Whether this is a pattern and not an id."""
    return "*" in entry or "?" in entry


class SymbolList:
    """Ids and patterns, as they stand in a file. `in` asks whether either has a symbol."""

    def __init__(self, entries: Iterable[str] = ()) -> None:
        entries = tuple(entries)
        self.ids = frozenset(entry for entry in entries if not is_pattern(entry))
        self.patterns = tuple(entry for entry in entries if is_pattern(entry))
        literal = (pattern.replace("[", "[[]") for pattern in self.patterns)  # to fnmatch a bracket opens a class
        self._pattern = re.compile("|".join(map(translate, literal)) or NOTHING)

    def __contains__(self, symbol: str) -> bool:
        return symbol in self.ids or self.matches(symbol)

    def __bool__(self) -> bool:
        return bool(self.ids or self.patterns)

    def matches(self, symbol: str) -> bool:
        """Whether one of the patterns has it."""
        return self._pattern.match(symbol) is not None


EVERYTHING = SymbolList(["*"])


class Selection:
    """The symbols of one kind and market that one shard records.

    `configured` is what all shards record together, `shards` the lists of all shards in the order of the file, `place`
    which of them this is. Without a file there is one shard, which has everything.
    """

    def __init__(self, configured: SymbolList, shards: Sequence[SymbolList] = (EVERYTHING,), place: int = 0) -> None:
        self._configured = configured
        self._shards = tuple(shards)
        self._place = place
        named = configured.ids | self._shards[place].ids
        self.explicit = frozenset(symbol for symbol in named if self._has(symbol))
        """Ids named in the configuration or in the shard: known before the venue has said what is listed."""
        self.has_patterns = bool(configured.patterns and self._shards[place].patterns)
        """Whether the venue's list may add to `explicit`."""

    def __bool__(self) -> bool:
        return bool(self.explicit) or self.has_patterns

    def of(self, trading: Collection[str]) -> frozenset[str]:
        """Those of `trading` that are recorded here."""
        return frozenset(symbol for symbol in trading if self._has(symbol))

    def unassigned(self, trading: Collection[str]) -> frozenset[str]:
        """Those of `trading` that are configured and have no shard at all: their patterns do not cover them."""
        return frozenset(
            symbol for symbol in trading if symbol in self._configured and owner(symbol, self._shards) is None
        )

    def _has(self, symbol: str) -> bool:
        return symbol in self._configured and owner(symbol, self._shards) == self._place


def owner(symbol: str, shards: Sequence[SymbolList]) -> int | None:
    """The place of the shard that has the symbol; None if none has."""
    named = (place for place, entries in enumerate(shards) if symbol in entries.ids)
    matched = (place for place, entries in enumerate(shards) if entries.matches(symbol))
    found = next(named, None)
    return next(matched, None) if found is None else found
