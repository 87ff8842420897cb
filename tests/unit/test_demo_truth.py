"""The demo's comparison finds whatever is lost, doubled, changed or made up, of snapshots, anchors and updates."""

import hashlib
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cryptoflow.demo_frames import Served
from cryptoflow.demo_rebuild import rebuild
from cryptoflow.demo_run import Run
from cryptoflow.demo_truth import compare
from shared.lake.layout import data_path
from shared.lake.schema import FILE_SCHEMAS
from shared.messages import Book

BOOK = Book("binance", "spot", "BTCUSDT")
SECOND_NS = 1_000_000_000
BODY = {"bids": [["0.1", "3"], ["0.09", "1.5"]], "asks": [["0.30000000000000004", "2"]]}
# Each update takes one level away and brings one, so that a zero is among its levels.
CHANGES = {"b": [["0.09", "0"], ["0.1", "4.7"]], "a": [["0.4", "1"]]}
AFTER_CHANGES = {"bids": [["0.1", "4.7"]], "asks": [["0.30000000000000004", "2"], ["0.4", "1"]]}


@pytest.fixture
def run(tmp_path) -> Run:
    (tmp_path / "bodies").mkdir()
    made = Run("demo_1", tmp_path, tmp_path / "lake", tmp_path)
    serve(made)
    stream(made)
    return made


def serve(run: Run, *update_ids: int, body: dict = BODY) -> None:
    lines = []
    for update_id in update_ids:
        text = json.dumps({"lastUpdateId": update_id, **body})
        digest = hashlib.sha256(text.encode()).hexdigest()
        (run.bodies / digest).write_text(text)
        answer = {
            "market": BOOK.market, "symbol": BOOK.symbol, "sha256": digest, "served_ns": update_id * SECOND_NS,
            "lastUpdateId": update_id, "bids": len(body["bids"]), "asks": len(body["asks"]), "book": True, "complete": True,
        }  # fmt: skip
        lines.append(json.dumps(answer) + "\n")
    run.truth_path.write_text("".join(lines))


def stream(run: Run, *update_ids: int, undelivered: tuple[int, ...] = ()) -> None:
    """The exchange's log of these events, as the simulator words it."""
    lines = [{"what": "base", "market": BOOK.market, "symbol": BOOK.symbol, "last_id": 0, "bids": [], "asks": []}]
    for u in update_ids:
        common = {"market": BOOK.market, "symbol": BOOK.symbol, "U": u, "u": u}
        lines.append({"what": "event", **common, "pu": None, "text": json.dumps({"U": u, "u": u, **CHANGES})})
        lines.append({"what": "frame", "conn": 1, **common, "delivered": u not in undelivered})
    run.frames_path.write_text("".join(json.dumps(line, separators=(",", ":")) + "\n" for line in lines))


def received(seconds: float, offset: int) -> dict:
    ns = int(seconds * SECOND_NS)
    return {"timestamp": ns // 1000, "recv_ns": ns, "raw_partition": 0, "raw_offset": offset}


def levels(update_id: int, offset: int, body: dict = BODY) -> list[dict]:
    common = received(update_id, offset) | {"last_update_id": update_id}
    return [
        common | {"side": side[:3], "price": float(price), "quantity": float(quantity), "level": level}
        for side in ("bids", "asks")
        for level, (price, quantity) in enumerate(body[side], 1)
    ]


def anchor(update_id: int, offset: int) -> list[dict]:
    rows = levels(update_id, offset)
    return [
        {name: value for name, value in row.items() if name not in {"last_update_id", "level"}}
        | {"type": "snapshot", "update_id": update_id, "depth_limit": 5}
        for row in rows
    ]


def update(update_id: int, offset: int) -> list[dict]:
    common = received(update_id, offset) | {"type": "update", "first_update_id": update_id, "update_id": update_id}
    return [
        common | {"side": side, "price": float(price), "quantity": float(quantity)}
        for side, changed in (("bid", CHANGES["b"]), ("ask", CHANGES["a"]))
        for price, quantity in changed
    ]


def gap(since_s: int, until_s: int, offset: int) -> dict:
    return received(until_s, offset) | {"gap_cause": "stop", "gap_since": since_s * 1_000_000}


def hole(offset: int) -> list[dict]:
    return [gap(5, 6, offset) | {"type": "gap"}]


def store(run: Run, rows: list[dict], kind: str = "fobs") -> None:
    path = run.lake / data_path(kind, BOOK, 0, run.stream, 0, 0, 9)
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows, schema=FILE_SCHEMAS[kind]), path)


