"""Duplicate publishers as the flattener's metric shows them: they rise, move with the partitions, and fall."""

from __future__ import annotations

import pytest

from tests.flattener_line import BOOKS, RECV_NS, Topics, body, frame, headers, maker
from tests.support import eventually

SECOND = 1_000_000_000
METRIC = "cryptoflow_duplicate_publishers"


@pytest.fixture
def make(embedded_kafka, make_config, make_settings):
    """Configuration and topics on the embedded broker."""
    return maker(embedded_kafka, make_config, make_settings)


async def publish(line: Topics, books, readers, seconds) -> None:
    """A record of each book by each reader in turn, every ten seconds of the records' time."""
    updates = line.kind == "fobd"
    await line.publish(
        (
            book.key,
            frame(book, second) if updates else body(second),
            headers(
                book,
                0,
                type="update" if updates else "snapshot",
                recv_ns=RECV_NS + second * SECOND,
                conn=f"{reader}:{place}",
            ),
        )
        for second in range(*seconds, 10)
        for book in books
        for place, reader in enumerate(readers)
    )


async def test_two_readers_of_the_same_books_show_until_one_of_them_is_silent(make, services):
    config, snapshots = make()
    updates = Topics(snapshots.settings, "fobd")
    await snapshots.create()
    first = services.start("flattener", config)

    async def covered() -> bool:
        return await snapshots.covered() and await updates.covered()

    def shown() -> tuple[float, float]:
        return first.metric(METRIC, kind="fobs"), first.metric(METRIC, kind="fobd")

    await publish(snapshots, BOOKS, ["a:1"], (0, 100))
    await publish(updates, BOOKS, ["a:1"], (0, 100))
    await publish(updates, BOOKS, ["a:2"], (100, 200))
    await eventually(covered)
    assert shown() == (0, 0)

    await publish(updates, BOOKS[3:], ["a:2", "b:1"], (200, 300))
    await eventually(lambda: shown() == (0, 5))
    await publish(snapshots, BOOKS[:2], ["a:2", "b:1"], (200, 300))
    await eventually(lambda: shown() == (2, 5))
    assert first.metric(METRIC) == 7

    second = services.start("flattener", config)
    await eventually(lambda: shown() == (0, 0), what="what was judged goes with the partitions")
    await publish(updates, BOOKS[3:], ["a:2", "b:1"], (300, 400))
    await eventually(lambda: shown()[1] + second.metric(METRIC, kind="fobd") == 5)

    await publish(updates, BOOKS, ["b:1"], (400, 800))
    await eventually(lambda: shown() == (0, 0) and second.metric(METRIC) == 0)
    await eventually(covered)
    assert first.terminate() == second.terminate() == 0
    told = [(line["topic"], line["key"], line["publishers"]) for line in first.logged("duplicate publishers")]
    expected = [(updates.raw, book, ["b:1", "a:2"]) for book in BOOKS[3:]]
    expected += [(snapshots.raw, book, ["b:1", "a:2"]) for book in BOOKS[:2]]
    assert sorted(told[:7]) == sorted((topic, str(book), names) for topic, book, names in expected)
    ended = [line for process in (first, second) for line in process.logged("duplicate publishers no longer")]
    assert sorted(line["key"] for line in ended) == sorted(str(book) for book in BOOKS[3:])
