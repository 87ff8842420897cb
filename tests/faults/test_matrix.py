"""The bounded part of the fault matrix: chosen cells with a fixed seed, and some of a seed that is new each time.

``make soak`` plays all of it. A run that fails says how to play it again.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from tests.matrix.cells import all_cells
from tests.matrix.runs import cell_of, lane_of, play

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.containers import S3, Kafka
    from tests.matrix.cells import Cell
    from tests.matrix.runs import Lane

pytestmark = [pytest.mark.docker, pytest.mark.timeout(420)]

FIXED_SEED = 6
CHOSEN = (
    "crash reader.after_ack kill",
    "crash flattener.after_ack kill",
    "crash flattener.after_produce stop",
    "crash s3writer.after_claim kill",
    "crash s3writer.after_object kill",
    "crash s3writer.in_rebuild kill",
    "crash s3writer.before_claim stop",
    "crash s3writer.after_claim stop",
    "crash s3writer.before_commit hold",
    "store answers lost of claims",
    "store answers lost of files",
    "store claims land late, writer killed",
    "kafka groups moved to the beginning",
    "kafka groups deleted",
    "kafka rebalance storm",
    "flattener zombie with other cuts",
    "flattener copies land late",
)
RANDOM_RUNS = 8
CELLS = {cell.name: cell for cell in all_cells()}


@pytest.fixture
def on(kafka: Kafka, s3: S3) -> Iterator[Lane]:
    with lane_of(kafka, s3) as made:
        yield made


async def stands(seed: int, cell: Cell, on: Lane) -> None:
    run = await play(seed, cell, on)
    assert not run.failure, f"{cell.name}: {run.failure}\nagain: make soak ARGS='--seed {seed} --runs 1'"


@pytest.mark.parametrize("name", CHOSEN)
async def test_a_fault_costs_no_row_and_doubles_none(on: Lane, name: str) -> None:
    await stands(FIXED_SEED, CELLS[name], on)


@pytest.mark.parametrize("number", range(RANDOM_RUNS))
async def test_nor_does_one_that_nobody_chose(on: Lane, number: int) -> None:
    seed = int(os.environ["MATRIX_SEED"]) + number
    await stands(seed, cell_of(seed), on)
