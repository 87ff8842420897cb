"""The proxy in front of a real store: it changes nothing by itself, and every fault is the one that it is called."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from shared.errors import RetryableError
from shared.lake.store import Credentials, Entry
from shared.lake.store_s3 import S3Store
from tests.store_proxy.process import StoreProxy
from tests.support import eventually_sync

pytestmark = pytest.mark.docker

NAMES = ["plain", "a=%E5%B8%81", "with space", "50%", "plus+and&", "币安人生", "a.b-c_d~e"]
CALLS = {
    "create": lambda store: store.create("new", b"x" * 1000),
    "get": lambda store: store.get("old"),
    "tail": lambda store: store.tail("old", 4),
    "size": lambda store: store.size("old"),
    "list": lambda store: store.list("ol"),
}
FAILURES = {
    "refused with a reset": {"kind": "refuse_before", "answer": "reset"},
    "refused with 500": {"kind": "refuse_before", "answer": "error"},
    "answer lost": {"kind": "lose_answer", "answer": "reset"},
    "answer 500": {"kind": "lose_answer", "answer": "error"},
    "429": {"kind": "throttle"},
    "503": {"kind": "slow_down"},
    "cut in the body": {"kind": "reset_body"},
}


class Both:
    """The same lake, through the proxy and not."""

    def __init__(self, proxy, s3):
        self.proxy = proxy
        keys = Credentials(s3.access_key, s3.secret_key)
        self.through, self.direct = (
            S3Store(s3.bucket, endpoint_url=server.endpoint_url, region=s3.region, credentials=keys)
            for server in (proxy, s3)
        )

    def at(self, prefix):
        for store in (self.through, self.direct):
            store._prefix = f"{prefix}/"
        return self


@pytest.fixture(scope="module")
def both(_s3_server, tmp_path_factory):
    proxy = StoreProxy(tmp_path_factory.mktemp("proxy"), _s3_server)
    try:
        yield Both(proxy, _s3_server)
    finally:
        proxy.kill()


@pytest.fixture
def lake(both, prefix):
    yield both.at(prefix)
    both.proxy.lift()


def test_any_name_and_any_call_passes_as_it_is(lake):
    for name in NAMES:
        assert lake.through.create(f"f/{name}", name.encode())
        assert not lake.through.create(f"f/{name}", b"other")
        assert lake.direct.get(f"f/{name}") == lake.through.get(f"f/{name}") == name.encode()
        assert lake.through.tail(f"f/{name}", 2) == name.encode()[-2:]
    assert lake.through.list("f/") == lake.direct.list("f/") == sorted(Entry(f"f/{n}", len(n.encode())) for n in NAMES)
    assert lake.through.size("nothing") is None
    lake.through.probe()


def test_a_large_object_passes_while_others_do(lake):
    large = bytes(range(256)) * 80_000
    with ThreadPoolExecutor(8) as pool:
        first = pool.submit(lake.through.create, "large", large)
        assert all(pool.map(lambda number: lake.through.create(f"{number}", b"x"), range(20)))
        assert first.result()
    assert lake.through.get("large") == lake.direct.get("large") == large


@pytest.mark.parametrize("verb", CALLS)
@pytest.mark.parametrize("fault", FAILURES)
def test_a_call_that_fails_can_be_tried_again(lake, verb, fault):
    lake.direct.create("old", b"contents")
    rule = lake.proxy.rule(verb=verb, **FAILURES[fault])
    with pytest.raises(RetryableError):
        CALLS[verb](lake.through)
    lake.proxy.lift(rule)
    assert lake.proxy.hits(rule)
    created = lake.direct.get("new") is not None
    assert created == (verb == "create" and FAILURES[fault]["kind"] == "lose_answer")
    assert CALLS[verb](lake.through) is not None


def test_a_store_that_says_when_to_come_again_is_understood(lake):
    lake.proxy.rule("slow_down", retry_after=7)
    with pytest.raises(RetryableError) as caught:
        lake.through.create("a", b"x")
    assert caught.value.retry_after_seconds == 7


def test_two_creations_that_meet_are_tried_again_by_the_store_itself(lake):
    rule = lake.proxy.rule("conflict", verb="create", count=2)
    assert lake.through.create("a", b"x")
    assert lake.proxy.hits(rule) == 2


def test_a_creation_can_meet_its_own_object(lake):
    lake.proxy.rule("exists", verb="create", count=1)
    assert not lake.through.create("a", b"mine")
    assert lake.through.get("a") == b"mine"


def test_a_kept_connection_that_is_reset_is_replaced_and_so_a_creation_can_meet_its_own_object_too(lake):
    lake.through.list("")
    lake.proxy.rule("lose_answer", verb="create", answer="reset", count=1)
    assert not lake.through.create("a", b"mine")
    assert lake.through.get("a") == b"mine"


def test_what_stalls_lands_late_although_its_client_is_gone(lake, monkeypatch):
    rule = lake.proxy.rule("stall", verb="create", unless="/other")

    def given_up():
        with pytest.raises(RetryableError):
            lake.through.create("a", b"late")
        return lake.proxy.hits(rule)

    with monkeypatch.context() as hasty:
        hasty.setattr("shared.lake.store_s3.CALL_TIMEOUT_SECONDS", 0.5)
        eventually_sync(given_up, what="a request was on its way")
    assert lake.through.create("other", b"x")
    lake.proxy.close(rule)
    assert lake.through.create("b", b"x")
    assert lake.through.get("a") is None
    lake.proxy.lift(rule)
    assert eventually_sync(lambda: lake.direct.get("a"), what="it lands") == b"late"


def test_an_answer_that_stalls_is_of_what_was_applied(lake):
    rule = lake.proxy.rule("stall", verb="create", where="after")
    done = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        created = pool.submit(lake.through.create, "a", b"x")
        created.add_done_callback(lambda _: done.set())
        eventually_sync(lambda: lake.direct.get("a"), what="it is applied")
        assert not done.is_set()
        lake.proxy.lift(rule)
        assert created.result()


def test_an_answer_that_ends_halfway_is_none(lake):
    lake.direct.create("old", b"contents")
    lake.proxy.rule("truncate")
    for verb in ("get", "tail", "size", "list"):
        with pytest.raises(RetryableError):
            CALLS[verb](lake.through)


@pytest.mark.parametrize(("verb", "words"), [("tail", "2 bytes of 4"), ("get", "checksum"), ("list", "cannot list")])
def test_an_answer_that_is_short_and_claims_to_be_whole_is_none(lake, verb, words):
    lake.direct.create("old", b"contents")
    lake.proxy.rule("truncate", clean=True)
    with pytest.raises(RetryableError, match=words):
        CALLS[verb](lake.through)


def test_slow_is_so_many_bytes_a_second(lake):
    lake.direct.create("old", b"x" * 20_000)
    lake.proxy.rule("slow", verb="get", bytes_per_second=40_000)
    began = time.monotonic()
    assert lake.through.get("old") == b"x" * 20_000
    assert 0.4 < time.monotonic() - began < 5


def test_a_rule_is_for_a_verb_and_a_path_and_may_come_later_by_count_or_by_chance(lake):
    later = lake.proxy.rule("lose_answer", verb="create", path="/币", answer="error", skip=1, count=1)
    assert lake.through.create("btc/1", b"")
    assert lake.through.create("币/1", b"")
    with pytest.raises(RetryableError):
        lake.through.create("币/2", b"")
    assert lake.through.create("币/3", b"")
    assert lake.proxy.hits(later) == 1

    def failures(seed):
        lake.proxy.reseed(seed)
        rule = lake.proxy.rule("throttle", verb="size", probability=0.3)
        failed = []
        for number in range(20):
            try:
                lake.through.size("btc/1")
            except RetryableError:
                failed.append(number)
        lake.proxy.lift(rule)
        return failed

    assert 0 < len(failures(7)) < 15
    assert failures(7) == failures(7) != failures(8)
    counted = lake.proxy.counters()
    assert counted["create"]["lose_answer"] >= 1
    assert counted["size"]["passed"] > 20
