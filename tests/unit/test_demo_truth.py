"""The demo's comparison finds whatever is lost, doubled, changed or made up."""

import hashlib
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cryptoflow.demo_run import Run
from cryptoflow.demo_truth import compare
from shared.lake.layout import data_path
from shared.lake.schema import FILE_SCHEMAS
from shared.messages import Book

BOOK = Book("binance", "spot", "BTCUSDT")
SECOND_NS = 1_000_000_000
BODY = {"bids": [["0.1", "3"], ["0.09", "1.5"]], "asks": [["0.30000000000000004", "2"]]}


@pytest.fixture
def run(tmp_path) -> Run:
    (tmp_path / "bodies").mkdir()
    return Run("demo_1", tmp_path, tmp_path / "lake", tmp_path)


def serve(run: Run, *update_ids: int) -> None:
    lines = []
    for update_id in update_ids:
        text = json.dumps({"lastUpdateId": update_id, **BODY})
        digest = hashlib.sha256(text.encode()).hexdigest()
        (run.bodies / digest).write_text(text)
        answer = {
            "market": BOOK.market, "symbol": BOOK.symbol, "sha256": digest, "served_ns": update_id * SECOND_NS,
            "lastUpdateId": update_id, "bids": 2, "asks": 1, "book": True, "complete": True,
        }  # fmt: skip
        lines.append(json.dumps(answer) + "\n")
    run.truth_path.write_text("".join(lines))


def levels(update_id: int, offset: int) -> list[dict]:
    common = {
        "timestamp": update_id * 1_000_000,
        "recv_ns": update_id * SECOND_NS,
        "last_update_id": update_id,
        "raw_partition": 0,
        "raw_offset": offset,
    }
    return [
        common | {"side": side[:3], "price": float(price), "quantity": float(quantity), "level": level}
        for side in ("bids", "asks")
        for level, (price, quantity) in enumerate(BODY[side], 1)
    ]


def gap(since_s: int, until_s: int, offset: int) -> dict:
    return {
        "timestamp": until_s * 1_000_000, "recv_ns": until_s * SECOND_NS, "gap_cause": "stop",
        "gap_since": since_s * 1_000_000, "raw_partition": 0, "raw_offset": offset,
    }  # fmt: skip


def store(run: Run, rows: list[dict]) -> None:
    path = run.lake / data_path("fobs", BOOK, 0, run.stream, 0, 0, 9)
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows, schema=FILE_SCHEMAS["fobs"]), path)


def test_equal_books_are_equal(run):
    serve(run, 5, 6)
    store(run, levels(5, 0) + levels(6, 1))
    found = compare(run)
    assert found.problems == []
    assert (found.polls, found.levels, found.rows) == (2, 6, 6)


@pytest.mark.parametrize(
    ("rows", "problem"),
    [
        pytest.param(levels(5, 0), "book 6 was served and lies neither", id="lost"),
        pytest.param(levels(5, 0) + levels(6, 1) + levels(6, 2), "book 6 lies in the lake more often", id="doubled"),
        pytest.param(levels(5, 0) + levels(6, 1)[:-1], "book 6 differs", id="a level is missing"),
        pytest.param(levels(5, 0) + levels(6, 1) + levels(7, 2), "book 7 lies in the lake more often", id="made up"),
        pytest.param(
            levels(5, 0) + [row | {"price": row["price"] * (1 + 2e-16)} for row in levels(6, 1)],
            "book 6 differs",
            id="last bit",
        ),
        pytest.param([*levels(5, 0), gap(1, 5, 1)], "book 6 was served and lies neither", id="a gap of another time"),
        pytest.param([], "book 5 was served and lies neither", id="an empty lake"),
    ],
)
def test_whatever_is_wrong_is_found(run: Run, rows: list[dict], problem: str):
    serve(run, 5, 6)
    if rows:
        store(run, rows)
    assert any(problem in text for text in compare(run).problems)


def test_a_poll_inside_a_gap_row_is_accounted_for(run):
    serve(run, 5, 6)
    store(run, [*levels(5, 0), gap(5, 7, 1)])
    found = compare(run)
    assert found.problems == []
    assert (found.polls, found.in_gaps, found.gap_rows, found.levels, found.rows) == (1, 1, 1, 3, 3)


def test_an_answer_that_is_not_whole_is_not_asked_for(run):
    serve(run, 5, 6)
    whole, cut = run.truth_path.read_text().splitlines()
    run.truth_path.write_text(whole + "\n" + json.dumps(json.loads(cut) | {"complete": False}) + "\n")
    store(run, levels(5, 0))
    assert compare(run).problems == []


def test_other_streams_of_the_same_lake_are_left_out(run):
    serve(run, 5)
    store(run, levels(5, 0))
    other = Run("demo_2", run.folder, run.lake, run.base)
    store(other, levels(5, 0))
    assert compare(run).problems == []
