from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import duckdb
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.dataset as ds
import pytest

from cryptoflow import lake
from shared.errors import FatalError, RetryableError
from shared.lake import layout
from shared.lake.instruments import SCHEMA, store_if_changed
from shared.lake.store_local import LocalStore
from shared.venues.instruments import Instrument
from tests.lakes import BTC, HOUR_0, Line

NS = 1_790_000_000_123_456_789
SECOND = 1_000_000_000
PERPETUAL = Instrument(
    symbol="BTCUSDT",
    status="TRADING",
    base="BTC",
    quote="USDT",
    contract_type="PERPETUAL",
    tick_size="0.10",
    lot_size="0.001",
    onboard_ms=1_569_398_400_000,
    delivery_ms=4_133_404_800_000,
)
CHINESE = Instrument(symbol="币安人生USDT", status="TRADING", tick_size="1e-5")
CONTRACT = Instrument(symbol="BTCUSD_PERP", status="TRADING", tick_size="0.1", multiplier="100")


@pytest.fixture
def store(tmp_path) -> LocalStore:
    return LocalStore(tmp_path / "lake")


def keep(store, *instruments, at=NS, market="future"):
    return store_if_changed(store, "binance", market, instruments, at)


def statuses(store, at=None):
    table = lake.instruments(store.url, exchange="binance", market="future", at=at)
    return dict(zip(table["symbol"].to_pylist(), table["status"].to_pylist(), strict=True))


def test_a_listing_is_stored_verbatim(store):
    path = keep(store, CHINESE, PERPETUAL)
    assert path.startswith("instruments/exchange=binance/market=future/1790000000123-")
    assert layout.parse_listing_path(path).recv_ms == NS // 1_000_000
    table = lake.instruments(store.url, exchange="binance", market="future")
    assert table.schema == SCHEMA
    assert table.to_pylist()[0] == {
        "symbol": "BTCUSDT",
        "status": "TRADING",
        "base": "BTC",
        "quote": "USDT",
        "contract_type": "PERPETUAL",
        "tick_size": "0.10",
        "tick_size_f64": 0.1,
        "lot_size": "0.001",
        "multiplier": None,
        "onboard_time": datetime(2019, 9, 25, 8, tzinfo=UTC),
        "delivery_time": datetime(2100, 12, 25, 8, tzinfo=UTC),
        "valid_from": datetime.fromtimestamp(1_790_000_000, UTC).replace(microsecond=123_456),
    }
    assert table["symbol"].to_pylist() == ["BTCUSDT", "币安人生USDT"]


def test_the_same_listing_is_not_stored_again_whatever_its_order(store):
    assert keep(store, CHINESE, PERPETUAL)
    assert keep(store, PERPETUAL, CHINESE, at=NS + 3600 * SECOND) is None
    assert keep(store, PERPETUAL, CHINESE) is None


@pytest.mark.parametrize(
    "changes",
    [{"status": "SETTLING"}, {"tick_size": "0.1"}, {"lot_size": None}, {"delivery_ms": 1}, {"symbol": "BTCUSDC"}],
    ids=str,
)
def test_any_change_is_stored(store, changes):
    keep(store, CHINESE, PERPETUAL)
    assert keep(store, CHINESE, PERPETUAL._replace(**changes), at=NS + SECOND)


def test_a_listing_that_comes_back_is_stored_again(store):
    keep(store, PERPETUAL)
    keep(store, PERPETUAL._replace(status="BREAK"), at=NS + SECOND)
    assert keep(store, PERPETUAL, at=NS + 2 * SECOND)
    assert statuses(store) == {"BTCUSDT": "TRADING"}


def test_each_listing_is_valid_until_the_next(store):
    keep(store, PERPETUAL, CHINESE)
    keep(store, PERPETUAL._replace(status="BREAK"), at=NS + 10 * SECOND)
    assert (
        statuses(store, NS)
        == statuses(store, NS + 10 * SECOND - 1000)
        == {"BTCUSDT": "TRADING", "币安人生USDT": "TRADING"}
    )
    assert statuses(store, NS + 10 * SECOND) == statuses(store) == {"BTCUSDT": "BREAK"}
    with pytest.raises(lake.NoListing, match=r"no listing of binance:future received at or before .*: the first is of"):
        statuses(store, NS - SECOND)


def test_within_its_millisecond_a_listing_is_not_valid_before_it_was_received(store):
    keep(store, PERPETUAL._replace(status="BREAK"), at=NS - SECOND)
    keep(store, PERPETUAL)
    assert statuses(store, NS - 1000) == {"BTCUSDT": "BREAK"}
    assert statuses(store, NS) == {"BTCUSDT": "TRADING"}


def test_a_market_that_was_never_listed_has_none(store):
    keep(store, CONTRACT, market="inverse")
    with pytest.raises(lake.NoListing, match="no listing of binance:future in"):
        statuses(store)


