"""The HTTP side: answers as the venue does, charges weights, applies faults and logs the truth of every response."""

from __future__ import annotations

import hashlib
import time
from typing import TYPE_CHECKING

import msgspec
from aiohttp import web

from simulator.faults import FaultContext
from simulator.markets import MARKETS, Market, Refusal, no_symbol, unknown_path
from simulator.reply import Reply, send
from simulator.truth import Served

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Awaitable, Callable

    from simulator.book import Answer
    from simulator.exchange import Exchange
    from simulator.faults import Faults
    from simulator.reply import Delivery
    from simulator.truth import Truth


class Server:
    """Everything that a request to the venue touches. `now_ms` is the clock of the accounting (real time)."""

    def __init__(
        self,
        exchange: Exchange,
        faults: Faults,
        truth: Truth,
        stopping: asyncio.Event,
        now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        self.exchange = exchange
        self.faults = faults
        self.truth = truth
        self.stopping = stopping
        self.now_ms = now_ms

    def routes(self) -> list[web.RouteDef]:
        """Every path below a market's prefix."""
        return [web.route("*", market.prefix + "/{tail:.*}", self._handler(market)) for market in MARKETS.values()]

    def _handler(self, market: Market) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        async def handle(request: web.Request) -> web.StreamResponse:
            return await self._handle(Call(market, request, self.truth.next_seq(), time.time_ns()))

        return handle

    async def _handle(self, call: Call) -> web.StreamResponse:
        used, refusal = self.exchange.weights.charge(call.market.group, call.address, call.weight, self.now_ms())
        fault = None
        if refusal is not None:
            reply = _refused(call.market, refusal)
        else:
            reply = self._reply(call)
            fault = self.faults.pick(
                market=call.market.name, symbol=call.symbol, path=call.request.path, address=call.address
            )
            if fault is not None:
                context = FaultContext(self.exchange, call.market, call.symbol, call.limit, call.address, self.now_ms())
                reply = fault.apply(context, reply)
        reply.headers["X-MBX-USED-WEIGHT-1M"] = str(used)
        response, delivery = await send(call.request, reply, self.stopping)
        if delivery.complete and call.symbol and _untouched(reply):
            self.exchange.sources[call.market.name].served(call.symbol)
        self.truth.add(_served(call, reply, delivery, used, fault.kind if fault is not None else None), reply.body)
        return response

    def _reply(self, call: Call) -> Reply:
        """The answer to a request that may be served."""
        headers = {"Content-Type": call.market.content_type}
        try:
            if call.request.method != "GET":
                raise unknown_path(call.market.name, call.request.path, call.request.method)
            if call.tail == "depth":
                answer = self._depth(call)
                return Reply(status=200, body=answer.body, headers=headers, answer=answer, book=True)
            if call.tail == "exchangeInfo":
                return Reply(status=200, body=self.exchange.info(call.market.name), headers=headers)
            if call.tail == "ping":
                return Reply(status=200, body=b"{}", headers=headers)
            if call.tail == "time":
                return Reply(status=200, body=msgspec.json.encode({"serverTime": self.now_ms()}), headers=headers)
            raise unknown_path(call.market.name, call.request.path, call.request.method)
        except Refusal as refusal:
            return _refused(call.market, refusal)

    def _depth(self, call: Call) -> Answer:
        if not call.symbol:
            raise no_symbol()
        if call.limit is None:
            raise call.bad_limit or AssertionError("a limit is missing only when it was refused")
        return self.exchange.sources[call.market.name].answer(call.symbol, call.limit)


class Call:
    """One request, read: who asks for what, and what it weighs whether it is answered or refused."""

    def __init__(self, market: Market, request: web.Request, seq: int, recv_ns: int) -> None:
        self.market = market
        self.request = request
        self.seq = seq
        self.recv_ns = recv_ns
        self.address = request.remote or ""
        self.tail: str = request.match_info["tail"]
        self.symbol = request.query.get("symbol")
        self.limit: int | None = None
        self.bad_limit: Refusal | None = None
        self.weight = market.info_weight if self.tail == "exchangeInfo" else 1
        if self.tail == "depth":
            try:
                self.limit = market.check_limit(request.query.get("limit"))
                self.weight = market.depth_weight(self.limit)
            except Refusal as refusal:
                self.bad_limit = refusal


def _refused(market: Market, refusal: Refusal) -> Reply:
    headers = {"Content-Type": market.content_type}
    if refusal.retry_after_seconds is not None:
        headers["Retry-After"] = str(refusal.retry_after_seconds)
    return Reply(status=refusal.status, body=refusal.body(), headers=headers)


def _untouched(reply: Reply) -> bool:
    return reply.answer is not None and reply.body is reply.answer.body


def _served(call: Call, reply: Reply, delivery: Delivery, used: int, fault: str | None) -> Served:
    answer = reply.answer
    return Served(
        seq=call.seq,
        recv_ns=call.recv_ns,
        served_ns=time.time_ns(),
        market=call.market.name,
        symbol=call.symbol,
        path=call.request.path_qs,
        ip=call.address,
        limit=call.limit,
        weight=call.weight,
        used_weight=used,
        status=delivery.status,
        fault=fault,
        sha256=answer.sha256 if answer is not None and _untouched(reply) else hashlib.sha256(reply.body).hexdigest(),
        bytes=len(reply.body),
        sent_bytes=delivery.sent_bytes,
        last_update_id=None if answer is None else answer.last_update_id,
        bids=None if answer is None else answer.bids,
        asks=None if answer is None else answer.asks,
        book=reply.book,
        complete=delivery.complete,
        recorded=answer is not None and answer.recorded,
    )
