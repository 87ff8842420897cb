"""Small real lakes for tests: rows of the file schemas, and claims and objects as the s3writer lays them down."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import pyarrow as pa

from shared.lake import claims, layout, parquet
from shared.lake.schema import FILE_SCHEMAS, SCHEMA_VERSION
from shared.messages import Book, Kind

if TYPE_CHECKING:
    from collections.abc import Iterable

    from shared.lake.store import Store

BTC = Book("binance", "future", "BTCUSDT")
ETH = Book("binance", "future", "ETHUSDT")
CHINESE = Book("binance", "future", "币安人生USDT")
ODD = Book("binance", "spot", "A/B=C%2F D")
HOUR_0 = layout.hour_of(1_790_000_000_000_000)
HOUR_1 = HOUR_0 + layout.HOUR_US


def fobs_rows(count: int, *, hour: int = HOUR_0, raw_offset: int = 0, partition: int = 0, levels: int = 4) -> pa.Table:
    """`count` snapshots of `levels` rows each, one raw offset per snapshot, and all of it inside one hour."""
    rows = count * levels
    message = np.repeat(np.arange(count), levels)
    level = np.tile(np.arange(levels), count)
    time_us = hour + message * 1_000_000
    return table(
        "fobs",
        timestamp=time_us,
        recv_ns=time_us * 1000 + 7,
        event_time=time_us - 5000,
        transaction_time=[None] * rows,
        last_update_id=5_000_000_000 + message,
        depth_limit=np.full(rows, 1000),
        side=np.where(level % 2, "ask", "bid"),
        price=100.1 + level,
        quantity=0.001 * (1 + level),
        level=1 + level // 2,
        gap_cause=[None] * rows,
        gap_since=[None] * rows,
        raw_partition=np.full(rows, partition),
        raw_offset=raw_offset + message,
    )


def gap_row(*, hour: int = HOUR_0, raw_offset: int = 0, partition: int = 0, cause: str = "poll") -> pa.Table:
    """One gap row of `fobs`."""
    empty = {name: [None] for name in FILE_SCHEMAS["fobs"].names}
    return table(
        "fobs",
        **{
            **empty,
            "timestamp": [hour],
            "recv_ns": [hour * 1000],
            "gap_cause": [cause],
            "gap_since": [hour],
            "raw_partition": [partition],
            "raw_offset": [raw_offset],
        },
    )


Pairs: TypeAlias = "Iterable[tuple[float, float]]"


class FobdRows:
    """Rows of `fobd`, message by message: each has the next raw offset, and a receive time of its own or a second more."""

    def __init__(self, *, recv_ns: int = HOUR_0 * 1000, raw_offset: int = 0, partition: int = 0) -> None:
        self.recv_ns, self.raw_offset, self.partition = recv_ns, raw_offset, partition
        self._columns: dict[str, list[Any]] = {name: [] for name in FILE_SCHEMAS["fobd"].names}

    def anchor(
        self,
        update_id: int | None,
        bids: Pairs = (),
        asks: Pairs = (),
        *,
        limit: int | None = 1000,
        at: int | None = None,
    ) -> int:
        """A snapshot. Returns the message's raw offset, as the other two do."""
        return self._add("snapshot", at, bids, asks, update_id=update_id, depth_limit=limit)

    def update(
        self,
        first: int | None,
        last: int | None,
        prev: int | None,
        bids: Pairs = (),
        asks: Pairs = (),
        *,
        at: int | None = None,
    ) -> int:
        return self._add("update", at, bids, asks, first_update_id=first, update_id=last, prev_update_id=prev)

    def gap(
        self,
        cause: str,
        *,
        last: int | None = None,
        following: int | None = None,
        since: int | None = None,
        at: int | None = None,
    ) -> int:
        """`since` and `at` are in ns since the epoch."""
        since_us = None if since is None else since // 1000
        ids = {"prev_update_id": last, "first_update_id": following}
        return self._add("gap", at, (), (), gap_cause=cause, gap_since=since_us, **ids)

    def table(self) -> pa.Table:
        """All rows so far."""
        return table("fobd", **self._columns)

    def take(self) -> pa.Table:
        """All rows since the last `take`: those of one flush."""
        rows = self.table()
        for column in self._columns.values():
            column.clear()
        return rows

    def _add(self, kind: str, at: int | None, bids: Pairs, asks: Pairs, **fields: Any) -> int:
        if at is None:
            self.recv_ns += 1_000_000_000
        else:
            self.recv_ns = at
        levels = [("bid", *level) for level in bids] + [("ask", *level) for level in asks] or [(None, None, None)]
        fields |= {
            "timestamp": self.recv_ns // 1000,
            "recv_ns": self.recv_ns,
            "type": kind,
            "raw_partition": self.partition,
            "raw_offset": self.raw_offset,
        }
        for name, column in self._columns.items():
            if name not in ("side", "price", "quantity"):
                column.extend([fields.get(name)] * len(levels))
        for name, values in zip(("side", "price", "quantity"), zip(*levels, strict=True), strict=True):
            self._columns[name].extend(values)
        self.raw_offset += 1
        return self.raw_offset - 1


def table(kind: Kind, **columns: Any) -> pa.Table:
    """A table in the file schema from columns of plain values."""
    schema = FILE_SCHEMAS[kind]
    return pa.Table.from_arrays([pa.array(columns[f.name], f.type, from_pandas=False) for f in schema], schema=schema)


