"""Flatten updates: every raw message of the delta topic is at least one row, exact, with the ids that chain it."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.flattener.cut import MOST_MESSAGES
from services.flattener.flatten import encode, flatten_fobd
from services.flattener.message import read
from shared.kafka import MAX_RECORD_BYTES, Record
from shared.lake.schema import NORM_SCHEMAS
from shared.messages import Gap
from shared.venues.levels import LevelParser
from tests.unit import test_flatten as snapshots
from tests.unit.test_flatten import RECV_NS, body

PARSER = LevelParser()
CONN = "host:1700000000000000000:3"
LARGEST = 2**63 - 1
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def record(value: bytes, **changes) -> Record:
    return snapshots.record(value, **({"type": "update", "limit": None, "conn": CONN} | changes))


def event(bids=(("2", "1"),), asks=(("3", "0"),), **changes) -> dict:
    values = {"e": "depthUpdate", "E": 1_700_000_000_001, "T": 1_700_000_000_000, "s": "BTCUSDT"}
    values |= {"U": 101, "u": 105, "pu": 99, "b": bids, "a": asks}
    return {name: value for name, value in (values | changes).items() if value is not ...}


def text(value) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


def frame(*levels, **changes) -> bytes:
    return text({"stream": "btcusdt@depth@100ms", "data": event(*levels, **changes)})


def flatten(*records: Record):
    flattened = flatten_fobd([read("fobd", found) for found in records], PARSER)
    flattened.batch.validate(full=True)
    assert flattened.batch.schema.equals(NORM_SCHEMAS["fobd"])
    return flattened


def rows(*records: Record) -> list[dict]:
    return flatten(*records).batch.to_pylist()


ROW = {
    "exchange": "binance",
    "market": "future",
    "symbol": "BTCUSDT",
    "timestamp": datetime(2023, 11, 14, 22, 13, 20, 123456, UTC),
    "recv_ns": RECV_NS,
    "event_time": None,
    "transaction_time": None,
    "first_update_id": None,
    "update_id": None,
    "prev_update_id": None,
    "depth_limit": None,
    "side": None,
    "price": None,
    "quantity": None,
    "gap_cause": None,
    "gap_since": None,
    "conn": CONN,
    "raw_partition": 3,
    "raw_offset": 12,
}
TIMES = {
    "event_time": datetime(2023, 11, 14, 22, 13, 20, 1000, UTC),
    "transaction_time": datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC),
}


def test_an_update_becomes_its_levels_bids_first_and_removed_ones_too():
    found = rows(record(frame([["10.5", "1"], ["10.4", "0.000"]], [["10.6", "3"]]), offset=12))
    shared = ROW | TIMES | {"type": "update", "first_update_id": 101, "update_id": 105, "prev_update_id": 99}
    assert found == [
        shared | {"side": "bid", "price": 10.5, "quantity": 1.0},
        shared | {"side": "bid", "price": 10.4, "quantity": 0.0},
        shared | {"side": "ask", "price": 10.6, "quantity": 3.0},
    ]


def test_an_anchor_becomes_its_levels_with_its_id_and_the_limit_asked_for():
    found = rows(record(body([["2", "1"]], [["3", "4"]]), type="snapshot", limit=1000, offset=12))
    shared = ROW | TIMES | {"type": "snapshot", "update_id": 77, "depth_limit": 1000}
    assert found == [
        shared | {"side": "bid", "price": 2.0, "quantity": 1.0},
        shared | {"side": "ask", "price": 3.0, "quantity": 4.0},
    ]


def test_a_gap_is_one_row_between_the_ids_it_lies_between():
    gap = Gap(cause="disconnect", last_id=105, next_id=9_000, since_ns=RECV_NS - 5_000_000_000)
    since = datetime(2023, 11, 14, 22, 13, 15, 123456, UTC)
    told = {"gap_cause": "disconnect", "gap_since": since, "prev_update_id": 105, "first_update_id": 9_000}
    assert rows(record(gap.encode(), type="gap", offset=12)) == [ROW | {"type": "gap"} | told]


def test_a_gap_that_knows_nothing_but_its_cause_is_nulls():
    assert rows(record(Gap(cause="start").encode(), type="gap", offset=12)) == [
        ROW | {"type": "gap", "gap_cause": "start"}
    ]


def test_spot_has_no_transaction_time_and_no_previous_id():
    [row, _] = rows(record(frame(T=..., pu=...), market="spot"))
    assert (row["event_time"], row["transaction_time"]) == (TIMES["event_time"], None)
    assert (row["first_update_id"], row["update_id"], row["prev_update_id"]) == (101, 105, None)


@pytest.mark.parametrize(
    "value",
    [
        pytest.param(text(event()), id="a raw stream's, without a wrapper"),
        pytest.param(frame(ps="BTCUSDT", st=1), id="fields of 2026 behind the levels"),
        pytest.param(text({"data": dict(reversed(event().items())), "stream": "x"}), id="another order"),
        pytest.param(json.dumps({"stream": "x", "data": event()}, indent=1).encode(), id="with spaces"),
        pytest.param(frame(x={"b": [["9", "9"]], "a": 1, "s": "X"}), id="the same names within an unknown field"),
    ],
)
def test_an_update_is_itself_in_any_wrapping(value):
    assert rows(record(value)) == rows(record(frame()))
    assert flatten(record(value)).poison == []


@pytest.mark.parametrize(("bids", "asks"), [([], [["3", "0"]]), ([["2", "1"]], [])], ids=["no bids", "no asks"])
def test_an_empty_side_has_no_rows(bids, asks):
    [row] = rows(record(frame(bids, asks)))
    assert (row["side"], row["price"]) == (("bid", 2.0) if bids else ("ask", 3.0))


def test_an_update_without_levels_is_one_row_that_keeps_the_chain():
    flattened = flatten(record(frame([], []), offset=12))
    ids = {"type": "update", "first_update_id": 101, "update_id": 105, "prev_update_id": 99}
    assert flattened.batch.to_pylist() == [ROW | TIMES | ids]
    assert (flattened.quality.empty, flattened.quality.levels, flattened.poison) == (1, 0, [])


def test_ids_of_63_bits_and_a_symbol_that_is_not_ascii_stay_themselves():
    value = frame(s="币安人生USDT", U=LARGEST - 1, u=LARGEST, pu=LARGEST - 2)
    [row, _] = rows(record(value, symbol="币安人生USDT"))
    assert row["symbol"] == "币安人生USDT"
    assert (row["first_update_id"], row["update_id"], row["prev_update_id"]) == (LARGEST - 1, LARGEST, LARGEST - 2)


def test_every_row_names_its_connection_where_the_headers_can_be_read():
    good = [record(frame(), conn="a:1:1", offset=0), record(frame([], []), conn="b:1:2", offset=1)]
    good += [record(Gap(cause="stop").encode(), type="gap", conn="a:1:1", offset=2), record(b"{", conn="c:1:3")]
    found = rows(*good, record(frame(), pairs=[]))
    assert [row["conn"] for row in found] == ["a:1:1", "a:1:1", "b:1:2", "a:1:1", "c:1:3", None]


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        pytest.param("update", frame([["2", "1"]], [["3", "0"], ["4", "1"]]), id="both sides"),
        pytest.param("update", frame([], [["3", "0"], ["4", "1"]]), id="one side"),
        pytest.param("update", frame([], []), id="no level"),
        pytest.param("snapshot", body([["2", "1"], ["1", "1"]], [["3", "1"]]), id="an anchor"),
        pytest.param("gap", Gap(cause="stop").encode(), id="a gap"),
        pytest.param("update", b"{", id="what cannot be read"),
    ],
)
def test_a_message_knows_how_many_rows_it_becomes(kind, value):
    found = record(value, type=kind)
    assert read("fobd", found).rows == len(rows(found))


def test_a_batch_of_no_messages_has_no_rows():
    assert rows() == []


def test_an_update_of_many_thousand_levels_is_one_message_of_so_many_rows():
    bids = [[f"{60_000 - i / 10:.1f}", f"{i % 7}.000"] for i in range(10_000)]
    message = read("fobd", record(frame(bids, [])))
    assert message.rows == 10_000
    batch = flatten_fobd([message], PARSER).batch
    assert batch.column("price").to_pylist() == [float(price) for price, _ in bids]
    assert batch.column("quantity").to_pylist() == [float(quantity) for _, quantity in bids]
    assert set(batch.column("side").to_pylist()) == {"bid"}


def test_the_largest_frames_there_are_fit_a_record():
    side = [[f"{60_000 + i / 100:.2f}", f"{(i * 7919) % 1_000_003 / 1000:.3f}"] for i in range(125_000)]
    value = frame(side, side)
    assert len(value) > 5_000_000
    assert len(encode(flatten(record(value)).batch)) < MAX_RECORD_BYTES // 2


def test_as_many_messages_as_a_cut_takes_may_each_be_of_another_book_and_connection():
    count = MOST_MESSAGES
    records = [
        record(frame([], [], s=f"S{i}"), symbol=f"S{i}", conn=f"host:{i}:1", offset=i, recv_ns=RECV_NS + i)
        for i in range(count)
    ]
    batch = flatten(*records).batch
    assert batch.num_rows == count
    assert batch.column("symbol").to_pylist() == [f"S{i}" for i in range(count)]
    assert batch.column("conn").to_pylist() == [f"host:{i}:1" for i in range(count)]
    assert len(encode(batch)) < MAX_RECORD_BYTES


def test_an_encoded_batch_is_one_ipc_stream_with_the_same_rows():
    batch = flatten(record(frame()), record(b"", offset=1), record(body(), type="snapshot", offset=2)).batch
    with pa.ipc.open_stream(encode(batch)) as reader:
        assert reader.read_all().to_batches() == [batch]


numbers = st.from_regex(r"(0|[1-9][0-9]{0,8})(\.[0-9]{1,9})?", fullmatch=True)
sides = st.lists(st.tuples(numbers, numbers), max_size=6)
ids = st.integers(0, LARGEST)
times = st.none() | st.integers(0, 4_000_000_000_000)
updates = st.builds(
    lambda bids, asks, pair, pu, event_ms, transaction_ms: {
        "b": bids,
        "a": asks,
        "U": min(pair),
        "u": max(pair),
        "pu": ... if pu is None else pu,
        "E": ... if event_ms is None else event_ms,
        "T": ... if transaction_ms is None else transaction_ms,
    },
    sides,
    sides,
    st.tuples(ids, ids),
    st.none() | ids,
    times,
    times,
)
anchors = st.builds(lambda bids, asks, last: body(bids, asks, lastUpdateId=last), sides, sides, ids)
gaps = st.builds(
    Gap,
    cause=st.sampled_from(["start", "sequence", "overflow"]),
    last_id=st.none() | ids,
    next_id=st.none() | ids,
    since_ns=st.none() | st.integers(0, LARGEST),
)
broken = st.sampled_from([frame([["1..", "2"]]), frame([["1", "-1"]]), b"{", frame(s="ETHUSDT"), frame(u=1)])


def plainly(kind: str, value: bytes, shared: dict) -> list[dict]:
    """The rows of one raw record by `json` and `float`."""
    if kind == "broken":
        return [shared | {"type": "gap", "gap_cause": "malformed"}]
    found = json.loads(value)
    if kind == "gap":
        told = {"first_update_id": found["next_id"], "prev_update_id": found["last_id"], "gap_cause": found["cause"]}
        if found["since_ns"] is not None:
            told["gap_since"] = EPOCH + timedelta(microseconds=found["since_ns"] // 1000)
        return [shared | {"type": "gap"} | told]
    if kind == "update":
        found = found["data"]
        bids, asks, own = found["b"], found["a"], {"first_update_id": found["U"], "update_id": found["u"]}
        own |= {"prev_update_id": found.get("pu")}
    else:
        bids, asks = found["bids"], found["asks"]
        own = {"update_id": found["lastUpdateId"], "depth_limit": 1000}
    own["type"] = kind
    for name, key in (("event_time", "E"), ("transaction_time", "T")):
        own[name] = None if found.get(key) is None else EPOCH + timedelta(milliseconds=found[key])
    levels = [("bid", *level) for level in bids] + [("ask", *level) for level in asks]
    return [
        shared | own | {"side": side, "price": float(price), "quantity": float(quantity)}
        for side, price, quantity in levels
    ] or [shared | own]


@given(
    st.lists(
        st.one_of(
            updates.map(lambda changes: ("update", frame(**changes))),
            anchors.map(lambda value: ("snapshot", value)),
            gaps.map(lambda gap: ("gap", gap.encode())),
            broken.map(lambda value: ("broken", value)),
        ),
        max_size=10,
    )
)
def test_messages_of_every_kind_together_are_what_the_plain_way_gives(messages):
    records, expected = [], []
    for offset, (kind, value) in enumerate(messages):
        own = {"type": "update" if kind == "broken" else kind, "limit": 1000 if kind == "snapshot" else None}
        conn = f"host:1:{offset % 3}"
        records.append(record(value, offset=offset, conn=conn, **own))
        expected += plainly(kind, value, ROW | {"raw_offset": offset, "conn": conn})
    flattened = flatten(*records)
    assert flattened.batch.to_pylist() == expected
    dead = [offset for offset, (kind, _) in enumerate(messages) if kind == "broken"]
    assert [message.record.offset for message, _ in flattened.poison] == dead
