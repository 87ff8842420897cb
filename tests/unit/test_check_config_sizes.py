"""The sizes that check-config reckons with, against captured sessions put through the project's own code."""

from itertools import islice

import pytest

from bench.volume import BUSY, captured, figures, merged, polls
from cryptoflow import check_config_sizes as sizes
from tests.support import CAPTURES, needs_captures

pytestmark = needs_captures
FRAMES = 6000  # of the busy session: its first minutes are enough for sizes


@pytest.fixture(scope="module")
def other():
    return figures("fobd", list(captured(CAPTURES / "binance_usdm__20210405_bat_chr_ctk_neo_sand")))


@pytest.fixture(scope="module")
def busy():
    return list(islice(captured(CAPTURES / BUSY), FRAMES))


def near(value, share=0.15):
    return pytest.approx(value, rel=share)


def test_the_pace_of_a_usual_symbol(other):
    activity = sizes.OTHER_SYMBOL
    assert activity.updates_per_second == near(other["messages a second and book"], 0.01)
    levels = other["levels of a message"]
    assert activity.levels_per_second == near(levels * other["messages a second and book"], 0.01)
    assert sizes.UPDATE_BYTES + levels * activity.raw_level_bytes == near(other["bytes of a message"], 0.01)


def test_what_a_usual_symbol_takes_on_the_way(other):
    activity, levels = sizes.OTHER_SYMBOL, other["levels of a message"]
    for batch in (1, 10, 100):
        record = sizes.BROKER_BATCH_BYTES / batch + sizes.BROKER_RECORD_BYTES + levels * sizes.BROKER_UPDATE_LEVEL_BYTES
        assert record == near(other[f"bytes of a message on the broker, {batch} a batch"])
    assert activity.norm_row_bytes == near(other["bytes of a row in a norm record"])
    assert near(other["bytes of a norm record beside its rows"]) == sizes.NORM_RECORD_BYTES
    assert activity.file_row_bytes == near(other["bytes of a row in Parquet"])
    assert near(other["bytes of a file beside its rows"]) == sizes.FILE_BYTES


def test_what_a_busy_symbol_takes_on_the_way(busy):
    found, activity = figures("fobd", list(merged(busy))), sizes.BUSY_SYMBOL
    levels = found["levels of a message"]
    assert sizes.UPDATE_BYTES + levels * activity.raw_level_bytes == near(found["bytes of a message"], 0.02)
    record = sizes.BROKER_BATCH_BYTES + sizes.BROKER_RECORD_BYTES + levels * sizes.BROKER_UPDATE_LEVEL_BYTES
    assert record == near(found["bytes of a message on the broker, 1 a batch"])
    assert activity.norm_row_bytes == near(found["bytes of a row in a norm record"])
    assert activity.file_row_bytes == near(found["bytes of a row in Parquet"], 0.25)  # more of them repeat in a window


def test_what_a_poll_takes_on_the_way(busy):
    found = figures("fobs", list(polls(CAPTURES / BUSY, busy)))
    assert found["levels of a message"] == 2000
    assert near(found["bytes of a message"], 0.02) == sizes.BODY_BYTES + 2000 * sizes.BODY_LEVEL_BYTES
    record = sizes.BROKER_BATCH_BYTES + sizes.BROKER_RECORD_BYTES + 2000 * sizes.BROKER_BODY_LEVEL_BYTES
    assert record == near(found["bytes of a message on the broker, 1 a batch"])
    alone = found["bytes of a norm record beside its rows"] + 2000 * found["bytes of a row in a norm record"]
    assert near(alone) == sizes.NORM_RECORD_BYTES + 2000 * sizes.NORM_BODY_ROW_BYTES
    first = found["bytes of a file beside its rows"] + 2000 * found["bytes of a row in Parquet"]
    assert near(first) == sizes.FILE_BYTES + 2000 * sizes.FIRST_BODY_ROW_BYTES
    assert near(found["bytes of a row in Parquet"], 0.4) == sizes.FILE_BODY_ROW_BYTES  # 2.4 over all eight minutes
