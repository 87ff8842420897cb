"""Alerts against real faults: the cause is brought about in a running stack until Prometheus has the alert.

Pending is enough: how long a state has to last is promtool's to test (deploy/prometheus/tests). So are these, of which no
cause is to be had within a minute:

* longer by their own words: LoopStalled, PositionLagGrowing and StoredLagHigh (a minute and more), RestartsInALoop (four
  starts, each between two looks 15 s apart), GroupUnstable (eleven rebalances), StoredVolumeDoubled (a day);
* ClaimsLost, RecordsRepeat, FlushesAdopted: a crash between two certain steps, or a member that does not know that it was
  put out: chance decides in a stack that runs;
* LagNearRetention, WriterBufferFull, FlushesBySize: a retention of seconds or buffers of a few rows, which no setting allows
  or which would be another stack;
* SymbolsTakenOver: a second source address, which a container without capabilities is not given (tests/namespaces.py has);
* RulesFail: a rule that is wrong, and `make check-prometheus` lets none pass.

By its name this file is the last that uses the stack: what is lost, doubled and stuck here is not what the others count on.
The tests build on one another, in the order of this file.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest

from tests.e2e import harm
from tests.e2e.simulated import Exchange
from tests.support import eventually_sync

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.compose import Stack

pytestmark = [pytest.mark.docker, pytest.mark.xdist_group("compose"), pytest.mark.timeout(300)]

SECONDS = 60.0


@pytest.fixture(scope="module")
def exchange(stack) -> Iterator[Exchange]:
    found = Exchange(stack.compose)
    yield found
    found.lift()
    found.pardon()


@pytest.fixture(scope="module", autouse=True)
def _second_reader(stack) -> Iterator[None]:
    """There from the start: two readers of the same books are told after a minute, in which the other tests run."""
    with harm.second_reader(stack):
        eventually_sync(lambda: stack.prometheus.value('up{job="reader"}') == 2, SECONDS, "both readers are scraped")
        yield


@pytest.fixture(scope="module", autouse=True)
def refusing(stack, exchange, _second_reader) -> int:
    """The exchange's faults, all at once to save minutes, each of another market. Gives the rule that refuses websockets."""
    harm.run_in_reader(stack, harm.SPEND)
    exchange.fault("ban", market="future", args={"seconds": 20})
    exchange.fault("negative_quantity", market="future")
    exchange.fault("truncated_frame", path="stream", market="spot")
    refusing = exchange.fault("refuse_connection", path="stream", market="inverse", probability=1.0)
    exchange.fault("drop_connection", path="stream", market="inverse", count=2)
    return refusing


def seen(stack: Stack, name: str, seconds: float = SECONDS, **labels: str) -> dict[str, Any]:
    """The alert, once it is there. If it does not come, everything that Prometheus knows of its causes."""
    what = f"{name} {labels} is pending or firing"
    try:
        return eventually_sync(lambda: stack.prometheus.alert(name, **labels), seconds, what)
    except AssertionError as late:
        containers = stack.run("ps", "--all").stdout
        raise AssertionError(f"{late}\n{stack.prometheus.explain(name)}\n{containers}") from None


def test_a_ban_is_told_while_it_lasts_and_so_is_the_hole(stack):
    seen(stack, "AddressBanned", group="binance-futures")
    seen(stack, "GapsRecorded", kind="fobs", market="future", cause="ban")
    seen(stack, "GapsContinue", kind="fobs", market="future")
    eventually_sync(lambda: not stack.prometheus.alert("AddressBanned"), SECONDS, "the ban is over")


def test_broken_payloads_are_told_by_who_cannot_read_them(stack):
    seen(stack, "DeadLetters", stage="reader", reason="truncated_frame")
    seen(stack, "DeadLetters", stage="flattener", reason="negative_quantity")
    seen(stack, "GapsRecorded", kind="fobd", market="spot", cause="malformed")


def test_weight_that_others_spend_from_the_address_is_told(stack):
    for _ in range(2):  # a new minute may have begun before the venue's count came back
        with suppress(AssertionError):
            seen(stack, "RequestWeightForeign", seconds=12)
            break
        harm.run_in_reader(stack, harm.SPEND)
    seen(stack, "RequestWeightForeign", seconds=20)
    seen(stack, "RequestWeightNearLimit", seconds=20)


def test_a_websocket_that_is_lost_and_refused_and_a_book_without_an_anchor_are_told(stack, exchange, refusing):
    seen(stack, "ConnectionsMissing", market="inverse")
    unanswered = exchange.fault("http_500", market="inverse", probability=1.0)
    exchange.lift(refusing)
    seen(stack, "SymbolsWithoutAnchor", market="inverse")
    exchange.lift(unanswered)
    seen(stack, "GapsRecorded", kind="fobd", market="inverse", cause="disconnect")


def test_a_reader_that_is_set_up_wrongly_is_told(stack):
    seen(stack, "SymbolsNotTrading", market="spot")
    seen(stack, "SymbolsUnassigned", market="spot")
    seen(stack, "ShardsNotRunning")
    seen(stack, "InstrumentsNotStored")


def test_a_store_that_is_away_and_a_silent_market_are_told(stack, exchange):
    with harm.held(exchange), harm.away(stack, "seaweedfs"):
        seen(stack, "StoreUnavailable", job="s3writer")
        seen(stack, "NotReady", job="s3writer")
        seen(stack, "SymbolsSilent", market="spot")


def test_two_readers_of_the_same_books_are_told(stack):
    seen(stack, "DuplicatePublishers", seconds=90, kind="fobd")


def test_services_that_nobody_runs_are_told_and_so_is_what_kafka_deleted_meanwhile(stack):
    with harm.away(stack, "flattener", "s3writer"):
        seen(stack, "ServiceDown", job="s3writer")
        seen(stack, "ServiceDown", job="flattener")
        harm.run_in_reader(stack, harm.FORGET)
    seen(stack, "RawRecordsLost", job="flattener", topic="raw-fobd")
    seen(stack, "SourceHoles", job="s3writer", kind="fobd")


def test_a_replica_that_hangs_and_a_record_of_a_later_release_are_told(stack):
    with harm.frozen(stack, "s3writer"):
        harm.run_in_reader(stack, harm.SEND_OF_LATER)
        seen(stack, "ReplicaDown", job="s3writer")
        seen(stack, "UnknownVersion", job="flattener", topic="raw-fobs", partition="0")


def test_a_kafka_that_does_not_answer_and_the_queue_in_front_of_it_are_told(stack):
    with harm.frozen(stack, "kafka"):
        seen(stack, "KafkaUnavailable", job="flattener")
        seen(stack, "KafkaUnavailable", job="s3writer")
        seen(stack, "ChannelNearFull", topic="raw-fobd")
        seen(stack, "ChannelOverflow", job="reader")
