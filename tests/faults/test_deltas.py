"""Updates through the whole line on real Kafka and a real S3 store: recorded sessions, faults of all kinds, outages."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import itertools
import json
import random
from collections import Counter, defaultdict
from typing import TYPE_CHECKING, Any

import pytest

from cryptoflow import lake
from shared.errors import RetryableError
from tests.deltas import Truth, control, judge
from tests.line import FLUSH, SERVICES, Line, make_line, stream_source
from tests.support import CAPTURES, eventually, needs_captures

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.containers import S3, Kafka
    from tests.deltas import Hole, Name
    from tests.processes import Processes, Service, Simulator

pytestmark = [pytest.mark.docker, pytest.mark.timeout(420)]

OPEN_CAPTURES = {
    "binance_usdm__20210405_bat_chr_ctk_neo_sand": ("future", 40),
    "binance_usdm__20210722_sushi_akro_keep_ctk": ("future", 10),
    "binance_usdm__20240718_btc_eth": ("future", 40),
    "binance_coinm__20210722_10syms": ("inverse", 10),
    "binance_spot__20211012_4syms": ("spot", 10),
}
SYMBOLS_IN_STORM = 20
FAULTS_IN_STORM = 200
INSTANTS = 50
TOP_LEVELS = 200
ON_THE_WAY_NS = 300_000_000


@pytest.fixture
def line(
    kafka: Kafka, s3: S3, services: Processes, make_config: Callable[..., dict[str, Any]], prefix: str, tmp_path: Path
) -> Callable[..., Line]:
    """Makes a line for updates over real Kafka and a real store, three partitions a topic."""

    def make(
        exchange: Simulator, symbols: dict[str, list[str]], *, reader: Any = None, channels: Any = None, **source: Any
    ) -> Line:
        partitions = {f"{side}_{kind}": {"partitions": 3} for side in ("raw", "norm") for kind in ("fobs", "fobd")}
        return make_line(
            services,
            make_config,
            tmp_path,
            s3=s3,
            prefix=prefix,
            kafka={"bootstrap_servers": kafka.bootstrap_servers},
            channels=partitions | (channels or {}),
            source=stream_source(exchange, symbols, **source),
            reader=reader or {},
            writer=FLUSH,
        )

    return make


@pytest.fixture
def url(s3: S3, prefix: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The lake, as a user names it."""
    for name, value in s3.environ.items():
        monkeypatch.setenv(name, value)
    return f"s3://{s3.environ['S3_BUCKET']}/{prefix}"


# --- recorded sessions ------------------------------------------------------------------------------------------------


@needs_captures
@pytest.mark.parametrize("capture", OPEN_CAPTURES)
async def test_a_recorded_session_comes_through_the_line_and_its_rebuilt_books_are_the_expected_ones(
    line: Callable[..., Line], services: Processes, url: str, capture: str
) -> None:
    market, speed = OPEN_CAPTURES[capture]
    expected = json.loads((CAPTURES / capture / "expected.json").read_text())
    exchange = services.simulate("--captures", str(CAPTURES / capture), "--speed", str(speed), "--await-subscriptions")
    run = line(exchange, {market: sorted(expected)})
    await run.create_topics()
    running = [run.start(service) for service in SERVICES]

    async def played() -> bool:
        return bool((await control(exchange, "GET", "counters"))["captures"][market]["ended"])

    await eventually(played, 120, "the session has been played")
    frames = sum(of["diff_events"] for of in expected.values())
    await run.holds(frames + 2 * len(expected), kind="fobd")  # a gap `start` and an anchor each
    await run.caught_up(kind="fobd")
    for service in running:
        assert service.terminate() == 0, service.tail()
    await _finish(run)
    report = run.verify()
    assert report.verdict == "complete", str(report)
    records = await run.raw_records("fobd")
    await run.assert_exactly_once("fobd")
    by_symbol = defaultdict(list)
    for record in records:
        headers = dict(record.headers)
        by_symbol[headers["symbol"].decode()].append((headers["type"], record))
    for symbol, of in expected.items():
        mine = by_symbol[symbol]
        assert Counter(type_ for type_, _ in mine) == {b"gap": 2, b"snapshot": 1, b"update": of["diff_events"]}, symbol
        book = lake.book(url, exchange="binance", market=market, symbol=symbol, at=_before_stop(mine))
        assert book.update_id == of["final_u"]
        assert not book.gaps
        assert _digest(book, _texts(mine)) == of["final_book_sha256"], symbol


