"""The demo as a user runs it: its own words, its exit code, what lies in the lake, and that nothing is left running."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import duckdb
import psutil
import pytest

from cryptoflow.demo_broker import docker_answers, embedded_program
from tests.support import unavailable

ROOT = Path(__file__).resolve().parents[2]
SECONDS = 14
TIMEOUT_SECONDS = 150

pytestmark = [
    pytest.mark.xdist_group("demo"),
    pytest.mark.skipif(
        embedded_program() is None and not docker_answers(),
        reason="neither noida-db nor Docker is there: the demo has no broker",
    ),
]


@dataclass(frozen=True)
class Ended:
    code: int
    output: str
    folder: Path

    @property
    def stream(self) -> str:
        return re.search(r"stream (demo_\d+_\d+)", self.output)[1]

    def rows(self, kind: str, of: str = "side IS NOT NULL") -> int:
        """Of this run, in the lake."""
        files = f"{self.folder}/demo-lake/{kind}/**/{kind}-{self.stream}-*.parquet"
        return duckdb.connect().execute(f"SELECT count(*) FROM read_parquet(?) WHERE {of}", [files]).fetchone()[0]


def start(folder: Path, *arguments: str, seconds: float = SECONDS) -> subprocess.Popen:
    environment = os.environ | {"PYTHONPATH": str(ROOT), "DEMO_SECONDS": str(seconds), "COLUMNS": "120"}
    return subprocess.Popen(
        [sys.executable, "-m", "cryptoflow.demo", *arguments],
        cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


def finish(demo: subprocess.Popen, folder: Path, before: str = "") -> Ended:
    rest, _ = demo.communicate(timeout=TIMEOUT_SECONDS)
    return Ended(demo.returncode, before + rest, folder)


def read_until(demo: subprocess.Popen, text: str) -> str:
    """All it has printed up to a line that holds `text`."""
    read = ""
    for line in demo.stdout:
        read += line
        if text in line:
            return read
    pytest.fail(f"it ended without saying {text!r}:\n{read}")


def number(text: str) -> int:
    return int(text.replace(",", ""))


def left_running(folder: Path) -> list[str]:
    """Processes that work in `folder`; every part of the demo does."""
    return [" ".join(process.info["cmdline"] or []) for process in processes_in(folder)]


def processes_in(folder: Path) -> Iterator[psutil.Process]:
    for process in psutil.process_iter(["cwd", "cmdline", "status"]):
        cwd = process.info["cwd"]
        if cwd and Path(cwd).is_relative_to(folder) and process.info["status"] != psutil.STATUS_ZOMBIE:
            yield process


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("demo")


@pytest.fixture(scope="module")
def first(folder) -> Ended:
    return finish(start(folder), folder)


def test_it_ends_by_itself_with_exit_code_0_and_a_proven_lake(first):
    assert first.code == 0, first.output
    assert "lake verify    green" in first.output
    assert "against truth  equal" in first.output
    assert "book from updates  equal" in first.output


def test_the_rows_of_levels_are_those_that_the_exchange_served(first):
    served, rows = re.search(r"([\d,]+) levels served = ([\d,]+) rows", first.output).groups()
    assert served == rows
    assert number(rows) == first.rows("fobs") > 0


def test_the_updates_and_their_rows_are_those_that_the_exchange_sent(first):
    updates, sent, rows, removals, anchors = re.search(
        r"([\d,]+) updates, ([\d,]+) levels sent = ([\d,]+) rows, ([\d,]+) of them removals,.* ([\d,]+) anchors",
        first.output,
    ).groups()
    assert sent == rows
    assert number(rows) == first.rows("fobd", "type = 'update' AND side IS NOT NULL")
    assert number(removals) == first.rows("fobd", "type = 'update' AND quantity = 0") > 0
    assert number(updates) > 6 * SECONDS, "of six books, ten a second"
    assert number(anchors) >= 6, "one of each book"


def test_each_symbol_has_a_start_and_a_stop_and_no_gap_among_its_updates(first):
    for kind in ("fobs", "fobd"):
        for cause in ("start", "stop"):
            assert first.rows(kind, f"gap_cause = '{cause}'") == 6
    assert first.rows("fobd", "gap_cause NOT IN ('start', 'stop')") == 0


@pytest.mark.parametrize("kind", ["fobs", "fobd"])
def test_all_three_markets_are_recorded(first: Ended, kind: str):
    books = (
        duckdb.connect()
        .execute(
            "SELECT DISTINCT market FROM read_parquet(?, hive_partitioning = true) WHERE side IS NOT NULL",
            [f"{first.folder}/demo-lake/{kind}/**/*.parquet"],
        )
        .fetchall()
    )
    assert {market for (market,) in books} == {"spot", "future", "inverse"}


def test_nothing_is_left_running(first):
    assert left_running(first.folder) == []


def test_the_commands_it_prints_work_when_pasted(first):
    commands = first.output.split("Look further:\n")[1]
    done = subprocess.run(
        ["bash", "-e"], input=commands, cwd=first.folder, env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True, text=True, check=False, timeout=TIMEOUT_SECONDS,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "bid_quantity" in done.stdout, "the query"
    assert "updates applied" in done.stdout, "the book"
    gaps = re.search(r"(\d+) known gaps", done.stdout)[1]
    assert int(gaps) >= 24, "a start and a stop of six symbols, for snapshots and for updates"


def test_a_second_run_adds_to_the_lake_and_ends_with_ctrl_c(first):
    demo = start(first.folder, seconds=600)
    read = read_until(demo, "updates served")
    demo.send_signal(signal.SIGINT)
    second = finish(demo, first.folder, read)
    assert second.code == 0, second.output
    assert "lake verify    green" in second.output
    assert "against truth  equal" in second.output
    assert "book from updates  equal" in second.output
    assert second.stream != first.stream
    for kind in ("fobs", "fobd"):
        assert second.rows(kind) > 0
        assert first.rows(kind) > 0, "the older run is still there"
    assert left_running(first.folder) == []


def test_a_second_ctrl_c_stops_at_once_and_leaves_nothing_running(tmp_path):
    demo = start(tmp_path, seconds=600)
    read = read_until(demo, "are ready")
    demo.send_signal(signal.SIGINT)
    read += read_until(demo, "draining")
    demo.send_signal(signal.SIGTERM)
    ended = finish(demo, tmp_path, read)
    assert ended.code == 130, ended.output
    assert left_running(tmp_path) == []


def test_a_demo_that_is_killed_leaves_nothing_running(tmp_path):
    demo = start(tmp_path, seconds=600)
    read_until(demo, "are ready")
    parts = list(processes_in(tmp_path / ".demo"))
    assert len(parts) >= 4
    demo.kill()
    demo.communicate()
    _, alive = psutil.wait_procs(parts, timeout=30)
    assert [process for process in alive if process.status() != psutil.STATUS_ZOMBIE] == []


def test_a_service_that_dies_is_named_with_the_end_of_its_log(tmp_path):
    demo = start(tmp_path, seconds=600)
    read = read_until(demo, "are ready")
    flattener = next(process for process in processes_in(tmp_path) if "services.flattener" in process.info["cmdline"])
    flattener.kill()
    ended = finish(demo, tmp_path, read)
    assert ended.code == 1, ended.output
    assert "FAILED: flattener ended by itself (killed by SIGKILL)" in ended.output
    assert '"event"' in ended.output, "the log's end is shown"
    assert left_running(tmp_path) == []


def test_a_kafka_that_is_named_is_used_with_topics_of_its_own(tmp_path, embedded_kafka):
    ended = finish(start(tmp_path, "--bootstrap-servers", embedded_kafka.bootstrap_servers, seconds=5), tmp_path)
    assert ended.code == 0, ended.output
    assert f"the Kafka at {embedded_kafka.bootstrap_servers}" in ended.output
    config = (tmp_path / ".demo" / ended.stream / "config.yml").read_text()
    assert f"topic: {ended.stream}-raw-fobs" in config
    assert f"topic: {ended.stream}-raw-fobd" in config


@pytest.mark.docker
def test_kafka_in_docker_takes_the_place_of_the_embedded_broker(tmp_path):
    if not docker_answers():
        unavailable("Docker")
    ended = finish(start(tmp_path, "--broker", "docker", seconds=5), tmp_path)
    assert ended.code == 0, ended.output
    assert "apache/kafka:4.3.1 in Docker" in ended.output
    assert left_running(tmp_path) == []


def test_a_kafka_that_is_not_there_is_said_in_words(tmp_path):
    ended = finish(start(tmp_path, "--bootstrap-servers", "127.0.0.1:1"), tmp_path)
    assert ended.code == 1, ended.output
    assert "FAILED: the Kafka at 127.0.0.1:1 does not answer" in ended.output
    assert "Traceback" not in ended.output
    assert left_running(tmp_path) == []


def test_a_folder_that_is_no_lake_is_refused(tmp_path):
    (tmp_path / "demo-lake").mkdir()
    (tmp_path / "demo-lake" / "holiday.jpg").touch()
    ended = finish(start(tmp_path), tmp_path)
    assert ended.code == 1
    assert "demo-lake is no lake (there is 'holiday.jpg' in it)" in ended.output
