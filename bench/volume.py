"""How much a book is: updates a second, levels, and their bytes on every stage of the way, from captured sessions.

    python -m bench.volume [--json]

What `cryptoflow check-config` reckons with is from here (cryptoflow/check_config_sizes.py). Sizes are those of the
project's own code: record batches as the Kafka client builds them, norm records, Parquet files of one book and window.
BTCUSDT and ETHUSDT were captured at the venue's fastest spacing; their updates within 100 ms are merged to what a stream
of 100 ms would have carried. Polls are the books rebuilt from them, one every ten seconds.
"""

from __future__ import annotations

import argparse
import gzip
import json
import sys
from dataclasses import dataclass
from itertools import groupby
from statistics import mean
from typing import TYPE_CHECKING, Any

from aiokafka.record.default_records import DefaultRecordBatchBuilder

from bench.payloads import CAPTURES
from services.flattener.flatten import encode
from services.flattener.message import read
from services.flattener.normalise import FLATTEN
from services.s3writer import raw
from services.s3writer.buffer import Buffer
from services.s3writer.files import build
from services.s3writer.flush import take
from services.s3writer.take import Taker
from shared.kafka import Record
from shared.lake.claim_log import ClaimLog
from shared.lake.kinds import archive_of
from shared.messages import Book, NormHeaders, RawHeaders, RawHeadersOf, SourceRange
from shared.venues.levels import LevelParser

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from shared.messages import Kind

MARKETS = {"usdm": "future", "coinm": "inverse", "spot": "spot"}
BUSY = "binance_usdm__20240718_btc_eth"
SPACING_MS = 100
POLL_MS = 10_000
LEVELS = 1000
BATCHES = (1, 10, 100)  # records of a batch of the Kafka client
CUTS = (1, 20)  # messages of a norm record
ZSTD = 4
BATCH_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True)
class Raw:
    """A message of a book, when it came by the venue's clock, and how many levels it names."""

    book: Book
    at_ms: int
    value: bytes
    levels: int


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.volume", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--json", action="store_true", help="print JSON")
    arguments = parser.parse_args()
    sessions = sorted(path for path in CAPTURES.glob("binance_*") if path.is_dir())
    if not sessions:
        sys.stderr.write(f"no captured sessions at {CAPTURES}\n")
        return 1
    found: dict[str, dict[str, Any]] = {}
    for session in sessions:
        updates = list(captured(session))
        found[f"{session.name}: updates"] = figures("fobd", updates)
        if session.name == BUSY:
            found[f"{session.name}: updates, merged to {SPACING_MS} ms"] = figures("fobd", list(merged(updates)))
            found[f"{session.name}: polls"] = figures("fobs", list(polls(session, updates)))
    if arguments.json:
        print(json.dumps(found))
        return 0
    for name, values in found.items():
        print(name)
        for figure, value in values.items():
            print(f"  {figure:52} {value:>12,}")
    return 0


def captured(session: Path) -> Iterator[Raw]:
    """The depth updates of a session."""
    market = MARKETS[session.name.split("_")[1]]
    (path,) = session.glob("ws.jsonl*")
    with gzip.open(path, "rt") if path.suffix == ".gz" else path.open() as lines:
        for line in lines:
            if "depthUpdate" in line:
                raw = json.loads(line)["raw"]
                event = json.loads(raw)["data"]
                book = Book("binance", market, event["s"])
                yield Raw(book, event["E"], raw.encode(), len(event["b"]) + len(event["a"]))


