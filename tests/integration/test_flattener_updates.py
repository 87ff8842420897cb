"""The flattener as a process on the delta topic: updates, anchors and gaps come out as rows, broken ones as dead letters."""

from __future__ import annotations

from itertools import pairwise

import pytest

from shared.messages import Book, DeadLetterHeaders, Gap
from tests.flattener_line import body, frame, headers, maker
from tests.support import eventually
from tests.unit.test_flatten import MALFORMED_HEADERS
from tests.unit.test_flatten_updates import ROW, plainly
from tests.unit.test_flatten_updates import frame as unit_frame
from tests.unit.test_flatten_updates_broken import BROKEN

pytestmark = pytest.mark.docker

BTC = Book("binance", "future", "BTCUSDT")
CONN = "host:1:1"


@pytest.fixture
def make(kafka, make_config, make_settings):
    """Configuration and topics on Apache Kafka."""
    return maker(kafka, make_config, make_settings, "fobd")


def pairs(number: int, **changes):
    return headers(BTC, number, **({"type": "update", "limit": None, "conn": CONN} | changes))


def wide(number: int, levels: int) -> bytes:
    """An update of BTC of so many levels a side."""
    return frame(BTC, number, levels)


MESSAGES = [
    ("gap", Gap(cause="start").encode()),
    ("update", wide(1, 3)),
    ("snapshot", body(2, levels=1000)),
    ("update", wide(2, 5000)),
    ("update", unit_frame([], [["3", "0"]])),
    ("update", unit_frame([["3", "0"]], [])),
    ("update", unit_frame([], [])),
    ("gap", Gap(cause="disconnect", last_id=105, next_id=200, since_ns=1_700_000_000_000_000_000).encode()),
    ("snapshot", body(200, levels=0)),
    ("gap", Gap(cause="stop", last_id=105).encode()),
]


async def test_every_type_of_record_becomes_its_rows_and_broken_ones_dead_letters(make, services):
    config, line = make(processor={"batch_size": 8192})
    await line.create()
    broken = [(BTC.key, value, pairs(i), 0) for i, (_, value, _) in enumerate(BROKEN)]
    broken += [(BTC.key, wide(i, 2), bad, 0) for i, (_, bad, _) in enumerate(MALFORMED_HEADERS)]
    good = [
        (BTC.key, value, pairs(i, type=kind, limit=1000 if kind == "snapshot" else None), 0)
        for i, (kind, value) in enumerate(MESSAGES)
    ]
    await line.publish([record for bad in broken for record in (bad, *good)])
    flattener = services.start("flattener", config)
    await eventually(line.covered)

    raw = (await line.all(line.raw))[0]
    rows = await line.taken()
    letters = [letter for found in (await line.all(line.dead)).values() for letter in found]
    by_src = {DeadLetterHeaders.split(letter.headers)[0].src: letter for letter in letters}
    assert len(letters) == len(by_src) == len(broken)
    for record in raw:
        src = f"{line.raw}/0/{record.offset}"
        number = record.offset % (len(MESSAGES) + 1) - 1
        found = rows.pop((0, record.offset))
        if number < 0:
            assert (found[0]["type"], found[0]["gap_cause"], len(found)) == ("gap", "malformed", 1)
            assert (by_src[src].key, by_src[src].value) == (record.key, record.value)
            assert DeadLetterHeaders.split(by_src[src].headers)[1] == list(record.headers)
            continue
        kind, value = MESSAGES[number]
        received = {name: found[0][name] for name in ("timestamp", "recv_ns")}
        shared = ROW | received | {"conn": CONN, "raw_partition": 0, "raw_offset": record.offset}
        assert found == plainly(kind, value, shared)
        assert found[0]["recv_ns"] == int(dict(record.headers)["recv_ns"])
    assert not rows
    norm = (await line.normalised())[0]
    assert sum(n.headers.dead for n in norm) == len(broken)
    assert all(before.src_last + 1 == after.src_first for before, after in pairwise(norm))
    assert flattener.metric("cryptoflow_dead_letters_total", stage="flattener") == len(broken)
    assert flattener.metric("cryptoflow_flattened_messages_total", kind="fobd") == len(raw)
    assert flattener.metric("cryptoflow_unusual_books_total", kind="fobd", what="empty") == 2 * len(broken)
    assert flattener.metric("cryptoflow_flattened_messages_total", kind="fobs") == 0
    assert flattener.terminate() == 0


async def test_killed_in_the_middle_it_cuts_again_and_every_update_counts_once(make, services):
    config, line = make(processor={"batch_size": 50})
    await line.create()
    await line.updates(4000)
    interrupted = 0
    for _ in range(2):
        before = sum((await line.ends(line.norm)).values())
        flattener = services.start("flattener", config, ready=False)

        async def grown(least: int = before) -> bool:
            return sum((await line.ends(line.norm)).values()) > least or await line.covered()

        await eventually(grown)
        flattener.kill()
        interrupted += not await line.covered()
    flattener = services.start("flattener", config)
    await eventually(line.covered)
    assert flattener.terminate() == 0
    assert interrupted
    assert await line.assert_each_once() == 4000
