"""Keeps each market's instrument list in the lake: an object whenever it changes, so that ticks can be looked up later.

The recording never waits for it: a store that is away is asked again with the next list, and said once. Calls of the
store run in a thread.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING

from shared import metrics
from shared.errors import FatalError, RetryableError
from shared.lake.instruments import store_if_changed
from shared.lake.store import open_store
from shared.log import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from shared.lake.store import Store
    from shared.settings import StorageSettings
    from shared.venues.base import Venue
    from shared.venues.instruments import Instrument

    Market = tuple[str, str]

log = get_logger(__name__)


class Listings:
    """The latest list of each market, on its way to the store."""

    def __init__(self, storage: StorageSettings) -> None:
        self._storage = storage
        self._latest: dict[Market, tuple[Sequence[Instrument], int]] = {}
        self._stored: dict[Market, Sequence[Instrument]] = {}
        self._opened: Store | None = None
        self._failing = False
        self._work = asyncio.Event()

    def of(self, venue: Venue) -> Callable[[Sequence[Instrument], int], None]:
        """What takes the lists of one market."""
        return partial(self._take, (venue.exchange, venue.market))

    async def run(self) -> None:
        """Store what comes, until cancelled."""
        while True:
            await self._work.wait()
            self._work.clear()
            while self._latest:
                market, (listed, recv_ns) = self._latest.popitem()
                try:
                    path = await asyncio.to_thread(self._store, market, listed, recv_ns)
                except (RetryableError, FatalError) as error:
                    self._failed(market, error)
                else:
                    self._failing = False
                    self._stored[market] = listed
                    if path is not None:
                        log.info("instruments stored", path=path, instruments=len(listed))

    def _store(self, market: Market, listed: Sequence[Instrument], recv_ns: int) -> str | None:
        """In a thread."""
        if self._opened is None:
            self._opened = open_store(self._storage)
        return store_if_changed(self._opened, *market, listed, recv_ns)

    def _take(self, market: Market, listed: Sequence[Instrument], recv_ns: int) -> None:
        if self._stored.get(market) != listed:
            self._latest[market] = listed, recv_ns
            self._work.set()

    def _failed(self, market: Market, error: RetryableError | FatalError) -> None:
        metrics.INSTRUMENTS_NOT_STORED.inc()
        if not self._failing:
            self._failing = True
            log.warning("instruments not stored", exchange=market[0], market=market[1], reason=str(error))
