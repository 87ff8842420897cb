"""The flattener as a process: every raw record's rows on the norm topic, in order, tiling, whatever happens to it."""

from __future__ import annotations

import asyncio
import base64
import json
import subprocess
import sys
from itertools import pairwise

import pytest
import yaml

from shared.kafka import Admin, TopicPartition
from shared.messages import DeadLetterHeaders, Gap
from tests.flattener_line import BOOKS, Topics, body, headers, maker
from tests.processes import clean_environ
from tests.support import eventually
from tests.unit.test_flatten import BROKEN, MALFORMED_HEADERS


@pytest.fixture
def make(embedded_kafka, make_config, make_settings):
    """Configuration and topics on the embedded broker."""
    return maker(embedded_kafka, make_config, make_settings)


@pytest.fixture
def make_real(kafka, make_config, make_settings):
    """Configuration and topics on Apache Kafka: the embedded broker never gives up a killed member."""
    return maker(kafka, make_config, make_settings)


async def test_every_raw_record_becomes_its_rows_and_ranges_tile(make, services):
    config, line = make()
    await line.create()
    await line.books(200)
    flattener = services.start("flattener", config)
    await eventually(line.covered)
    await line.books(50, first=200)
    await eventually(line.covered)
    assert flattener.terminate() == 0
    assert await line.assert_each_once() == 250
    for records in (await line.normalised()).values():
        assert [record.src_first for record in records[:1]] in ([], [0])
        assert all(before.src_last + 1 == after.src_first for before, after in pairwise(records))
        assert all(record.headers.stream == line.settings.kafka.stream for record in records)


async def test_a_drained_flattener_leaves_nothing_for_the_next(make, services):
    config, line = make()
    await line.create()
    await line.books(40)
    first = services.start("flattener", config)
    await eventually(line.covered)
    assert first.terminate() == 0
    before = await line.ends(line.norm)
    second = services.start("flattener", config)
    await line.books(8, first=40)
    await eventually(line.covered)
    assert second.terminate() == 0
    assert await line.assert_each_once() == 48
    new = {p: records[before[TopicPartition(line.norm, p)] :] for p, records in (await line.normalised()).items()}
    old = {p: records[: before[TopicPartition(line.norm, p)]] for p, records in (await line.normalised()).items()}
    for partition, records in new.items():
        if records and old[partition]:
            assert records[0].src_first == old[partition][-1].src_last + 1


@pytest.mark.docker
async def test_killed_in_the_middle_it_cuts_again_and_every_row_counts_once(make_real, services):
    config, line = make_real(processor={"batch_size": 50})
    await line.create()
    await line.books(2000, levels=20)

    interrupted = 0
    for _ in range(3):
        flattener = services.start("flattener", config, ready=False)
        start = sum((await line.ends(line.norm)).values())
        await eventually(lambda before=start: _grown(line, before))
        flattener.kill()
        interrupted += not await line.covered()
    flattener = services.start("flattener", config)
    await eventually(line.covered)
    assert flattener.terminate() == 0
    assert interrupted
    assert await line.assert_each_once() == 2000


@pytest.mark.docker
async def test_what_kafka_no_longer_has_is_an_empty_record_that_says_so(make_real, services):
    config, line = make_real()
    await line.create()
    book = BOOKS[0]
    await line.publish([(book.key, body(i), headers(book, i), 0) for i in range(10)])
    first = services.start("flattener", config)
    await eventually(line.covered)
    assert first.terminate() == 0
    await line.publish([(book.key, body(i), headers(book, i), 0) for i in range(10, 30)])
    async with Admin(line.settings.kafka, client_id="test") as admin:
        await admin.delete_records({TopicPartition(line.raw, 0): 20})
    second = services.start("flattener", config)
    await eventually(line.covered)
    assert second.metric("cryptoflow_lost_raw_records_total") == 10
    assert second.terminate() == 0
    records = (await line.normalised())[0]
    assert [(n.src_first, n.src_last) for n in records if n.headers.lost] == [(10, 19)]
    assert [n.rows for n in records if n.headers.lost] == [[]]
    assert all(before.src_last + 1 == after.src_first for before, after in pairwise(records))
    assert {row["raw_offset"] for n in records for row in n.rows} == {*range(10), *range(20, 30)}


