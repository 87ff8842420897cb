"""Publishing one cut: dead letters before the record that counts them, sizes within Kafka's, a failed send is the end."""

from __future__ import annotations

import pyarrow as pa
import pytest

from services.flattener.ceiling import Ceiling
from services.flattener.cut import Cut
from services.flattener.flatten import encode, flatten_fobd, flatten_fobs
from services.flattener.message import read
from services.flattener.publish import Publisher
from shared.errors import FatalError
from shared.kafka import MAX_RECORD_BYTES, Producer, Record, TopicPartition
from shared.lake.schema import NORM_SCHEMAS
from shared.messages import DeadLetterHeaders
from shared.venues.levels import LevelParser
from tests.flattener_line import BOOKS, Topics, body, frame, headers

BOOK = BOOKS[0]


@pytest.fixture
async def line(embedded_kafka, make_settings):
    found = Topics(make_settings(kafka={"bootstrap_servers": embedded_kafka.bootstrap_servers}))
    await found.create()
    return found


@pytest.fixture
def updates(line):
    return Topics(line.settings, "fobd")


@pytest.fixture
async def producer(line):
    made = Producer(line.settings.kafka, client_id="test", compression="none")
    await made.start()
    yield made
    await made.stop(10)


@pytest.fixture
def publisher(line, producer):
    def make(**changes) -> Publisher:
        values = {
            "kind": "fobs",
            "norm_topic": line.norm,
            "dead_letter_topic": line.dead,
            "stream": "main",
            "ceiling": Ceiling(1.0),
        }
        return Publisher(producer, **(values | changes))

    return make


def cut(line: Topics, *values: bytes) -> Cut:
    records = [
        Record(line.raw, 0, offset, 0, BOOK.key, value, tuple(headers(BOOK, offset)))
        for offset, value in enumerate(values)
    ]
    return Cut(0, len(values) - 1, tuple(read("fobs", record) for record in records))


async def test_a_record_above_the_limit_is_split_between_messages(line, publisher):
    books = [body(i, levels=200) for i in range(5)]
    whole = cut(line, *books)
    whole_bytes = len(encode(flatten_fobs(whole.messages, LevelParser()).batch))
    await publisher(most_value_bytes=whole_bytes - 1).publish(TopicPartition(line.raw, 0), whole)
    norm = (await line.normalised())[0]
    assert len(norm) > 1
    assert [n.src_first for n in norm] == [0, *(n.src_last + 1 for n in norm[:-1])]
    assert norm[-1].src_last == 4
    assert sum(len(n.rows) for n in norm) == 5 * 400
    assert sum(n.headers.dead for n in norm) == 0


async def test_updates_above_the_limit_are_halved_until_they_fit(updates, publisher):
    count, levels = 64, 50
    records = [
        Record(updates.raw, 0, i, 0, BOOK.key, frame(BOOK, i, levels), tuple(headers(BOOK, i, type="update")))
        for i in range(count)
    ]
    whole = Cut(0, count - 1, tuple(read("fobd", record) for record in records))
    limit = len(encode(flatten_fobd(whole.messages[-4:], LevelParser()).batch))
    await publisher(kind="fobd", norm_topic=updates.norm, most_value_bytes=limit).publish(
        TopicPartition(updates.raw, 0), whole
    )
    norm = (await updates.normalised())[0]
    assert [n.src_first for n in norm] == [0, *(n.src_last + 1 for n in norm[:-1])]
    assert len(norm) >= count // 4
    assert all(len(record.value) <= limit for record in (await updates.all(updates.norm))[0])
    assert [row["raw_offset"] for n in norm for row in n.rows] == [i for i in range(count) for _ in range(2 * levels)]
    assert sum(n.headers.dead for n in norm) == 0


@pytest.mark.parametrize("kind", ["fobs", "fobd"])
async def test_lost_offsets_are_a_record_without_rows_in_the_columns_of_its_kind(line, publisher, kind):
    of_kind = Topics(line.settings, kind)
    lost = Cut(0, 9, ())
    await publisher(kind=kind, norm_topic=of_kind.norm).publish(TopicPartition(of_kind.raw, 0), lost)
    [record] = (await of_kind.all(of_kind.norm))[0]
    with pa.ipc.open_stream(record.value) as reader:
        assert reader.schema.equals(NORM_SCHEMAS[kind])
    [norm] = (await of_kind.normalised())[0]
    assert (norm.src_first, norm.src_last, norm.headers.lost, norm.rows) == (0, 9, True, [])


async def test_one_message_above_the_limit_is_a_dead_letter_and_a_malformed_row(line, publisher):
    huge = body(1, levels=3000)
    await publisher(most_value_bytes=30_000).publish(TopicPartition(line.raw, 0), cut(line, body(0), huge, body(2)))
    rows = await line.taken()
    assert {origin: len(found) for origin, found in rows.items()} == {(0, 0): 6, (0, 1): 1, (0, 2): 6}
    assert rows[0, 1][0]["gap_cause"] == "malformed"
    [letter] = [letter for found in (await line.all(line.dead)).values() for letter in found]
    assert DeadLetterHeaders.split(letter.headers)[0].error.startswith("too_large: ")
    assert letter.value == huge


async def test_a_dead_letter_too_large_for_kafka_says_where_its_bytes_are(line, publisher):
    junk = b"x" * (MAX_RECORD_BYTES - 300)
    await publisher().publish(TopicPartition(line.raw, 0), cut(line, junk))
    [letter] = [letter for found in (await line.all(line.dead)).values() for letter in found]
    own, original = DeadLetterHeaders.split(letter.headers)
    assert letter.value == b""
    assert own.error.startswith(f"bad_json: left in {line.raw}/0/0, {len(junk)} bytes: ")
    assert original == headers(BOOK, 0)
    assert [n.headers.dead for n in (await line.normalised())[0]] == [1]


async def test_a_failed_send_ends_the_process_and_nothing_more_is_sent(line, publisher):
    publish = publisher().publish
    with pytest.raises(FatalError, match="goes on from the last commit"):
        await publish(TopicPartition(line.raw, 99), cut(line, body(0)))
    with pytest.raises(FatalError):
        await publish(TopicPartition(line.raw, 0), cut(line, body(0)))
    assert (await line.normalised())[0] == []


async def test_above_the_ceiling_nothing_is_given_up(line, publisher):
    with pytest.raises(FatalError, match="ceiling"):
        await publisher(ceiling=Ceiling(0.5)).publish(TopicPartition(line.raw, 0), cut(line, *[b"nonsense"] * 1000))
    assert sum((await line.ends(line.dead)).values()) == 0
    assert sum((await line.ends(line.norm)).values()) == 0
