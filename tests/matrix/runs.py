"""Runs of the matrix: which cell a seed plays, on which servers, and what came of it."""

from __future__ import annotations

import asyncio
import random
import shutil
import tempfile
import time
import traceback
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from shared.lake.store import Credentials
from shared.lake.store_s3 import S3Store
from tests import containers
from tests.matrix.cells import all_cells
from tests.matrix.judge import judged
from tests.matrix.world import World
from tests.store_proxy.process import StoreProxy

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.matrix.cells import Cell
    from tests.matrix.judge import Judgement

RUN_SECONDS = 360.0


@dataclass(frozen=True)
class Lane:
    """Servers that runs use one after the other."""

    kafka: containers.Kafka
    s3: containers.S3
    proxy: StoreProxy
    bucket: S3Store


@dataclass(frozen=True)
class Run:
    """What came of a run: a judgement, or why there is none."""

    seed: int
    cell: Cell
    seconds: float
    judgement: Judgement | None
    failure: str = ""


@contextmanager
def lane() -> Iterator[Lane]:
    """Servers of its own for the block."""
    with containers.kafka() as kafka, containers.s3() as s3, lane_of(kafka, s3) as made:
        yield made


@contextmanager
def lane_of(kafka: containers.Kafka, s3: containers.S3) -> Iterator[Lane]:
    """A lane over servers that run."""
    with tempfile.TemporaryDirectory() as folder:
        proxy = StoreProxy(Path(folder), s3)
        try:
            assert proxy.endpoint_url
            keys = Credentials(s3.access_key, s3.secret_key)
            bucket = S3Store(s3.bucket, endpoint_url=s3.endpoint_url, region=s3.region, credentials=keys)
            yield Lane(kafka, s3, proxy, bucket)
        finally:
            proxy.kill()


def cell_of(seed: int) -> Cell:
    """Seeds in a row walk through all cells, in an order that mixes them; the same seed always plays the same cell."""
    cells = all_cells()
    random.Random(0).shuffle(cells)
    return cells[seed % len(cells)]


async def play(seed: int, cell: Cell, on: Lane) -> Run:
    """One run, from empty topics to the judgement. Its folder is kept where it failed."""
    folder = Path(tempfile.mkdtemp(prefix=f"matrix-{seed}-"))
    world = World(seed, folder, kafka=on.kafka, s3=on.s3, proxy=on.proxy, bucket=on.bucket)
    began = time.monotonic()
    try:
        async with asyncio.timeout(RUN_SECONDS):
            await cell.play(world)
            await world.settle()
            judgement = await judged(world, cell.verdicts)
    except Exception as error:  # noqa: BLE001 - whatever it is, it is the run's outcome
        logs = "\n".join(f"--- {title}\n{tail}" for title, tail in world.processes.report())
        text = "".join(traceback.format_exception(error))
        (folder / "failure.txt").write_text(f"{text}\n{logs}")
        return Run(seed, cell, time.monotonic() - began, None, f"{error}\n{folder}/failure.txt")
    finally:
        world.processes.end()
        on.proxy.lift()
        for server in (on.kafka, on.s3):
            await asyncio.to_thread(server.recover)
    shutil.rmtree(folder)
    return Run(seed, cell, time.monotonic() - began, judgement)
