"""Many source addresses, on a real network: what leaves from which, who stands in for whom, and that no budget is broken.

The exchange is in a network namespace of its own and sees the addresses as a venue does; they are added and removed as a
host's are.
"""

from __future__ import annotations

import json
from collections import defaultdict
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest

from shared.venues.base import MINUTE_NS, SECOND_NS
from tests.deltas import Truth, Verdict, control, judge
from tests.line import Line, make_line, stream_source
from tests.namespaces import exchange_behind
from tests.support import eventually

if TYPE_CHECKING:
    from pathlib import Path

    from tests.namespaces import Exchange, Network
    from tests.processes import Service

pytestmark = [pytest.mark.timeout(240), pytest.mark.xdist_group("namespaces")]

A, B, ELSEWHERE = 11, 12, 13  # places in the subnet; the last is never added
SHARE = 0.8
ONE_EACH = {A: {"future": ["BTCUSDT"]}, B: {"future": ["ETHUSDT"]}}


@dataclass
class World:
    network: Network
    exchange: Exchange
    line: Line
    folder: Path

    def ip(self, place: int) -> str:
        return self.network.address(place)

    async def served(self, *, symbol: bool = True) -> list[dict[str, Any]]:
        """Every answer of the exchange, in the order of its requests; with `symbol` those about books alone."""
        entries = (await control(self.exchange, "GET", "truth"))["entries"]
        return sorted(
            (entry for entry in entries if not symbol or entry["symbol"] is not None), key=lambda entry: entry["seq"]
        )

    async def askers(self, symbol: str, after_seq: int = 0) -> set[str]:
        """The addresses that asked for this book."""
        return {e["ip"] for e in await self.served() if e["symbol"] == symbol and e["seq"] > after_seq}

    async def usage(self, group: str = "binance-futures") -> dict[str, dict[str, Any]]:
        """By address, what the exchange has counted of a budget."""
        rows = (await control(self.exchange, "GET", "counters"))["weights"]
        return {row["address"]: row for row in rows if row["group"] == group}

    async def truth(self) -> Truth:
        await control(self.exchange, "POST", "flush")
        return Truth.read(self.folder / "frames.jsonl")

    async def verdict(self) -> Verdict:
        """Of the updates; whatever was lost was told."""
        verdict = judge(await self.line.raw_records("fobd"), await self.truth())
        assert [hole for hole in verdict.holes if hole.lost and not hole.gaps] == []
        return verdict

    async def gaps(self) -> dict[str, list[str]]:
        """Causes of the gaps in the snapshots, by symbol."""
        found = defaultdict(list)
        for record in await self.line.raw_records("fobs"):
            headers = {name: value.decode() for name, value in record.headers}
            if headers["type"] == "gap":
                found[headers["symbol"]].append(json.loads(record.value)["cause"])
        return found


@pytest.fixture
def world_of(services, make_config, tmp_path, embedded_kafka):
    @asynccontextmanager
    async def make(
        shards: dict[int, dict[str, list[str]]],
        *arguments: str,
        family: int = 4,
        polls: dict[str, Any] | None = None,
        deltas: bool = True,
        **reader: Any,
    ):
        frames = tmp_path / "frames.jsonl"
        options = ("--symbols-per-market", "8", "--truth-frames", str(frames), *arguments)
        async with exchange_behind(services, tmp_path / "processes", *options, family=family) as (network, exchange):
            await network.add(*(network.address(place) for place in shards if place != ELSEWHERE))
            lists = [
                {"ip": network.address(place)} | {f"binance_{market}_symbols": ids for market, ids in markets.items()}
                for place, markets in shards.items()
            ]
            (tmp_path / "ip_shards.yml").write_text(json.dumps({"shards": lists}))
            symbols: dict[str, list[str]] = defaultdict(list)
            for markets in shards.values():
                for market, ids in markets.items():
                    symbols[market] += ids
            source = stream_source(exchange, symbols, polls=polls or {"interval_ms": 500, "limit": 5})
            for market in source["binance"].values():
                market["orderbook"]["delta"]["enabled"] &= deltas
            line = make_line(
                services,
                make_config,
                tmp_path,
                kafka={"bootstrap_servers": embedded_kafka.bootstrap_servers},
                source=source,
                reader={"ip_shards_file": str(tmp_path / "ip_shards.yml"), "weight_share": SHARE, **reader},
            )
            yield World(network, exchange, line, tmp_path)

    return make


async def started(world: World) -> Service:
    """A reader that polls from both addresses."""
    await world.line.create_topics()
    reader = world.line.start("reader")
    await eventually(lambda: reader.metric("cryptoflow_polls_total", reason="ok") >= 4)
    return reader


