"""The digest against a slow reference written from its definition alone, and against pinned vectors."""

from __future__ import annotations

import struct
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest
import xxhash
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import FatalError
from shared.lake.digest import Repeated, digest, digest_of
from shared.lake.schema import FILE_SCHEMAS
from tests.lakes import fobs_rows, gap_row, table

TIME = pa.timestamp("us", tz="UTC")
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
COLUMNS = {
    "i64": (pa.int64(), st.integers(-(2**63), 2**63 - 1)),
    "i32": (pa.int32(), st.integers(-(2**31), 2**31 - 1)),
    "f64": (pa.float64(), st.floats()),
    "time": (TIME, st.integers(-(2**62), 2**62)),
    "text": (pa.string(), TEXT),
    "bytes": (pa.binary(), st.binary(max_size=6)),
    "pairs": (
        pa.list_(pa.struct([("name", pa.string()), ("value", pa.binary())])),
        st.lists(st.fixed_dictionaries({"name": TEXT, "value": st.binary(max_size=4)}), max_size=3),
    ),
}


def reference(rows: pa.Table) -> str:
    """Row by row, by the docstring of `digest`, in nothing but struct and bytes."""
    fed = struct.pack("<q", rows.num_rows)
    for name, type_ in zip(rows.column_names, rows.schema.types, strict=True):
        column = rows.column(name)
        fed += column_fed((column.cast(pa.int64()) if type_ == TIME else column).to_pylist(), type_)
    return xxhash.xxh3_128(fed).hexdigest()


def column_fed(python: list, type_: pa.DataType) -> bytes:
    fed = b""
    if pa.types.is_string(type_) or pa.types.is_dictionary(type_):
        encoded = [b"" if value is None else value.encode() for value in python]
        fed += lengths(encoded) + b"".join(encoded)
    elif type_ == pa.binary():
        fed += lengths(python) + xxhash.xxh3_128(b"".join(value or b"" for value in python)).digest()
    elif pa.types.is_list(type_):
        fed += lengths(python)
        elements = [element for value in python for element in value or ()]
        for field in type_.value_type:
            fed += column_fed([element[field.name] for element in elements], field.type)
    else:
        code = "<d" if type_ == pa.float64() else "<q"
        fed += b"".join(b"\0" * 8 if value is None else struct.pack(code, value) for value in python)
    return fed + bytes(value is not None for value in python)


def lengths(values: list) -> bytes:
    return b"".join(struct.pack("<q", len(value or b"")) for value in values)


@st.composite
def tables(draw):
    rows = draw(st.integers(0, 12))
    columns = {
        name: pa.array(draw(st.lists(st.none() | values, min_size=rows, max_size=rows)), type_, from_pandas=False)
        for name, (type_, values) in COLUMNS.items()
    }
    return pa.table(columns)


@given(tables())
def test_the_digest_is_what_its_definition_says(rows):
    assert digest(rows) == reference(rows)


@given(tables(), st.lists(st.integers(0, 12)), st.integers(0, 4), st.integers(0, 4))
def test_chunks_slices_and_dictionaries_change_nothing(rows, cuts, before, after):
    cuts = sorted({0, rows.num_rows, *(cut for cut in cuts if cut < rows.num_rows)})
    padded = pa.concat_tables([rows.slice(0, before), rows, rows.slice(0, after)]).combine_chunks()
    sliced = padded.slice(min(before, rows.num_rows), rows.num_rows)
    pieces = [sliced.slice(start, end - start) for start, end in pairwise(cuts)]
    chunked = pa.concat_tables(pieces) if pieces else sliced
    as_dictionary = chunked.set_column(
        chunked.column_names.index("text"), "text", chunked.column("text").dictionary_encode()
    )
    assert {digest(sliced), digest(chunked), digest(as_dictionary)} == {digest(rows)}


@pytest.mark.parametrize("type_", [type_ for type_, _ in COLUMNS.values()], ids=COLUMNS)
def test_a_column_without_a_chunk_is_an_empty_one(type_):
    empty = pa.table({"a": pa.array([], type_)})
    assert digest(pa.table({"a": pa.chunked_array([], type_)})) == digest(empty) == reference(empty)


def test_a_validity_buffer_without_nulls_changes_nothing():
    values = pa.array([1, 2, 3], pa.int64())
    all_valid = pa.array([True] * 3).buffers()[1]
    with_buffer = pa.Array.from_buffers(pa.int64(), 3, [all_valid, values.buffers()[1]])
    assert with_buffer.buffers()[0] is not None
    assert digest(pa.table({"a": with_buffer})) == digest(pa.table({"a": values}))


def test_what_lies_under_a_null_changes_nothing():
    mask = pa.array([True, False, True]).buffers()[1]
    one, other = pa.array([1, 2, 3], pa.int64()), pa.array([1, 99, 3], pa.int64())
    hidden = [pa.Array.from_buffers(pa.int64(), 3, [mask, values.buffers()[1]]) for values in (one, other)]
    assert digest(pa.table({"a": hidden[0]})) == digest(pa.table({"a": hidden[1]}))
    words = [pa.array(["a", word, "c"]) for word in ("x", "yyyy")]
    hidden = [pa.Array.from_buffers(pa.string(), 3, [mask, *word.buffers()[1:]]) for word in words]
    assert digest(pa.table({"a": hidden[0]})) == digest(pa.table({"a": hidden[1]}))


