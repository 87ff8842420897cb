"""One symbol's `BookSync` with a clock of its own, and what it publishes in short words.

``update 105``: an update by its final id; ``anchor 105``; ``gap sequence 100..104``: cause, last id, next id, ``?`` = null.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from services.reader.book_sync import Anchor, BookSync
from shared.messages import Book, Gap
from shared.venues.base import SECOND_NS
from shared.venues.sequence import ChainedByPrevious, UpdateIds

if TYPE_CHECKING:
    from services.reader.channel import RawRecord
    from shared.venues.sequence import SequenceRule

T0 = 1_700_000_000 * SECOND_NS
BOOK = Book("binance", "future", "BTCUSDT")
LIMIT = 1000
TICK_NS = SECOND_NS // 10
LONG_SECONDS = 1000
HOUR = 3600


def in_words(record: RawRecord) -> str:
    if record.type != "gap":
        return f"{'anchor' if record.type == 'snapshot' else record.type} {record.last_id}"
    gap = Gap.decode(record.value)
    ids = ("?" if one is None else str(one) for one in (gap.last_id, gap.next_id))
    return f"gap {gap.cause} {'..'.join(ids)}"


@dataclass
class Settings:
    anchor_interval: float = HOUR
    check_after: float = 600
    random: float = 1.0


class Symbol:
    """Subscribed on link 1 at second 0, unless told otherwise; `wait` passes time in steps, as the reader's loop does."""

    def __init__(
        self, rule: SequenceRule | None = None, settings: Settings | None = None, *, subscribed: bool = True
    ) -> None:
        chosen = settings or Settings()
        self.records: list[RawRecord] = []
        self.now = T0
        self.link = 1
        self.live = subscribed
        self.resubscribed = 0
        self._seen = 0
        self.sync = BookSync(
            BOOK,
            rule or ChainedByPrevious(),
            self.records.append,
            ip="10.0.0.1",
            anchor_interval_ns=int(chosen.anchor_interval * SECOND_NS),
            check_after_ns=int(chosen.check_after * SECOND_NS),
            random=lambda: chosen.random,
        )
        self.sync.start(self.now)
        if subscribed:
            self.sync.subscribed(1, self.now)

    @property
    def told(self) -> list[str]:
        """What was published since the last look."""
        new, self._seen = self.records[self._seen :], len(self.records)
        return [in_words(record) for record in new]

    @property
    def seconds(self) -> float:
        return (self.now - T0) / SECOND_NS

    def gap(self, place: int = -1) -> Gap:
        return Gap.decode(self.records[place].value)

    def wait(self, seconds: float) -> Symbol:
        end = self.now + int(seconds * SECOND_NS)
        step_ns = TICK_NS if seconds < LONG_SECONDS else SECOND_NS
        while self.now < end:
            self.now = min(self.now + step_ns, end)
            self.sync.tick(self.now, live=self.live)
            if self.sync.resubscribe:
                self.resubscribed += 1
                self.sync.resubscribe = False
                self.sync.subscribed(self.link, self.now)
        return self

    def update(self, prev: int | None, last: int, first: int | None = None, *, size: int = 2) -> Symbol:
        """By pu and u; U is the id behind pu unless it is given."""
        ids = UpdateIds((prev or 0) + 1 if first is None else first, last, prev)
        self.sync.update(ids, f"{last}".encode().ljust(size), self.now, self.link, f"10.0.1.{self.link}")
        return self

    def chain(self, *ids: int) -> Symbol:
        """Updates, each from one of these ids to the next."""
        for prev, last in pairwise(ids):
            self.update(prev, last)
        return self

    def lost(self, cause: str = "disconnect") -> Symbol:
        self.live = False
        self.sync.lost(cause, self.now)  # type: ignore[arg-type]
        return self

    def back(self) -> Symbol:
        self.link += 1
        self.live = True
        self.sync.subscribed(self.link, self.now)
        return self

    def ask(self) -> Symbol:
        """An anchor's request leaves."""
        assert self.sync.wanted(self.now), "nobody wants an anchor"
        self.sync.request_open = True
        self.sync.anchor_sent(self.now)
        self._sent = self.now
        return self

    def answer(self, last_update_id: int, *, sent: int | None = None) -> str:
        sent_ns = self._sent if sent is None else sent
        body = b'{"lastUpdateId":%d}' % last_update_id
        return self.sync.anchor_arrived(Anchor(last_update_id, body, sent_ns, self.now, LIMIT, "10.0.0.9"), self.now)

    def fail(self) -> Symbol:
        self.sync.anchor_failed(self.now)
        return self

    def anchored(self, last_update_id: int) -> Symbol:
        """With an anchor at this id, which the stream has reached."""
        self.ask()
        assert self.answer(last_update_id) == "placed"
        return self


def running() -> Symbol:
    """An update and an anchor at 100, published."""
    symbol = Symbol().update(90, 100).anchored(100)
    assert symbol.told == ["gap start ?..?", "update 100", "anchor 100"]
    return symbol


def asked() -> Symbol:
    """Running at 100, and the interval's next anchor asked for."""
    return running().wait(HOUR).ask()