def test_equal_books_are_equal(run):
    serve(run, 5, 6)
    store(run, levels(5, 0) + levels(6, 1))
    found = compare(run)
    assert found.problems == []
    assert (found.polls, found.levels, found.rows) == (2, 6, 6)
    assert found.equal


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
    found = compare(run)
    assert any(problem in text for text in found.problems)
    assert not found.equal


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


def test_an_answer_may_be_a_poll_an_anchor_or_both(run):
    serve(run, 5, 6, 7)
    store(run, levels(5, 0) + levels(7, 1))
    store(run, anchor(6, 0) + anchor(7, 1), "fobd")
    found = compare(run)
    assert found.problems == []
    assert (found.polls, found.anchors, found.levels, found.rows) == (2, 2, 6, 6)


def test_an_anchor_that_differs_or_was_not_served_is_found(run):
    serve(run, 5)
    store(run, anchor(5, 0)[:-1] + anchor(6, 1), "fobd")
    assert [problem.split(": ")[1] for problem in compare(run).problems] == [
        "anchor 5 differs from what was served",
        "anchor 6 lies in the lake more often than it was served",
    ]


def test_so_many_answers_may_be_missing_as_the_reader_refused_as_anchors(run):
    serve(run, 5, 6)
    store(run, levels(5, 0))
    found = compare(run, refused_anchors=1)
    assert (found.problems, found.refused) == ([], 1)
    serve(run, 5, 6, 7)
    assert len(compare(run, refused_anchors=1).problems) == 2


def test_equal_updates_are_equal(run):
    stream(run, 3, 4, 5)
    store(run, [*hole(0), *update(3, 1), *update(4, 2), *update(5, 3), *hole(4)], "fobd")
    found = compare(run)
    assert found.problems == []
    assert found.equal
    updates = found.updates
    assert (updates.updates, updates.levels, updates.removals, updates.rows, updates.gap_rows) == (3, 9, 3, 9, 2)


ALL = [update(3, 0), update(4, 1), update(5, 2), hole(9)]


@pytest.mark.parametrize(
    ("messages", "problem"),
    [
        pytest.param([ALL[0], ALL[2], ALL[3]], "update 4 was sent and does not lie in the lake", id="one lost"),
        pytest.param([ALL[2], ALL[3]], "updates 3 to 4 were sent and do not lie in the lake", id="the first lost"),
        pytest.param([hole(0), update(4, 1), ALL[2], ALL[3]], "update 3 was sent", id="the first, after a gap row"),
        pytest.param(
            ALL[:2], "update 5 was sent and does not lie in the lake, and no gap row follows", id="the last lost"
        ),
        pytest.param([], "updates 3 to 5 were sent", id="all lost"),
        pytest.param(
            [*ALL[:3], update(5, 3), ALL[3]], "update 5 lies in the lake, and was not sent then", id="doubled"
        ),
        pytest.param([*ALL[:3], update(6, 3), ALL[3]], "update 6 lies in the lake, and was not sent", id="made up"),
        pytest.param([update(4, 0), update(3, 1), *ALL[2:]], "update 3 lies in the lake, and was", id="out of order"),
        pytest.param([ALL[0], ALL[1][:-1], *ALL[2:]], "update 4 differs", id="a level is missing"),
        pytest.param([ALL[0], ALL[1][1:], *ALL[2:]], "update 4 differs", id="a removal is missing"),
        pytest.param(
            [ALL[0], [row | {"price": row["price"] * (1 + 2e-16)} for row in ALL[1]], *ALL[2:]],
            "update 4 differs",
            id="last bit",
        ),
        pytest.param(
            [ALL[0], [row | {"prev_update_id": 3} for row in ALL[1]], *ALL[2:]], "update 4 differs", id="another id"
        ),
    ],
)
def test_whatever_is_wrong_with_updates_is_found(run: Run, messages: list[list[dict]], problem: str):
    stream(run, 3, 4, 5)
    if messages:
        store(run, [row for message in messages for row in message], "fobd")
    found = compare(run)
    assert any(problem in text for text in found.problems), found.problems
    assert not found.equal


