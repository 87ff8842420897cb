"""The commands of the README, run as they stand there: only addresses, ports, instants and the place of the lake are the
test's."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from collections import defaultdict
from typing import TYPE_CHECKING

import duckdb
import pytest

from shared.lake.store import open_url
from shared.lake.verify import verify
from shared.messages import KINDS
from tests.processes import clean_environ
from tests.support import ROOT, eventually_sync

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.containers import Kafka
    from tests.processes import Processes

pytestmark = [pytest.mark.docker, pytest.mark.timeout(240)]

PROGRAM = ".venv/bin/cryptoflow "
INSTANT = re.compile(r"^\d{4}-\d{2}-\d{2}T[\d:]+Z$")


def commands(section: str) -> list[list[str]]:
    """The `cryptoflow` lines of a section's shell blocks, as arguments."""
    text = (ROOT / "README.md").read_text().partition(f"\n## {section}\n")[2].partition("\n## ")[0]
    blocks = re.findall(r"^```sh\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    assert blocks, f"the README has no shell block under {section!r}"
    lines = [line.split("#")[0].strip() for block in blocks for line in block.splitlines()]
    return [line.removeprefix(PROGRAM).split() for line in lines if line.startswith(PROGRAM)]


def newest_update(lake: Path) -> str:
    """When the newest update of the symbol that the README names was received, ns since the epoch."""
    files = f"{lake}/fobd/exchange=binance/market=future/symbol=BTCUSDT/**/*.parquet"
    query = "SELECT max(recv_ns) FROM read_parquet(?) WHERE type = 'update'"
    found = duckdb.connect().execute(query, [files]).fetchone()
    assert found is not None
    return str(found[0])


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
            "CRYPTOFLOW_SOURCE__BINANCE__FUTURE__STREAM_URL": exchange.stream_urls["future"],
            "CRYPTOFLOW_SOURCE__BINANCE__FUTURE__ORDERBOOK__SNAPSHOTS__INTERVAL_MS": "2000",
            "CRYPTOFLOW_WRITER__BUFFER__SNAPSHOT_FLUSH_INTERVAL": "2s",
            "CRYPTOFLOW_WRITER__BUFFER__DELTA_FLUSH_INTERVAL": "2s",
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

    for arguments in commands("Record a real exchange, without Docker"):
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
    for kind in KINDS:
        eventually_sync(lambda kind=kind: len(list(lake.glob(f"{kind}/**/*.parquet"))) >= 4, 90, f"{kind} in the lake")
    for process in background:
        process.send_signal(signal.SIGTERM)
        assert process.wait(40) == 0, [path.read_text() for path in tmp_path.glob("*.log")]
    instant = newest_update(lake)
    said: dict[str, list[str]] = defaultdict(list)
    for arguments in commands("Read it, and prove it"):
        said[arguments[1]].append(run([INSTANT.sub(instant, word) for word in arguments]))
    assert {name: len(texts) for name, texts in said.items()} == {
        "verify": 2,
        "watermark": 1,
        "gaps": 1,
        "book": 1,
        "reflatten": 1,
    }
    assert "stop" in said["gaps"][0], "the reader was stopped after the newest update"
    assert "updates applied" in said["book"][0]
    for place in (lake, tmp_path / "lake-2"):
        assert verify(open_url(os.fspath(place)), strict=True).verdict == "complete"
