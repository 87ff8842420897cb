"""What a person types: commands, options that are accepted everywhere, exit codes."""

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
from shared.settings import Settings, load

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def bare_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in [*os.environ]:
        if name.startswith(("CRYPTOFLOW_", "AWS_", "S3_", "SHARD_")):
            monkeypatch.delenv(name)
    return tmp_path


def run(*arguments):
    return CliRunner().invoke(cli.app, arguments)


def commands(command, path=()):
    children = getattr(command, "commands", {})
    if not children:
        yield path, command
    for name, child in children.items():
        yield from commands(child, (*path, name))


COMMANDS = dict(commands(typer.main.get_command(cli.app)))
OF_KAFKA = {
    ("lake", "verify"): ["--against-kafka"],
    ("lake", "reflatten"): ["--from-kafka"],
}  # else it needs no settings
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
    result = run(*path, *OF_KAFKA.get(path, []), option, "nowhere.yml", *("x" for _ in needed))
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


def test_the_example_of_a_dotenv_names_only_variables_that_exist(tmp_path):
    named = re.sub(r"(?m)^# (?=[A-Z0-9_]+=)", "", (ROOT / ".env.example").read_text())
    (tmp_path / "example").write_text(named)
    found = read_dotenv(Keys.of(Settings), tmp_path / "example")
    assert found.problems == []
    assert len(found.items) >= 8


def test_the_example_of_a_dotenv_leaves_a_run_outside_of_containers_as_it_is():
    own = load(environ={}, dotenv_path=ROOT / ".env.example")
    plain = load(environ={}, dotenv_path=Path("none.env"))
    credentials = {"bucket", "access_key_id", "secret_access_key"}
    assert own.storage.s3.model_dump(exclude=credentials) == plain.storage.s3.model_dump(exclude=credentials)
    assert not own.storage.s3.enabled
    assert own.model_dump(exclude={"storage": {"s3"}}) == plain.model_dump(exclude={"storage": {"s3"}})