@pytest.mark.parametrize("family", [4, 6], ids=["IPv4", "IPv6"])
async def test_every_request_and_websocket_leaves_from_the_address_of_its_shard(world_of, family) -> None:
    shards = {
        A: {"future": ["BTCUSDT", "SUSHIUSDT"], "spot": ["BTCUSDT"]},
        B: {"future": ["ETHUSDT"], "spot": ["ETHUSDT"]},
        ELSEWHERE: {"future": ["BNBUSDT"]},
    }
    async with world_of(shards, family=family) as world:
        reader = await started(world)
        await world.line.acknowledged(60, kind="fobd")
        assert (reader.metric("cryptoflow_shards_configured"), reader.metric("cryptoflow_shards_running")) == (3, 2)
        assert [line["skipped"] for line in reader.logged("shards of others")] == [[world.ip(ELSEWHERE)]]
        assert reader.terminate() == 0, reader.tail()
        owner = {
            (market, symbol): world.ip(place)
            for place, markets in shards.items()
            if place != ELSEWHERE
            for market, ids in markets.items()
            for symbol in ids
        }
        asked = {(e["market"], e["symbol"]): set() for e in await world.served()}
        for entry in await world.served():
            asked[entry["market"], entry["symbol"]].add(entry["ip"])
        assert asked == {name: {ip} for name, ip in owner.items()}
        lists = {(e["market"], e["ip"]) for e in await world.served(symbol=False) if e["symbol"] is None}
        assert lists == {(market, world.ip(place)) for market in ("future", "spot") for place in (A, B)}
        opened = [line for line in (await world.truth()).lines if line["what"] in {"opened", "subscribe"}]
        for line in opened:
            for name in line.get("params", []):
                assert line["ip"] == owner[line["market"], name.partition("@")[0].upper()]
        assert {(line["market"], line["ip"]) for line in opened} == {(market, ip) for (market, _), ip in owner.items()}
        for kind in ("fobs", "fobd"):
            for record in await world.line.raw_records(kind):
                headers = {name: value.decode() for name, value in record.headers}
                assert headers["ip"] == owner[headers["market"], headers["symbol"]]


async def test_shard_ip_narrows_a_reader_to_one_address(world_of) -> None:
    async with world_of(ONE_EACH) as world:
        await world.line.create_topics()
        reader = world.line.processes.start("reader", world.line.config, environ={"SHARD_IP": world.ip(B)})
        await world.line.acknowledged(20, kind="fobd")
        assert (reader.metric("cryptoflow_shards_configured"), reader.metric("cryptoflow_shards_running")) == (2, 1)
        assert reader.terminate() == 0, reader.tail()
        assert {entry["ip"] for entry in await world.served(symbol=False)} == {world.ip(B)}
        assert {line["ip"] for line in (await world.truth()).lines} == {world.ip(B)}


async def ban(world: World, place: int, seconds: float) -> None:
    rule = {"kind": "ban", "source_ip": world.ip(place), "args": {"seconds": seconds}}
    await control(world.exchange, "POST", "faults", rule)


async def test_a_ban_costs_the_symbols_of_its_address_and_nobody_stands_in_unless_it_is_allowed(world_of) -> None:
    async with world_of(ONE_EACH) as world:
        reader = await started(world)
        await ban(world, A, 3)
        await eventually(lambda: reader.metric("cryptoflow_gaps_total", kind="fobs", cause="ban") == 1)
        assert reader.metric("cryptoflow_symbols_taken_over") == 0
        assert reader.terminate() == 0, reader.tail()
        assert {symbol: causes.count("ban") for symbol, causes in (await world.gaps()).items()} == {
            "BTCUSDT": 1,
            "ETHUSDT": 0,
        }
        assert await world.askers("BTCUSDT") == {world.ip(A)}
        assert await world.askers("ETHUSDT") == {world.ip(B)}