@dataclass
class Line:
    """The claim log of one partition and its files, written flush by flush."""

    store: Store
    kind: Kind = "fobs"
    stream: str = "main"
    partition: int = 0
    topic: str = "norm-fobs"
    cluster_id: str = "cluster-a"
    first: int = 0  # of the next claim
    done: int = -1
    newest: int | None = None  # receive time of any row so far, ns
    claims: list[claims.Claim] = field(default_factory=list)

    def origin(self) -> None:
        """Create the origin at `first`."""
        origin = claims.Origin(first=self.first, cluster_id=self.cluster_id, topic=self.topic)
        assert self.store.create(layout.origin_path(self.kind, self.stream, self.partition), claims.encode(origin))

    def flush(self, *files: tuple[Book, int], records: int = 10, complete: bool = True, **changes: Any) -> claims.Claim:
        """Write one claim over the next `records` offsets, with a file of some snapshots for each (book, hour).

        `changes` go into the claim as it is stored; the files and the line go on as if they had not been made.
        """
        if not self.claims:
            self.origin()
        first, last, raw = self.first, self.first + records - 1, self.done + 1
        entries, bodies = [], []
        for number, (book, hour) in enumerate(files):
            rows = fobs_rows(5, hour=hour, raw_offset=raw + 5 * number, partition=self.partition)
            entry, body = self.file(rows, book, hour, first, last)
            entries.append(entry)
            bodies.append(body)
        end = self.done + 5 * len(files)
        received = [ns for _, hour in files for ns in (hour * 1000 + 7, hour * 1000 + 4_000_000_007)]
        self.newest = max([ns for ns in (self.newest, *received) if ns is not None], default=None)
        claim = claims.Claim(
            kind=self.kind,
            stream=self.stream,
            partition=self.partition,
            first=first,
            last=last,
            schema_version=SCHEMA_VERSION,
            topic=self.topic,
            files=tuple(entries),
            done_before=self.done,
            done_after=end,
            min_recv_ns=min(received, default=None),
            max_recv_ns=max(received, default=None),
            newest_recv_ns=self.newest,
            writer=f"writer-{first}",
            last_timestamp_ms=max((hour for _, hour in files), default=HOUR_0) // 1000 + 5000,
            last_src=f"raw-fobs/{self.partition}/{raw}-{end}",
        )
        claim = changed(claim, **changes)
        path = layout.claim_path(self.kind, self.stream, self.partition, first)
        assert self.store.create(path, claims.encode(claim))
        for entry, body in zip(entries, bodies, strict=True):
            if complete:
                assert self.store.create(entry.path, body)
        self.first, self.done = last + 1, end
        self.claims.append(claim)
        return claim

    def write(
        self, *files: tuple[Book, pa.Table], records: int = 10, complete: bool = True, **changes: Any
    ) -> claims.Claim:
        """Write one claim over the next `records` offsets with these rows, a file for each book and hour of receipt."""
        if not self.claims:
            self.origin()
        first, last = self.first, self.first + records - 1
        entries, bodies = [], []
        received: list[int] = []
        done = self.done
        for book, rows in files:
            times = rows["recv_ns"].to_numpy()
            received += [int(times.min()), int(times.max())]
            done = max(done, int(rows["raw_offset"].to_numpy().max()))
            hours = times // 1000 // layout.HOUR_US * layout.HOUR_US
            for hour in np.unique(hours):
                entry, body = self.file(rows.filter(pa.array(hours == hour)), book, int(hour), first, last)
                entries.append(entry)
                bodies.append(body)
        self.newest = max([ns for ns in (self.newest, *received) if ns is not None], default=None)
        claim = claims.Claim(
            kind=self.kind,
            stream=self.stream,
            partition=self.partition,
            first=first,
            last=last,
            schema_version=SCHEMA_VERSION,
            topic=self.topic,
            files=tuple(entries),
            done_before=self.done,
            done_after=done,
            min_recv_ns=min(received, default=None),
            max_recv_ns=max(received, default=None),
            newest_recv_ns=self.newest,
            writer=f"writer-{first}",
            last_timestamp_ms=max(received, default=HOUR_0 * 1000) // 1_000_000 + 200,
            last_src=f"raw-{self.kind}/{self.partition}/{self.done + 1}-{done}",
        )
        claim = changed(claim, **changes)
        path = layout.claim_path(self.kind, self.stream, self.partition, first)
        assert self.store.create(path, claims.encode(claim))
        for entry, body in zip(entries, bodies, strict=True):
            if complete:
                assert self.store.create(entry.path, body)
        self.first, self.done = last + 1, claim.done_after
        self.claims.append(claim)
        return claim

    def file(self, rows: pa.Table, book: Book, hour: int, first: int, last: int) -> tuple[claims.FileEntry, bytes]:
        """The claim's entry and the bytes of one file."""
        path = layout.data_path(self.kind, book, hour, self.stream, self.partition, first, last)
        digest = parquet.digest(rows)
        footer = parquet.Footer(
            kind=self.kind,
            exchange=book.exchange,
            market=book.market,
            symbol=book.symbol,
            stream=self.stream,
            topic=self.topic,
            partition=self.partition,
            first=first,
            last=last,
            rows=rows.num_rows,
            schema_version=SCHEMA_VERSION,
            digest=digest,
        )
        return claims.FileEntry(path=path, rows=rows.num_rows, digest=digest), parquet.encode(rows, footer)


def fobd_line(store: Store, **fields: Any) -> Line:
    """A line of `fobd`."""
    return Line(store, kind="fobd", topic="norm-fobd", **fields)


def changed(claim: claims.Claim, **changes: Any) -> claims.Claim:
    """A claim with other values in some fields."""
    fields = {name: getattr(claim, name) for name in claim.__struct_fields__}
    return claims.Claim(**{**fields, **changes})
