"""The instrument list: asked for in time, followed when it can be believed, asked for again when it cannot."""

from __future__ import annotations

import json

import pytest

from services.reader.desk import Desk
from services.reader.fetch import Answer
from services.reader.instruments import LONGEST_PAUSE_NS, Instruments
from services.reader.weight import WeightScheduler
from shared import metrics
from shared.venues import venue
from shared.venues.base import SECOND_NS

NOW = 1_790_000_000 * SECOND_NS
FUTURE = venue("binance", "future")


class Rig:
    def __init__(self, *explicit: str) -> None:
        self.scheduler = WeightScheduler(2400, 1.0)
        self.told: list[tuple[list[str], int]] = []
        desk = Desk(FUTURE, "http://venue", self.scheduler, lambda: None)
        self.instruments = Instruments(desk, explicit, [self.listed], interval_seconds=300, now_ns=NOW)

    def listed(self, instruments, recv_ns: int) -> None:
        self.told.append(([item.symbol for item in instruments], recv_ns))

    def answer(self, body: bytes, now_ns: int = NOW) -> None:
        self.instruments.ask(now_ns)
        assert self.instruments.next_ns is None, "one at a time"
        self.instruments.took(Answer(200, {}, body, now_ns, now_ns + 5), 0, now_ns)


def info(limit: int = 1200, **statuses: str) -> bytes:
    weight = {"rateLimitType": "REQUEST_WEIGHT", "interval": "MINUTE", "intervalNum": 1, "limit": limit}
    symbols = [{"symbol": symbol, "status": status} for symbol, status in statuses.items()]
    return json.dumps({"rateLimits": [weight], "symbols": symbols}).encode()


def test_a_list_is_followed_its_limit_learned_and_asked_for_again_after_the_interval() -> None:
    rig = Rig("A", "B")
    rig.answer(info(A="TRADING", C="TRADING", B="SETTLING"))
    assert rig.told == [(["A", "C", "B"], NOW + 5)]
    assert rig.scheduler.limit == 1200
    assert rig.instruments.next_ns == NOW + 300 * SECOND_NS
    assert metrics.SYMBOLS_NOT_TRADING.labels("binance", "future")._value.get() == 1


@pytest.mark.parametrize(
    "body", [info(), info(A="BREAK"), b"{}", b"<html>", b""], ids=["empty", "halted", "no-list", "html", "nothing"]
)
def test_a_list_in_which_nothing_trades_or_that_is_none_is_not_followed_and_asked_for_again_soon(body: bytes) -> None:
    rig = Rig("A")
    rig.answer(body)
    assert rig.told == []
    assert rig.instruments.next_ns is not None
    assert NOW <= rig.instruments.next_ns <= NOW + SECOND_NS


def test_failures_are_tried_again_ever_later_up_to_a_limit_and_a_good_list_ends_that() -> None:
    rig = Rig("A")
    ceilings = []
    for _ in range(12):
        rig.instruments.ask(rig.instruments.next_ns or NOW)
        rig.instruments.missed("timeout", "poll", NOW)
        ceilings.append(rig.instruments._pause_ns)
    assert ceilings[:3] == [2 * SECOND_NS, 4 * SECOND_NS, 8 * SECOND_NS]
    assert ceilings[-1] == LONGEST_PAUSE_NS
    rig.answer(info(A="TRADING"), rig.instruments.next_ns or NOW)
    rig.instruments.ask(NOW + 10_000 * SECOND_NS)
    rig.instruments.missed("timeout", "poll", NOW)
    assert rig.instruments._pause_ns == 2 * SECOND_NS