async def test_during_a_ban_the_other_address_asks_and_afterwards_the_own_again(world_of) -> None:
    async with world_of(ONE_EACH, rebalance_on_ban=True) as world:
        reader = await started(world)
        await ban(world, A, 6)
        await eventually(lambda: reader.metric("cryptoflow_symbols_taken_over", kind="fobs", ip=world.ip(A)) == 1)
        assert not reader.ready(), "an address that is refused is told at /readyz, relieved or not"
        await eventually(reader.ready, what="the ban is over")
        await eventually(lambda: reader.metric("cryptoflow_symbols_taken_over") == 0)
        last = (await world.served())[-1]["seq"]
        await eventually(lambda: world.askers("BTCUSDT", last))
        assert await world.askers("BTCUSDT", last) == {world.ip(A)}
        assert reader.metric("cryptoflow_symbols_taken_over") == 0
        assert [len(reader.logged(f"requests taken over{more}")) for more in ("", " no more")] == [1, 1]
        assert reader.terminate() == 0, reader.tail()

        entries = await world.served()
        refused = [entry for entry in entries if entry["status"] == 418]
        assert {entry["ip"] for entry in refused} == {world.ip(A)}
        assert len(refused) <= 2, "those on their way: nothing else went out from a banned address"
        begin = refused[0]["served_ns"]
        end = (await world.usage())[world.ip(A)]["banned_until_ms"] * 1_000_000
        meanwhile = [e for e in entries if e["symbol"] == "BTCUSDT" and begin < e["recv_ns"] < end and e["limit"] == 5]
        assert {(entry["ip"], entry["status"]) for entry in meanwhile if entry["status"] != 418} == {(world.ip(B), 200)}
        assert len(meanwhile) >= 9, "every poll of 6 s but those on their way"
        causes = await world.gaps()
        assert causes["BTCUSDT"].count("ban") == 1, "the poll on its way"
        assert set(causes["ETHUSDT"]) <= {"start", "stop", "poll"}
        by_ip = defaultdict(set)
        for record in await world.line.raw_records("fobs"):
            headers = {name: value.decode() for name, value in record.headers}
            if headers["type"] == "snapshot":
                by_ip[headers["ip"]].add(headers["symbol"])
        assert by_ip == {world.ip(A): {"BTCUSDT"}, world.ip(B): {"BTCUSDT", "ETHUSDT"}}, "the address that asked"
        await world.verdict()


async def test_who_stands_in_keeps_to_its_budget_and_to_its_own_polls(world_of) -> None:
    limit = 165  # 132 of it may be spent; the own poll takes 120 a minute: 12 are to be lent
    polls = {"interval_ms": 1000, "limit": 5}
    options = ("--futures-weight-limit", str(limit))
    async with world_of(ONE_EACH, *options, polls=polls, deltas=False, rebalance_on_ban=True) as world:

        async def asked(symbol: str, after_seq: int = 0) -> list[dict[str, Any]]:
            by = world.ip(B)
            return [e for e in await world.served() if (e["symbol"], e["ip"]) == (symbol, by) and e["seq"] > after_seq]

        async def own_polls_since_lent() -> list[dict[str, Any]]:
            """The own polls behind the latest lent one, once there are so many that others were not lent."""
            lent = await asked("BTCUSDT")
            own = await asked("ETHUSDT", lent[-1]["seq"]) if lent else []
            return own if len(own) >= 5 else []

        reader = await started(world)
        await ban(world, A, 600)
        last = (await eventually(own_polls_since_lent, 100, "nothing is left to lend"))[-1]["seq"]
        await eventually(lambda: asked("BTCUSDT", last), 70, "the next minute has something to lend again")
        assert reader.terminate() == 0, reader.tail()
        usage = await world.usage()
        assert usage[world.ip(B)]["peak"] <= limit * SHARE
        assert not [entry for entry in await world.served() if entry["status"] == 429]
        causes = await world.gaps()
        assert causes["BTCUSDT"].count("ban") >= 2, "the poll on its way, and what nobody had weight for"
        assert set(causes["ETHUSDT"]) <= {"start", "stop", "poll"}
        pauses = [later["recv_ns"] - earlier["recv_ns"] for earlier, later in pairwise(await asked("ETHUSDT"))]
        assert max(pauses) < 4 * SECOND_NS, "no poll of its own was missed for lack of weight"


