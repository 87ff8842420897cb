"""One file in the making: rows in, part by part; row groups out as soon as they are full; the digest at the end.

The digest goes column by column over the whole file, so all rows are kept until then: as parts, which are small. In full
there is never more than a row group, and of a column of bytes only the lengths are kept.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa

from services.s3writer.part import joined
from shared.lake import layout, parquet
from shared.lake.arrays import bits
from shared.lake.claim_log import DataObject
from shared.lake.claims import FileEntry
from shared.lake.digest import Payload, Repeated, digest_of
from shared.lake.schema import FILE_SCHEMAS, SCHEMA_VERSION

if TYPE_CHECKING:
    from services.s3writer.part import Part
    from services.s3writer.split import Key
    from shared.lake.claim_log import ClaimLog

GROUP_BYTES = 8 * 1024 * 1024  # of raw records' values, in a row group


class File:
    """The rows of one book and hour."""

    def __init__(self, log: ClaimLog, compression: str) -> None:
        self._log = log
        self._schema = FILE_SCHEMAS[log.kind]
        self._writer = parquet.FileWriter(log.kind, compression)
        self._pending: list[Part] = []
        self._pending_rows = self._pending_bytes = 0
        self._written: list[Part] = []
        self._payloads = {field.name: Payload() for field in self._schema if pa.types.is_binary(field.type)}
        self.min_recv_ns = 2**63
        self.max_recv_ns = 0

    def add(self, part: Part) -> None:
        """The next rows."""
        self._pending.append(part)
        self._pending_rows += part.num_rows
        self._pending_bytes += part.value_bytes
        while self._pending_rows >= parquet.ROW_GROUP_ROWS or self._pending_bytes >= GROUP_BYTES:
            self._write()

    def end(self, key: Key, first: int, last: int) -> DataObject:
        """The file of the offsets `first..last`, ready to be created."""
        if self._pending_rows:
            self._write()
        log, (book, _) = self._log, key
        rows = sum(part.num_rows for part in self._written)
        footer = parquet.Footer(
            kind=log.kind,
            exchange=book.exchange,
            market=book.market,
            symbol=book.symbol,
            stream=log.stream,
            topic=log.topic,
            partition=log.partition,
            first=first,
            last=last,
            rows=rows,
            schema_version=SCHEMA_VERSION,
            digest=digest_of(rows, map(self._column, self._schema.names)),
        )
        path = layout.data_path(log.kind, *key, log.stream, log.partition, first, last)
        return DataObject(FileEntry(path=path, rows=rows, digest=footer.digest), self._writer.end(footer))

    def _write(self) -> None:
        """A row group."""
        last = self._pending.pop()  # without it there are too few rows for a group
        room = parquet.ROW_GROUP_ROWS - (self._pending_rows - last.num_rows)
        last, rest = last.cut(min(room, last.num_rows))
        part = joined([*self._pending, last])
        self._pending = [rest] if rest.num_rows else []
        self._pending_rows, self._pending_bytes = rest.num_rows, rest.value_bytes
        self._writer.write(part.table(self._schema.names))
        for name, payload in self._payloads.items():
            payload.add(part.rows.column(name))
        self._written.append(part.without(self._payloads))
        received = bits(part.messages.column("recv_ns"))
        self.min_recv_ns = min(self.min_recv_ns, int(received.min()))
        self.max_recv_ns = max(self.max_recv_ns, int(received.max()))

    def _column(self, name: str) -> pa.ChunkedArray | Payload | Repeated:
        if name in self._payloads:
            return self._payloads[name]
        if name in self._written[0].rows.schema.names:
            return pa.chunked_array([part.rows.column(name) for part in self._written])
        return Repeated([(part.messages.column(name), part.counts) for part in self._written])
