"""The control API under /_sim: faults, time, truth and counters. For tests and people; the venue has nothing like it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, TypeVar

import msgspec
from aiohttp import web

from simulator.capture import CaptureMarket
from simulator.faults import Rule
from simulator.markets import MarketName, Refusal, WeightGroup

if TYPE_CHECKING:
    from simulator.server import Server
    from simulator.stream_server import StreamServer

PREFIX = "/_sim"
WHOLE_BOOK = 10**9  # levels a side

Wanted = TypeVar("Wanted")
NotNegative = Annotated[float, msgspec.Meta(ge=0)]
Count = Annotated[int, msgspec.Meta(ge=0)]


class Step(msgspec.Struct, forbid_unknown_fields=True):
    """How far to move the clocks."""

    ms: NotNegative = 1000


class Speed(msgspec.Struct, forbid_unknown_fields=True):
    """How fast they run."""

    speed: NotNegative


class WeightChange(msgspec.Struct, forbid_unknown_fields=True):
    """What to change in the accounting."""

    limits: dict[WeightGroup, Count] = {}
    ban_after: Count | None = None
    ban_scale: NotNegative | None = None
    pardon: bool = False


class Listing(msgspec.Struct, forbid_unknown_fields=True):
    """A symbol's status from now on; without one it leaves the list."""

    market: MarketName
    symbol: str
    status: str | None = "TRADING"


