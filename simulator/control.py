"""The control API under /_sim: faults, time, truth and counters. For tests and people; the venue has nothing like it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
from aiohttp import web

from simulator.faults import Rule
from simulator.markets import WEIGHT_LIMITS, Refusal

if TYPE_CHECKING:
    from simulator.server import Server

PREFIX = "/_sim"
STEP_MS = 1000
WHOLE_BOOK = 10**9  # levels a side


class Control:
    """Handlers over a running `Server`. Every answer is JSON; what is wrong with a request is said with status 400."""

    def __init__(self, server: Server) -> None:
        self._server = server

    def routes(self) -> list[web.RouteDef]:
        """All of them."""
        return [
            web.get(PREFIX + "/faults", self.faults),
            web.post(PREFIX + "/faults", self.add_faults),
            web.delete(PREFIX + "/faults", self.remove_faults),
            web.get(PREFIX + "/truth", self.truth),
            web.get(PREFIX + "/counters", self.counters),
            web.get(PREFIX + "/symbols", self.symbols),
            web.get(PREFIX + "/book", self.book),
            web.get(PREFIX + "/clock", self.clock),
            web.post(PREFIX + "/step", self.step),
            web.post(PREFIX + "/speed", self.speed),
            web.post(PREFIX + "/weights", self.weights),
            web.get(PREFIX + "/health", self.health),
        ]

    async def health(self, _: web.Request) -> web.Response:
        """It answers, so it is up."""
        return _json({"ok": True})

    async def faults(self, _: web.Request) -> web.Response:
        """The kinds there are and the rules in force."""
        kinds = [
            {"kind": kind.name, "effect": kind.effect, "what": kind.what} for kind in self._server.faults.kinds.values()
        ]
        return _json({"kinds": kinds, "rules": self._server.faults.rules})

    async def add_faults(self, request: web.Request) -> web.Response:
        """One rule, or a list of them."""
        try:
            rules = msgspec.json.decode(await request.read(), type=Rule | list[Rule])
            added = [self._server.faults.add(rule) for rule in (rules if isinstance(rules, list) else [rules])]
        except (msgspec.MsgspecError, ValueError) as error:
            return _wrong(error)
        return _json({"rules": added})

    async def remove_faults(self, request: web.Request) -> web.Response:
        """``?id=`` lifts one rule, nothing lifts all."""
        text = request.query.get("id")
        if text is not None and not text.isdigit():
            return _wrong(ValueError(f"id {text!r} is not a number"))
        return _json({"removed": self._server.faults.remove(None if text is None else int(text))})

    async def truth(self, request: web.Request) -> web.Response:
        """``?market=&symbol=&after=<seq>``: every response served, in the order they ended."""
        after = request.query.get("after", "0")
        if not after.isdigit():
            return _wrong(ValueError(f"after {after!r} is not a number"))
        entries = self._server.truth.entries(request.query.get("market"), request.query.get("symbol"), int(after))
        return _json({"entries": entries})

    async def counters(self, _: web.Request) -> web.Response:
        """What was served and what it weighed."""
        return _json(self._server.truth.counters() | {"weights": self._server.exchange.weights.report()})

    async def symbols(self, _: web.Request) -> web.Response:
        """Symbols that have a book, by market."""
        return _json({name: source.symbols() for name, source in self._server.exchange.sources.items()})

    async def book(self, request: web.Request) -> web.Response:
        """``?market=&symbol=``: the whole book of now in the venue's words, without weight, faults or a trace."""
        market, symbol = request.query.get("market"), request.query.get("symbol", "")
        for name, source in self._server.exchange.sources.items():
            if name == market:
                try:
                    return web.Response(body=source.answer(symbol, WHOLE_BOOK).body, content_type="application/json")
                except Refusal as refusal:
                    return _wrong(refusal)
        return _wrong(ValueError(f"market {market!r} is not one of {', '.join(self._server.exchange.sources)}"))

    async def clock(self, _: web.Request) -> web.Response:
        """Event time and speed by market."""
        return _json(
            {
                name: {"now_ms": source.clock.now_ms(), "speed": source.clock.speed}
                for name, source in self._server.exchange.sources.items()
            }
        )

    async def step(self, request: web.Request) -> web.Response:
        """``{"ms": …}`` moves every event clock on at once (default 1000)."""
        body, wrong = await _object(request)
        if wrong is not None:
            return wrong
        milliseconds = body.get("ms", STEP_MS)
        if not isinstance(milliseconds, int | float) or milliseconds < 0:
            return _wrong(ValueError(f"ms {milliseconds!r} is not a number of milliseconds"))
        for clock in self._server.exchange.clocks():
            clock.step(milliseconds)
        self._server.exchange.advance()
        return await self.clock(request)

    async def speed(self, request: web.Request) -> web.Response:
        """``{"speed": …}``: event time per real time from now on; 0 stops."""
        body, wrong = await _object(request)
        if wrong is not None:
            return wrong
        speed = body.get("speed")
        if not isinstance(speed, int | float) or speed < 0:
            return _wrong(ValueError(f"speed {speed!r} is not a number from 0 up"))
        for clock in self._server.exchange.clocks():
            clock.run(speed)
        return await self.clock(request)

    async def weights(self, request: web.Request) -> web.Response:
        """``{"limits": {"binance-futures": …}, "ban_after": …, "ban_scale": …, "pardon": true}``, each optional."""
        body, wrong = await _object(request)
        if wrong is not None:
            return wrong
        weights = self._server.exchange.weights
        limits = body.get("limits", {})
        for group in WEIGHT_LIMITS:
            if group in limits:
                weights.limits[group] = int(limits[group])
        weights.ban_after = int(body.get("ban_after", weights.ban_after))
        weights.ban_scale = float(body.get("ban_scale", weights.ban_scale))
        if body.get("pardon"):
            weights.pardon()
        return _json({"limits": weights.limits, "ban_after": weights.ban_after, "ban_scale": weights.ban_scale})


async def _object(request: web.Request) -> tuple[dict[str, Any], web.Response | None]:
    """The body as a JSON object (empty = {}), or the answer that says it is none."""
    raw = await request.read()
    try:
        return (msgspec.json.decode(raw, type=dict[str, Any]) if raw else {}), None
    except msgspec.MsgspecError as error:
        return {}, _wrong(error)


def _json(value: object) -> web.Response:
    return web.Response(body=msgspec.json.encode(value), content_type="application/json")


def _wrong(error: Exception) -> web.Response:
    return web.Response(status=400, body=msgspec.json.encode({"error": str(error)}), content_type="application/json")
