"""Which source address goes out for one that cannot, and when it comes back."""

from __future__ import annotations

import pytest

from services.reader.fetch import Source
from services.reader.reach import Reach
from services.reader.requests import Requester
from services.reader.ways import LONGEST_REFUSED_SECONDS, REFUSED_SECONDS, SETTLED_SECONDS, Way, Ways
from services.reader.weight import Ticket
from shared.venues import venue
from shared.venues.base import MINUTE_NS, SECOND_NS, Outcome

NOW = 30_000_000 * MINUTE_NS
FUTURE, INVERSE, SPOT = (venue("binance", market) for market in ("future", "inverse", "spot"))
A, B, C, V6 = "192.0.2.1", "192.0.2.2", "192.0.2.3", "2001:db8::1"
BANNED = Outcome("banned", "stand_down", NOW + 60 * SECOND_NS)


class World:
    """Addresses of a process, of which some are not here."""

    def __init__(self, *ips: str | None, rebalance: bool = True) -> None:
        self.gone: set[str] = set()
        self.ready: dict[str, bool] = {}
        self.ways = Ways(rebalance=rebalance, ready=self.say, local=lambda ip: ip not in self.gone)
        self.of = {ip: self.ways.add(self.way(ip)) for ip in ips}

    def way(self, ip: str | None) -> Way:
        source = Source(ip, timeout_seconds=1, max_connections=1, user_agent="test")
        requester = Requester(source, Reach(ip, [], 60, self.say), weight_share=1.0, max_connections=1)
        return Way(requester, session=None)

    def say(self, what: str, ok: bool, _why: str) -> None:  # noqa: FBT001 - as `Lifecycle.ready`
        self.ready[what] = ok

    def spend(self, ip: str, weight: int, of=FUTURE) -> None:
        scheduler = self.of[ip].requester.scheduler(of)
        scheduler.submit(Ticket("x", weight, 0, NOW + MINUTE_NS))
        assert scheduler.take(NOW, 1)

    def ban(self, ip: str, of=FUTURE) -> None:
        self.of[ip].requester.scheduler(of).stand_down(NOW + 60 * SECOND_NS)

    def lose(self, *ips: str) -> None:
        self.gone = set(ips)
        self.ways.look(NOW)

    def asks(self, own: str | None, weight: int = 20, of=FUTURE, now_ns: int = NOW) -> str | None:
        """Who asks in its place."""
        other = self.ways.for_request(self.of[own].requester, of, weight, now_ns)
        return None if other is None else other.ip

    def opens(self, own: str | None, now_ns: int = NOW) -> str | None:
        """From where a websocket is opened for it."""
        way = self.ways.for_websocket(self.of[own], FUTURE, now_ns)
        return None if way is None else way.ip


def test_a_request_goes_to_the_address_with_the_most_weight_to_spare() -> None:
    world = World(A, B, C)
    world.spend(B, 500)
    assert world.asks(A) == C
    world.spend(C, 1000)
    assert world.asks(A) == B


def test_a_request_goes_nowhere_where_nobody_has_its_weight() -> None:
    world = World(A, B)
    world.spend(B, 2390)
    assert (world.asks(A, weight=10), world.asks(A, weight=11)) == (B, None)


def test_an_address_that_is_refused_in_the_group_asks_for_nobody_there_and_elsewhere_it_does() -> None:
    world = World(A, B)
    world.ban(B, INVERSE)
    assert world.asks(A, of=FUTURE) is None, "they share a budget, and its ban"
    assert world.asks(A, of=SPOT) == B
    assert world.asks(A, of=FUTURE, now_ns=NOW + 60 * SECOND_NS) == B


def test_an_address_of_the_other_family_or_one_that_has_gone_stands_in_for_nobody() -> None:
    world = World(A, B, V6)
    world.lose(A, B)
    assert (world.asks(A), world.asks(V6)) == (None, None)
    assert (world.opens(A), world.opens(V6)) == (A, V6)