async def test_dead_letters_are_listed_and_replayed_with_their_own_bytes(make, services, tmp_path):
    config, line = make()
    await line.create()
    book = BOOKS[0]
    pairs = headers(book, 1)
    await line.publish([(book.key, b"\xffnonsense", pairs, 2), (book.key, body(1)[:-4], headers(book, 2), 2)])
    flattener = services.start("flattener", config)
    await eventually(line.covered)
    path = tmp_path / "config.yml"
    path.write_text(yaml.safe_dump(config))

    def cryptoflow(*arguments: str) -> str:
        command = [sys.executable, "-m", "cryptoflow.cli", "dead-letters", *arguments, "--config", str(path)]
        return subprocess.run(
            command, check=True, capture_output=True, text=True, env=clean_environ(), cwd=tmp_path
        ).stdout

    listed = json.loads(await asyncio.to_thread(cryptoflow, "list", "--json"))
    assert [(letter["reason"], letter["src"]) for letter in listed] == [
        ("bad_json", f"{line.raw}/2/0"),
        ("truncated_body", f"{line.raw}/2/1"),
    ]
    assert base64.b64decode(listed[0]["value_base64"]) == b"\xffnonsense"
    assert listed[0]["headers"]["symbol"] == book.symbol
    assert "bad_json" in await asyncio.to_thread(cryptoflow, "list")
    assert len(json.loads(await asyncio.to_thread(cryptoflow, "list", "--json", "--limit", "1"))) == 1

    said = await asyncio.to_thread(cryptoflow, "replay", "--reason", "bad_json")
    assert "1 of 1 would be published again" in said
    assert (await line.ends(line.raw))[TopicPartition(line.raw, 2)] == 2
    said = await asyncio.to_thread(cryptoflow, "replay", "--reason", "bad_json", "--yes")
    assert f"{line.raw}/2/0 is now also {line.raw}/2/2" in said
    again = (await line.all(line.raw))[2][2]
    assert (again.value, again.key, list(again.headers)) == (b"\xffnonsense", book.key, pairs)
    await eventually(line.covered)
    assert flattener.terminate() == 0


async def _grown(line: Topics, before: int) -> bool:
    return sum((await line.ends(line.norm)).values()) > before or await line.covered()


async def test_two_flatteners_share_both_topics_and_lose_nothing_when_one_goes(make, services):
    config, books = make(processor={"batch_size": 50})
    updates = Topics(books.settings, "fobd")
    await books.create()

    async def publish(first: int) -> None:
        await books.books(400, first)
        await updates.updates(400, first)

    async def covered() -> bool:
        return await books.covered() and await updates.covered()

    await publish(0)
    first = services.start("flattener", config)
    second = services.start("flattener", config)
    await eventually(
        lambda: all(
            0 < _partitions(process, line.raw) < line.partitions
            for process in (first, second)
            for line in (books, updates)
        ),
        what="each has some of the partitions of both",
    )
    await publish(400)
    await eventually(covered)
    assert first.terminate() == 0
    await publish(800)
    await eventually(covered, timeout=60)
    assert second.terminate() == 0
    assert await books.assert_each_once() == await updates.assert_each_once() == 1200


def _partitions(process, topic: str) -> int:
    text = process._get("/metrics") or ""
    lags = [row for row in text.splitlines() if row.startswith("cryptoflow_position_lag_records{")]
    return sum(f'topic="{topic}"' in row for row in lags)


