from __future__ import annotations

import json

import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from cryptoflow import lake
from cryptoflow.lake_cli import app
from shared.lake.store_local import LocalStore
from tests.lakes import BTC, HOUR_0, FobdRows, Line, fobd_line, gap_row

SECOND = 1_000_000_000
T0 = HOUR_0 * 1000
WHERE = ("--exchange", "binance", "--market", "future", "--symbol", "BTCUSDT")
BEFORE, AFTER = "2026-09-21T14:00:02.5Z", "2026-09-21T14:00:09Z"
BIDS, ASKS = [(100.5, 1.0), (99.0, 2e-7)], [(101.0, 4.0)]


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return lambda *arguments: CliRunner().invoke(app, arguments)


@pytest.fixture(autouse=True)
def store(tmp_path) -> LocalStore:
    """An anchor at 1 s, an update at 2 s, and at 3 s a gap."""
    store, rows = LocalStore(tmp_path / "lake"), FobdRows()
    rows.anchor(10, BIDS, ASKS, limit=2)
    rows.update(11, 12, 10, bids=[(98.0, 7.0)])
    rows.gap("disconnect", last=12, following=20, since=T0 + 2 * SECOND)
    fobd_line(store).write((BTC, rows.table()))
    Line(store, topic="norm-fobs").write((BTC, gap_row()))
    return store


def book(run, *arguments, at=BEFORE):
    return run("book", "lake", *WHERE, "--at", at, *arguments)


def test_a_book_is_shown_with_where_it_comes_from(run):
    done = book(run, at=str(T0 // 1_000_000 + 2000))
    assert done.exit_code == 0
    assert done.stdout.splitlines() == [
        "binance:future:BTCUSDT at 2026-09-21T14:00:02Z: update id 12, 0.000 s old",
        "from the anchor of 2026-09-21T14:00:01Z: id 10, depth limit 2, raw record main/0/0; 1 updates applied",
        "known depth: bids down to 99, asks whole",
        "bid quantity    bid  ask  ask quantity",
        "           1  100.5  101             4",
        "   0.0000002     99                   ",
        "           7    98*                   ",
        "* beyond the anchor: changed since; others may lie between",
    ]
    assert done.stderr == ""


def test_depth_cuts_the_table(run):
    done = book(run, "--depth", "1", at="2026-09-21T14:00:02Z")
    assert [line.split() for line in done.stdout.splitlines()[3:]] == [
        ["bid", "quantity", "bid", "ask", "ask", "quantity"],
        ["1", "100.5", "101", "4"],
    ]


def test_a_gap_between_is_told_and_exits_3(run):
    done = book(run, at=AFTER)
    assert done.exit_code == 3
    assert "update id 12, 7.000 s old" in done.stdout
    assert done.stderr.splitlines() == [
        "gap: disconnect: fobd of binance:future:BTCUSDT, since 2026-09-21T14:00:02Z until 2026-09-21T14:00:03Z, main/0/2",
        "this is the book from before the gap (--allow-gap takes it)",
    ]


def test_an_instant_in_the_hole_is_in_the_gap_before_it_was_told(run):
    assert book(run).exit_code == 3
    assert book(run, at="2026-09-21T14:00:01.999999999Z").exit_code == 0


def test_a_gap_that_is_allowed_is_told_and_exits_0(run):
    done = book(run, "--allow-gap", at=AFTER)
    assert done.exit_code == 0
    assert done.stderr.startswith("gap: disconnect: ")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(("at", "exit_code"), [("2026-09-21T14:00:02Z", 0), (AFTER, 3)])
def test_json_is_the_whole_book_on_one_line(run, at, exit_code):
    done = book(run, "--json", "--depth", "1", at=at)
    assert done.exit_code == exit_code
    assert done.stdout.count("\n") == 1
    told = json.loads(done.stdout)
    found = lake.book("lake", exchange="binance", market="future", symbol="BTCUSDT", at=at, depth=1)
    assert told == json.loads(json.dumps(found.as_dict()))
    assert told["bids"] == [[100.5, 1.0, False]]
    assert told["anchor"] == {
        "time": "2026-09-21T14:00:01Z",
        "recv_ns": T0 + SECOND,
        "update_id": 10,
        "depth_limit": 2,
        "raw_offset": 0,
    }
    assert told["known"] == {"bids": {"whole": False, "to_price": 99.0}, "asks": {"whole": True, "to_price": 101.0}}
    assert [gap["cause"] for gap in told["gaps"]] == (["disconnect"] if exit_code else [])


def test_parquet_holds_the_whole_book(run):
    done = book(run, "--parquet", "book.parquet", at="2026-09-21T14:00:02Z")
    assert done.exit_code == 0
    assert done.stdout.endswith("3 bids and 1 asks written to book.parquet\n")
    table = pq.read_table("book.parquet")
    assert table["price"].to_pylist() == [100.5, 99.0, 98.0, 101.0]
    assert table["beyond_anchor"].to_pylist() == [False, False, True, False]
    assert table.schema.metadata[b"cryptoflow.at"] == b"2026-09-21T14:00:02Z"


def test_no_parquet_is_written_over_a_gap_unless_that_is_allowed(run, tmp_path):
    done = book(run, "--parquet", "book.parquet", at=AFTER)
    assert done.exit_code == 3
    assert "book.parquet was not written" in done.stderr
    assert not (tmp_path / "book.parquet").exists()
    assert book(run, "--parquet", "book.parquet", "--allow-gap", at=AFTER).exit_code == 0
    assert b"disconnect" in pq.read_table("book.parquet").schema.metadata[b"cryptoflow.gaps"]


def test_a_parquet_that_cannot_be_written_exits_2(run):
    done = book(run, "--parquet", "nowhere/book.parquet", at="2026-09-21T14:00:02Z")
    assert done.exit_code == 2
    assert done.stderr.startswith("not written: ")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (
            {"--at": "2026-09-21T14:00:00Z"},
            "no anchor of binance:future:BTCUSDT received at or before 2026-09-21T14:00:00Z",
        ),
        ({"--symbol": "ETHUSDT"}, "there is no fobd of this symbol at all"),
        ({"--market": "margin"}, "no sequence rule for binance:margin"),
        ({"--stream": "other"}, "stream other"),
    ],
    ids=str,
)
def test_without_an_anchor_there_is_no_book_and_exit_2(run, arguments, words):
    options = dict(zip(WHERE[::2], WHERE[1::2], strict=True)) | {"--at": AFTER} | arguments
    flat = [part for pair in options.items() for part in pair]
    done = run("book", "lake", *flat)
    assert done.exit_code == 2
    assert done.stderr.startswith("not rebuilt: ")
    assert words in done.stderr
    assert words in json.loads(run("book", "lake", *flat, "--json").stdout)["error"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--at", "2026-09-21T14:00:00"), "names no zone"),
        (("--at", "12345"), "has 5 digits"),
        (("--at", "soon"), "is no instant"),
        (("--at", AFTER, "--depth", "0"), "'--depth'"),
        (("--at", AFTER, "--stream", "Main-1"), "is no stream"),
        (("--at", AFTER, "--symbol", ""), "the symbol is empty"),
        (("--at", AFTER, "--json", "--parquet", "x"), "choose one"),
        ((), "Missing option '--at'"),
    ],
    ids=str,
)
def test_a_wrong_command_line_is_said_in_words(run, arguments, words):
    done = run("book", "lake", *WHERE, *arguments)
    assert done.exit_code == 2
    assert words in " ".join(done.stderr.split())
    assert isinstance(done.exception, SystemExit)


