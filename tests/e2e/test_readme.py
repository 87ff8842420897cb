"""The commands of the README, run as they stand there: only addresses, ports and the place of the lake are the test's."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from shared.lake.store import open_url
from shared.lake.verify import verify
from tests.processes import clean_environ
from tests.support import ROOT, eventually_sync

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.containers import Kafka
    from tests.processes import Processes

pytestmark = [pytest.mark.docker, pytest.mark.timeout(240)]

PROGRAM = ".venv/bin/cryptoflow "


def commands(section: str) -> list[list[str]]:
    """The `cryptoflow` lines of a section's shell block, as arguments."""
    text = (ROOT / "README.md").read_text()
    block = re.search(rf"^## {re.escape(section)}$.*?^```sh\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    assert block is not None, f"the README has no shell block under {section!r}"
    lines = [line.split("#")[0].strip() for line in block[1].splitlines()]
    return [line.removeprefix(PROGRAM).split() for line in lines if line.startswith(PROGRAM)]


@pytest.fixture
def background() -> Iterator[list[subprocess.Popen[str]]]:
    running: list[subprocess.Popen[str]] = []
    yield running
    for process in running:
        process.kill()
        process.wait()


def test_the_commands_of_the_readme_record_a_lake_that_verifies(
    kafka: Kafka, services: Processes, tmp_path: Path, background: list[subprocess.Popen[str]]
) -> None:
    shutil.copytree(ROOT / "config", tmp_path / "config")
    exchange = services.simulate()
    environ = clean_environ(
        {
            "CRYPTOFLOW_KAFKA__BOOTSTRAP_SERVERS": kafka.bootstrap_servers,
            "CRYPTOFLOW_SOURCE__BINANCE__FUTURE__REST_URL": exchange.url,
            "CRYPTOFLOW_SOURCE__BINANCE__FUTURE__ORDERBOOK__SNAPSHOTS__INTERVAL_MS": "2000",
            "CRYPTOFLOW_WRITER__BUFFER__SNAPSHOT_FLUSH_INTERVAL": "2s",
            "COLUMNS": "120",
        }
    )

    def run(arguments: list[str]) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "cryptoflow.cli", *arguments],
            cwd=tmp_path, env=environ, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    for arguments in commands("Record a real exchange"):
        if arguments[-1] == "&":
            own_port = [re.sub(r"metrics\.port=\d+", "metrics.port=0", word) for word in arguments[:-1]]
            command = [sys.executable, "-m", "cryptoflow.cli", *own_port]
            with (tmp_path / f"{arguments[0]}.log").open("w") as log:
                background.append(
                    subprocess.Popen(command, cwd=tmp_path, env=environ, stderr=log, stdout=log, text=True)
                )
        else:
            run(arguments)
    assert len(background) == 3

    lake = tmp_path / "lake"
    eventually_sync(lambda: len(list(lake.glob("fobs/**/*.parquet"))) >= 4, 90, "files in the lake")
    for process in background:
        process.send_signal(signal.SIGTERM)
        assert process.wait(40) == 0, [path.read_text() for path in tmp_path.glob("*.log")]
    for arguments in commands("Read it, and prove it"):
        assert run(arguments)
    assert verify(open_url(os.fspath(lake)), strict=True).verdict == "complete"