class Control:
    """Handlers over a running server. Every answer is JSON; what is wrong with a request is said with status 400."""

    def __init__(self, server: Server, streams: StreamServer) -> None:
        self._server = server
        self._streams = streams

    def routes(self) -> list[web.RouteDef]:
        """All of them."""
        return [
            web.get(PREFIX + "/faults", self.faults),
            web.post(PREFIX + "/faults", self.add_faults),
            web.delete(PREFIX + "/faults", self.remove_faults),
            web.get(PREFIX + "/truth", self.truth),
            web.get(PREFIX + "/counters", self.counters),
            web.get(PREFIX + "/symbols", self.symbols),
            web.post(PREFIX + "/listings", self.listings),
            web.get(PREFIX + "/book", self.book),
            web.get(PREFIX + "/clock", self.clock),
            web.post(PREFIX + "/step", self.step),
            web.post(PREFIX + "/speed", self.speed),
            web.post(PREFIX + "/weights", self.weights),
            web.post(PREFIX + "/flush", self.flush),
            web.get(PREFIX + "/health", self.health),
        ]

    async def health(self, _: web.Request) -> web.Response:
        """It answers, so it is up."""
        return _json({"ok": True})

    async def faults(self, _: web.Request) -> web.Response:
        """The kinds there are (``stream_kinds``: for rules with the path ``stream``) and the rules in force."""
        faults = self._server.faults
        kinds = [{"kind": kind.name, "effect": kind.effect, "what": kind.what} for kind in faults.kinds.values()]
        stream_kinds = [
            {"kind": kind.name, "effect": kind.effect, "what": kind.what, "when": kind.when}
            for kind in faults.stream_kinds.values()
        ]
        return _json({"kinds": kinds, "stream_kinds": stream_kinds, "rules": faults.rules})

    async def add_faults(self, request: web.Request) -> web.Response:
        """One rule, or a list of them."""
        rules: Rule | list[Rule] = await _body(request, Rule | list[Rule])  # type: ignore[arg-type]  # a union is a type
        try:
            added = [self._server.faults.add(rule) for rule in (rules if isinstance(rules, list) else [rules])]
        except ValueError as error:
            raise _bad_request(str(error)) from error
        return _json({"rules": added})

    async def remove_faults(self, request: web.Request) -> web.Response:
        """``?id=`` lifts one rule, nothing lifts all."""
        text = request.query.get("id")
        if text is not None and not text.isdigit():
            raise _bad_request(f"id {text!r} is not a number")
        return _json({"removed": self._server.faults.remove(None if text is None else int(text))})

    async def truth(self, request: web.Request) -> web.Response:
        """``?market=&symbol=&after=<seq>``: every response served, in the order they ended."""
        after = request.query.get("after", "0")
        if not after.isdigit():
            raise _bad_request(f"after {after!r} is not a number")
        entries = self._server.truth.entries(request.query.get("market"), request.query.get("symbol"), int(after))
        return _json({"entries": entries})

    async def counters(self, _: web.Request) -> web.Response:
        """What was served and what it weighed; ``stream``: diffs and levels sent; ``captures``: how far sessions have come."""
        sources = self._server.exchange.sources
        more = {
            "weights": self._server.exchange.weights.report(),
            "stream": self._streams.counters(),
            "captures": {
                name: source.progress() for name, source in sources.items() if isinstance(source, CaptureMarket)
            },
        }
        return _json(self._server.truth.counters() | more)

    async def symbols(self, _: web.Request) -> web.Response:
        """Symbols that have a book, by market."""
        return _json({name: source.symbols() for name, source in self._server.exchange.sources.items()})

    async def listings(self, request: web.Request) -> web.Response:
        """``{"market": …, "symbol": …, "status": …}``: lists a symbol, gives it a status, or (null) takes it off."""
        listing = await _body(request, Listing)
        source = self._server.exchange.sources[listing.market]
        try:
            source.list_symbol(listing.symbol, listing.status, self._streams.truth)
        except ValueError as error:
            raise _bad_request(str(error)) from error
        self._streams.flush()
        return await self.symbols(request)

    async def book(self, request: web.Request) -> web.Response:
        """``?market=&symbol=``: the whole book of now in the venue's words, without weight, faults or a trace."""
        market, symbol = request.query.get("market"), request.query.get("symbol", "")
        for name, source in self._server.exchange.sources.items():
            if name == market:
                try:
                    return web.Response(body=source.answer(symbol, WHOLE_BOOK).body, content_type="application/json")
                except Refusal as refusal:
                    raise _bad_request(str(refusal)) from refusal
        raise _bad_request(f"market {market!r} is not one of {', '.join(self._server.exchange.sources)}")

    async def clock(self, _: web.Request) -> web.Response:
        """Event time and speed by market."""
        return _json(
            {
                name: {"now_ms": source.clock.now_ms(), "speed": source.clock.speed}
                for name, source in self._server.exchange.sources.items()
            }
        )

    async def step(self, request: web.Request) -> web.Response:
        """``{"ms": …}`` moves every event clock on at once (default 1000); when it returns, the diffs have been sent."""
        step = await _body(request, Step)
        for clock in self._server.exchange.clocks():
            clock.step(step.ms)
        self._streams.tick()
        return await self.clock(request)

    async def speed(self, request: web.Request) -> web.Response:
        """``{"speed": …}``: event time per real time from now on; 0 stops."""
        speed = await _body(request, Speed)
        for clock in self._server.exchange.clocks():
            clock.run(speed.speed)
        return await self.clock(request)

    async def weights(self, request: web.Request) -> web.Response:
        """``{"limits": {"binance-futures": …}, "ban_after": …, "ban_scale": …, "pardon": true}``, each optional."""
        change = await _body(request, WeightChange)
        weights = self._server.exchange.weights
        weights.limits.update(change.limits)
        if change.ban_after is not None:
            weights.ban_after = change.ban_after
        if change.ban_scale is not None:
            weights.ban_scale = change.ban_scale
        if change.pardon:
            weights.pardon()
        return _json({"limits": weights.limits, "ban_after": weights.ban_after, "ban_scale": weights.ban_scale})

    async def flush(self, _: web.Request) -> web.Response:
        """When it returns, everything that happened is in the file of ``--truth-frames``."""
        self._streams.flush()
        self._streams.truth.flush()
        return _json({"ok": True})


async def _body(request: web.Request, wanted: type[Wanted]) -> Wanted:
    """The request's JSON as `wanted`; an empty body is ``{}``. What does not fit is answered with status 400."""
    try:
        return msgspec.json.decode(await request.read() or b"{}", type=wanted)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise _bad_request(str(error)) from error


def _json(value: object) -> web.Response:
    return web.Response(body=msgspec.json.encode(value), content_type="application/json")


def _bad_request(text: str) -> web.HTTPBadRequest:
    return web.HTTPBadRequest(body=msgspec.json.encode({"error": text}), content_type="application/json")