def test_an_older_listing_that_arrives_late_takes_its_place(store):
    keep(store, PERPETUAL)
    keep(store, PERPETUAL._replace(status="BREAK"), at=NS + 20 * SECOND)
    assert keep(store, PERPETUAL._replace(status="CLOSE"), at=NS + 10 * SECOND)
    assert statuses(store, NS + 15 * SECOND) == {"BTCUSDT": "CLOSE"}
    assert statuses(store) == {"BTCUSDT": "BREAK"}


def test_a_late_listing_is_compared_with_the_one_before_it_not_with_the_newest(store):
    halted = PERPETUAL._replace(status="BREAK")
    keep(store, PERPETUAL)
    keep(store, halted, at=NS + 20 * SECOND)
    assert keep(store, PERPETUAL, at=NS + 5 * SECOND) is None
    assert keep(store, halted, at=NS + 10 * SECOND)
    assert statuses(store, NS + 15 * SECOND) == {"BTCUSDT": "BREAK"}


def test_an_empty_listing_is_not_believed(store):
    assert keep(store) is None
    assert store.list("") == []


def test_several_readers_at_once_store_one_listing(store):
    with ThreadPoolExecutor(8) as pool:
        stored = list(pool.map(lambda _: keep(store, PERPETUAL, CHINESE), range(8)))
    assert sum(path is not None for path in stored) == 1
    assert len(store.list("instruments/")) == 1


def test_a_time_that_no_reader_can_show_is_null(store):
    keep(store, PERPETUAL._replace(delivery_ms=10**15, onboard_ms=-1, tick_size="?"))
    (row,) = lake.instruments(store.url, exchange="binance", market="future").to_pylist()
    assert (row["delivery_time"], row["onboard_time"], row["tick_size"], row["tick_size_f64"]) == (
        None,
        None,
        "?",
        None,
    )


def test_what_the_store_raises_is_raised_at_once(store, monkeypatch):
    def down(*_args):
        raise RetryableError("down")

    monkeypatch.setattr(LocalStore, "create", down)
    with pytest.raises(RetryableError, match="down"):
        keep(store, PERPETUAL)


def test_a_damaged_listing_is_named(store, tmp_path):
    path = keep(store, PERPETUAL)
    (tmp_path / "lake" / path).write_bytes(b"PAR1")
    with pytest.raises(FatalError, match=f"{path} is not readable as a listing"):
        statuses(store)


def test_verify_counts_listings_in_and_misnamed_objects_beside_them_out(store):
    Line(store).flush((BTC, HOUR_0))
    keep(store, PERPETUAL)
    assert lake.verify(store.url).verdict == "complete"
    stray = [
        "instruments/exchange=binance/market=future/1790000000123-0123456789abcdeg.parquet",
        "instruments/exchange=binance/market=future/179000000123-0123456789abcdef.parquet",
        "instruments/exchange=bin%61nce/market=future/1790000000123-0123456789abcdef.parquet",
        "instruments/exchange=%FF/market=future/1790000000123-0123456789abcdef.parquet",
        "instruments/1790000000123-0123456789abcdef.parquet",
        "instruments/exchange=binance/market=future/notes.txt",
    ]
    for path in stray:
        store.create(path, b"x")
    found = {(problem.what, problem.path) for problem in lake.verify(store.url).problems}
    assert found == {("foreign-object", path) for path in stray}


def test_every_engine_reads_the_listings_as_a_hive_tree(store):
    keep(store, PERPETUAL, CHINESE)
    keep(store, PERPETUAL, at=NS + SECOND)
    keep(store, CONTRACT, market="inverse")
    root = f"{store.url}/instruments"
    counts = {"future": 3, "inverse": 1}
    by_pandas = pd.read_parquet(root, dtype_backend="pyarrow")
    assert by_pandas.groupby("market", observed=True).size().to_dict() == counts
    assert by_pandas["valid_from"].dtype == pd.ArrowDtype(pa.timestamp("us", tz="UTC"))
    by_polars = pl.scan_parquet(root, hive_partitioning=True).group_by("market").len().collect()
    assert dict(by_polars.iter_rows()) == counts
    table = ds.dataset(root, partitioning="hive").to_table()
    assert table.schema.names == [*SCHEMA.names, "exchange", "market"]
    assert table.group_by("market").aggregate([([], "count_all")]).to_pylist() == [
        {"market": "future", "count_all": 3},
        {"market": "inverse", "count_all": 1},
    ]
    with duckdb.connect() as duck:
        query = (
            f"SELECT market, count(*) FROM read_parquet('{root}/**/*.parquet', hive_partitioning = true) GROUP BY ALL"
        )
        assert dict(duck.sql(query).fetchall()) == counts
