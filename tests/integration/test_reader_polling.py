"""The pollers against an exchange in another process: every byte verbatim, every fault by name, every hole told."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import json
import time
from collections import Counter
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import aiohttp
import pytest

from services.reader import desk as desks
from services.reader.channel import Channel, RawRecord
from services.reader.fetch import Source
from services.reader.instruments import Instruments
from services.reader.ledger import Ledger
from services.reader.reach import Reach
from services.reader.requests import Requester
from services.reader.snapshots import Polls
from shared import metrics
from shared.messages import Gap
from shared.venues import venue
from tests.processes import Processes
from tests.support import eventually

INTERVAL_MS = 100
addresses = (f"127.1.{a}.{b}" for a, b in itertools.product(range(1, 250), range(1, 250)))


@dataclass
class Exchange:
    """The simulator, from outside."""

    url: str
    session: aiohttp.ClientSession

    async def control(self, method: str, path: str, body: object = None):
        async with self.session.request(method, f"{self.url}/_sim/{path}", json=body) as response:
            assert response.status == 200, await response.text()
            return await response.json()

    async def truth(self, ip: str) -> list[dict]:
        """What was served to this source address, instrument lists left out."""
        entries = (await self.control("GET", "truth"))["entries"]
        return [entry for entry in entries if entry["ip"] == ip and entry["symbol"] is not None]

    async def usage(self, ip: str) -> dict:
        [row] = [row for row in (await self.control("GET", "counters"))["weights"] if row["address"] == ip]
        return row

    async def break_it(self, kind: str, **rule: object) -> None:
        await self.control("POST", "faults", {"kind": kind, **rule})


@pytest.fixture(scope="module")
def simulator_url(tmp_path_factory):
    """One exchange for all tests of this file: each test has a source address of its own."""
    processes = Processes(tmp_path_factory.mktemp("exchange"))
    yield processes.simulate("--symbols-per-market", "4").url
    processes.end()


@pytest.fixture
async def exchange(simulator_url):
    async with aiohttp.ClientSession() as session:
        found = Exchange(simulator_url, session)
        await found.control("DELETE", "faults")
        await found.control("POST", "weights", {"limits": {"binance-futures": 2400, "binance-spot": 6000}})
        yield found


@dataclass
class Reader:
    """One poller at work, and what came out of its queue so far."""

    ip: str
    channel: Channel
    stopping: asyncio.Event = field(default_factory=asyncio.Event)
    records: list[RawRecord] = field(default_factory=list)
    ready: dict[str, tuple[bool, str]] = field(default_factory=dict)
    settle: bool = True
    late_before: float = 0.0

    def drain(self) -> list[RawRecord]:
        while records := self.channel.take(1 << 20):
            self.records += records
            if self.settle:
                self.channel.settle(records)
        return self.records

    def snapshots(self, symbol: str | None = None) -> list[RawRecord]:
        return [r for r in self.drain() if r.type == "snapshot" and symbol in {None, r.book.symbol}]

    def gaps(self, symbol: str | None = None) -> list[Gap]:
        return [Gap.decode(r.value) for r in self.drain() if r.type == "gap" and symbol in {None, r.book.symbol}]

    def causes(self, symbol: str | None = None) -> list[str]:
        return [gap.cause for gap in self.gaps(symbol)]


def assert_told(reader: Reader, expected: list[str], symbol: str | None = None) -> None:
    """These gaps in this order; more of cause `poll` only as far as a busy machine made polls late, which is counted."""
    causes = reader.causes(symbol)
    more = Counter(causes) - Counter(expected)
    assert not Counter(expected) - Counter(causes), f"{expected} wanted, {causes} told"
    assert set(more) <= {"poll"}, f"{expected} wanted, {causes} told"
    assert more.total() <= polls("future", "late") - reader.late_before, f"{expected} wanted, {causes} told"
    assert (causes[0], causes[-1]) == (expected[0], expected[-1])


def polls(market: str, reason: str) -> float:
    return metrics.POLLS.labels("binance", market, reason)._value.get()


@asynccontextmanager
async def reading(
    exchange_url: str,
    *,
    symbols: dict[str, list[str]] | None = None,
    ip: str | None = None,
    interval_ms: int = INTERVAL_MS,
    limit: int = 5,
    gap_after_seconds: float = 60.0,
    timeout_seconds: float = 5.0,
    buffer_bytes: int = 64 * 1024 * 1024,
    max_connections: int = 20,
    weight_share: float = 0.8,
    settle: bool = True,
):
    ip = ip or next(addresses)
    wanted = {venue("binance", market): names for market, names in (symbols or {"future": ["BTCUSDT"]}).items()}
    reader = Reader(ip, Channel(buffer_bytes), settle=settle, late_before=polls("future", "late"))
    reach = Reach(
        ip,
        list(wanted),
        gap_after_seconds,
        lambda what, ok, why: reader.ready.update({what: (ok, why)}),
    )
    async with (
        Source(ip, timeout_seconds=timeout_seconds, max_connections=max_connections, user_agent="test") as source,
        asyncio.TaskGroup() as tasks,
    ):
        requester = Requester(source, reach, weight_share=weight_share, max_connections=max_connections)
        ledger = Ledger(reader.channel, ip, gap_after_seconds)
        now_ns = time.time_ns()
        polls_of = []
        for adapter, names in wanted.items():
            desk = requester.desk(adapter, exchange_url)
            polls_of.append(Polls(desk, ledger, names, interval_ms=interval_ms, limit=limit, now_ns=now_ns))
            requester.works += [polls_of[-1], Instruments(desk, names, [], interval_seconds=300, now_ns=now_ns)]
        running = tasks.create_task(requester.run(reader.stopping))
        try:
            yield reader
        finally:
            reader.stopping.set()
            await running
            for each in polls_of:
                each.stop(time.time_ns())
    reader.drain()


async def test_every_complete_book_is_published_verbatim_exactly_once_from_the_shards_address(exchange) -> None:
    symbols = {"future": ["BTCUSDT", "ETHUSDT"], "inverse": ["BTCUSD_PERP"], "spot": ["BTCUSDT"]}
    started_ns = time.time_ns()
    async with reading(exchange.url, symbols=symbols, limit=100, interval_ms=500) as reader:
        await eventually(lambda: len(reader.snapshots()) >= 12)
    truth = [entry for entry in await exchange.truth(reader.ip) if entry["book"]]
    served = Counter((e["market"], e["symbol"], e["sha256"]) for e in truth)
    published = Counter((r.book.market, r.book.symbol, hashlib.sha256(r.value).hexdigest()) for r in reader.snapshots())
    assert published == served
    for record in reader.snapshots():
        assert started_ns < record.sent_ns < record.recv_ns < time.time_ns()
        assert (record.limit, record.ip) == (100, reader.ip)


async def test_each_symbol_starts_with_a_gap_start_and_ends_with_a_gap_stop(exchange) -> None:
    async with reading(exchange.url, symbols={"future": ["BTCUSDT", "ETHUSDT"]}, interval_ms=500) as reader:
        await eventually(lambda: len(reader.snapshots("BTCUSDT")) >= 2 and len(reader.snapshots("ETHUSDT")) >= 2)
    for symbol in ("BTCUSDT", "ETHUSDT"):
        assert_told(reader, ["start", "stop"], symbol)
        mine = [record for record in reader.records if record.book.symbol == symbol]
        assert (mine[0].type, mine[-1].type) == ("gap", "gap")
        first, *_, last = reader.gaps(symbol)
        assert first == Gap(cause="start")
        assert last == Gap(cause="stop", since_ns=reader.snapshots(symbol)[-1].recv_ns)


FAULTS = [
    pytest.param("http_429", {"retry_after_seconds": 1}, "rate_limited", "poll", id="429 with Retry-After"),
    pytest.param("http_418", {"seconds": 1}, "banned", "ban", id="418"),
    pytest.param("http_418_no_retry_after", {"seconds": 1}, "banned", "ban", id="418 until in the text"),
    pytest.param("http_408", {}, "backend_timeout", "poll", id="408"),
    pytest.param("http_500", {}, "internal_error", "poll", id="500"),
    pytest.param("http_502", {}, "unexpected_status", "poll", id="502 HTML"),
    pytest.param("http_503_unknown", {}, "unknown_error", "poll", id="503 unknown"),
    pytest.param("http_503_unavailable", {}, "unavailable", "poll", id="503 unavailable"),
    pytest.param("http_503_internal", {}, "internal_error_retry", "poll", id="503 internal"),
    pytest.param("html_503", {}, "unavailable", "poll", id="503 HTML"),
    pytest.param("overloaded_503", {}, "overloaded", "poll", id="-1008"),
    pytest.param("json_error_status_200", {}, "error_body", "poll", id="error with 200"),
    pytest.param("invalid_symbol", {}, "invalid_symbol", "poll", id="-1121"),
    pytest.param("redirect", {}, "unexpected_status", "poll", id="302"),
    pytest.param("stall", {"seconds": 30}, "timeout", "poll", id="stalls"),
    pytest.param("reset_before_headers", {}, "reset", "poll", id="reset before headers"),
    pytest.param("close_before_headers", {}, "reset", "poll", id="closed before headers"),
    pytest.param("reset_after_headers", {}, "truncated_body", "poll", id="reset after headers"),
    pytest.param("truncated_body", {}, "truncated_body", "poll", id="Content-Length too large"),
    pytest.param("chunked_cut", {}, "truncated_body", "poll", id="cut between chunks"),
    pytest.param("gzip", {"corrupt": True}, "truncated_body", "poll", id="broken gzip"),
    pytest.param("empty_body", {}, "empty_body", "poll", id="empty"),
    pytest.param("html_200", {}, "html_body", "poll", id="HTML with 200"),
    pytest.param("json_cut", {}, "truncated_body", "poll", id="cut JSON"),
    pytest.param("trailing_bytes", {}, "bad_json", "poll", id="bytes after the JSON"),
    pytest.param("not_a_book", {}, "not_a_book", "poll", id="another object"),
    pytest.param("json_array", {}, "not_a_book", "poll", id="an array"),
    pytest.param("missing_id", {}, "not_a_book", "poll", id="no lastUpdateId"),
    pytest.param("oversize_body", {"bytes": 16 * 1024 * 1024}, "oversize_body", "poll", id="too large"),
    pytest.param("stale_id", {"by": 10**9}, "went_backwards", "poll", id="an id from the past"),
]


@pytest.mark.parametrize(("kind", "args", "reason", "cause"), FAULTS)
async def test_a_fault_is_named_tells_one_gap_before_the_next_book_and_heals(
    exchange, kind, args, reason, cause
) -> None:
    async with reading(exchange.url, timeout_seconds=1.0, interval_ms=200) as reader:
        await eventually(reader.snapshots)
        before = polls("future", reason)
        # An idempotent GET that a kept-alive connection loses before its headers is sent once more by the client.
        count = 2 if kind.endswith("before_headers") else 1
        await exchange.break_it(kind, symbol="BTCUSDT", args=args, count=count)
        await eventually(lambda: polls("future", reason) > before, what=reason)
        seen = len(reader.snapshots())
        await eventually(lambda: len(reader.snapshots()) > seen, what="recovery")
    assert_told(reader, ["start", cause, "stop"])
    told = [(record.type, record.type == "gap" and Gap.decode(record.value).cause) for record in reader.records]
    hole = told.index(("gap", cause))
    last_good, after = reader.records[hole - 1], reader.records[hole + 1]
    assert (last_good.type, after.type) == ("snapshot", "snapshot")
    assert Gap.decode(reader.records[hole].value).since_ns == last_good.recv_ns


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("http_403", "waf_blocked"),
        ("http_451", "geo_blocked"),
        ("http_418_bare", "banned"),
        ("http_429_no_retry_after", "rate_limited"),
        ("code_1003_status_200", "rate_limited"),
    ],
)
async def test_a_refused_address_sends_nothing_more_and_its_symbols_are_in_a_gap(exchange, kind, reason) -> None:
    symbols = {"future": ["BTCUSDT", "ETHUSDT"]}
    cause = "poll" if reason == "rate_limited" else "ban"
    # Without Retry-After a hold ends with the clock minute.
    await eventually(lambda: time.time() % 60 < 45, what="a minute that does not turn during the test")
    async with reading(exchange.url, symbols=symbols, gap_after_seconds=0.5) as reader:
        await eventually(lambda: reader.snapshots("BTCUSDT") and reader.snapshots("ETHUSDT"))
        before = polls("future", reason)
        await exchange.break_it(kind, symbol="BTCUSDT")
        await eventually(lambda: polls("future", reason) > before, what=reason)
        sent = len(await exchange.truth(reader.ip))
        await eventually(lambda: all(cause in reader.causes(symbol) for symbol in symbols["future"]), what="gaps")
        assert len(await exchange.truth(reader.ip)) <= sent + 1, "only what was already on its way"
        if cause == "ban":
            [(ok, why)] = reader.ready.values()
            assert not ok
            assert reason in why
            assert metrics.BANNED_UNTIL.labels(reader.ip, "binance-futures")._value.get() > time.time()


async def test_a_body_of_another_symbol_is_refused_where_the_body_names_one(exchange) -> None:
    async with reading(exchange.url, symbols={"inverse": ["BTCUSD_PERP"]}) as reader:
        await eventually(reader.snapshots)
        before = polls("inverse", "foreign_symbol")
        await exchange.break_it("other_symbol", market="inverse")
        await eventually(lambda: polls("inverse", "foreign_symbol") > before)
    assert all(json.loads(record.value)["symbol"] == "BTCUSD_PERP" for record in reader.snapshots())


async def test_a_compressed_answer_is_published_as_the_decoded_bytes(exchange) -> None:
    async with reading(exchange.url) as reader:
        await exchange.break_it("gzip", count=10)
        await eventually(lambda: len(reader.snapshots()) >= 3)
    truth = {e["sha256"] for e in await exchange.truth(reader.ip) if e["fault"] == "gzip"}
    assert len(truth & {hashlib.sha256(record.value).hexdigest() for record in reader.snapshots()}) >= 1


async def test_a_venue_that_counts_anew_is_recorded_again_after_three_refusals(exchange) -> None:
    async with reading(exchange.url) as reader:
        await eventually(reader.snapshots)
        before = polls("future", "went_backwards")
        await exchange.break_it("stale_id", args={"by": 10**9}, count=10**6)
        seen = len(reader.snapshots())
        await eventually(lambda: len(reader.snapshots()) >= seen + 3)
        assert polls("future", "went_backwards") - before == desks.RESET_AFTER - 1


async def test_a_poll_whose_predecessor_is_still_on_its_way_is_skipped_and_counted(exchange) -> None:
    async with reading(exchange.url, symbols={"future": ["BTCUSDT", "ETHUSDT"]}) as reader:
        await eventually(lambda: reader.snapshots("BTCUSDT") and reader.snapshots("ETHUSDT"))
        before = polls("future", "late")
        await exchange.break_it("delay", symbol="BTCUSDT", args={"seconds": 1.0})
        await eventually(lambda: polls("future", "late") >= before + 3)
    assert_told(reader, ["start", "poll", "stop"], "BTCUSDT")
    assert len(reader.snapshots("ETHUSDT")) > len(reader.snapshots("BTCUSDT")), "other symbols are not held up"


async def test_a_long_run_of_misses_is_told_before_the_symbol_recovers_and_only_once(exchange) -> None:
    async with reading(exchange.url, gap_after_seconds=0.3) as reader:
        await eventually(reader.snapshots)
        await exchange.break_it("http_500", count=10**6)
        await eventually(lambda: "poll" in reader.causes())
        told = len(reader.gaps())
        before = polls("future", "internal_error")
        await eventually(lambda: polls("future", "internal_error") >= before + 5)
        assert len(reader.gaps()) == told, "the run goes on, and was told"
        await exchange.control("DELETE", "faults")
        seen = len(reader.snapshots())
        await eventually(lambda: len(reader.snapshots()) > seen)
    assert_told(reader, ["start", "poll", "stop"])


async def test_a_full_queue_stops_the_polls_and_tells_an_overflow(exchange) -> None:
    async with reading(exchange.url, buffer_bytes=3000, settle=False) as reader:
        before = polls("future", "queue_full")
        await eventually(lambda: polls("future", "queue_full") >= before + 5)
        asked = len(await exchange.truth(reader.ip))
        await eventually(lambda: polls("future", "queue_full") >= before + 10)
        assert len(await exchange.truth(reader.ip)) == asked, "a poll whose answer would be dropped is not sent"
        for record in reader.drain():
            reader.channel.settle([record])
        reader.settle = True
        seen = len(reader.snapshots())
        await eventually(lambda: len(reader.snapshots()) > seen)
    assert_told(reader, ["start", "overflow", "stop"])


async def test_the_weight_limit_is_learned_and_never_exceeded(exchange) -> None:
    await exchange.control("POST", "weights", {"limits": {"binance-futures": 100}})
    symbols = {"future": ["BTCUSDT", "ETHUSDT"], "inverse": ["BTCUSD_PERP"]}
    async with reading(exchange.url, symbols=symbols, weight_share=0.5) as reader:
        before = polls("future", "no_weight")
        await eventually(lambda: polls("future", "no_weight") >= before + 3)
    usage = await exchange.usage(reader.ip)
    assert usage["peak"] <= 50
    assert usage["bans"] == 0
    assert metrics.REQUEST_WEIGHT_LIMIT.labels(reader.ip, "binance-futures")._value.get() == 100


async def test_who_else_uses_the_address_is_seen_in_the_header_and_left_alone(exchange) -> None:
    await exchange.control("POST", "weights", {"limits": {"binance-futures": 200}})
    ip = next(addresses)
    connector = aiohttp.TCPConnector(local_addr=(ip, 0))
    async with aiohttp.ClientSession(connector=connector) as other, reading(exchange.url, ip=ip) as reader:
        await eventually(reader.snapshots)
        for _ in range(7):
            await (await other.get(f"{exchange.url}/fapi/v1/depth?symbol=BTCUSDT&limit=1000")).read()
        before = polls("future", "no_weight")
        await eventually(lambda: polls("future", "no_weight") > before)
    usage = await exchange.usage(reader.ip)
    assert usage["peak"] <= 200


async def test_an_exchange_that_is_away_is_said_once_and_polled_again_when_it_is_back() -> None:
    async with reading("http://127.0.0.1:9") as reader:
        before = polls("future", "refused")
        await eventually(lambda: polls("future", "refused") >= before + 5)
        [(ok, why)] = reader.ready.values()
        assert not ok
        assert "refused" in why
    assert set(reader.causes()) == {"start", "poll", "stop"}


async def test_an_address_that_is_not_ours_is_a_named_fault_and_no_crash(exchange) -> None:
    async with reading(exchange.url, ip="192.0.2.77"):
        before = polls("future", "source_address")
        await eventually(lambda: polls("future", "source_address") > before)


async def test_no_more_connections_are_open_than_allowed(exchange) -> None:
    symbols = {"future": (await exchange.control("GET", "symbols"))["future"]}
    async with reading(exchange.url, symbols=symbols, max_connections=1) as reader:
        await eventually(reader.snapshots)
        await exchange.break_it("delay", args={"seconds": 0.5}, count=10**6)
        before = polls("future", "no_connection")
        await eventually(lambda: polls("future", "no_connection") > before)


async def test_requests_on_their_way_finish_before_the_stop_is_told(exchange) -> None:
    async with reading(exchange.url, interval_ms=300) as reader:
        await eventually(reader.snapshots)
        await exchange.break_it("delay", args={"seconds": 0.5}, count=10**6)
        asked = len(await exchange.truth(reader.ip))
        before = polls("future", "late")
        await eventually(lambda: polls("future", "late") > before)
        reader.stopping.set()
        seen = len(reader.snapshots())
    assert len(reader.snapshots()) >= seen
    assert reader.records[-1].type == "gap"
    complete = [e for e in await exchange.truth(reader.ip) if e["book"]]
    assert len(complete) >= asked - 1
    assert len(reader.snapshots()) == len(complete)
