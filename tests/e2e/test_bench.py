"""The benchmarks count what they claim to: every level of the work, the same ones for every contender. Never their times.

Peers that would have to be downloaded take no part here; their scripts are only compiled.
"""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bench import environments
from bench.accounting import Spent
from bench.contenders import CONTENDERS, DRAIN, OURS, PEERS
from bench.line_figures import Run, figures, growth, ratios
from bench.stored import Stored, look
from bench.work import WORKS, Filled, work

ROOT = Path(__file__).parents[2]
PLAIN = "plain json + dict rows + pyarrow"
LEVELS = 6000
LEVEL = {"raw_partition": 3, "raw_offset": 7, "side": "bid", "price": 10.5, "quantity": 2.0}


def run_bench(*arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "bench", *arguments], cwd=ROOT, check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr + done.stdout
    return done.stdout


@pytest.fixture
def recorded(request):
    """Where the benchmark named leaves its result; what was there is put back: a test is no measurement."""
    path = environments.OUT / f"{request.param}.json"
    before = path.read_bytes() if path.exists() else None
    yield path
    if before is None:
        path.unlink(missing_ok=True)
    else:
        path.write_bytes(before)


def of(name: str) -> pytest.MarkDecorator:
    """The benchmark whose result `recorded` is."""
    return pytest.mark.parametrize("recorded", [name], indirect=True)


@of("line")
@pytest.mark.timeout(300)
def test_every_contender_stores_the_whole_work_and_the_same_levels(recorded):
    table = run_bench(
        "line", "--broker", "embedded", "--own-python", "--rounds", "1", "--levels", str(LEVELS), "--largest", "1",
        "--works", "snapshots", "market", "--only", OURS, PLAIN, DRAIN,
    )  # fmt: skip
    record = json.loads(recorded.read_text())

    assert record["machine"]["cores"]
    assert set(record["result"]["works"]) == {"snapshots", "market"}
    for found in record["result"]["works"].values():
        contenders = found["contenders"]
        assert contenders.keys() == {OURS, PLAIN, DRAIN}
        ours, plain = contenders[OURS], contenders[PLAIN]
        assert ours["levels"] == ours["stored_levels"] == plain["stored_levels"] >= LEVELS
        assert contenders[DRAIN]["messages"] == ours["messages"]
        assert found["ours"].keys() == {f"over {PLAIN}"}
        assert found["ours"] == found["ours_in_rows"], "both write a row a level"
        assert "simdjson, parse only" in found["limits"]
    assert f"{ours['levels']:,}" in table


@of("latency")
@pytest.mark.timeout(300)
def test_every_message_of_the_measured_time_is_followed_from_the_exchange_to_its_file(recorded):
    table = run_bench(
        "latency", "--broker", "embedded", "--seconds", "10", "--interval", "5", "--symbols", "5", "--polled", "2"
    )
    found = json.loads(recorded.read_text())["result"]

    # An update each 100 ms and symbol, a poll each 5 s: so many, however late.
    assert found["updates_per_second"] == pytest.approx(5 * 10, rel=0.3)
    assert found["snapshots_per_second"] == pytest.approx(2 / 5, rel=0.5)
    assert found["rows_per_second"] > found["updates_per_second"]
    for part in ("exchange to received", "exchange to produced", "exchange to stored", "window to stored"):
        assert 0 < found["updates"][part]["p50_ms"] <= found["updates"][part]["p99_ms"]
    assert found["snapshots"].keys() >= {"received to produced", "received to stored", "window to stored"}
    assert f"{found['updates']['window to stored']['p99_ms']:,}" in table


@of("scaling")
@pytest.mark.timeout(300)
def test_one_and_two_of_a_service_do_the_same_work_once(recorded):
    table = run_bench("scaling", "--broker", "embedded", "--levels", "40000", "--rounds", "1", "--interval", "10")
    found = json.loads(recorded.read_text())["result"]

    assert found["levels"] >= 40_000
    for stage in ("flattener", "s3writer"):
        assert found[stage]["of_1"].keys() == found[stage]["of_2"].keys()
        assert f"{found[stage]['two_over_one']} x" in table


@of("window")
@pytest.mark.timeout(300)
def test_a_window_is_flushed_at_once_and_stored_whole(recorded):
    run_bench("window", "--broker", "embedded", "--seconds", "100", "--rows-per-second", "500", "--interval", "20")
    found = json.loads(recorded.read_text())["result"]

    assert found["rows"] == pytest.approx(100 * 500, rel=0.05)
    assert found["flushes"] == f"interval {found['partitions']}"
    assert found["files"] == found["symbols"]
    assert 0 < found["rss_mib_started"] <= found["rss_mib_buffered_peak"] <= found["rss_mib_flushed_peak"]


@of("backlog")
@pytest.mark.timeout(300)
def test_each_backlog_is_taken_whole_by_both_services(recorded):
    run_bench("backlog", "--broker", "embedded", "--levels", str(LEVELS), "--factors", "1", "2")
    found = json.loads(recorded.read_text())["result"]

    for name in ("snapshots", "deltas"):
        assert LEVELS <= found[name]["1x"]["levels"] < found[name]["2x"]["levels"]
        assert found[name]["peak_rss_last_over_first"].keys() == {"flattener", "s3writer"}
        assert set(found[name]["cpu_ns_per_further_level"]["s3writer"]) == {"beyond 1x"}