def merged(updates: Sequence[Raw]) -> Iterator[Raw]:
    """As a stream of `SPACING_MS` carries them: of each level the latest quantity."""
    slots = sorted(updates, key=lambda one: (one.book, one.at_ms // SPACING_MS))
    made = []
    for (book, _), group in groupby(slots, key=lambda one: (one.book, one.at_ms // SPACING_MS)):
        events = [json.loads(one.value)["data"] for one in group]
        sides = {side: dict(level for event in events for level in event[side]) for side in ("b", "a")}
        event = events[-1] | {"U": events[0]["U"], "pu": events[0]["pu"]}
        event |= {side: [list(level) for level in levels.items()] for side, levels in sides.items()}
        value = text({"stream": f"{book.symbol.lower()}@depth@100ms", "data": event})
        made.append(Raw(book, event["E"], value, sum(map(len, sides.values()))))
    yield from sorted(made, key=lambda one: one.at_ms)


def polls(session: Path, updates: Sequence[Raw]) -> Iterator[Raw]:
    """The book of each symbol every `POLL_MS`, `LEVELS` a side, as rebuilt from snapshot and updates."""
    books = {}
    for path in session.glob("http/*depth*.json"):
        answer = json.loads(path.read_text())
        found = json.loads(answer["body"])
        symbol = answer["url"].partition("symbol=")[2].partition("&")[0]
        books[symbol] = {"b": dict(found["bids"]), "a": dict(found["asks"])}
    due = dict.fromkeys(books, 0)
    for one in updates:
        event, book = json.loads(one.value)["data"], books[one.book.symbol]
        for side, levels in book.items():
            levels.update(event[side])
            for price, quantity in event[side]:
                if not float(quantity):
                    del levels[price]
        if one.at_ms >= due[one.book.symbol]:
            due[one.book.symbol] = one.at_ms // POLL_MS * POLL_MS + POLL_MS
            bids = sorted(book["b"].items(), key=lambda level: -float(level[0]))[:LEVELS]
            asks = sorted(book["a"].items(), key=lambda level: float(level[0]))[:LEVELS]
            body = {"lastUpdateId": event["u"], "E": event["E"], "T": event["T"], "bids": bids, "asks": asks}
            yield Raw(one.book, one.at_ms, text(body), len(bids) + len(asks))


def figures(kind: Kind, raws: Sequence[Raw]) -> dict[str, float]:
    """Of one session."""
    books = {one.book for one in raws}
    seconds = (max(one.at_ms for one in raws) - min(one.at_ms for one in raws)) / 1000
    levels = sum(one.levels for one in raws)
    around = [len(one.value) - len(b"".join(_sides(kind, one.value))) for one in raws]
    size = sum(len(one.value) for one in raws)
    records = [_record(kind, offset, one) for offset, one in enumerate(raws)]
    result: dict[str, float] = {
        "books": len(books),
        "seconds": round(seconds),
        "messages a second and book": round(len(raws) / seconds / len(books), 2),
        "levels of a message": round(levels / len(raws), 1),
        "bytes of a message": round(size / len(raws)),
        "bytes around its levels": round(mean(around)),
        "bytes of a level": round((size - sum(around)) / levels, 1),
    }
    for count in BATCHES:
        stored = sum(batch_bytes(part) for part in _parts(records, count))
        result[f"bytes of a message on the broker, {count} a batch"] = round(stored / len(records))
    ends = [_norm_sizes(kind, records, count) for count in CUTS]
    per_row = (ends[1][1] - ends[0][1]) / (ends[1][0] - ends[0][0])
    result["bytes of a row in a norm record"] = round(per_row, 2)
    result["bytes of a norm record beside its rows"] = round(ends[0][1] - per_row * ends[0][0])
    whole = _files(kind, records)
    of_book = [next(record for record in records if record.key == book.key) for book in books]
    first = _files(kind, of_book)
    per_row = (whole[1] - first[1]) / (whole[0] - first[0])
    result["bytes of a row in Parquet"] = round(per_row, 2)
    result["bytes of a file beside its rows"] = round((first[1] - per_row * first[0]) / len(books))
    result["bytes of a message in the raw archive"] = round(_archived(kind, records) / len(records), 1)
    result["bytes of an archived file of one message"] = round(_archived(kind, of_book) / len(books))
    return result


def batch_bytes(records: Iterable[Record]) -> int:
    """What the broker keeps of records that the reader sent together."""
    builder = DefaultRecordBatchBuilder(
        magic=2, compression_type=ZSTD, is_transactional=0, producer_id=1, producer_epoch=0, base_sequence=0,
        batch_size=BATCH_BYTES,
    )  # fmt: skip
    for offset, record in enumerate(records):
        builder.append(offset, 1_700_000_000_000, record.key, record.value, list(record.headers))
    return len(builder.build())


def text(value: object) -> bytes:
    """As the venue prints it."""
    return json.dumps(value, separators=(",", ":")).encode()


def _sides(kind: Kind, value: bytes) -> Iterator[bytes]:
    found = json.loads(value)
    for side in ("bids", "asks") if kind == "fobs" else ("b", "a"):
        yield text(found.get("data", found)[side])[1:-1]


def _record(kind: Kind, offset: int, one: Raw) -> Record:
    recv_ns = one.at_ms * 1_000_000 + 12_345_678
    headers = RawHeaders(
        stream="main", exchange=one.book.exchange, market=one.book.market, symbol=one.book.symbol,
        type="snapshot" if kind == "fobs" else "update", recv_ns=recv_ns, conn="reader-1:1700000000000000000:1",
        seq=offset, ip="192.0.2.10", limit=LEVELS if kind == "fobs" else None,
        sent_ns=recv_ns - 56_789_012 if kind == "fobs" else None,
    )  # fmt: skip
    encoded = (
        headers.encode() if kind == "fobs" else RawHeadersOf(headers).encode(recv_ns, offset)
    )  # as the reader does
    return Record(f"raw-{kind}", 0, offset, one.at_ms, one.book.key, one.value, tuple(encoded))


def _parts(records: Sequence[Record], count: int) -> Iterator[Sequence[Record]]:
    return (records[first : first + count] for first in range(0, len(records), count))


def _values(kind: Kind, records: Sequence[Record], count: int) -> Iterator[tuple[Sequence[Record], int, bytes]]:
    """Norm records of so many messages: the messages, rows, value."""
    parser = LevelParser()
    for part in _parts(records, count):
        batch = FLATTEN[kind]([read(kind, record) for record in part], parser).batch
        yield part, batch.num_rows, encode(batch)


def _norm_sizes(kind: Kind, records: Sequence[Record], count: int) -> tuple[float, float]:
    """Mean rows and bytes of a norm record."""
    made = [(rows, len(value)) for part, rows, value in _values(kind, records, count) if len(part) == count]
    return mean(rows for rows, _ in made), mean(size for _, size in made)


def _files(kind: Kind, records: Sequence[Record]) -> tuple[int, int]:
    """Rows and bytes of the files that these records become in one flush."""
    log = ClaimLog(kind=kind, stream="main", partition=0, topic=f"norm-{kind}", cluster_id="bench")
    taker, taken = Taker(), []
    by_offset = sorted(records, key=lambda record: record.offset)
    for offset, (part, _, value) in enumerate(_values(kind, by_offset, CUTS[-1])):
        src = SourceRange(f"raw-{kind}", 0, part[0].offset, part[-1].offset)
        headers = tuple(NormHeaders(stream="main", src=src).encode())
        taken.append(take(log, Record(log.topic, 0, offset, 0, None, value, headers), taker))
    built = build(log, 0, len(taken) - 1, taken, compression="zstd")
    return sum(made.entry.rows for made in built.objects), sum(len(made.body) for made in built.objects)


def _archived(kind: Kind, records: Sequence[Record]) -> int:
    """Bytes of the archive's files that these records become in one flush."""
    log = ClaimLog(kind=archive_of(kind), stream="main", partition=0, topic=f"raw-{kind}", cluster_id="bench")
    taker, buffer = Taker(), Buffer(first=0)
    for record in sorted(records, key=lambda record: record.offset):
        buffer.add(raw.take(log, record, taker), 0.0)
    return sum(len(made.body) for made in build(log, 0, buffer.last, buffer.records, "zstd").objects)


if __name__ == "__main__":
    sys.exit(main())
