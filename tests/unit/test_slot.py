"""Connections that take turns: when a standby may take over, what it brings, and what the end of a connection means."""

from __future__ import annotations

import json

import pytest

from services.reader.book_sync import BookSync
from services.reader.channel import Channel, RawRecord
from services.reader.connection import QUEUE_FULL, Link
from services.reader.pressure import Pressure
from services.reader.slot import Slot, Tracked
from services.reader.standby import OVERLAP_NS, SETTLE_NS
from shared.messages import Book, Gap
from shared.venues import venue
from shared.venues.base import SECOND_NS

FUTURE = venue("binance", "future")
AGE_NS = 100 * SECOND_NS
NOW = 1_790_000_000 * SECOND_NS


class Rig:
    """A slot whose connections are opened, fed and ended by hand."""

    def __init__(self, *symbols: str) -> None:
        self.now = NOW
        self.links: list[Link] = []
        self.records: list[RawRecord] = []
        self.buried: list[str] = []
        self.slot = Slot(
            FUTURE,
            Pressure(Channel(10**6)),
            open_link=self.open,
            bury=lambda _payload, _recv_ns, _link, poison: self.buried.append(poison.reason),
            max_age_ns=AGE_NS,
            silence_ns=10**6 * SECOND_NS,
            random=lambda: 1.0,
        )
        for symbol in symbols:
            sync = BookSync(
                Book("binance", "future", symbol),
                FUTURE.sequence,
                self.records.append,
                ip=None,
                anchor_interval_ns=3600 * SECOND_NS,
                check_after_ns=3600 * SECOND_NS,
                random=lambda: 0.5,
            )
            self.slot.track(symbol, Tracked(sync, FUTURE.stream_name(symbol, 100)), self.now)
        self.records.clear()  # the gaps `start`

    def open(self, slot: Slot, now_ns: int) -> Link:
        link = Link(len(self.links) + 1, "ws://venue", FUTURE, owner=slot, session=None, clock=lambda: now_ns)
        self.links.append(link)
        return link

    def subscribe(self, link: Link) -> None:
        link.connected = True
        link.subscribed = {tracked.stream for tracked in self.slot.tracked.values()}

    def frame(self, link: Link, symbol: str, last_id: int, prev_id: int) -> None:
        event = {"e": "depthUpdate", "E": 1, "T": 1, "s": symbol, "U": prev_id + 5, "u": last_id, "pu": prev_id}
        payload = json.dumps({"stream": "x", "data": event | {"b": [], "a": []}}).encode()
        self.slot.frame(link, payload, self.now)

    def step(self, seconds: float = 0.0) -> None:
        self.now += int(seconds * SECOND_NS)
        self.slot.step(self.now)

    def begin(self) -> Link:
        """The first connection, subscribed."""
        self.step()
        [link] = self.links
        self.subscribe(link)
        self.step()
        return link

    def ids(self, symbol: str = "A") -> list[int | str]:
        """What was published: final ids, and causes of gaps."""
        return [
            str(Gap.decode(record.value).cause) if record.type == "gap" else int(record.last_id or 0)
            for record in self.records
            if record.book.symbol == symbol
        ]


def overdue(*symbols: str) -> tuple[Rig, Link, Link]:
    """A primary that is old and has brought 10 and 20 of A, and its standby, subscribed."""
    rig = Rig(*(symbols or ("A",)))
    primary = rig.begin()
    rig.frame(primary, "A", 10, 0)
    rig.step(101)
    rig.frame(primary, "A", 20, 10)
    assert len(rig.links) == 2
    standby = rig.links[1]
    rig.subscribe(standby)
    return rig, primary, standby


def test_what_the_standby_has_beyond_the_primary_is_published_at_the_cut_over_once_and_in_order() -> None:
    rig, primary, standby = overdue()
    for last_id in (20, 30, 40):
        rig.frame(standby, "A", last_id, last_id - 10)
    assert rig.ids() == [10, 20], "unused until the cut-over"
    rig.step(0.1)
    assert rig.slot.primary is standby
    assert rig.ids() == [10, 20, 30, 40]
    rig.frame(primary, "A", 30, 20)  # the old one, late
    rig.frame(standby, "A", 50, 40)
    assert rig.ids() == [10, 20, 30, 40, 50]
    assert rig.slot.overlaps == 1


