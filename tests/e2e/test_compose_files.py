"""The compose files by themselves: every combination of overlays is valid, and no secret stands in any of them.

They need the command `docker compose`, and no engine.
"""

from __future__ import annotations

import json
import re
import shutil
from itertools import combinations
from typing import TYPE_CHECKING

import pytest

from tests.compose import compose, make_env_file
from tests.support import unavailable

if TYPE_CHECKING:
    from pathlib import Path

# The simulated exchange is not on the host's network: those two do not go together.
OVERLAYS = ("host-network", "external-kafka", "aws", "demo", "ci")
SECRET = re.compile(r"(?i)(password|secret|token|access_key)")


@pytest.fixture(autouse=True)
def _compose() -> None:
    if shutil.which("docker") is None or compose("version").returncode != 0:
        unavailable("docker compose")


@pytest.mark.parametrize(
    "overlays",
    [each for count in range(4) for each in combinations(OVERLAYS, count) if not {"host-network", "demo"} <= {*each}],
    ids=lambda each: "+".join(each) or "none",
)
def test_overlays_add_up(overlays: tuple[str, ...], tmp_path: Path) -> None:
    env_file = make_env_file(
        tmp_path / "env", AWS_REGION="eu-central-1", CRYPTOFLOW_KAFKA__BOOTSTRAP_SERVERS="kafka.example:9093"
    )
    files = [word for name in overlays for word in ("-f", f"deploy/compose.{name}.yml")]
    told = compose(
        "--env-file", str(env_file), "-f", "docker-compose.yml", *files, "--profile", "tools", "config", "-q"
    )
    assert (told.returncode, told.stderr) == (0, "")


def test_without_a_dotenv_it_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    told = compose("--env-file", str(tmp_path / "empty"), "config", "-q")
    assert told.returncode != 0
    assert "copy .env.example to .env" in told.stderr


def test_no_secret_stands_in_the_configuration_but_from_the_dotenv(tmp_path: Path) -> None:
    mine = "of-this-test"
    names = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "GRAFANA_ADMIN_PASSWORD")
    env_file = make_env_file(tmp_path / "env", **dict.fromkeys(names, mine))
    told = compose("--env-file", str(env_file), "--profile", "tools", "config", "--format", "json")
    services = json.loads(told.stdout)["services"]
    secrets = [
        (service, name, value)
        for service, made in services.items()
        for name, value in (made.get("environment") or {}).items()
        if SECRET.search(name)
    ]
    assert {value for *_, value in secrets} == {mine, ""}
    known = {service for service, _, value in secrets if value}
    assert known == {"reader", "s3writer", "cryptoflow", "seaweedfs", "grafana"}, "who needs none is given none"
    assert json.dumps(services).count(mine) == sum(1 for *_, value in secrets if value), "it stands elsewhere too"