async def test_broken_payloads_end_in_dead_letters_and_never_stop_the_line(make, services):
    config, line = make()
    await line.create()
    book = BOOKS[0]
    broken = [(book.key, value, headers(book, i), 0) for i, (_, value, _) in enumerate(BROKEN)]
    broken += [(book.key, body(i), pairs, 0) for i, (_, pairs, _) in enumerate(MALFORMED_HEADERS)]
    broken += [(None, b"\x00\xff", [], 0), (book.key, Gap(cause="ban").encode(), headers(book, 0, type="gap"), 0)]
    good = (book.key, body(7), headers(book, 7), 0)
    await line.publish([record for bad in broken for record in (bad, good)])
    flattener = services.start("flattener", config)
    await eventually(line.covered)

    raw = (await line.all(line.raw))[0]
    rows = await line.taken()
    letters = [letter for found in (await line.all(line.dead)).values() for letter in found]
    by_src = {DeadLetterHeaders.split(letter.headers)[0].src: letter for letter in letters}
    assert len(letters) == len(by_src) == len(broken) - 1
    for record in raw[0:-2:2]:
        [row] = rows[0, record.offset]
        assert row["gap_cause"] == "malformed"
        letter = by_src[f"{line.raw}/0/{record.offset}"]
        own, original = DeadLetterHeaders.split(letter.headers)
        assert (letter.value, letter.key, tuple(original)) == (record.value, record.key, record.headers)
        assert own.stage == "flattener"
        assert own.error.partition(":")[0].isidentifier()
    for record in raw[1::2]:
        assert len(rows[0, record.offset]) == 6
    assert sum(n.headers.dead for n in (await line.normalised())[0]) == len(letters)
    assert flattener.metric("cryptoflow_dead_letters_total", stage="flattener") == len(letters)
    assert flattener.metric("cryptoflow_produced_records_total", topic=line.dead) == len(letters)
    assert flattener.metric("cryptoflow_produced_records_total", topic=line.norm) == len((await line.normalised())[0])
    assert flattener.terminate() == 0


async def test_dead_letters_above_the_ceiling_stop_the_service_in_words(make, services):
    config, line = make()
    await line.create()
    book = BOOKS[0]
    await line.publish((book.key, b"nonsense", headers(book, i), 0) for i in range(1100))
    flattener = services.start("flattener", config, ready=False)
    assert flattener.wait() == 1
    [failed] = flattener.logged("service failed")
    assert "dead_letter_ceiling" in failed["reason"]
    assert "bad_json" in failed["reason"]


async def test_an_unknown_version_stops_its_partition_and_no_other(make, services):
    config, line = make()
    await line.create()
    book = BOOKS[0]
    later = [("v", b"2") if name == "v" else (name, value) for name, value in headers(book, 2)]
    await line.publish(
        [
            (book.key, body(1), headers(book, 1), 0),
            (book.key, body(2), later, 0),
            (book.key, body(3), headers(book, 3), 0),
            (book.key, body(4), headers(book, 4), 1),
        ]
    )
    flattener = services.start("flattener", config, ready=False)
    flattener.wait_logged("unknown version")

    async def others_went_on() -> bool:
        norm = await line.normalised()
        return [n.src_last for n in norm[0]] == [0] and [n.src_last for n in norm[1]] == [0]

    await eventually(others_went_on)
    await line.publish([(book.key, body(5), headers(book, 5), 1)])

    async def still_going_on() -> bool:
        norm = await line.normalised()
        return [n.src_last for n in norm[1]] == [0, 1]

    await eventually(still_going_on)
    assert not flattener.ready()
    assert flattener.metric("cryptoflow_unknown_version", partition="0") == 1
    for partition, left in (("0", 2), ("1", 0)):
        where = {"topic": line.raw, "partition": partition}
        await eventually(
            lambda where=where, left=left: flattener.metric("cryptoflow_stored_lag_records", **where) == left
        )
        assert (flattener.metric("cryptoflow_stored_lag_seconds", **where) > 0) == bool(left)
    assert flattener.terminate() == 0
    assert [n.src_last for n in (await line.normalised())[0]] == [0]
