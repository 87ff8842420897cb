"""What a person types: commands, options that are accepted everywhere, exit codes, and the arithmetic of check-config."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from cryptoflow import cli
from shared.config_sources import Keys, read_dotenv
from shared.errors import FatalError, RetryableError
from shared.settings import Settings

ROOT = Path(__file__).parents[2]
SNAPSHOTS = "source.binance.{}.orderbook.snapshots"


@pytest.fixture(autouse=True)
def bare_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in [*os.environ]:
        if name.startswith(("CRYPTOFLOW_", "AWS_", "S3_", "SHARD_")):
            monkeypatch.delenv(name)
    return tmp_path


def run(*arguments):
    return CliRunner().invoke(cli.app, arguments)


def planned(*pairs):
    result = run("check-config", "--json", *(part for pair in pairs for part in ("--set", pair)))
    return result, json.loads(result.stdout)["plan"]


def commands(command, path=()):
    children = getattr(command, "commands", {})
    if not children:
        yield path, command
    for name, child in children.items():
        yield from commands(child, (*path, name))


COMMANDS = dict(commands(typer.main.get_command(cli.app)))
WITH_SETTINGS = [path for path, command in COMMANDS.items() if any("--set" in option.opts for option in command.params)]


def test_the_version_is_the_packages():
    assert re.fullmatch(r"cryptoflow \d+\.\d+\.\d+\S*\n", run("--version").stdout)


def test_the_services_and_tools_are_all_there():
    assert {"reader", "flattener", "s3writer", "check-config", "topics", "lake", "dead-letters"} == {
        path[0] for path in COMMANDS
    }
    assert {("topics", "create"), ("topics", "check")} <= COMMANDS.keys()


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_every_command_says_what_it_is_for(path):
    result = run(*path, "--help")
    assert result.exit_code == 0
    assert len(result.stdout.splitlines()[2].split()) >= 3


@pytest.mark.parametrize("option", ["--config", "-config"])
@pytest.mark.parametrize("path", WITH_SETTINGS, ids=" ".join)
def test_a_configuration_is_accepted_in_both_spellings(path, option):
    needed = [param for param in COMMANDS[path].params if param.required]
    result = run(*path, option, "nowhere.yml", *("x" for _ in needed))
    assert result.exit_code == 2
    assert result.stderr.splitlines() == ["nowhere.yml: file: cannot be read: No such file or directory"]


@pytest.mark.parametrize("service", ["reader", "flattener", "s3writer"])
def test_a_service_command_and_its_module_take_the_same_options(service, bare_folder):
    arguments = ["-config", "nowhere.yml", "--set", "a=b"]
    environ = os.environ | {"PYTHONPATH": str(ROOT)}
    ended = subprocess.run(
        [sys.executable, "-m", f"services.{service}", *arguments],
        capture_output=True,
        text=True,
        env=environ,
        check=False,
    )
    result = run(service, *arguments)
    assert (result.exit_code, ended.returncode) == (2, 2)
    assert ended.stderr.splitlines()[0] == "--set: a: unknown key"
    assert len(ended.stderr.splitlines()) == 2


@pytest.mark.parametrize(
    "error", [FatalError("the topic is gone"), RetryableError("Kafka is away")], ids=lambda error: type(error).__name__
)
def test_an_error_of_ours_is_one_line_and_1(monkeypatch, capsys, error):
    def app():
        raise error

    monkeypatch.setattr(cli, "app", app)
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 1
    assert capsys.readouterr().err == f"{error}\n"


def test_without_an_extra_only_its_commands_are_missing_and_they_say_which_it_is():
    def without_pyarrow(*arguments):
        code = "import sys; sys.modules['pyarrow'] = None; from cryptoflow.cli import main; main()"
        return subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False)

    ended = without_pyarrow("lake", "verify", "--json", "somewhere")
    assert (ended.returncode, ended.stderr) == (1, "cryptoflow lake needs pyarrow: pip install 'cryptoflow[lake]'\n")
    assert without_pyarrow("check-config").returncode == 0


def test_check_config_names_each_key_its_value_and_its_origin(bare_folder):
    (bare_folder / "c.yml").write_text("kafka:\n  stream: yaml\n")
    result = run("check-config", "-config", "c.yml", "--set", "metrics.port=0")
    rows = [line.split() for line in result.stdout.splitlines()]
    assert ["kafka.stream", '"yaml"', "c.yml:2"] in rows
    assert ["metrics.port", "0", "--set"] in rows
    assert ["kafka.compression", '"lz4"', "default"] in rows
    assert {row[0] for row in rows if row} >= set(Keys.of(Settings).leaves)
    assert result.exit_code == 0


def test_check_config_masks_secrets(monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "hidden-id")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hidden-key")
    for arguments in (["check-config"], ["check-config", "--json"]):
        result = run(*arguments)
        assert "hidden" not in result.output
        assert "environment AWS_SECRET_ACCESS_KEY" in result.stdout
        assert "***" in result.stdout


def test_check_config_prints_json_for_a_machine():
    result = run("check-config", "--json", "--set", "source.binance.future.orderbook.snapshots.symbols=币安人生USDT")
    found = json.loads(result.stdout)
    assert found["settings"]["source.binance.future.orderbook.snapshots.symbols"] == {
        "value": ["币安人生USDT"],
        "from": "--set",
    }
    assert found["plan"]["problems"] == []


def test_weight_is_symbols_times_price_times_polls_a_minute():
    _, plan = planned(f"{SNAPSHOTS.format('future')}.symbols=A,B,C", f"{SNAPSHOTS.format('future')}.interval_ms=5000")
    (market,) = plan["markets"]
    assert (market["request_weight"], market["weight_per_minute"]) == (20, 3 * 20 * 12)
    (budget,) = plan["budgets"]
    assert (budget["venue_weight_per_minute"], budget["budget_per_minute"]) == (2400, 1920)


def test_futures_and_inverse_share_one_budget_and_spot_has_its_own():
    result, plan = planned(
        *(f"{SNAPSHOTS.format(market)}.enabled=true" for market in ("inverse", "spot")),
        *(f"{SNAPSHOTS.format(market)}.interval_ms=2000" for market in ("future", "inverse", "spot")),
    )
    asked = {budget["weight_group"]: budget["weight_per_minute"] for budget in plan["budgets"]}
    assert asked == {"binance-futures": 2 * 2 * 20 * 30 + 2, "binance-spot": 2 * 50 * 30 + 20}
    assert result.exit_code == 2
    (line,) = result.stderr.splitlines()
    assert "asks for 2,402 request weight a minute" in line
    assert "may spend 1,920" in line


def test_a_plan_that_just_fits_is_accepted():
    result, plan = planned(f"{SNAPSHOTS.format('future')}.symbols=A", f"{SNAPSHOTS.format('future')}.interval_ms=626")
    assert plan["budgets"][0]["weight_per_minute"] <= 1920
    assert result.exit_code == 0
    result, _ = planned(f"{SNAPSHOTS.format('future')}.symbols=A", f"{SNAPSHOTS.format('future')}.interval_ms=625")
    assert result.exit_code == 2


def test_shards_divide_the_weight_by_address(bare_folder):
    (bare_folder / "shards.yml").write_text(
        "shards:\n"
        "  - {ip: 192.0.2.1, binance_future_symbols: [A]}\n"
        "  - {ip: 192.0.2.2, binance_future_symbols: [B, C]}\n"
    )
    pairs = ("reader.ip_shards_file=shards.yml", f"{SNAPSHOTS.format('future')}.symbols=A,B,C")
    result, plan = planned(*pairs)
    assert {load["address"]: load["weight_per_minute"] for load in plan["markets"]} == {
        "192.0.2.1": 120,
        "192.0.2.2": 240,
    }
    assert result.exit_code == 0


def test_a_shard_file_that_forgets_a_symbol_is_refused(bare_folder):
    (bare_folder / "shards.yml").write_text("shards:\n  - {ip: 192.0.2.1, binance_future_symbols: [BTCUSDT]}\n")
    result = run("check-config", "--set", "reader.ip_shards_file=shards.yml")
    assert result.exit_code == 2
    assert "ETHUSDT" in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_files_and_requests_follow_from_books_and_windows():
    _, plan = planned("writer.buffer.snapshot_flush_interval=1h", "storage.s3.enabled=true", "storage.s3.bucket=b")
    output = plan["output"]
    assert (output["books"], output["files_per_day"], output["claims_per_day"]) == (2, 48, 48)
    assert output["put_requests_per_day"] == 96
    assert output["put_dollars_per_month"] == round(96 * 30 * 0.005 / 1000, 2)
    assert output["rows_per_day"] == 2 * 8640 * 2000


def test_a_window_without_a_poll_writes_no_file():
    _, plan = planned(f"{SNAPSHOTS.format('future')}.interval_ms=3600000", "writer.buffer.snapshot_flush_interval=60s")
    assert plan["output"]["files_per_day"] == 2 * 24


def test_no_market_at_all_is_said():
    result = run("check-config", "--set", f"{SNAPSHOTS.format('future')}.enabled=false")
    assert "note: no market has snapshots enabled: the reader refuses to start\n" in result.stdout
    assert result.exit_code == 0


def test_a_bucket_that_is_not_used_is_said():
    _, plan = planned("storage.s3.bucket=books")
    assert plan["notes"] == ["storage.s3.bucket is books, but storage.s3.enabled is false: the lake is lake"]
    _, plan = planned("storage.s3.bucket=books", "storage.s3.enabled=true")
    assert plan["notes"] == []


def test_the_example_of_a_dotenv_names_only_variables_that_exist(tmp_path):
    text = (ROOT / ".env.example").read_text()
    assert not [line for line in text.splitlines() if line and not line.startswith("#")], (
        "it must change nothing as it is"
    )
    named = re.sub(r"(?m)^# (?=[A-Z0-9_]+=)", "", text)
    (tmp_path / "example").write_text(named)
    found = read_dotenv(Keys.of(Settings), tmp_path / "example")
    assert found.problems == []
    assert len(found.items) >= 8
