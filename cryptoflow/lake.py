"""The lake from Python: `book`, `history`, `gaps`, `instruments`, `verify`, `watermark`, `open_url`.

    from cryptoflow import lake

    report = lake.verify("s3://bucket/lake")
    assert report.ok, report.problems

    book = lake.book("s3://bucket/lake", exchange="binance", market="future", symbol="BTCUSDT", at="2026-11-25T10:00:00Z")
    assert not book.gaps
    print(book.bids.price[0], book.asks.price[0])

`url` is ``s3://bucket/prefix`` or a folder. An instant is ISO 8601 text with a zone, digits in a text (ms, us or ns since
the epoch, told by how many they are), an `int` (ns since the epoch), or a `datetime` with a zone; always time of receipt.
Functions raise `RetryableError` where the store does not answer for a minute, `FatalError` where it refuses or holds
what cannot be read, `ValueError` for an argument that means nothing.

The rows themselves need nothing of ours: they are a hive tree of Parquet (docs/reading-the-lake.md). Reads only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from shared.errors import FatalError
from shared.lake import gaps as _gaps
from shared.lake import instruments as _instruments
from shared.lake import verify as _verify
from shared.lake import watermark as _watermark
from shared.lake.against import Against
from shared.lake.book import Anchor, Book, Levels
from shared.lake.gap import Gap
from shared.lake.history import BookHistory, NoAnchor
from shared.lake.instant import Instant, instant_ns
from shared.lake.instruments import NoListing
from shared.lake.report import LineKey, LineReport, Loss, Problem, Report, Verdict
from shared.lake.store import open_url
from shared.lake.verify_against import verify_against
from shared.lake.watermark import LATENESS_SECONDS, LineMark, Watermark
from shared.messages import Book as _BookKey
from shared.venues import VENUES

if TYPE_CHECKING:
    from collections.abc import Callable

    import pyarrow as pa

    from shared.lake.raw_source import RawSource

__all__ = [
    "Against",
    "Anchor",
    "Book",
    "BookHistory",
    "Gap",
    "Instant",
    "Levels",
    "LineKey",
    "LineMark",
    "LineReport",
    "Loss",
    "NoAnchor",
    "NoListing",
    "Problem",
    "Report",
    "Verdict",
    "Watermark",
    "book",
    "gaps",
    "history",
    "instruments",
    "open_url",
    "verify",
    "watermark",
]


def book(
    url: str,
    *,
    exchange: str,
    market: str,
    symbol: str,
    at: Instant,
    depth: int | None = None,
    stream: str | None = None,
) -> Book:
    """The order book as it was known `at` an instant, rebuilt from the nearest anchor in `fobd` at or before it.

    Sides are numpy arrays, best first: ``book.bids.price``, ``.quantity`` (float64) and ``.beyond_anchor`` (bool), cut to
    `depth` levels if it is given; ``book.to_arrow()`` is one table. `symbol` is the venue's own, verbatim. `stream` chooses
    among several; by default it is the one with the newest anchor.

    Look at ``book.gaps``: where it is not empty, the book is the one before the first of these gaps, and what became of
    it until `at` is not known. Raises `NoAnchor` (a `FatalError`) where the lake has no anchor from before `at`.
    """
    at_ns = instant_ns(at)
    return _history(url, _BookKey(exchange, market, symbol), (at_ns, at_ns), stream).at(at_ns, depth)


def history(
    url: str, *, exchange: str, market: str, symbol: str, start: Instant, end: Instant, stream: str | None = None
) -> BookHistory:
    """The books of a symbol at any instants of ``start..end``, both included, loaded once and held in memory.

    ``history.at(at_ns, depth)`` gives what `book` gives; rising instants cost only the updates between them:

        hour = lake.history(url, …, start="2026-11-25T10:00:00Z", end="2026-11-25T11:00:00Z")
        for at_ns in range(hour.start_ns, hour.end_ns, 1_000_000_000):
            mid = (hour.at(at_ns).bids.price[0] + hour.at(at_ns).asks.price[0]) / 2

    Takes about 100 bytes of memory a row of `fobd`, from the last anchor before `start` on. Where there is none, ``at``
    raises `NoAnchor` until the first anchor in the span.
    """
    return _history(url, _BookKey(exchange, market, symbol), (instant_ns(start), instant_ns(end)), stream)


def gaps(
    url: str,
    *,
    start: Instant | None = None,
    end: Instant | None = None,
    kind: str | None = None,
    exchange: str | None = None,
    market: str | None = None,
    symbol: str | None = None,
    stream: str | None = None,
) -> list[Gap]:
    """Every known hole that lies, or may lie, in ``start <= time < end``, sorted by time: gap rows, and declared losses.

    A gap row whose begin is unknown (`start`) may reach back, one whose end is unknown (`stop`) on. Rows are looked for
    until an hour after `end`: a running reader tells a gap within a minute, a killed one when it starts again.
    A gap with `book` None is declared by a claim and concerns every symbol of its partition.
    """
    wanted = _gaps.Wanted(
        start_ns=None if start is None else instant_ns(start),
        end_ns=None if end is None else instant_ns(end),
        kind=kind,
        stream=stream,
        exchange=exchange,
        market=market,
        symbol=symbol,
    )
    return _gaps.gaps(open_url(url), wanted)


def instruments(url: str, *, exchange: str, market: str, at: Instant | None = None) -> pa.Table:
    """A market's instruments as they were listed `at` an instant, by default the newest: one row per symbol.

    Columns: symbol, status, base, quote, contract_type, tick_size, lot_size, multiplier (texts, as the venue words them),
    tick_size_f64, onboard_time, delivery_time, valid_from. Raises `NoListing` (a `FatalError`) where there is none by then.
    """
    return _instruments.listing(open_url(url), exchange, market, None if at is None else instant_ns(at))


def verify(
    url: str,
    *,
    fast: bool = False,
    strict: bool = False,
    against: RawSource | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Report:
    """Prove from claims and objects alone that the lake at `url` is whole.

    `fast` reads the files' footers instead of their rows. `strict` counts a last claim that is not finished yet as
    damage. `progress` is told how many claims are done, of how many, and then the same of the comparison.

    `against` raw records (``cryptoflow.raw_topics.RawTopics``, ``cryptoflow.raw_archive.RawArchive``): the lake is then
    compared with what they become, row by row, as far as they are still to be had; ``report.against`` says how far.
    """
    store = open_url(url)
    report = _verify.verify(store, fast=fast, strict=strict, progress=progress)
    if against is not None:
        from cryptoflow.renormalise import expected  # noqa: PLC0415  # the flattener's libraries, only where needed

        verify_against(store, report, against, expected, progress=progress)
    return report


def watermark(url: str, *, lateness_seconds: float = LATENESS_SECONDS) -> Watermark:
    """Until when each stream, line and book of the lake at `url` is closed: no row before that is expected any more."""
    return _watermark.watermark(open_url(url), lateness_seconds=lateness_seconds)


def _history(url: str, key: _BookKey, span: tuple[int, int], stream: str | None) -> BookHistory:
    adapter = VENUES.get((key.exchange, key.market))
    if adapter is None:
        known = ", ".join(":".join(names) for names in sorted(VENUES))
        raise FatalError(f"no sequence rule for {key.exchange}:{key.market}: known are {known}")
    if not key.symbol:
        raise ValueError("the symbol is empty")
    start_ns, end_ns = span
    return BookHistory(open_url(url), key, start_ns=start_ns, end_ns=end_ns, rule=adapter.sequence, stream=stream)
