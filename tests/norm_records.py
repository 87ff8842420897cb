"""Hand-made norm records, as a flattener would send them, for tests of what comes after it."""

import numpy as np
import pyarrow as pa

from shared.lake.schema import FILE_SCHEMAS, NORM_SCHEMAS
from shared.messages import Book, NormHeaders, SourceRange

BTC = Book("binance", "future", "BTCUSDT")
ETH = Book("binance", "future", "ETHUSDT")
HOUR_NS = 3_600_000_000_000
NOON_NS = 495_000 * HOUR_NS  # the start of an hour


ANCHOR_EVERY = 5  # among updates every so manieth message is an anchor


def rows(messages, *, kind="fobs", levels=2, partition=0, seed=0):
    """One record batch: (raw_offset, book, recv_ns) each become `levels` rows a side of one message.

    Of kind fobd they are updates, some of whose levels are removed, and anchors.
    """
    per = 2 * levels
    count = len(messages) * per
    random = np.random.default_rng([seed, *(offset for offset, _, _ in messages)])
    offsets = np.repeat([offset for offset, _, _ in messages], per)
    received = np.repeat(np.array([recv_ns for _, _, recv_ns in messages], np.int64), per)
    side = np.tile(np.repeat(["bid", "ask"], levels), len(messages))
    values = {
        "exchange": np.repeat([book.exchange for _, book, _ in messages], per),
        "market": np.repeat([book.market for _, book, _ in messages], per),
        "symbol": np.repeat([book.symbol for _, book, _ in messages], per),
        "timestamp": received // 1000,
        "recv_ns": received,
        "event_time": received // 1000 - 5,
        "last_update_id": 10**12 + offsets,
        "depth_limit": np.full(count, 1000),
        "side": side,
        "price": random.integers(1, 10**6, count) / 10,
        "quantity": random.integers(1, 10**6, count) / 1000,
        "level": np.tile(np.tile(np.arange(1, levels + 1), 2), len(messages)),
        "raw_partition": np.full(count, partition),
        "raw_offset": offsets,
    }
    if kind == "fobd":
        anchor = offsets % ANCHOR_EVERY == ANCHOR_EVERY - 1
        values |= {
            "type": np.where(anchor, "snapshot", "update"),
            "first_update_id": np.ma.array(10**12 + offsets * 10 - 5, mask=anchor),
            "update_id": 10**12 + offsets * 10,
            "prev_update_id": np.ma.array(10**12 + offsets * 10 - 10, mask=anchor),
            "depth_limit": np.ma.array(values["depth_limit"], mask=~anchor),
            "quantity": values["quantity"] * (random.integers(0, 3, count) > 0),
            "conn": np.array([f"host:1:{offset % 3}" for offset in offsets], object),
        }
    schema = NORM_SCHEMAS[kind]
    return pa.RecordBatch.from_arrays(
        [_column(field, values.get(field.name), count) for field in schema], schema=schema
    )


def gap(raw_offset, book, recv_ns, *, partition=0):
    """The one row of a gap among updates, as a record batch."""
    row = {
        "exchange": book.exchange,
        "market": book.market,
        "symbol": book.symbol,
        "timestamp": recv_ns // 1000,
        "recv_ns": recv_ns,
        "type": "gap",
        "first_update_id": 10**12 + raw_offset * 10,
        "prev_update_id": 10**12 + raw_offset * 10 - 20,
        "gap_cause": "disconnect",
        "gap_since": recv_ns // 1000 - 1_000_000,
        "conn": "host:1:9",
        "raw_partition": partition,
        "raw_offset": raw_offset,
    }
    return pa.RecordBatch.from_pylist([row], schema=NORM_SCHEMAS["fobd"])


def joined(batches):
    """Several batches as one, as one norm record holds them."""
    (batch,) = pa.Table.from_batches(batches).unify_dictionaries().combine_chunks().to_batches()
    return batch


def value(batch):
    """A batch as the value of a norm record."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema, options=pa.ipc.IpcWriteOptions(compression="lz4")) as writer:
        writer.write_batch(batch)
    return sink.getvalue().to_pybytes()


def headers(first, last, *, partition=0, stream="main", topic="raw-fobs", dead=0, lost=False):
    """The headers of a norm record over raw offsets first..last."""
    src = SourceRange(topic, partition, first, last)
    return NormHeaders(stream=stream, src=src, dead=dead, lost=lost).encode()


def file_rows(batches, book, kind="fobs"):
    """The rows of one book as its files should hold them, in the given order, as a table."""
    table = pa.Table.from_batches(batches)
    mine = pa.compute.equal(table.column("symbol").cast(pa.string()), book.symbol)
    return table.filter(mine).drop_columns(["exchange", "market", "symbol"]).cast(FILE_SCHEMAS[kind])


def _column(field, values, count):
    if values is None or not count:
        return pa.nulls(count, field.type)
    if pa.types.is_dictionary(field.type):
        return pa.array(values, pa.string()).dictionary_encode().cast(field.type)
    if pa.types.is_timestamp(field.type):
        return pa.array(values).cast(field.type)
    return pa.array(values).cast(field.type)
