"""A market's instruments over time: one small Parquet object for each listing that differs from the one before.

    instruments/exchange=E/market=M/<recv_ms>-<digest>.parquet

Each holds the whole listing, a row per symbol, sorted by symbol. A row is valid from `valid_from`, when the listing was
received, until the `valid_from` of the market's next object. Objects are never overwritten; that two readers store
the same listing twice changes nothing. No claim promises them: they come from the exchange's list, not from a topic.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from shared.errors import FatalError
from shared.lake import layout, parquet
from shared.lake.instant import instant_text
from shared.lake.patient import Patient, tried

if TYPE_CHECKING:
    from collections.abc import Sequence

    from shared.lake.layout import ListingPath
    from shared.lake.store import Store

_TIME = pa.timestamp("us", tz="UTC")
SCHEMA = pa.schema(
    [
        pa.field("symbol", pa.string(), nullable=False),
        pa.field("status", pa.string(), nullable=False),
        pa.field("base", pa.string()),
        pa.field("quote", pa.string()),
        pa.field("contract_type", pa.string()),
        pa.field("tick_size", pa.string()),
        pa.field("tick_size_f64", pa.float64()),
        pa.field("lot_size", pa.string()),
        pa.field("multiplier", pa.string()),
        pa.field("onboard_time", _TIME),
        pa.field("delivery_time", _TIME),
        pa.field("valid_from", _TIME, nullable=False),
    ]
)
"""Decimals as the venue words them; `tick_size_f64` is the double nearest to `tick_size`. Null where it says nothing."""

_TEXTS = ("symbol", "status", "base", "quote", "contract_type", "tick_size", "lot_size", "multiplier")
_MS = 1_000_000
_LAST_MS = 253_402_300_799_999  # the year 9999: what every reader can show


class Instrument(Protocol):
    """What is stored of a symbol: `shared.venues.instruments.Instrument`, which the lake does not know."""

    @property
    def symbol(self) -> str: ...  # noqa: D102
    @property
    def status(self) -> str: ...  # noqa: D102
    @property
    def base(self) -> str | None: ...  # noqa: D102
    @property
    def quote(self) -> str | None: ...  # noqa: D102
    @property
    def contract_type(self) -> str | None: ...  # noqa: D102
    @property
    def tick_size(self) -> str | None: ...  # noqa: D102
    @property
    def lot_size(self) -> str | None: ...  # noqa: D102
    @property
    def multiplier(self) -> str | None: ...  # noqa: D102
    @property
    def onboard_ms(self) -> int | None: ...  # noqa: D102
    @property
    def delivery_ms(self) -> int | None: ...  # noqa: D102


class NoListing(FatalError):
    """The lake holds no listing of a market received by an instant."""


def store_if_changed(
    store: Store, exchange: str, market: str, instruments: Sequence[Instrument], recv_ns: int
) -> str | None:
    """Store a market's listing if it differs from the newest one received before it. The path, or None if nothing new.

    An empty listing is not believed, and not stored. Synchronous, and tried once: raises what the store raises.
    """
    if not instruments:
        return None
    recv_ms = recv_ns // _MS
    table = _table(instruments, recv_ns)
    digest = parquet.digest(table.drop_columns(["valid_from"]))
    path = layout.listing_path(exchange, market, recv_ms, digest)
    before = [found for found in _listed(store, exchange, market) if found.recv_ms <= recv_ms]
    if before and before[-1].digest == digest[: len(before[-1].digest)]:
        return None
    return path if store.create(path, _encoded(table)) else None


def listing(store: Store, exchange: str, market: str, at_ns: int | None = None) -> pa.Table:
    """A market's listing as it was valid at an instant, or the newest: a row per symbol, columns as in `SCHEMA`.

    Raises `NoListing` where there is none by then, `FatalError` for an object that cannot be read.
    """
    listed = tried(lambda: _listed(store, exchange, market))
    valid = [found for found in listed if at_ns is None or found.recv_ms <= at_ns // _MS]
    if not valid:
        when = "" if at_ns is None else f" received at or before {instant_text(at_ns)}"
        first = f": the first is of {instant_text(listed[0].recv_ms * _MS)}" if listed else ""
        raise NoListing(f"no listing of {exchange}:{market}{when} in {store.url}{first}")
    table = _read(store, str(valid[-1]))
    if at_ns is not None and len(valid) > 1 and table["valid_from"][0].value * 1000 > at_ns:  # later in the same ms
        table = _read(store, str(valid[-2]))
    return table


def _read(store: Store, path: str) -> pa.Table:
    body = Patient(store).get(path)
    if body is None:
        raise FatalError(f"{path} was listed and is not there: part of the lake was deleted")
    try:
        return pq.read_table(pa.BufferReader(body)).select(SCHEMA.names).cast(SCHEMA)
    except (pa.ArrowException, KeyError, OSError) as error:
        raise FatalError(f"{path} is not readable as a listing: {error}") from error


def _listed(store: Store, exchange: str, market: str) -> list[ListingPath]:
    """The listings of a market, the oldest first."""
    entries = store.list(layout.listing_prefix(exchange, market))
    parsed = (layout.parse_listing_path(entry.path) for entry in entries)
    return sorted((path for path in parsed if path is not None), key=lambda path: (path.recv_ms, path.digest))


def _table(instruments: Sequence[Instrument], recv_ns: int) -> pa.Table:
    rows = sorted(instruments, key=lambda item: item.symbol)
    columns: dict[str, list[Any]] = {name: [getattr(row, name) for row in rows] for name in _TEXTS}
    columns["tick_size_f64"] = [_float(row.tick_size) for row in rows]
    columns["onboard_time"] = [_us(row.onboard_ms) for row in rows]
    columns["delivery_time"] = [_us(row.delivery_ms) for row in rows]
    columns["valid_from"] = [recv_ns // 1000] * len(rows)
    return pa.Table.from_arrays([pa.array(columns[field.name], field.type) for field in SCHEMA], schema=SCHEMA)


def _encoded(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd", store_schema=False)
    return bytes(sink.getvalue())


def _float(text: str | None) -> float | None:
    try:
        return None if text is None else float(text)
    except ValueError:  # the text itself is stored
        return None


def _us(milliseconds: int | None) -> int | None:
    return milliseconds * 1000 if milliseconds is not None and 0 <= milliseconds <= _LAST_MS else None