def test_a_standby_that_is_ahead_waits_until_the_primary_has_come_to_its_beginning() -> None:
    rig, primary, standby = overdue()
    rig.frame(standby, "A", 50, 40)  # 30 and 40 are still on their way over the old connection
    rig.step(1)
    assert rig.slot.primary is primary
    rig.frame(primary, "A", 30, 20)
    rig.step(0.1)
    assert rig.slot.primary is primary
    rig.frame(primary, "A", 40, 30)
    rig.step(0.1)
    assert rig.slot.primary is standby
    assert rig.ids() == [10, 20, 30, 40, 50]


def test_after_a_time_the_cut_over_comes_all_the_same_and_the_chain_tells() -> None:
    rig, _, standby = overdue()
    rig.frame(standby, "A", 50, 40)
    rig.step(0.1)
    rig.step(OVERLAP_NS / SECOND_NS + 0.1)
    assert rig.slot.primary is standby
    assert rig.ids() == [10, 20, "sequence", 50]


def test_a_silent_symbol_holds_the_cut_over_up_for_a_moment_only() -> None:
    rig, primary, standby = overdue("A", "QUIET")
    rig.frame(standby, "A", 30, 20)
    rig.step(0.1)
    assert rig.slot.primary is primary
    rig.step(SETTLE_NS / SECOND_NS)
    assert rig.slot.primary is standby
    assert rig.ids("QUIET") == []


def test_a_standby_without_all_its_subscriptions_does_not_take_over() -> None:
    rig, primary, standby = overdue()
    standby.subscribed = set()
    rig.frame(standby, "A", 30, 20)
    rig.step(20)
    assert rig.slot.primary is primary


def test_a_primary_that_ends_hands_over_to_a_standby_at_once_and_a_chain_that_holds_is_no_gap() -> None:
    rig, primary, standby = overdue()
    standby.subscribed = set()
    rig.frame(standby, "A", 30, 20)
    primary.ended = "closed by the venue"
    rig.step(0.1)
    assert rig.slot.primary is standby
    assert rig.ids() == [10, 20, 30]


def test_a_primary_that_ends_alone_is_replaced_after_a_pause_that_grows_with_failures() -> None:
    rig = Rig("A")
    pauses = []
    rig.step()
    for _ in range(4):
        link = rig.links[-1]
        link.ended = "refused"
        rig.step(0)
        began, opened = rig.now, len(rig.links)
        while len(rig.links) == opened:
            rig.step(0.5)
        pauses.append((rig.now - began) / SECOND_NS)
    assert pauses == [1.0, 2.0, 4.0, 8.0]
    rig.links[-1].heard(rig.now)  # one that brought an update
    rig.links[-1].ended = "closed"
    rig.step(0)
    rig.step(0.5)
    assert len(rig.links) == 6


@pytest.mark.parametrize(("ended", "cause"), [("closed by the venue", "disconnect"), (QUEUE_FULL, "overflow")])
def test_a_hole_is_told_with_what_ended_the_connection(ended, cause) -> None:
    rig = Rig("A")
    primary = rig.begin()
    rig.frame(primary, "A", 10, 0)
    primary.ended = ended
    rig.step(0.1)
    rig.step(1)
    fresh = rig.links[-1]
    rig.subscribe(fresh)
    rig.frame(fresh, "A", 30, 20)
    assert rig.ids() == [10, cause, 30]


def test_garbage_on_a_standby_is_remembered_until_it_takes_over() -> None:
    rig, primary, standby = overdue()
    rig.slot.frame(standby, b"no json", rig.now)  # in the place of 30
    rig.frame(primary, "A", 25, 20)
    rig.frame(standby, "A", 25, 20)
    rig.step(0.1)
    rig.frame(standby, "A", 40, 30)
    assert rig.buried == ["bad_json"]
    assert rig.ids() == [10, 20, 25, "malformed", 40]


def test_a_notice_of_closing_brings_the_standby_at_once() -> None:
    rig = Rig("A")
    primary = rig.begin()
    rig.slot.frame(primary, b'{"e":"serverShutdown","E":1}', rig.now)
    rig.step(0.1)
    assert len(rig.links) == 2


def test_a_frame_too_large_for_kafka_is_a_dead_letter_and_its_hole_is_told() -> None:
    rig = Rig("A")
    primary = rig.begin()
    rig.frame(primary, "A", 10, 0)
    rig.slot.frame(primary, b" " * (15 * 1024 * 1024 + 1), rig.now)
    rig.frame(primary, "A", 30, 20)
    assert rig.buried == ["too_large"]
    assert rig.ids() == [10, "malformed", 30]
