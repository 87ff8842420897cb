"""The desk of a market: one body for all who want the same book, and one word to each."""

from __future__ import annotations

from dataclasses import dataclass, field

from services.reader.desk import Desk
from services.reader.fetch import Answer
from services.reader.weight import ANCHOR, LENT, POLL, REFRESH, WeightScheduler
from shared.venues import venue
from shared.venues.base import MINUTE_NS, SECOND_NS, Outcome

NOW = 1_790_000_000 * SECOND_NS
FUTURE = venue("binance", "future")
BODY = Answer(200, {}, b'{"lastUpdateId":7,"bids":[],"asks":[]}', NOW, NOW + 1)


@dataclass
class Wants:
    """Someone who wants a book, and what became of it."""

    purpose: str
    told: list[tuple] = field(default_factory=list)

    def sent(self, _now_ns: int) -> None:
        self.told.append(("sent",))

    def took(self, answer: Answer, last_update_id: int, _now_ns: int) -> None:
        self.told.append(("took", answer.body, last_update_id))

    def missed(self, reason: str, cause: str, _now_ns: int) -> None:
        self.told.append(("missed", reason, cause))


def made(limit: int = 2400) -> tuple[Desk, WeightScheduler]:
    scheduler = WeightScheduler(limit, 1.0)
    return Desk(FUTURE, "http://venue", scheduler, lambda: None), scheduler


def ask(
    desk: Desk, wants: Wants, *, priority: int = POLL, seconds: int = 10, symbol: str = "A", limit: int = 1000
) -> bool:
    return desk.ask(symbol, limit, wants, priority=priority, expires_ns=NOW + seconds * SECOND_NS)


def grant(desk: Desk, scheduler: WeightScheduler) -> list:
    granted = [ticket.what for ticket in scheduler.take(NOW, 10)]
    for request in granted:
        desk.granted(request, NOW)
    return granted


def finish(desk: Desk, request, outcome: Outcome = Outcome("ok", last_update_id=7)) -> None:  # noqa: B008 - frozen
    desk.finished(request, BODY if outcome.ok else None, outcome, NOW)


def test_a_poll_and_an_anchor_that_wait_for_the_same_book_are_served_by_one_body() -> None:
    desk, scheduler = made()
    poll, anchor = Wants("poll"), Wants("anchor")
    assert ask(desk, poll)
    assert ask(desk, anchor, priority=ANCHOR)
    [request] = grant(desk, scheduler)
    finish(desk, request)
    assert poll.told == anchor.told == [("sent",), ("took", BODY.body, 7)]
    assert scheduler.used(NOW) == 20, "its weight is spent once"


def test_a_poll_joins_an_anchor_on_its_way_but_no_anchor_joins_a_poll_whose_updates_went_on() -> None:
    desk, scheduler = made()
    poll, anchor = Wants("poll"), Wants("anchor")
    ask(desk, anchor)
    [request] = grant(desk, scheduler)
    assert ask(desk, poll)
    finish(desk, request)
    assert poll.told == [("sent",), ("took", BODY.body, 7)]
    assert ask(desk, Wants("poll"))
    grant(desk, scheduler)
    assert not ask(desk, Wants("anchor"))


def test_books_of_other_depths_and_symbols_are_requests_of_their_own() -> None:
    desk, scheduler = made()
    for symbol, limit in (("A", 1000), ("A", 100), ("B", 1000)):
        assert ask(desk, Wants("poll"), symbol=symbol, limit=limit)
    assert len(grant(desk, scheduler)) == 3


def test_an_anchor_lifts_the_poll_it_joins_before_other_polls() -> None:
    desk, scheduler = made()
    ask(desk, Wants("poll"), symbol="B")
    ask(desk, Wants("poll"), symbol="A")
    ask(desk, Wants("anchor"), symbol="A", priority=ANCHOR)
    assert [request.symbol for request in grant(desk, scheduler)] == ["A", "B"]