def test_gaps_are_listed_in_the_order_of_time(run):
    done = run("gaps", "lake")
    assert done.exit_code == 0
    times = ["2026-09-21T14:00:02Z", "2026-09-21T14:00:03Z"]
    assert [line.split() for line in done.stdout.splitlines()[1:]] == [
        ["fobs", "binance:future:BTCUSDT", "poll", "2026-09-21T14:00:00Z", "2026-09-21T14:00:00Z", "main/0/0"],
        ["fobd", "binance:future:BTCUSDT", "disconnect", *times, "12", "20", "main/0/2"],
        ["2", "known", "gaps"],
    ]


def test_gaps_of_a_span_and_kind(run):
    done = run("gaps", "lake", "--from", "2026-09-21T14:00:01Z", "--to", AFTER, "--symbol", "BTCUSDT", "--json")
    (gap,) = json.loads(done.stdout)["gaps"]
    assert (gap["cause"], gap["since"], gap["raw_offset"]) == ("disconnect", "2026-09-21T14:00:02Z", 2)
    assert run("gaps", "lake", "--kind", "fobs").stdout.endswith("1 known gap\n")


def test_no_gap_is_exit_0_as_well(run):
    done = run("gaps", "lake", "--from", AFTER)
    assert (done.exit_code, done.stdout) == (0, "0 known gaps\n")
    assert json.loads(run("gaps", "lake", "--from", AFTER, "--json").stdout) == {"url": "lake", "gaps": []}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("lake", "--kind", "trades"), "is not one of fobs, fobd"),
        (("lake", "--from", AFTER, "--to", BEFORE), "--to must lie after --from"),
        (("lake", "--from", "x"), "is no instant"),
        (("nowhere",), "is it a lake?"),
        (("gs://bucket",), "not listed: "),
    ],
    ids=str,
)
def test_what_cannot_be_listed_exits_2(run, arguments, words):
    done = run("gaps", *arguments)
    assert done.exit_code == 2
    assert words in " ".join(done.stderr.split())
