"""Books, gaps and instruments from a real S3 store: listings that begin in the middle of a tree are as we think."""

from __future__ import annotations

import pytest

from cryptoflow import lake
from shared.lake.hours import Hours
from shared.lake.instruments import store_if_changed
from shared.lake.layout import HOUR_US
from shared.venues.instruments import Instrument
from tests.integration.test_store import s3_store
from tests.lakes import BTC, HOUR_0, FobdRows, fobd_line

SECOND = 1_000_000_000
T0 = HOUR_0 * 1000
HOURS = (0, 1, 5, 24, 25, 24 * 40, 24 * 40 + 3, 24 * 400)
WHERE = {"exchange": "binance", "market": "future", "symbol": "BTCUSDT"}


@pytest.fixture
def url(s3, prefix, monkeypatch) -> str:
    """A lake with an anchor in each of `HOURS`, an update after it, and a gap in one."""
    store = s3_store(s3, prefix)
    line, rows = fobd_line(store), FobdRows()
    for number, hour in enumerate(HOURS):
        rows.recv_ns = T0 + hour * 3600 * SECOND
        rows.anchor(10 * number, [(100.0, 1.0 + number)], [(101.0, 1.0)])
        rows.update(10 * number + 1, 10 * number + 2, 10 * number, [(99.0, 1.0)])
        rows.gap("stop" if hour != 5 else "overflow", since=rows.recv_ns)
        line.write((BTC, rows.take()))
    store_if_changed(store, "binance", "future", [Instrument("BTCUSDT", "TRADING")], T0)
    for name, value in s3.environ.items():
        monkeypatch.setenv(name, value)
    return f"s3://{s3.bucket}/{prefix}"


@pytest.mark.docker
def test_the_lake_in_s3_is_read_as_the_one_in_a_folder(url):
    for number, hour in enumerate(HOURS):
        book = lake.book(url, **WHERE, at=T0 + (hour * 3600 + 2) * SECOND)
        assert (book.update_id, book.bids.quantity[0], book.gaps) == (10 * number + 2, 1.0 + number, ())
    (gap,) = lake.book(url, **WHERE, at=T0 + 20 * 3600 * SECOND).gaps
    assert gap.cause == "overflow"
    assert len(lake.gaps(url)) == len(HOURS)
    assert lake.instruments(url, exchange="binance", market="future")["symbol"].to_pylist() == ["BTCUSDT"]
    assert lake.verify(url).ok


@pytest.mark.docker
def test_the_hours_around_any_hour_are_found_in_s3(url):
    hours = Hours(lake.open_url(url), "fobd", BTC)
    for asked in {near for hour in HOURS for near in (hour - 1, hour, hour + 1)}:
        before = max((hour for hour in HOURS if hour < asked), default=None)
        after = min((hour for hour in HOURS if hour > asked), default=None)
        at = HOUR_0 + asked * HOUR_US
        assert hours.before(at) == (None if before is None else HOUR_0 + before * HOUR_US)
        assert hours.after(at) == (None if after is None else HOUR_0 + after * HOUR_US)