def _before_stop(records: list[tuple[bytes, Any]]) -> int:
    """The receive time of the latest update or anchor, ns."""
    return max(int(dict(record.headers)["recv_ns"]) for type_, record in records if type_ != b"gap")


def _texts(records: list[tuple[bytes, Any]]) -> tuple[dict[float, str], dict[tuple[str, float], str]]:
    """The venue's texts: of a price by its float, of a quantity by its side and price, the latest."""
    prices: dict[float, str] = {}
    quantities: dict[tuple[str, float], str] = {}
    for type_, record in records:
        if type_ == b"gap":
            continue
        content = json.loads(record.value)
        content = content.get("data", content)
        for side in ("bids", "asks", "b", "a"):
            for price, quantity in content.get(side, ()):
                prices[float(price)] = price
                quantities[side[0], float(price)] = quantity
    return prices, quantities


def _digest(book: lake.Book, texts: tuple[dict[float, str], dict[tuple[str, float], str]]) -> str:
    """The captures' own rule, over the texts that stand for the rebuilt book's numbers."""
    prices, quantities = texts
    digest = hashlib.sha256()
    for letter, side in (("b", book.bids), ("a", book.asks)):
        for price, quantity in zip(side.price.tolist(), side.quantity.tolist(), strict=True):
            text = quantities[letter, price]
            assert float(text) == quantity
            digest.update(f"{letter} {prices[price]} {text}\n".encode())
    return digest.hexdigest()


async def _finish(run: Line) -> None:
    """Lets a flattener and a writer finish what the stopped ones left in Kafka."""
    rest = [run.start(service) for service in SERVICES[1:]]
    await run.caught_up(kind="fobd")
    for service in rest:
        assert service.terminate() == 0, service.tail()


# --- a storm of faults ------------------------------------------------------------------------------------------------

STORM = {
    # what the exchange does to a frame, how often, with which arguments
    "skip": (46, {}),
    "reorder": (22, {}),
    "garbage": (18, {}),
    "garbage, extra": (10, {"extra": True}),
    "truncated_frame": (20, {}),
    "no_symbol": (15, {}),
    "duplicate": (20, {}),
    "unknown_event": (15, {}),
    "drop_connection": (8, {"reset": True}),
    "drop_connection, closed": (6, {"reset": False}),
    "close_code": (8, {"code": 1001}),
    "stall": (6, {"seconds": 1.0}),
    "mute_symbol": (4, {"seconds": 2.0}),
    "half_open": (1, {}),
    "stall_forever": (1, {}),
}
CAUSES = {
    "skip": "sequence",
    "reorder": "sequence",
    "mute_symbol": "sequence",
    "garbage": "malformed",
    "truncated_frame": "malformed",
    "no_symbol": "malformed",
    "drop_connection": "disconnect",
    "close_code": "disconnect",
    "half_open": "disconnect",
    "stall_forever": "disconnect",
}