def test_a_websocket_is_opened_from_the_own_address_as_long_as_it_opens() -> None:
    world = World(A, B)
    world.of[A].websockets = 10
    world.ban(A)
    assert world.opens(A) == A, "a ban from REST says nothing of websockets"


def test_a_websocket_of_an_address_that_has_gone_is_opened_from_the_one_with_the_fewest() -> None:
    world = World(A, B, C)
    world.lose(A)
    world.of[B].websockets = 2
    world.of[C].websockets = 1
    assert world.opens(A) == C
    world.ban(C)
    assert world.opens(A) == B, "who is refused does not provoke the venue for others"


def test_a_websocket_spends_a_permit_of_the_address_that_opens_it() -> None:
    world = World(A, B)
    world.lose(A)
    opened = [world.opens(A) for _ in range(300)]
    assert opened.count(B) == 240
    assert opened[240:] == [None] * 60, "and waits for one"
    assert world.opens(B) is None
    assert world.opens(A, NOW + 5 * MINUTE_NS) == B


def test_a_refused_handshake_is_not_tried_again_soon_and_each_time_later() -> None:
    world = World(A, B)
    own, now_ns, pauses = world.of[A], NOW, []
    for _ in range(8):
        own.refused(FUTURE, Outcome("waf_blocked", "stand_down", now_ns + SECOND_NS), now_ns)
        until_ns = own.door(FUTURE).refused_until_ns
        assert (world.opens(A, until_ns - 1), world.opens(A, until_ns)) == (B, A)
        pauses.append((until_ns - now_ns) / SECOND_NS)
        now_ns = until_ns
    assert pauses[:3] == [REFUSED_SECONDS, 2 * REFUSED_SECONDS, 4 * REFUSED_SECONDS]
    assert max(pauses) == LONGEST_REFUSED_SECONDS
    own.opened(FUTURE)
    own.refused(FUTURE, Outcome("banned", "stand_down", now_ns + 999 * SECOND_NS), now_ns)
    assert own.door(FUTURE).refused_until_ns == now_ns + 999 * SECOND_NS, "the venue's own word, if it is longer"


def test_an_overloaded_venue_refuses_no_address_and_another_market_is_not_concerned() -> None:
    world = World(A, B)
    world.of[A].refused(FUTURE, Outcome("unavailable"), NOW)
    world.of[A].refused(SPOT, BANNED, NOW)
    assert world.opens(A) == A


def test_if_nobody_can_the_own_address_goes_on_trying() -> None:
    world = World(A, B)
    for way in world.of.values():
        way.refused(FUTURE, BANNED, NOW)
    assert (world.opens(A), world.opens(B)) == (A, B)


def test_what_has_gone_and_come_back_is_said_once_and_websockets_return_when_it_has_settled() -> None:
    world = World(A, B)
    world.lose(A)
    world.lose(A)
    assert world.ready == {f"source address {A}": False}
    assert not world.ways.is_back(world.of[A], FUTURE, NOW + MINUTE_NS)
    world.lose()
    assert world.ready == {f"source address {A}": True}
    assert world.opens(A) == A
    settled_ns = NOW + SETTLED_SECONDS * SECOND_NS
    assert [world.ways.is_back(world.of[A], FUTURE, at_ns) for at_ns in (settled_ns - 1, settled_ns)] == [False, True]


@pytest.mark.parametrize(
    ("ips", "rebalance"),
    [
        pytest.param([A, B], False, id="switched off"),
        pytest.param([A], True, id="one address"),
        pytest.param([None], True, id="the default route"),
    ],
)
def test_nobody_stands_in_for_anybody(ips, rebalance) -> None:
    world = World(*ips, rebalance=rebalance)
    own = ips[0]
    if own is not None:
        world.ban(own)
    world.of[own].refused(FUTURE, BANNED, NOW)
    assert (world.asks(own), world.opens(own)) == (None, own)
