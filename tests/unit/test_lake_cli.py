from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from cryptoflow import lake
from cryptoflow.lake_cli import app
from shared.lake import layout
from shared.lake.store_local import LocalStore
from tests.lakes import BTC, CHINESE, HOUR_0, HOUR_1, Line
from tests.support import free_port


@pytest.fixture
def line(tmp_path) -> Line:
    line = Line(LocalStore(tmp_path / "lake"))
    line.flush((BTC, HOUR_0), (CHINESE, HOUR_1))
    return line


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return lambda *arguments: CliRunner().invoke(app, arguments)


def test_a_whole_lake_is_green(line, run):
    done = run("verify", "lake")
    assert done.exit_code == 0
    assert done.stdout.endswith("complete; 40 rows in 2 files, 1 claims of 1 partitions; every row read\n")


def test_damage_is_named_and_exits_1(line, run, tmp_path):
    path = line.claims[0].files[1].path
    (tmp_path / "lake" / path).unlink()
    line.flush((BTC, HOUR_1))
    done = run("verify", "lake", "--fast")
    assert done.exit_code == 1
    assert done.stdout.startswith(f"file-missing: {path}: ")
    assert "damaged; " in done.stdout


def test_losses_exit_3(line, run):
    line.done += 5
    claim = line.flush((BTC, HOUR_1), done_before=line.claims[0].done_after, holes=((10, 14),))
    done = run("verify", "lake")
    assert done.exit_code == 3
    path = layout.claim_path("fobs", "main", 0, claim.first)
    assert done.stdout.startswith(f"source-hole: {path}: raw offsets 10-14 of partition 0")


def test_an_open_claim_is_said_and_is_damage_to_the_strict(line, run):
    line.flush((BTC, HOUR_1), complete=False)
    assert (run("verify", "lake").exit_code, run("verify", "lake", "--strict").exit_code) == (0, 1)
    assert "open: _claims/v1/fobs/main/00000/00000000000000000010.json: 1 files to come" in run("verify", "lake").stdout


@pytest.mark.parametrize("verdict", ["complete", "damaged"])
def test_json_is_the_whole_report_on_one_line(line, run, tmp_path, verdict):
    if verdict == "damaged":
        (tmp_path / "lake" / "stray").write_bytes(b"x")
    done = run("verify", "lake", "--json")
    told = json.loads(done.stdout)
    assert done.stdout.count("\n") == 1
    assert told == json.loads(json.dumps(lake.verify("lake").as_dict()))
    assert (told["verdict"], told["exit_code"]) == (verdict, done.exit_code)


def test_nothing_is_not_green(run):
    done = run("verify", "nowhere")
    assert done.exit_code == 2
    assert "is it a lake?" in done.stderr


@pytest.mark.parametrize("command", ["verify", "watermark"])
@pytest.mark.parametrize("url", ["gs://bucket/lake", "s3://"])
def test_what_cannot_be_opened_exits_2_without_a_traceback(run, command, url):
    done = run(command, url)
    assert done.exit_code == 2
    assert isinstance(done.exception, SystemExit)
    assert done.stderr.startswith("not ")
    assert json.loads(run(command, url, "--json").stdout)["exit_code"] == 2


def test_a_store_that_does_not_answer_is_said_and_exits_2(run, monkeypatch):
    monkeypatch.setenv("S3_ENDPOINT_URL", f"http://127.0.0.1:{free_port()}")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "a")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "b")
    done = run("verify", "s3://bucket/lake")
    assert done.exit_code == 2
    assert "does not answer" in done.stderr
    assert "(try again)" in done.stderr


def test_the_watermark_tells_each_symbol_and_the_stream(line, run):
    done = run("watermark", "lake", "--lateness-seconds", "4")
    assert done.exit_code == 0
    until = layout.hour_text(HOUR_1)
    assert [text.split() for text in done.stdout.splitlines()[1:]] == [
        ["fobs", "main", "binance", "future", "BTCUSDT", until],
        ["fobs", "main", "binance", "future", "币安人生USDT", until],
        ["all", "of", "fobs,", "stream", "main:", until],
    ]
    told = json.loads(run("watermark", "lake", "--lateness-seconds", "4", "--json").stdout)
    assert {book["symbol"]: book["closed_until"] for book in told["books"]} == {"BTCUSDT": until, "币安人生USDT": until}


def test_the_watermark_of_nothing_exits_2(run):
    done = run("watermark", "nowhere")
    assert done.exit_code == 2
    assert "is it a lake?" in done.stderr