async def test_in_a_storm_of_faults_the_gaps_are_the_holes_one_to_one_and_the_books_are_the_exchanges_own(
    line: Callable[..., Line], services: Processes, kafka: Kafka, url: str, tmp_path: Path
) -> None:
    """Two connections, two kills of the reader, a pause of Kafka; hand-overs go on all the while."""
    seed = 20_261_125
    frames = tmp_path / "frames.jsonl"
    arguments = ("--futures-weight-limit", "1000000", "--symbols-per-market", str(SYMBOLS_IN_STORM))
    exchange = services.simulate(*arguments, "--truth-frames", str(frames), "--connects-per-five-minutes", "10000")
    symbols = (await control(exchange, "GET", "symbols"))["future"][:SYMBOLS_IN_STORM]
    settings = {"streams_per_connection": SYMBOLS_IN_STORM // 2, "silence_timeout": "4s", "max_connection_age": "25s"}
    run = line(exchange, {"future": symbols}, reader=settings)
    await run.create_topics()
    reader, flattener, writer = [run.start(service) for service in SERVICES]
    await _anchored(reader, len(symbols))
    rng = random.Random(seed)
    kinds = [kind for kind, (count, _) in STORM.items() for _ in range(count)]
    rng.shuffle(kinds)
    assert len(kinds) >= FAULTS_IN_STORM
    for number, (kind, symbol) in enumerate(zip(kinds, itertools.cycle(symbols), strict=False)):
        if number in {70, 140}:
            reader.kill()
            reader = run.start("reader")
            await _anchored(reader, len(symbols))
        if number == 100:
            await asyncio.to_thread(kafka.pause)
        if number == 115:
            await asyncio.to_thread(kafka.resume)
        await _strike(exchange, kind, symbol)
    await _anchored(reader, len(symbols))
    await run.acknowledged(10 * len(symbols), kind="fobd")
    assert reader.terminate() == 0, reader.tail()
    await run.caught_up(kind="fobd")
    assert [flattener.terminate(), writer.terminate()] == [0, 0]
    report = run.verify()
    assert report.verdict == "complete", str(report)
    await control(exchange, "POST", "flush")
    truth = Truth.read(frames)
    records = await run.raw_records("fobd")
    verdict = judge(records, truth)
    await run.assert_exactly_once("fobd")
    for hole in verdict.holes:
        _assert_told(hole, truth)
    assert len([hole for hole in verdict.holes if hole.lost]) >= FAULTS_IN_STORM // 3
    struck = (await control(exchange, "GET", "counters"))["stream"]["by_fault"]
    assert sum(struck.values()) >= FAULTS_IN_STORM
    for symbol in symbols:
        _assert_books(url, symbol, records, truth, rng)


async def _anchored(reader: Service, symbols: int) -> None:
    """Every symbol has an anchor since its last gap."""

    def anchored() -> bool:
        placed = reader.metric("cryptoflow_anchors_total", outcome="placed")
        return placed >= symbols and reader.metric("cryptoflow_symbols_without_anchor") == 0

    await eventually(anchored, 60, "every symbol has its anchor")


async def _strike(exchange: Simulator, kind: str, symbol: str) -> None:
    """One fault, and until it has hit."""
    args = STORM[kind][1]
    rule = {"kind": kind.partition(",")[0], "path": "stream", "market": "future", "symbol": symbol, "count": 1}
    [made] = (await control(exchange, "POST", "faults", [rule | {"args": args}]))["rules"]

    async def hit() -> bool:
        rules = (await control(exchange, "GET", "faults"))["rules"]
        return any(rule["id"] == made["id"] and rule["hits"] for rule in rules)

    await eventually(hit, 40, f"{kind} hits {symbol}")
    await control(exchange, "DELETE", f"faults?id={made['id']}")


def _assert_told(hole: Hole, truth: Truth) -> None:
    """One gap where something was lost, none where nothing was; `start` and `stop` are told whatever was lost."""
    causes = [gap["cause"] for gap in hole.gaps]
    if not hole.lost:
        assert set(causes) <= {"start", "stop"}, f"a false gap: {hole}"
        return
    assert len(causes) == 1, f"not one gap for one hole: {hole}"
    faults = {fault for event in hole.lost for fault in truth.faults.get((hole.name, event.last_id), ())}
    unlabelled = any(not truth.faults.get((hole.name, event.last_id)) for event in hole.lost)
    allowed = {CAUSES[fault] for fault in faults if fault in CAUSES} | (
        {"disconnect", "start"} if unlabelled else set()
    )
    # A frame that named no symbol may have been anyone's: in the hole of a symbol it is what happened there.
    since_ns, until_ns = hole.gaps[0]["since_ns"] or 0, hole.lost[-1].at_ns + ON_THE_WAY_NS
    if any(since_ns - ON_THE_WAY_NS <= spoiled_ns <= until_ns for spoiled_ns in truth.spoiled_ns):
        allowed.add("malformed")
    assert causes[0] in allowed, f"{causes[0]} told, {allowed} true: {faults} {hole.name} {hole.gaps}"


def _assert_books(url: str, symbol: str, records: list[Any], truth: Truth, rng: random.Random) -> None:
    """At random instants outside of gaps the rebuilt book is the exchange's, as far as its anchor reaches."""
    name: Name = "future", symbol
    mine = [dict(record.headers) for record in records]
    received = [int(h["recv_ns"]) for h in mine if h["symbol"].decode() == symbol and h["type"] != b"gap"]
    first, last = min(received), max(received)
    history = lake.history(url, exchange="binance", market="future", symbol=symbol, start=first, end=last)
    found = {}
    for at_ns in sorted(rng.randint(first, last) for _ in range(6 * INSTANTS)):
        try:
            book = history.at(at_ns)
        except lake.NoAnchor:
            continue
        if not book.gaps and book.update_id is not None:
            found[book.update_id] = book
    assert len(found) >= INSTANTS, f"{symbol}: only {len(found)} instants outside of gaps"
    chosen = sorted(rng.sample(sorted(found), INSTANTS))
    for update_id, (bids, asks) in truth.books(name, chosen):
        book = found[update_id]
        for side, true, worst_first in ((book.bids, bids, True), (book.asks, asks, False)):
            best = sorted(true, reverse=worst_first)[:TOP_LEVELS]
            assert side.price[:TOP_LEVELS].tolist() == best, (symbol, update_id)
            assert side.quantity[:TOP_LEVELS].tolist() == [true[price] for price in best], (symbol, update_id)


# --- a slow Kafka -----------------------------------------------------------------------------------------------------

PAUSE_SECONDS = 60.0
SMALL_QUEUE_BYTES = 400_000  # some seconds of the exchange's updates


async def test_a_kafka_that_stands_still_for_a_minute_loses_nothing_that_fits_the_queue_and_tells_the_rest(
    kafka: Kafka, s3: S3, services: Processes, make_config: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    """Two readers of the same exchange in the same outage: one queue holds the minute, the other some seconds of it."""
    frames = tmp_path / "frames.jsonl"
    arguments = (
        "--futures-weight-limit",
        "1000000",
        "--symbols-per-market",
        "12",
        "--connects-per-five-minutes",
        "10000",
    )
    exchange = services.simulate(*arguments, "--truth-frames", str(frames))
    symbols = (await control(exchange, "GET", "symbols"))["future"][:12]
    lines = {}
    for name, queue_bytes in (("roomy", 64 * 1024 * 1024), ("small", SMALL_QUEUE_BYTES)):
        (tmp_path / name).mkdir()
        lines[name] = make_line(
            services,
            make_config,
            tmp_path / name,
            kafka={"bootstrap_servers": kafka.bootstrap_servers, "stream": name},
            channels={
                "buffer_bytes": queue_bytes,
                **{
                    f"{side}_{kind}": {"topic": f"{name}-{side}-{kind}-{tmp_path.name[-20:]}", "partitions": 3}
                    for side in ("raw", "norm")
                    for kind in ("fobs", "fobd")
                },
            },
            source=stream_source(exchange, {"future": symbols}),
        )
        await lines[name].create_topics()
    readers = {name: run.start("reader") for name, run in lines.items()}
    for reader in readers.values():
        await _anchored(reader, len(symbols))
    received = readers["roomy"].metric("cryptoflow_updates_received_total")
    await asyncio.to_thread(kafka.pause)
    resumed_at = asyncio.get_running_loop().time() + PAUSE_SECONDS
    await eventually(lambda: readers["small"].metric("cryptoflow_overflows_total") == 1, 50, "the small queue is full")
    await eventually(lambda: asyncio.get_running_loop().time() >= resumed_at, PAUSE_SECONDS + 10, "a minute is over")
    assert readers["roomy"].metric("cryptoflow_updates_received_total") > received + 1000
    await asyncio.to_thread(kafka.resume)

    async def known() -> bool:
        """A broker that stood still has to register anew before anyone is told of it."""
        with contextlib.suppress(RetryableError):
            return await lines["small"].raw_records("fobs") == []
        return False

    await eventually(known, 60, "Kafka lists its broker again")
    for name, run in lines.items():
        await _anchored(readers[name], len(symbols))
        await run.acknowledged(20 * len(symbols), kind="fobd")
        assert readers[name].metric("cryptoflow_producer_failures_total") == 0
    for reader in readers.values():
        assert reader.terminate() == 0, reader.tail()
    await control(exchange, "POST", "flush")
    truth = Truth.read(frames)
    roomy = judge(await lines["roomy"].raw_records("fobd"), truth)
    assert not any(hole.lost for hole in roomy.holes)
    assert [gap["cause"] for hole in roomy.holes for gap in hole.gaps] == ["start", "stop"] * len(symbols)
    small = judge(await lines["small"].raw_records("fobd"), truth)
    overflows = [hole for hole in small.holes if hole.lost]
    assert sorted(hole.name[1] for hole in overflows) == sorted(symbols), "one hole for each symbol"
    assert [[gap["cause"] for gap in hole.gaps] for hole in overflows] == [["overflow"]] * len(symbols)
    for hole in overflows:
        [gap] = hole.gaps
        assert gap["last_id"] < hole.lost[0].first_id
        assert gap["next_id"] is None or gap["next_id"] > hole.lost[-1].last_id
