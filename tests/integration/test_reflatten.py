"""`lake reflatten` of a lake that the real services made: of topics and archive, killed, proven, and read beside the old."""

from __future__ import annotations

import asyncio
from collections import defaultdict

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from shared.lake import layout
from shared.lake.store import open_url
from shared.messages import KINDS
from tests.proof_line import PARTITIONS, make_proof_line
from tests.store_proxy.process import StoreProxy
from tests.support import eventually

pytestmark = [pytest.mark.docker, pytest.mark.timeout(300)]
WRITTEN_BEFORE_DEATH = 9  # objects
RECORDS = 400  # of each partition and kind: a minute apart, so in seven hours
LINES = PARTITIONS * len(KINDS)


@pytest.fixture
async def line(kafka, s3, services, make_config, prefix, tmp_path, monkeypatch):
    """A lake with its archive, at rest."""
    made = make_proof_line(kafka, s3, services, make_config, prefix, tmp_path)
    for name, value in made.line.environ.items():
        monkeypatch.setenv(name, value)
    await made.line.create_topics()
    await asyncio.gather(*(asyncio.to_thread(made.line.start, service) for service in ("flattener", "s3writer")))
    await made.publish(RECORDS)
    await made.stored()
    assert await asyncio.gather(*(asyncio.to_thread(process.terminate) for process in services.all)) == [0, 0]
    return made


@pytest.fixture
def proxy(s3, tmp_path):
    made = StoreProxy(tmp_path, s3)
    yield made
    made.kill()


def objects_in(url: str) -> int:
    """Claims, origins and files."""
    paths = [entry.path for entry in open_url(url).walk("")]
    return sum(not path.startswith(layout.PROBE_ROOT) for path in paths)


def rows_in(url: str, stream: str | None = None) -> dict[str, list[dict]]:
    """By book and hour, in the order of raw offsets; of one stream, or of all."""
    store, found = open_url(url), defaultdict(list)
    for kind in KINDS:
        for entry in store.walk(f"{kind}/"):
            if stream in (None, layout.parse_data_path(entry.path).stream):
                rows = pq.read_table(pa.BufferReader(store.get(entry.path))).to_pylist()
                found[entry.path.rpartition("/")[0]] += rows
    for rows in found.values():
        rows.sort(
            key=lambda row: (row["raw_partition"], row["raw_offset"])
        )  # stable: rows of a message keep their order
    return dict(found)


async def test_killed_again_and_again_it_makes_the_same_rows_of_topics_and_archive(line, proxy):
    """Of the topics, killed among its files, then of the archive, killed, then to its end: proven by both."""
    again = f"{line.url}-again"
    of_topics = ("--from-kafka", "--config", str(line.config_path))
    there = 0
    for source in (of_topics, ("--from-raw",)):
        held = proxy.rule("stall", verb="create", unless=layout.PROBE_ROOT, skip=WRITTEN_BEFORE_DEATH)
        process = line.command("reflatten", line.url, again, *source, environ=proxy.environ)
        await eventually(lambda rule=held: asyncio.to_thread(proxy.hits, rule), 120, "it waits for an answer")
        process.kill()
        proxy.lift()
        assert objects_in(again) > there
        there = objects_in(again)
    told = await line.run("reflatten", line.url, again, "--from-raw")
    assert told.code == 0
    assert told.json["not_made"] == 0
    assert there < objects_in(again)  # it was killed before its end
    assert await asyncio.to_thread(rows_in, again) == await asyncio.to_thread(rows_in, line.url)
    for proof in (
        await line.verify("--strict", url=again),
        await line.against_kafka(url=again),
        await line.against_raw("--raw-lake", line.url, url=again),
    ):
        assert (proof.code, proof.problems) == (0, [])
    assert proof.compared() == RECORDS * LINES


async def test_a_stream_of_its_own_in_the_same_lake_leaves_what_is_there_as_it_is(line):
    before = {entry.path for entry in line.line.store.walk("")}
    stream = line.line.settings.kafka.stream
    told = await line.run("reflatten", line.url, line.url, "--from-raw", "--as-stream", f"{stream}_2", "--kind", "fobd")
    assert told.code == 0
    assert before < {entry.path for entry in line.line.store.walk("")}
    ours, theirs = rows_in(line.url, f"{stream}_2"), rows_in(line.url, stream)
    assert ours == {folder: rows for folder, rows in theirs.items() if folder.startswith("fobd/")}
    proof = await line.against_raw("--strict")
    assert (proof.code, proof.problems) == (0, [])
    assert proof.compared() == RECORDS * PARTITIONS * (len(KINDS) + 1)


async def test_what_the_topics_no_longer_hold_is_said_and_the_archive_makes_it(line):
    await line.delete_before("fobs", 130)
    of_topics, of_archive = f"{line.url}-topics", f"{line.url}-archive"
    told = await line.run(
        "reflatten", line.url, of_topics, "--from-kafka", "--config", str(line.config_path), "--kind", "fobs"
    )
    assert (told.code, told.json["not_made"]) == (3, 130 * PARTITIONS)
    assert (await line.verify("--strict", url=of_topics)).code == 0
    told = await line.run("reflatten", line.url, of_archive, "--from-raw", "--kind", "fobs")
    assert (told.code, told.json["not_made"]) == (0, 0)
    refused = await line.run("reflatten", line.url, line.url, "--from-raw")
    assert refused.code == 2
    assert "never made again in place" in refused.json["error"]
