"""Faults on request: which response goes wrong, how often, and in which of the known ways.

A rule names a kind and optionally market, symbol, path and source address; it holds `count` times or with a
`probability`. The first rule that matches acts. Kinds are in `fault_kinds`.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from collections.abc import Callable

    from simulator.exchange import Exchange
    from simulator.markets import Market, MarketName
    from simulator.reply import Reply

ANY_PATH = "*"
DEPTH_PATH = "depth"


class Rule(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """As posted. Null matches everything; `path` is a path's last part (``depth`` by default) or ``*``."""

    kind: str
    market: str | None = None
    symbol: str | None = None
    path: str = DEPTH_PATH
    source_ip: str | None = None
    count: int | None = None  # how often; with neither count nor probability: once
    probability: float | None = None  # of a matching request, 0 to 1
    args: dict[str, Any] = {}
    id: int = 0  # set when added
    hits: int = 0


@dataclass(frozen=True, slots=True)
class FaultContext:
    """What a fault may look at."""

    exchange: Exchange
    market: Market
    symbol: str | None
    limit: int | None
    address: str
    now_ms: int


@dataclass(frozen=True, slots=True)
class Kind:
    """One way to go wrong. `effect`: valid (a book to record), invalid (none), either, refused, transport."""

    name: str
    what: str
    effect: str
    apply: Callable[[FaultContext, Reply, dict[str, Any]], Reply]


@dataclass(frozen=True, slots=True)
class Fault:
    """A rule that acts on one response."""

    kind: str
    args: dict[str, Any]
    how: Kind

    def apply(self, context: FaultContext, reply: Reply) -> Reply:
        """The reply as it goes out."""
        return self.how.apply(context, reply, self.args)


class Faults:
    """The rules in force. Rolls of probability are seeded."""

    def __init__(self, kinds: dict[str, Kind], seed: int) -> None:
        self.kinds = kinds
        self.rules: list[Rule] = []
        self._random = Random(f"{seed}:faults")
        self._next_id = 1

    def add(self, rule: Rule) -> Rule:
        """Puts a rule in force. Raises `ValueError` for an unknown kind or impossible numbers."""
        if rule.kind not in self.kinds:
            raise ValueError(f"unknown fault kind {rule.kind!r}; known: {', '.join(self.kinds)}")
        if rule.probability is not None and not 0 <= rule.probability <= 1:
            raise ValueError(f"probability {rule.probability} is not between 0 and 1")
        if rule.count is None and rule.probability is None:
            rule.count = 1
        rule.id = self._next_id
        self._next_id += 1
        self.rules.append(rule)
        return rule

    def remove(self, rule_id: int | None = None) -> int:
        """Lifts one rule, or all. Returns how many."""
        kept = [] if rule_id is None else [rule for rule in self.rules if rule.id != rule_id]
        removed = len(self.rules) - len(kept)
        self.rules = kept
        return removed

    def pick(self, *, market: MarketName, symbol: str | None, path: str, address: str) -> Fault | None:
        """The fault for this request, if a rule matches; counts it."""
        for rule in self.rules:
            if not _matches(rule, market, symbol, path, address) or rule.count == 0:
                continue
            if rule.probability is not None and self._random.random() >= rule.probability:
                continue
            rule.hits += 1
            if rule.count is not None:
                rule.count -= 1
            return Fault(rule.kind, rule.args, self.kinds[rule.kind])
        return None


def _matches(rule: Rule, market: str, symbol: str | None, path: str, address: str) -> bool:
    return (
        rule.market in {None, market}
        and rule.symbol in {None, symbol}
        and rule.source_ip in {None, address}
        and rule.path in {ANY_PATH, path, path.rsplit("/", 1)[-1]}
    )