def test_updates_that_are_missing_at_a_gap_row_are_accounted_for(run):
    stream(run, 3, 4, 5, 6, 7)
    store(run, [*update(3, 0), *hole(1), *update(6, 2), *hole(3)], "fobd")
    found = compare(run)
    assert found.problems == []
    assert (found.updates.updates, found.updates.in_gaps, found.updates.on_their_way) == (2, 2, 1)


def test_a_gap_row_covers_one_hole_only(run):
    stream(run, 3, 4, 5, 6, 7)
    store(run, [*update(3, 0), *hole(1), *update(5, 2), *update(7, 3)], "fobd")
    found = compare(run)
    assert [problem.split(": ")[1] for problem in found.problems] == [
        "update 6 was sent and does not lie in the lake, and no gap row stands there"
    ]
    assert found.updates.in_gaps == 1


def test_events_that_no_socket_was_given_after_the_last_one_are_not_asked_for(run):
    stream(run, 3, 4, undelivered=(4,))
    store(run, update(3, 0), "fobd")
    assert compare(run).problems == []


def test_updates_are_counted_as_the_log_grows_line_by_line(run):
    stream(run, 3, 4)
    served = Served(run.frames_path)
    text = run.frames_path.read_text()
    run.frames_path.write_text(text[:-9])
    served.look()
    assert served.updates["spot", "BTCUSDT"] == 1
    run.frames_path.write_text(text)
    served.look()
    served.look()
    assert served.updates["spot", "BTCUSDT"] == 2


def deltas(run: Run) -> None:
    store(run, [*anchor(3, 0), *update(4, 1), *update(5, 2), *update(6, 3)], "fobd")


def test_a_book_rebuilt_from_updates_equals_the_snapshot_polled_at_its_id(run):
    store(run, levels(4, 0, AFTER_CHANGES) + levels(5, 1, AFTER_CHANGES))
    deltas(run)
    rebuilt = rebuild(run)
    assert rebuilt is not None
    assert rebuilt.problem == ""
    assert (rebuilt.choice.snapshot.last_id, rebuilt.choice.at_ns) == (5, 5 * SECOND_NS), "farthest from the anchor"
    assert (rebuilt.book.updates, rebuilt.bids, rebuilt.asks) == (2, 1, 2)


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(BODY, id="another book"),
        pytest.param(AFTER_CHANGES | {"asks": [["0.30000000000000004", "2"], ["0.4", "1.5"]]}, id="a quantity"),
        pytest.param(AFTER_CHANGES | {"bids": [["0.1", "4.7"], ["0.09", "1.5"]]}, id="a level that was removed"),
    ],
)
def test_a_book_that_differs_from_the_snapshot_is_found(run: Run, body: dict):
    store(run, levels(5, 0, body))
    deltas(run)
    rebuilt = rebuild(run)
    assert rebuilt is not None
    assert rebuilt.problem == "their levels differ"


def test_no_book_is_rebuilt_where_no_snapshot_has_the_id_of_an_update(run):
    store(run, levels(3, 0))
    deltas(run)
    assert rebuild(run) is None


def test_no_book_is_rebuilt_behind_a_gap_that_no_anchor_follows(run):
    store(run, levels(5, 0, AFTER_CHANGES))
    store(run, [*anchor(3, 0), *hole(1), *update(4, 2), *update(5, 3), *update(6, 4)], "fobd")
    assert rebuild(run) is None
