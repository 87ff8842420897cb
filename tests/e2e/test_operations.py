"""docs/operations.md: its commands run as they stand there, on a lake that was recorded, drained and continued as it says;
what it says of deleted data is what `verify` says; whatever it names exists."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING, Any, get_args

import pytest
import yaml
from pydantic import BaseModel

from shared import metrics
from shared.kafka import Admin, TopicPartition
from shared.lake import report
from shared.lake.instruments import store_if_changed
from shared.lake.store_local import LocalStore
from shared.lake.verify import verify
from shared.settings import Settings, load
from shared.venues.instruments import Instrument
from tests.lakes import BTC, ETH, HOUR_0, HOUR_1, Line
from tests.processes import Service, clean_environ
from tests.support import ROOT, eventually_sync

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from tests.processes import Processes

PAGE = ROOT / "docs" / "operations.md"
TEXT = PAGE.read_text()
FENCES = re.findall(r"^```(.+)\n((?:.*\n)*?)```$", TEXT, re.MULTILINE)
SECTION = re.compile(r"^#+ (.*)$", re.MULTILINE)


def blocks(info: str) -> list[str]:
    return [text for told, text in FENCES if told == info]


def block(info: str, part: str) -> str:
    """The one with `part` in it."""
    (text,) = (text for text in blocks(info) if part in text)
    return text


def test_every_block_is_run_or_says_that_it_needs_a_live_deployment():
    assert {info for info, _ in FENCES} == {"sh", "sh live", "dotenv"}


# The commands, on a lake of their own -------------------------------------------------------------------------------


class Deployment:
    """A folder as a person has it: config/, .env, the lake; its services are commands run in there."""

    def __init__(self, folder: Path, services: Processes, bootstrap_servers: str, exchange: Any) -> None:
        self.folder = folder
        self._services = services
        shutil.copytree(ROOT / "config", folder / "config")
        self.environ = {
            "CRYPTOFLOW_KAFKA__BOOTSTRAP_SERVERS": bootstrap_servers,
            "CRYPTOFLOW_SOURCE__BINANCE__FUTURE__REST_URL": exchange.url,
            "CRYPTOFLOW_SOURCE__BINANCE__FUTURE__STREAM_URL": exchange.stream_urls["future"],
            "CRYPTOFLOW_SOURCE__BINANCE__FUTURE__ORDERBOOK__SNAPSHOTS__INTERVAL_MS": "1000",
            "CRYPTOFLOW_WRITER__BUFFER__SNAPSHOT_FLUSH_INTERVAL": "2s",
            "CRYPTOFLOW_WRITER__BUFFER__DELTA_FLUSH_INTERVAL": "2s",
            "CRYPTOFLOW_LOGGING__FORMAT": "json",
        }

    def shell(self, text: str, environ: Mapping[str, str] | None = None) -> str:
        """What the block's commands print, each of which has to succeed."""
        path = f"{os.path.dirname(sys.executable)}{os.pathsep}{os.environ['PATH']}"  # noqa: PTH120
        done = subprocess.run(
            ["bash", "-euc", text],
            cwd=self.folder, env=clean_environ({**(self.environ if environ is None else environ), "PATH": path}), capture_output=True, text=True, timeout=120,
            check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def settings(self) -> Settings:
        return load(self.folder / "config" / "config.yml", environ=self.environ, dotenv_path=self.folder / ".env")

    def start(self, service: str) -> Service:
        name = f"{service}-{len(self._services.all)}"
        command = ["cryptoflow.cli", service, "--set", "metrics.port=0"]
        process = Service(name, self.folder, command, self.environ)
        self._services.all.append(process)
        process.wait_ready()
        return process

    def record(self) -> None:
        """A few seconds; then drained as the page says."""
        files = len(self.files())
        reader, flattener, s3writer = (self.start(service) for service in ("reader", "flattener", "s3writer"))
        eventually_sync(lambda: len(self.files()) >= files + 8, 60, "more files in the lake")
        assert reader.terminate() == 0

        def stored() -> bool:
            return all(process.metric("cryptoflow_stored_lag_records") == 0 for process in (flattener, s3writer))

        eventually_sync(stored, 60, "nothing that is not stored")
        assert (flattener.terminate(), s3writer.terminate()) == (0, 0)

    def files(self) -> list[str]:
        return sorted(str(path) for path in (self.folder / "lake").glob("fob?/**/*.parquet"))

    async def raw_ends(self) -> dict[tuple[str, int], int]:
        """By kind and partition, the offset behind the last raw record of the configured stream."""
        settings = self.settings()
        topics = {"fobs": settings.channels.raw_fobs, "fobd": settings.channels.raw_fobd}
        async with Admin(settings.kafka, client_id="judge") as admin:
            places = {
                TopicPartition(channel.topic, number): (kind, number)
                for kind, channel in topics.items()
                for number in range(channel.partitions)
            }
            return {places[tp]: end for tp, end in (await admin.end_offsets(places)).items()}


@pytest.mark.timeout(240)
def test_the_page_is_followed_from_one_stream_to_the_next_and_the_old_one_is_deleted(
    embedded_kafka, services, tmp_path
):
    exchange = services.simulate("--seed", "1", "--symbols-per-market", "2")
    folder = tmp_path / "deployment"
    folder.mkdir()
    deployment = Deployment(folder, services, embedded_kafka.bootstrap_servers, exchange)
    (folder / ".env").write_text("")
    names = [f"CRYPTOFLOW_CHANNELS__{name}__TOPIC" for name in ("RAW_FOBS", "NORM_FOBS", "RAW_FOBD", "NORM_FOBD")]
    deployment.shell("cryptoflow topics create")
    deployment.record()
    ends = asyncio.run(deployment.raw_ends())
    assert_all_stored(folder / "lake", "main", ends)

    continued = block("dotenv", "STREAM")
    assert all(name in continued for name in names)
    (folder / ".env").write_text(continued)
    assert "-second: created" in deployment.shell(block("sh", "topics create"))
    deployment.record()
    assert asyncio.run(deployment.raw_ends()) != ends
    assert_all_stored(folder / "lake", "second", asyncio.run(deployment.raw_ends()))

    assert "asked" in deployment.shell(block("sh", "check-config"), environ={})  # of the defaults, not of the simulator
    assert "lake-copy: complete" in deployment.shell(block("sh", "lake-copy"))
    assert "topics are as configured" in deployment.shell(block("sh", "lake watermark"))
    before = deployment.files()
    assert "lake: complete" in deployment.shell(block("sh", "-delete"))
    left = deployment.files()
    assert left == [path for path in before if "-second-" in path]
    assert left
    assert {line.line.stream for line in verify(LocalStore(folder / "lake")).lines} == {"second"}


def assert_all_stored(lake: Path, stream: str, ends: dict[tuple[str, int], int]) -> None:
    """Every raw record of the stream is in the lake, and the lake is whole."""
    found = verify(LocalStore(lake), strict=True)
    assert found.verdict == "complete", found
    done = {(line.line.kind, line.line.partition): line.done for line in found.lines if line.line.stream == stream}
    assert sum(ends.values())
    assert {place: done.get(place, -1) + 1 for place in ends} == ends


def test_every_block_that_can_be_run_is_run_above():
    assert len(blocks("sh")) == 5


# What it says of deleted data ---------------------------------------------------------------------------------------


@pytest.fixture
def lake(tmp_path: Path) -> Iterator[Path]:
    """A lake of two streams, with instruments."""
    root = tmp_path / "lake"
    store = LocalStore(root)
    for stream in ("main", "second"):
        line = Line(store, stream=stream)
        line.flush((BTC, HOUR_0), (ETH, HOUR_0))
        line.flush((BTC, HOUR_0), (BTC, HOUR_1))
        line.flush((BTC, HOUR_1))
    store_if_changed(store, "binance", "future", [Instrument(symbol="BTCUSDT", status="TRADING")], HOUR_0 * 1000)
    assert verify(store).verdict == "complete"
    return root


def words_of_the_page(row: str) -> set[str]:
    """The problems that the table of deletions names for this row."""
    (line,) = re.findall(rf"^\| {re.escape(row)} \|(.*)\|$", TEXT, re.MULTILINE)
    return {*re.findall(r"`([a-z-]+)`", line)} & {*get_args(report.ProblemWord)}


def delete(root: Path, pattern: str) -> None:
    paths = list(root.glob(pattern))
    assert paths
    for path in paths:
        path.unlink()


def test_old_hours_that_were_deleted_are_missed_as_the_page_says(lake):
    delete(lake, "fobs/**/hour=14/*.parquet")
    found = verify(LocalStore(lake))
    assert found.exit_code == 1
    assert {problem.what for problem in found.problems} == words_of_the_page("files of old hours")
    assert len(found.problems) == 6


def test_old_claims_that_were_deleted_are_missed_as_the_page_says(lake):
    delete(lake, "_claims/v1/fobs/main/00000/00000000000000000000.json")
    delete(lake, "fobs/**/fobs-main-00000-00000000000000000000-*.parquet")
    found = verify(LocalStore(lake))
    assert found.exit_code == 1
    assert {problem.what for problem in found.problems} == words_of_the_page("old claims and their files")


def test_instruments_that_were_deleted_are_not_missed(lake):
    delete(lake, "instruments/**/*.parquet")
    assert verify(LocalStore(lake)).verdict == "complete"


# What it names ------------------------------------------------------------------------------------------------------

CODE = re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```$", "", TEXT, flags=re.MULTILINE | re.DOTALL))


def test_every_metric_on_the_page_exists():
    named = {*re.findall(r"cryptoflow_[a-z_]+[a-z]", TEXT)}
    assert len(named) >= 8
    assert not named - {definition.name for definition in metrics.DEFINITIONS}


def keys(model: type[BaseModel], prefix: str = "") -> set[str]:
    """Every key and section, dotted."""
    found = set()
    for name, field in model.model_fields.items():
        found.add(prefix + name)
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            found |= keys(inner, f"{prefix}{name}.")
    return found


def test_every_setting_on_the_page_exists():
    """Named as `a.b`, or with its value, `a.b: c`; a star is any one word."""
    known = keys(Settings)
    sections = "|".join(sorted(key for key in known if "." not in key))
    named = {
        found[1] for text in CODE if (found := re.fullmatch(rf"((?:{sections})(?:\.[a-z0-9_*]+)+)(?:: .*)?", text))
    }
    assert len(named) >= 15
    assert not [name for name in named if not any(re.fullmatch(pattern(name), key) for key in known)]


def pattern(name: str) -> str:
    return re.escape(name).replace(r"\*", r"[a-z_]+")


def test_every_file_on_the_page_exists():
    files = {
        *re.findall(r"\b(?:deploy|config|tests)/[\w./-]+\.\w+", TEXT),
        *re.findall(r"(?<= -f )\S+", "".join(blocks("sh live"))),
    }
    assert len(files) >= 6
    assert not [name for name in files if not (ROOT / name).exists()]


def anchors(path: Path) -> set[str]:
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in SECTION.findall(path.read_text())}


def test_every_link_on_the_page_leads_somewhere():
    for target in re.findall(r"\]\(([^)]+)\)", TEXT):
        name, _, anchor = target.partition("#")
        path = PAGE.parent / name if name else PAGE
        assert path.exists(), target
        assert not anchor or anchor in anchors(path), target


def test_live_commands_name_services_of_the_compose_file():
    services = {*yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]}
    lines = [line.split(" #")[0] for line in "".join(blocks("sh live")).splitlines() if line.startswith("docker")]
    assert len(lines) >= 10
    for line in lines:
        assert line.startswith("docker compose "), line
        for named in re.findall(r"(?:--no-deps|stop|exec|--rm) ([a-z0-9 ]+?)(?= promtool| /|$)", line):
            assert {*named.split()} <= services, line
        assert {*re.findall(r"--scale (\w+)=", line)} <= services, line