@pytest.mark.parametrize("name", WORKS)
def test_a_larger_work_begins_with_the_smaller_and_has_as_many_levels_as_it_says(name):
    chosen = work(name)
    smaller, larger = list(chosen.of(5000)), list(chosen.of(20_000))

    assert larger[: len(smaller)] == smaller
    for levels, messages in ((5000, smaller), (20_000, larger)):
        total = sum(message.levels for message in messages)
        assert total - messages[-1].levels < levels <= total


@pytest.mark.parametrize(
    "changed",
    [
        pytest.param({"price": 10.500000000000002}, id="a price's last bit"),
        pytest.param({"quantity": 2.0000000000000004}, id="a quantity's last bit"),
        pytest.param({"side": "ask"}, id="the side"),
        pytest.param({"raw_offset": 8}, id="the record"),
        pytest.param({"raw_partition": 4}, id="the partition"),
        pytest.param({"price": 2.0, "quantity": 10.5}, id="price and quantity exchanged"),
    ],
)
def test_the_fingerprint_tells_a_level_that_differs(tmp_path, changed):
    first, second = stored(tmp_path / "a", [[LEVEL]]), stored(tmp_path / "b", [[LEVEL | changed]])

    assert first.fingerprint != second.fingerprint


def test_the_fingerprint_knows_no_order_of_rows_or_files_and_tells_a_repeat(tmp_path):
    other = LEVEL | {"price": 11.0}
    together = stored(tmp_path / "a", [[LEVEL, other]])

    assert together.fingerprint == stored(tmp_path / "b", [[other], [LEVEL]]).fingerprint
    assert together.fingerprint != stored(tmp_path / "c", [[LEVEL, other, LEVEL, LEVEL]]).fingerprint


def test_levels_inside_of_a_row_are_counted_wherever_a_sink_puts_them(tmp_path):
    bare = {"bids": [["1", "2"], ["1", "3"]], "asks": [["2", "1"]]}
    wrapped = {"stream": "x", "data": {"b": [["1", "2"]], "a": []}}

    assert stored(tmp_path / "a", [[bare, bare]]) == Stored(
        1, 2, 6, stored(tmp_path / "a2", [[bare, bare]]).bytes, None
    )
    assert stored(tmp_path / "b", [[wrapped]]).levels == 1


def test_a_start_is_taken_off_and_a_further_level_costs_what_lies_between_two_sizes():
    runs = [a_run(size, cpu_seconds) for size, cpu_seconds in ((0, 2.0), (1, 3.0), (4, 6.0), (16, 18.0))]
    found = figures(runs, {OURS: 2.0, "flattener": 1.0, "s3writer": 1.0})

    assert found[OURS]["levels_per_cpu_second"]["median"] == 1000  # 16,000 levels, 18 - 2 seconds
    assert found[OURS]["levels_per_cpu_second_with_start"]["median"] == round(16_000 / 18)
    assert growth(runs)["cpu_ns_per_further_level"] == {"beyond 1x": 1e6, "beyond 4x": 1e6}


def test_the_ratio_is_ours_over_theirs():
    def at(rate: int) -> dict:
        return {"levels_per_cpu_second": {"median": rate}}

    assert ratios({OURS: at(3000), PLAIN: at(1000), DRAIN: at(9)}, "levels") == {f"over {PLAIN}": 3.0}


@pytest.mark.parametrize("script", sorted(PEERS.glob("*.py")), ids=lambda path: path.name)
def test_a_peers_script_is_python_and_imports_nothing_of_ours(script):
    tree = ast.parse(script.read_text(), script.name, feature_version=(3, 11))
    modules = [
        name.name if isinstance(node, ast.Import) else node.module
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in node.names
    ]

    assert not {module.partition(".")[0] for module in modules} & {"bench", "cryptoflow", "services", "shared"}


@pytest.mark.parametrize("name", environments.NAMES)
def test_a_peers_environment_is_pinned_with_hashes(name):
    pinned = environments.locked(name)

    assert set(environments.asked_for(name)) <= pinned.keys()
    blocks = environments.lock_file(name).read_text().count("==")
    assert blocks >= len(pinned)
    assert environments.lock_file(name).read_text().count("--hash=sha256:") >= len(pinned)


def test_every_contender_has_its_script_and_its_environment():
    for contender in CONTENDERS:
        if contender.name != OURS:
            assert (PEERS / contender.script).is_file()
            assert contender.environment in environments.NAMES


def stored(folder: Path, files: list[list[dict]]) -> Stored:
    folder.mkdir()
    for number, rows in enumerate(files):
        pq.write_table(pa.Table.from_pylist(rows), folder / f"{number}.parquet")
    return look(folder)


def a_run(size: int, cpu_seconds: float) -> Run:
    parts = {part: Spent(1.0, cpu_seconds / 2, 2**20) for part in ("flattener", "s3writer")}
    return Run(
        OURS, size, Filled(size, 1000 * size, 0), parts, Stored(1, 1000 * size, 1000 * size, 5000, 1) if size else None
    )
