"""`lake verify --against-…` and `lake reflatten` as they are typed: a lake and its archive in a folder, no Kafka."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from cryptoflow.lake_cli import app
from shared.lake.store_local import LocalStore
from tests.raw_lakes import RawLake, raw_records

RECORDS = {kind: raw_records(0, 99, kind) for kind in ("fobs", "fobd")}


@pytest.fixture
def store(tmp_path) -> LocalStore:
    """Raw offsets 0..99 of both kinds in rows; 20..89 of fobs, and all of fobd, in the archive."""
    store = LocalStore(tmp_path / "lake")
    for kind, records in RECORDS.items():
        RawLake(store, kind=kind).flush_all(records, 50)
    RawLake(store, kind="raw-fobs").flush_all(RECORDS["fobs"][20:90], 35)
    RawLake(store, kind="raw-fobd").flush_all(RECORDS["fobd"], 40)
    return store


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return lambda *arguments: CliRunner().invoke(app, arguments)


def test_the_archive_proves_what_it_holds_and_says_what_it_does_not(store, run):
    done = run("verify", "lake", "--against-raw")
    assert done.exit_code == 0, done.output
    *notes, against, verdict = done.stdout.splitlines()
    archive = f"the raw archive in {store.url}"
    assert notes == [
        f"note: fobs/main/0: {archive} no longer holds raw offsets 0-19: not compared",
        f"note: fobs/main/0: {archive} does not reach raw offsets 90-99: not compared",
    ]
    assert against.startswith(f"against {archive}: 170 raw records compared, row by row: ")
    assert against.endswith("all equal; 30 raw offsets could not be compared")
    assert ": complete; " in verdict


def test_differences_are_printed_with_place_and_values(store, tmp_path, run):
    other = LocalStore(tmp_path / "other")
    wrong = [record for record in RECORDS["fobs"] if record.offset != 33]
    RawLake(other).flush_all(wrong, 99)
    done = run("verify", "other", "--against-raw", "--raw-lake", "lake", "--fast")
    assert done.exit_code == 1
    problem, difference, *_ = done.stdout.splitlines()
    assert problem.startswith("rows-lost: fobs/exchange=binance/")
    assert "of 1 raw records are in the source and not in the lake; raw record 0/33, row 0: " in problem
    assert difference.startswith("rows-lost: fobs/exchange=binance/")
    assert "raw record 0/33, row 0: timestamp 20" in difference


def test_the_comparison_is_in_the_json(store, run):
    done = run("verify", "lake", "--against-raw", "--json")
    told = json.loads(done.stdout)
    assert [line["raw_records"] for line in told["against"]["lines"]] == [100, 70]
    assert (told["verdict"], told["exit_code"], told["against"]["differences"]) == ("complete", 0, [])


def test_without_an_archive_nothing_was_compared_and_that_is_not_green(store, tmp_path, run):
    RawLake(LocalStore(tmp_path / "bare")).flush_all(RECORDS["fobs"], 50)
    done = run("verify", "bare", "--against-raw")
    assert done.exit_code == 2
    assert "note: fobs/main/0: not compared: the raw archive in " in done.stdout
    assert ": not-compared; " in done.stdout


NINE = "2026-11-25T09:00:00Z"


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("verify lake --against-raw --against-kafka", "choose one"),
        ("verify lake --raw-lake lake", "--raw-lake is of --against-raw"),
        ("verify lake --against-raw --set kafka.stream=main", "--config and --set are of --against-kafka"),
        ("reflatten lake again --from-raw --set kafka.stream=main", "--config and --set are of --from-kafka"),
        ("reflatten lake again", "one of --from-kafka and --from-raw"),
        ("reflatten lake again --from-kafka --from-raw", "one of --from-kafka and --from-raw"),
        ("reflatten lake again --from-kafka --raw-lake x", "--raw-lake is of --from-raw"),
        ("reflatten lake again --from-raw --first 3", "--partition and one --kind"),
        ("reflatten lake again --from-raw --last 3 --partition 0", "--partition and one --kind"),
        (f"reflatten lake again --from-raw --last 3 --partition 0 --kind fobs --to {NINE}", "raw offsets or times"),
        (f"reflatten lake again --from-raw --from {NINE} --to {NINE}", "--to must lie after --from"),
        ("reflatten lake again --from-raw --kind raw-fobs", "is not one of fobs, fobd"),
        ("reflatten lake again --from-raw --as-stream Main", "is no stream"),
    ],
)
def test_a_command_line_that_means_nothing_is_refused(tmp_path, run, line, why):
    done = run(*line.split())
    assert done.exit_code == 2
    assert why in " ".join(done.stderr.replace("│", " ").split())
    assert list(tmp_path.iterdir()) == []


def test_what_is_made_again_of_the_archive_is_summed_up_and_proven(store, run):
    done = run("reflatten", "lake", "again", "--from-raw")
    assert done.exit_code == 3
    note, total = done.stdout.splitlines()
    assert note == "note: fobs/main/0: the source does not hold raw offsets 0-19, 90-99 of 0-99: not made"
    assert " rows of 170 raw records made in " in total
    assert total.endswith("30 raw offsets are not held by the source")
    assert run("verify", "again", "--strict", "--against-raw", "--raw-lake", "lake").exit_code == 0


def test_run_again_there_is_nothing_to_do(store, run):
    assert run("reflatten", "lake", "again", "--from-raw", "--kind", "fobd").exit_code == 0
    done = run("reflatten", "lake", "again", "--from-raw", "--kind", "fobd", "--json")
    told = json.loads(done.stdout)
    assert (done.exit_code, told["exit_code"], told["not_made"]) == (0, 0, 0)
    assert [(line["claims"], line["rows"]) for line in told["lines"]] == [(0, 0)]


def test_what_is_refused_is_said_in_words_or_json(store, run):
    done = run("reflatten", "lake", "lake", "--from-raw")
    assert done.exit_code == 2
    assert done.stderr.startswith("not reflattened: ")
    assert "never made again in place" in done.stderr
    told = json.loads(run("reflatten", "lake", "lake", "--from-raw", "--json").stdout)
    assert told["exit_code"] == 2


def test_an_archive_alone_is_enough_to_make_rows_of(tmp_path, run):
    """The flattener never ran, or its lines were lost: nothing but the archive says what there was."""
    store = LocalStore(tmp_path / "lake")
    RawLake(store, kind="raw-fobd", partition=1).flush_all(raw_records(5, 64, "fobd", partition=1), 30)
    done = run("reflatten", "lake", "again", "--from-raw")
    assert done.exit_code == 0, done.output
    assert " rows of 60 raw records made in " in done.stdout
    assert run("verify", "again", "--against-raw", "--raw-lake", "lake").exit_code == 0
