"""Alerts against real faults: the cause is brought about in a running stack until Prometheus has the alert.

Pending is enough: how long a state has to last is promtool's to test, as are the alerts whose cause takes longer than a
minute or would harm the lake for good (deploy/prometheus/tests). By its name this file is the last that uses the stack: two
readers of the same books are not what the others count on.
"""

from __future__ import annotations

from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import pytest

from tests.e2e.simulated import Exchange
from tests.support import eventually_sync

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.prometheus import Prometheus

pytestmark = [pytest.mark.docker, pytest.mark.xdist_group("compose"), pytest.mark.timeout(300)]

SECONDS = 60.0
SPEND = """
import urllib.request
for _ in range(20):
    urllib.request.urlopen("http://simulator:8000/fapi/v1/depth?symbol=BTCUSDT&limit=1000", timeout=10).read()
"""
"""400 of the 2400 of a minute."""


@pytest.fixture(scope="module")
def prometheus(stack) -> Prometheus:
    return stack.prometheus


@pytest.fixture(scope="module")
def exchange(stack) -> Iterator[Exchange]:
    found = Exchange(stack.compose)
    yield found
    found.lift()
    found.pardon()


@pytest.fixture(scope="module", autouse=True)
def _second_reader(stack, prometheus) -> Iterator[None]:
    """There from the start: two readers of the same books are told after a minute, in which the other tests run."""
    stack.compose("up", "-d", "--no-deps", "--no-recreate", "--scale", "reader=2", "reader")
    eventually_sync(lambda: prometheus.value('up{job="reader"}') == 2, SECONDS, "both readers are scraped")
    yield
    stack.compose("up", "-d", "--no-deps", "--no-recreate", "--wait", "--scale", "reader=1", "reader")


@pytest.fixture(scope="module", autouse=True)
def refusing(exchange, _second_reader) -> int:
    """The exchange's faults, all at once to save a minute, each of another market. Gives the rule that refuses websockets."""
    exchange.fault("ban", market="future", args={"seconds": 20})
    exchange.fault("truncated_frame", path="stream", market="spot")
    exchange.fault("negative_quantity", market="spot")
    exchange.fault("drop_connection", path="stream", market="inverse", count=2)
    return exchange.fault("refuse_connection", path="stream", market="inverse", probability=1.0)


def seen(prometheus: Prometheus, name: str, seconds: float = SECONDS, **labels: str) -> dict[str, Any]:
    """The alert, once it is there."""
    return eventually_sync(lambda: prometheus.alert(name, **labels), seconds, f"{name} {labels} is pending or firing")


@contextmanager
def away(stack, service: str) -> Iterator[None]:
    """Stopped in order, and afterwards back."""
    stack.compose("stop", service)
    try:
        yield
    finally:
        stack.compose("up", "-d", "--no-deps", "--no-recreate", "--wait", service)


@contextmanager
def frozen(stack, service: str) -> Iterator[None]:
    """Its processes stand still, its connections stay open."""
    stack.compose("pause", service)
    try:
        yield
    finally:
        stack.compose("unpause", service)


def test_a_ban_is_told_while_it_lasts_and_so_is_the_hole(prometheus):
    seen(prometheus, "AddressBanned", group="binance-futures")
    seen(prometheus, "GapsRecorded", kind="fobs", market="future", cause="ban")
    eventually_sync(lambda: not prometheus.alert("AddressBanned"), SECONDS, "the ban is over")


def test_broken_payloads_are_told_by_who_cannot_read_them(prometheus):
    seen(prometheus, "DeadLetters", stage="reader", reason="truncated_frame")
    seen(prometheus, "DeadLetters", stage="flattener", reason="negative_quantity")
    seen(prometheus, "GapsRecorded", kind="fobd", market="spot", cause="malformed")


def test_a_websocket_that_is_lost_and_refused_is_told(prometheus, exchange, refusing):
    seen(prometheus, "ConnectionsMissing", market="inverse")
    exchange.lift(refusing)
    seen(prometheus, "GapsRecorded", kind="fobd", market="inverse", cause="disconnect")


def test_weight_that_others_spend_from_the_address_is_told(stack, prometheus):
    for _ in range(3):  # a new minute may begin before the venue's count comes back
        stack.compose("exec", "-T", "reader", "python", "-c", SPEND)
        with suppress(AssertionError):
            seen(prometheus, "RequestWeightForeign", seconds=15)
            return
    seen(prometheus, "RequestWeightForeign", seconds=15)


def test_a_replica_that_hangs_is_told(stack, prometheus):
    with frozen(stack, "flattener"):
        seen(prometheus, "ReplicaDown", job="flattener")


def test_a_store_that_is_away_is_told(stack, prometheus):
    with away(stack, "seaweedfs"):
        seen(prometheus, "StoreUnavailable", job="s3writer")
        seen(prometheus, "NotReady", job="s3writer")


def test_a_service_that_nobody_runs_is_told(stack, prometheus):
    with away(stack, "s3writer"):
        seen(prometheus, "ServiceDown", job="s3writer")


def test_two_readers_of_the_same_books_are_told(prometheus):
    seen(prometheus, "DuplicatePublishers", seconds=90, kind="fobd")


def test_a_kafka_that_does_not_answer_is_told(stack, prometheus):
    with frozen(stack, "kafka"):
        seen(prometheus, "KafkaUnavailable", job="flattener")
        seen(prometheus, "KafkaUnavailable", job="s3writer")
