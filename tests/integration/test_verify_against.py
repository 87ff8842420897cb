"""`lake verify --against-kafka` and `--against-raw` of a lake that the real services made, in a real store."""

from __future__ import annotations

import asyncio

import numpy as np
import pyarrow as pa
import pytest

from tests.proof_line import PARTITIONS, make_proof_line

pytestmark = [pytest.mark.docker, pytest.mark.timeout(300)]


@pytest.fixture
async def line(kafka, s3, services, make_config, prefix, tmp_path):
    """150 raw records in each of two partitions of both kinds, stored; the writers go on."""
    made = make_proof_line(kafka, s3, services, make_config, prefix, tmp_path)
    await made.line.create_topics()
    await asyncio.gather(*(asyncio.to_thread(made.line.start, service) for service in ("flattener", "s3writer")))
    await made.publish(150)
    await made.stored()
    return made


async def test_what_the_services_stored_is_what_topics_and_archive_say(line):
    for told in (await line.against_kafka(), await line.against_raw(), await line.against_kafka("--fast")):
        assert (told.code, told.json["verdict"], told.problems) == (0, "complete", [])
        assert told.compared() == 150 * PARTITIONS * 2
        assert all(entry["not_held"] == [] and not entry["why"] for entry in told.against["lines"])


async def test_rows_altered_with_all_that_is_told_of_them_are_found_by_either(line):
    def change(rows):
        price = rows.column("price").to_numpy().copy()
        price[1] = np.nextafter(price[1], np.inf)
        at = rows.column_names.index("price")
        return rows.set_column(at, "price", pa.array(price, pa.float64(), from_pandas=True))

    path = line.alter("fobd", change)
    assert (await line.verify("--strict")).json["verdict"] == "complete"
    for told in (await line.against_kafka(), await line.against_raw()):
        assert (told.code, told.problems) == (1, [("rows-differ", path)])
        (difference,) = told.against["differences"]
        assert (difference["column"], difference["path"]) == ("price", path)
        assert difference["lake"] == np.nextafter(difference["source"], np.inf)


async def test_what_retention_took_from_the_topics_is_said_and_still_proven_by_the_archive(line):
    await line.delete_before("fobs", 100)
    told = await line.against_kafka()
    assert (told.code, told.problems) == (0, [])
    not_held = {entry["line"]["kind"]: entry["not_held"] for entry in told.against["lines"]}
    assert not_held == {"fobs": [[0, 99]], "fobd": []}
    assert told.compared() == (50 + 150) * PARTITIONS
    assert (await line.against_raw()).compared() == 300 * PARTITIONS
    await line.delete_before("fobs", 150)
    await line.delete_before("fobd", 150)
    told = await line.against_kafka()
    assert (told.code, told.json["verdict"], told.compared()) == (2, "not-compared", 0)


async def test_while_the_line_runs_nothing_that_is_on_its_way_is_taken_for_damage(line):
    async def publish_on() -> None:
        for _ in range(6):
            await line.publish(20)
            await line.line.caught_up()  # no faster than the line is

    publishing = asyncio.create_task(publish_on())
    seen = [300 * PARTITIONS]
    while not publishing.done():
        told = await line.against_kafka("--fast")
        assert (told.code, told.problems) == (0, [])
        seen.append(told.compared())
    await publishing
    await line.stored()
    told = await line.against_kafka()
    assert (told.code, told.compared()) == (0, sum(line.published.values()) * PARTITIONS)
    assert seen == sorted(seen)
    assert len(seen) > 1


async def test_raw_records_that_nobody_flattened_yet_are_not_stored_and_are_no_loss(line):
    for process in line.line.processes.all:
        assert await asyncio.to_thread(process.terminate) == 0
    await line.publish(30, "fobs")
    told = await line.against_kafka("--strict")
    assert (told.code, told.problems) == (0, [])
    not_stored = {entry["line"]["kind"]: entry["not_stored"] for entry in told.against["lines"]}
    assert not_stored == {"fobs": 30, "fobd": 0}


@pytest.mark.parametrize(
    ("setting", "why"),
    [
        ("kafka.stream=another", "the topics are of stream another, these raw records were of stream"),
        ("channels.raw_fobs.topic=elsewhere", "the settings say elsewhere"),
    ],
)
async def test_topics_that_the_lake_is_not_made_from_are_not_compared_with(line, setting, why):
    told = await line.against_kafka("--fast", "--set", setting)
    assert told.problems == []
    assert any(why in entry["why"] for entry in told.against["lines"])
    assert told.code == (2 if "stream" in setting else 0)
