"""The proxy's own API, on a port of its own: rules put in force and lifted, what they hit, and a new seed."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import msgspec
from aiohttp import web

from tests.store_proxy.rules import Rule

if TYPE_CHECKING:
    from tests.store_proxy.rules import Rules


class Control:
    """``POST /rules``, ``GET`` and ``DELETE /rules/<id>``, ``PUT /rules/<id>/closed``, ``DELETE /rules``,
    ``GET /counters``, ``PUT /seed/<n>``.
    """

    def __init__(self, rules: Rules) -> None:
        self._rules = rules

    def app(self) -> web.Application:
        made = web.Application()
        made.add_routes(
            [
                web.post("/rules", self.add),
                web.delete("/rules", self.lift_all),
                web.get(r"/rules/{id:\d+}", self.hits),
                web.delete(r"/rules/{id:\d+}", self.lift),
                web.put(r"/rules/{id:\d+}/closed", self.close),
                web.get("/counters", self.counters),
                web.put(r"/seed/{seed:\d+}", self.seed),
            ]
        )
        return made

    async def add(self, request: web.Request) -> web.Response:
        try:
            rule = msgspec.json.decode(await request.read(), type=Rule)
        except msgspec.MsgspecError as error:
            return web.Response(status=400, text=str(error))
        return web.json_response({"id": self._rules.add(rule)})

    async def hits(self, request: web.Request) -> web.Response:
        return web.json_response({"hits": self._rules.all[int(request.match_info["id"])].hits})

    async def lift(self, request: web.Request) -> web.Response:
        self._rules.lift(int(request.match_info["id"]))
        return web.json_response({})

    async def close(self, request: web.Request) -> web.Response:
        self._rules.all[int(request.match_info["id"])].closed = True
        return web.json_response({})

    async def lift_all(self, _: web.Request) -> web.Response:
        self._rules.lift()
        return web.json_response({})

    async def counters(self, _: web.Request) -> web.Response:
        return web.json_response(self._rules.counters)

    async def seed(self, request: web.Request) -> web.Response:
        self._rules.rng = random.Random(int(request.match_info["seed"]))
        return web.json_response({})