def test_a_null_inside_a_dictionary_is_a_null():
    words = pa.array(["bid", None])
    for codes, meant in (([0, 1, None], ["bid", None, None]), ([0, 1, 1], ["bid", None, None]), ([0, 0], ["bid"] * 2)):
        column = pa.DictionaryArray.from_arrays(pa.array(codes, pa.int16()), words)
        assert digest(pa.table({"a": column})) == digest(pa.table({"a": pa.array(meant, pa.string())}))


@given(tables(), st.data())
def test_a_column_in_runs_is_fed_as_if_it_stood_there_in_full(rows, data):
    counts = np.array(data.draw(st.lists(st.integers(0, 3), min_size=rows.num_rows, max_size=rows.num_rows)), np.int64)
    cut = data.draw(st.integers(0, rows.num_rows))
    for column in (*rows.columns, rows.column("text").dictionary_encode()):
        values = column.combine_chunks()
        in_full = pa.chunked_array([values.take(pa.array(np.repeat(np.arange(len(values)), counts)))])
        runs = Repeated([(values[:cut], counts[:cut]), (values[cut:], counts[cut:])])
        assert digest_of(9, [runs]) == digest_of(9, [in_full])


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ([0], [None]),
        ([1, 2], [2, 1]),
        ([0.0], [-0.0]),
        (["ab", "c"], ["a", "bc"]),
        ([""], [None]),
        (["a", None], [None, "a"]),
        ([b"ab", b"c"], [b"a", b"bc"]),
        ([b"ab"], [b"ac"]),
        ([b""], [None]),
        ([[{"a": b"x"}], []], [[], [{"a": b"x"}]]),
        ([[{"a": b"x"}]], [[{"a": b"y"}]]),
        ([[], [{"a": b"x"}]], [None, [{"a": b"x"}]]),
        ([0], [0, 0]),
    ],
    ids=[
        "zero and null",
        "order",
        "sign of zero",
        "where a string ends",
        "empty and null",
        "which is null",
        "where bytes end",
        "bytes",
        "empty bytes and null",
        "where a list ends",
        "inside a list",
        "empty list and null",
        "rows",
    ],
)
def test_rows_that_differ_have_other_digests(one, other):
    type_ = pa.array([value for value in [*one, *other] if value is not None]).type
    assert digest(pa.table({"a": pa.array(one, type_)})) != digest(pa.table({"a": pa.array(other, type_)}))


def test_a_column_type_without_a_definition_is_refused():
    with pytest.raises(FatalError, match="not defined for columns of bool"):
        digest(pa.table({"a": [True]}))


VECTORS = {
    "no rows": (FILE_SCHEMAS["fobs"].empty_table, "2c0a8a99dc147d5445c3b49d035665b2"),
    "two snapshots": (lambda: fobs_rows(2), "43cadd50037e660ef28fc0db6ab48e89"),
    "a gap": (lambda: gap_row(raw_offset=7, partition=3), "2bb2fc110aa40881d0f80bcfed0c67e3"),
    "deltas": (
        lambda: table(
            "fobd",
            timestamp=[1_790_000_000_000_000, 1_790_000_000_000_001],
            recv_ns=[1_790_000_000_000_000_123, 1_790_000_000_000_001_456],
            event_time=[1_789_999_999_990_000, None],
            transaction_time=[None, None],
            type=["update", "gap"],
            first_update_id=[11, 21],
            update_id=[20, None],
            prev_update_id=[10, 20],
            depth_limit=[None, None],
            side=["bid", None],
            price=[0.1, None],
            quantity=[0.0, None],
            gap_cause=[None, "disconnect"],
            gap_since=[None, 1_790_000_000_000_000],
            conn=["host:1:1", "host:1:1"],
            raw_partition=[5, 5],
            raw_offset=[100, 101],
        ),
        "26109b9696a3b29bfcc7eae25a752dcd",
    ),
    "raw records": (
        lambda: table(
            "raw-fobd",
            timestamp=[1_790_000_000_000_000, 1_790_000_000_000_001],
            recv_ns=[1_790_000_000_000_000_123, 1_790_000_000_000_001_456],
            kafka_timestamp_ms=[1_790_000_000_001, -1],
            type=["update", "unknown"],
            limit=[None, None],
            conn=["host:1:1", None],
            seq=[7, None],
            sent_ns=[None, None],
            ip=["192.0.2.1", None],
            key=[b"binance:future:BTCUSDT", None],
            value=[b'{"e":"depthUpdate"}', b""],
            headers=[None, [{"name": "v", "value": b"2"}, {"name": "", "value": b"\xff"}]],
            raw_partition=[5, 5],
            raw_offset=[100, 101],
        ),
        "f53045dedb99f80da24ce9ee0e01307a",
    ),
}


@pytest.mark.parametrize(("rows", "expected"), VECTORS.values(), ids=VECTORS)
def test_vectors(rows, expected):
    assert reference(rows()) == expected
    assert digest(rows()) == expected