async def test_markets_that_share_a_budget_never_spend_more_than_one_of_an_address(world_of) -> None:
    limit = 150
    shards = {
        A: {"future": ["BTCUSDT", "SUSHIUSDT"], "inverse": ["BTCUSD_PERP"]},
        B: {"future": ["ETHUSDT"], "inverse": ["ETHUSD_PERP"]},
    }
    polls = {"interval_ms": 200, "limit": 5}
    async with world_of(shards, "--futures-weight-limit", str(limit), polls=polls, deltas=False) as world:
        reader = await started(world)

        async def by_minute() -> dict[tuple[str, int], int]:
            spent: dict[tuple[str, int], int] = defaultdict(int)
            for entry in await world.served(symbol=False):
                spent[entry["ip"], entry["recv_ns"] // MINUTE_NS] += entry["weight"]
            return spent

        async def two_minutes_are_spent() -> bool:
            spent = await by_minute()
            full = [ip for (ip, _), weight in spent.items() if weight >= 0.9 * SHARE * limit]
            return all(full.count(world.ip(place)) >= 2 for place in (A, B))

        await eventually(two_minutes_are_spent, 130)
        assert reader.terminate() == 0, reader.tail()
        usage = await world.usage()
        assert {ip: row["peak"] <= limit * SHARE for ip, row in usage.items()} == {
            world.ip(A): True,
            world.ip(B): True,
        }
        entries = await world.served(symbol=False)
        assert {entry["status"] for entry in entries} == {200}
        assert {(e["market"], e["ip"]) for e in entries} == {
            (market, world.ip(place)) for market in ("future", "inverse") for place in (A, B)
        }


async def test_symbols_of_an_address_that_goes_continue_from_another_and_return_with_it(world_of) -> None:
    async with world_of(ONE_EACH, rebalance_on_ban=True, request_timeout_seconds=3) as world:
        reader = await started(world)
        await eventually(lambda: reader.metric("cryptoflow_symbols_without_anchor") == 0)
        await world.line.acknowledged(20, kind="fobd")
        gone = world.ip(A)
        await world.network.remove(gone)
        await eventually(lambda: reader.metric("cryptoflow_symbols_taken_over", kind="fobd", ip=gone) == 1)
        await eventually(lambda: reader.metric("cryptoflow_symbols_taken_over", kind="fobs", ip=gone) == 1)
        assert not reader.ready()
        await eventually(lambda: reader.metric("cryptoflow_symbols_without_anchor") == 0, what="the book is had again")
        await world.line.acknowledged(20, kind="fobd")

        await world.network.add(gone)
        await eventually(lambda: reader.metric("cryptoflow_symbols_taken_over") == 0, 40)
        await eventually(reader.ready)
        last = (await world.served())[-1]["seq"]
        await eventually(lambda: world.askers("BTCUSDT", last))
        await world.line.acknowledged(20, kind="fobd")
        assert reader.terminate() == 0, reader.tail()
        assert await world.askers("BTCUSDT", last) == {gone}
        events = ("source address missing", "streams taken over", "requests taken over")
        ends = ("source address back", "streams taken over no more", "requests taken over no more")
        assert [len(reader.logged(event)) for event in (*events, *ends)] == [1] * 6

        verdict = await world.verdict()
        [hole] = [hole for hole in verdict.holes if hole.lost]
        assert hole.name == ("future", "BTCUSDT")
        assert [gap["cause"] for gap in hole.gaps] == ["disconnect"]
        assert runs([r for r in await world.line.raw_records("fobd") if symbol_of(r) == "BTCUSDT"]) == [
            gone,
            world.ip(B),
            gone,
        ]


def symbol_of(record: Any) -> str:
    return dict(record.headers)["symbol"].decode()


def runs(records: list[Any]) -> list[str]:
    """The addresses that updates came to, one after the other."""
    found: list[str] = []
    for record in records:
        headers = {name: value.decode() for name, value in record.headers}
        if headers["type"] == "update" and found[-1:] != [headers["ip"]]:
            found.append(headers["ip"])
    return found


async def test_a_refused_handshake_is_not_repeated_and_the_updates_come_to_another_address(world_of) -> None:
    async with world_of(ONE_EACH, rebalance_on_ban=True) as world:
        reader = await started(world)
        await world.line.acknowledged(20, kind="fobd")
        refuse = {"path": "stream", "kind": "refuse_connection", "source_ip": world.ip(A), "probability": 1.0}
        await control(world.exchange, "POST", "faults", refuse | {"args": {"status": 418}})
        drop = {"path": "stream", "kind": "drop_connection", "source_ip": world.ip(A), "symbol": "BTCUSDT"}
        await control(world.exchange, "POST", "faults", drop)
        await eventually(
            lambda: reader.metric("cryptoflow_symbols_taken_over", kind="fobd", ip=world.ip(A), market="future") == 1
        )
        await eventually(reader.ready, what="its symbols are subscribed")
        await world.line.acknowledged(40, kind="fobd")
        assert (await control(world.exchange, "GET", "counters"))["stream"]["by_fault"]["refuse_connection"] == 1
        assert await world.askers("BTCUSDT") == {world.ip(A)}, "requests are no matter of it"
        assert reader.terminate() == 0, reader.tail()
        records = [record for record in await world.line.raw_records("fobd") if symbol_of(record) == "BTCUSDT"]
        assert runs(records) == [world.ip(A), world.ip(B)]
        verdict = await world.verdict()
        assert {hole.name for hole in verdict.holes if hole.lost} == {("future", "BTCUSDT")}
