"""Fixtures: brokers, stores, settings and processes. Servers are started once per test worker, on free ports."""

from __future__ import annotations

import os
import secrets
import uuid
from typing import TYPE_CHECKING, Any

import pytest
import yaml

# testcontainers reads these at import. Its reaper is not needed: the fixtures below remove what they start, and the
# next run what a killed one left.
os.environ.setdefault("TESTCONTAINERS_RYUK_DISABLED", "true")
if "DOCKER_HOST" not in os.environ:
    os.environ.setdefault("TESTCONTAINERS_CONNECTION_MODE", "docker_host")
    os.environ.setdefault("TESTCONTAINERS_HOST_OVERRIDE", "127.0.0.1")

from shared.settings import load
from tests import containers
from tests.config import config_of
from tests.embedded import EmbeddedKafka
from tests.embedded import embedded_kafka as run_embedded_kafka
from tests.processes import Processes, Simulator

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from shared.settings import Settings


def pytest_configure() -> None:
    """The fault matrix plays some runs of a new seed: one seed for all workers, which inherit the environment."""
    os.environ.setdefault("MATRIX_SEED", str(secrets.randbelow(1_000_000)))


def pytest_report_header() -> str:
    return f"MATRIX_SEED={os.environ['MATRIX_SEED']} (of the fault matrix's random runs)"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Any:
    """A failed test shows the tail of the log of every process it started."""
    report = yield
    processes = getattr(item, "funcargs", {}).get("services")
    if report.failed and isinstance(processes, Processes):
        report.sections.extend(processes.report())
    return report


@pytest.fixture(scope="session")
def _kafka_server() -> Iterator[containers.Kafka]:
    with containers.kafka() as server:
        yield server


@pytest.fixture
def kafka(_kafka_server: containers.Kafka) -> Iterator[containers.Kafka]:
    """Real Apache Kafka. A test may pause, kill, stop and restart it: afterwards it runs again."""
    yield _kafka_server
    _kafka_server.recover()


@pytest.fixture(scope="session")
def _s3_server() -> Iterator[containers.S3]:
    with containers.s3() as server:
        yield server


@pytest.fixture
def s3(_s3_server: containers.S3) -> Iterator[containers.S3]:
    """A real S3 store (SeaweedFS) with a bucket. A test may make it suffer: afterwards it runs again."""
    yield _s3_server
    _s3_server.recover()


@pytest.fixture(scope="session")
def embedded_kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedKafka]:
    """The embedded broker of the demo (noida-db)."""
    with run_embedded_kafka(tmp_path_factory.mktemp("noida-db")) as server:
        yield server


@pytest.fixture
def stream() -> str:
    """A stream id that no other test has."""
    return f"t{uuid.uuid4().hex[:12]}"


@pytest.fixture
def prefix(stream: str) -> str:
    """A prefix of the bucket that no other test has."""
    return f"lakes/{stream}"


@pytest.fixture
def make_config(stream: str, tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """Makes a configuration as in config.yml, nested: topics, groups and lake of this test alone, plus what is given.

    ``make_config(kafka={"bootstrap_servers": kafka.bootstrap_servers}, channels={"raw_fobs": {"partitions": 3}})``
    """

    def make(**overrides: Any) -> dict[str, Any]:
        return config_of(stream, tmp_path, **overrides)

    return make


@pytest.fixture
def make_settings(make_config: Callable[..., dict[str, Any]], tmp_path: Path) -> Callable[..., Settings]:
    """`make_config`, as `Settings`."""

    def make(**overrides: Any) -> Settings:
        path = tmp_path / f"{uuid.uuid4().hex}.yml"
        path.write_text(yaml.safe_dump(make_config(**overrides)))
        return load(path, environ={}, dotenv_path=tmp_path / "no.env")

    return make


@pytest.fixture
def services(tmp_path: Path) -> Iterator[Processes]:
    """Starts services and simulators as processes; all have ended when the test has."""
    folder = tmp_path / "processes"
    folder.mkdir()
    processes = Processes(folder)
    yield processes
    processes.end()


@pytest.fixture
def simulator(services: Processes) -> Simulator:
    """An exchange with few symbols. For other arguments: ``services.simulate(…)``."""
    return services.simulate("--seed", "1", "--symbols-per-market", "2")