def test_one_whose_time_is_over_is_told_and_the_other_still_gets_the_book() -> None:
    desk, scheduler = made()
    poll, anchor = Wants("poll"), Wants("anchor")
    ask(desk, poll, seconds=1)
    ask(desk, anchor, seconds=60)
    for ticket, reason in scheduler.expire(NOW + 2 * SECOND_NS, 0):
        desk.expired(ticket.what, reason, NOW + 2 * SECOND_NS)
    assert poll.told == [("missed", "no_connection", "poll")]
    [request] = grant(desk, scheduler)
    finish(desk, request)
    assert anchor.told == [("sent",), ("took", BODY.body, 7)]


def test_a_request_heavier_than_the_whole_budget_is_refused_to_all_at_once() -> None:
    desk, scheduler = made(limit=10)
    poll, anchor = Wants("poll"), Wants("anchor")
    ask(desk, poll)
    ask(desk, anchor)
    for ticket, reason in scheduler.expire(NOW, 10):
        desk.expired(ticket.what, reason, NOW)
    assert poll.told == anchor.told == [("missed", "no_weight", "poll")]
    assert ask(desk, Wants("poll")), "the next one is asked for anew"


def test_a_failure_is_told_to_all_with_its_cause() -> None:
    desk, scheduler = made()
    poll, anchor = Wants("poll"), Wants("anchor")
    ask(desk, poll)
    ask(desk, anchor)
    [request] = grant(desk, scheduler)
    finish(desk, request, Outcome("banned", "stand_down", NOW + 5 * SECOND_NS))
    assert poll.told[1:] == anchor.told[1:] == [("missed", "banned", "ban")]


def test_the_same_purpose_is_served_once_at_a_time() -> None:
    desk, scheduler = made()
    ask(desk, Wants("anchor"))
    assert not ask(desk, Wants("anchor"))
    [request] = grant(desk, scheduler)
    assert not ask(desk, Wants("anchor"))
    finish(desk, request)
    assert ask(desk, Wants("anchor"))


def lent(desk: Desk, scheduler: WeightScheduler) -> WeightScheduler:
    """What waits, given to another address."""
    other = WeightScheduler(2400, 1.0)
    while ticket := scheduler.next:
        desk.lend(ticket.what, other)
    return other


def test_what_is_lent_is_sent_by_the_others_budget_alone_and_told_to_who_asked() -> None:
    desk, scheduler = made()
    poll = Wants("poll")
    ask(desk, poll)
    other = lent(desk, scheduler)
    assert grant(desk, scheduler) == []
    [request] = grant(desk, other)
    finish(desk, request)
    assert poll.told == [("sent",), ("took", BODY.body, 7)]
    assert (scheduler.used(NOW), other.used(NOW)) == (0, 20)


def test_of_what_is_lent_anchors_after_gaps_keep_their_place_and_the_rest_goes_behind_the_others_own() -> None:
    desk, scheduler = made()
    for symbol, priority in (("gap", ANCHOR), ("hourly", REFRESH), ("poll", POLL)):
        ask(desk, Wants("anchor"), symbol=symbol, priority=priority)
    other = lent(desk, scheduler)
    found = {ticket.what.symbol: ticket.priority for ticket in other.take(NOW, 10)}
    assert found == {"gap": ANCHOR, "hourly": REFRESH + LENT, "poll": POLL + LENT}


def test_a_lent_poll_that_nobody_could_send_is_missed_for_the_ban() -> None:
    desk, scheduler = made()
    poll = Wants("poll")
    ask(desk, poll, seconds=1)
    scheduler.stand_down(NOW + 60 * SECOND_NS)
    other = lent(desk, scheduler)
    [(ticket, reason)] = other.expire(NOW + 2 * SECOND_NS, 10)
    desk.expired(ticket.what, reason, NOW + 2 * SECOND_NS)
    assert poll.told == [("missed", "no_weight", "ban")]
    assert scheduler.next is None


def test_an_anchor_that_joins_a_lent_poll_takes_it_back_to_be_given_away_anew() -> None:
    desk, scheduler = made()
    ask(desk, Wants("poll"))
    other = lent(desk, scheduler)
    ask(desk, Wants("anchor"), priority=ANCHOR)
    assert other.next is None
    assert scheduler.next.priority == ANCHOR


def test_the_polls_that_are_planned_are_kept_from_others() -> None:
    desk, scheduler = made()
    desk.plan(60, 1000, 60_000)
    assert scheduler.spare(NOW // MINUTE_NS * MINUTE_NS) == 2400 - 60 * 20
