"""Which request meets which fault: the first rule that fits it and whose chance comes up.

Kinds, and what their options mean:

    refuse_before  nothing is applied: the connection is reset, or 500 is answered (`answer`: reset, error; else by chance)
    lose_answer    it is applied: then as above
    conflict       409, nothing is applied
    exists         412 although this very request was applied: a gateway's own retry met the first attempt's object. A
                   412 for an object that is not there is no fault of a store but a lie, and no rule tells it
    throttle       429, nothing is applied (`retry_after`: seconds; none without)
    slow_down      503 SlowDown, likewise
    reset_body     half of a create's body reaches the store; of any other call half of the answer comes back
    stall          held for `seconds`, else until the rule is lifted, then sent to the store however long its client has
                   been gone; with `where`: after, it is the answer that is held
    truncate       the answer ends halfway; with `clean` it claims that this was all
    slow           `bytes_per_second`, both ways
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import Counter, defaultdict
from typing import TYPE_CHECKING, Literal
from urllib.parse import unquote

import msgspec

if TYPE_CHECKING:
    from tests.store_proxy.wire import Head

Verb = Literal["create", "get", "tail", "size", "list", "delete", "other"]
Kind = Literal[
    "refuse_before", "lose_answer", "conflict", "exists", "throttle",
    "slow_down", "reset_body", "stall", "truncate", "slow",
]  # fmt: skip


class Rule(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """A fault, and the requests it is for. `path` is a part of their unescaped path and query."""

    kind: Kind
    verb: Verb | None = None
    path: str | None = None
    unless: str | None = None  # a part that it must not have
    skip: int = 0  # so many that fit pass first
    count: int | None = None  # after so many it is over
    probability: float | None = None
    answer: Literal["reset", "error"] | None = None
    retry_after: int | None = None
    seconds: float | None = None
    where: Literal["before", "after"] = "before"
    clean: bool = False
    bytes_per_second: int = 100_000


class Standing:
    """A rule in force. `lifted` is set once it is not."""

    def __init__(self, rule: Rule) -> None:
        self.rule = rule
        self.hits = 0
        self.lifted = asyncio.Event()
        self.closed = False  # takes no more; what it holds stays held
        self._skips = rule.skip

    def takes(self, verb: Verb, target: str, rng: random.Random) -> bool:
        rule = self.rule
        if self.closed or self.lifted.is_set() or rule.verb not in {None, verb} or (rule.path or "") not in target:
            return False
        if rule.unless is not None and rule.unless in target:
            return False
        if rule.count is not None and self.hits >= rule.count:
            return False
        if self._skips:
            self._skips -= 1
            return False
        if rule.probability is not None and rng.random() >= rule.probability:
            return False
        self.hits += 1
        return True

    async def hold(self) -> None:
        """Until the rule is lifted, or its time is over."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.lifted.wait(), self.rule.seconds)


class Rules:
    """All there ever were, by id, and what was counted."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.all: dict[int, Standing] = {}
        self.counters: defaultdict[str, Counter[str]] = defaultdict(Counter)

    def add(self, rule: Rule) -> int:
        number = len(self.all) + 1
        self.all[number] = Standing(rule)
        return number

    def lift(self, number: int | None = None) -> None:
        """One, or all. Raises `KeyError` for a number that never was."""
        for standing in self.all.values() if number is None else [self.all[number]]:
            standing.lifted.set()

    def pick(self, head: Head) -> Standing | None:
        """The fault that a request meets."""
        verb = verb_of(head)
        target = unquote(head.target)
        found = next((each for each in self.all.values() if each.takes(verb, target, self.rng)), None)
        self.counters[verb][found.rule.kind if found else "passed"] += 1
        return found


def verb_of(head: Head) -> Verb:
    """What a request is to our stores."""
    if head.method == "GET":
        if "list-type=2" in head.target:
            return "list"
        return "tail" if "range" in head.headers else "get"
    verbs: dict[str, Verb] = {"PUT": "create", "HEAD": "size", "DELETE": "delete"}
    return verbs.get(head.method, "other")
