"""Faults on request: which response goes wrong, how often, and in which of the known ways.

A rule names a kind and optionally market, symbol, path and source address; it holds `count` times or with a
`probability`. The first rule that matches acts. Kinds of REST answers are in `fault_kinds`; rules with the path
``stream`` are about websockets and have the kinds of `frame_faults`.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from simulator.exchange import Exchange
    from simulator.frame_faults import FrameKind, When
    from simulator.markets import Market, MarketName
    from simulator.reply import Reply

ANY_PATH = "*"
DEPTH_PATH = "depth"
STREAM_PATH = "stream"


class Rule(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """As posted. Null matches everything; `path` is a path's last part (``depth`` by default), ``*`` or ``stream``."""

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

    def __init__(self, kinds: dict[str, Kind], seed: int, stream_kinds: Mapping[str, FrameKind] | None = None) -> None:
        self.kinds = kinds
        self.stream_kinds = stream_kinds or {}
        self.stream_hits: Counter[str] = Counter()
        self.rules: list[Rule] = []
        self._stream_rules = False  # so that a frame without any costs nothing
        self._random = Random(f"{seed}:faults")
        self._next_id = 1

    def add(self, rule: Rule) -> Rule:
        """Puts a rule in force. Raises `ValueError` for an unknown kind or impossible numbers."""
        known = self.stream_kinds if rule.path == STREAM_PATH else self.kinds
        if rule.kind not in known:
            raise ValueError(f"unknown fault kind {rule.kind!r}; known: {', '.join(known)}")
        if rule.probability is not None and not 0 <= rule.probability <= 1:
            raise ValueError(f"probability {rule.probability} is not between 0 and 1")
        if rule.count is None and rule.probability is None:
            rule.count = 1
        rule.id = self._next_id
        self._next_id += 1
        self.rules.append(rule)
        self._stream_rules = self._stream_rules or rule.path == STREAM_PATH
        return rule

    def remove(self, rule_id: int | None = None) -> int:
        """Lifts one rule, or all. Returns how many."""
        kept = [] if rule_id is None else [rule for rule in self.rules if rule.id != rule_id]
        removed = len(self.rules) - len(kept)
        self.rules = kept
        self._stream_rules = any(rule.path == STREAM_PATH for rule in kept)
        return removed

    def pick(self, *, market: MarketName, symbol: str | None, path: str, address: str) -> Fault | None:
        """The fault for this request, if a rule matches; counts it."""
        for rule in self.rules:
            if rule.path in {ANY_PATH, path, path.rsplit("/", 1)[-1]} and self._takes(rule, market, symbol, address):
                return Fault(rule.kind, rule.args, self.kinds[rule.kind])
        return None

    def pick_stream(self, when: When, *, market: MarketName, symbol: str | None, address: str) -> Rule | None:
        """The rule for this handshake, SUBSCRIBE or frame, if one matches; counts it."""
        if not self._stream_rules:
            return None
        for rule in self.rules:
            if rule.path != STREAM_PATH or self.stream_kinds[rule.kind].when != when:
                continue
            if self._takes(rule, market, symbol, address):
                self.stream_hits[rule.kind] += 1
                return rule
        return None

    def _takes(self, rule: Rule, market: str, symbol: str | None, address: str) -> bool:
        """Whether a rule matches and is not used up; counts it."""
        if rule.count == 0 or not _matches(rule, market, symbol, address):
            return False
        if rule.probability is not None and self._random.random() >= rule.probability:
            return False
        rule.hits += 1
        if rule.count is not None:
            rule.count -= 1
        return True


def _matches(rule: Rule, market: str, symbol: str | None, address: str) -> bool:
    return rule.market in {None, market} and rule.symbol in {None, symbol} and rule.source_ip in {None, address}
