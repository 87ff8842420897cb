"""Where a key goes is where Kafka's default partitioner puts it: every producer of a topic agrees."""

from __future__ import annotations

import pytest
from aiokafka.partitioner import DefaultPartitioner
from hypothesis import given
from hypothesis import strategies as st

from shared.kafka import partition_for
from shared.messages import Book

default = DefaultPartitioner()


@given(st.binary(max_size=80), st.integers(1, 200))
def test_a_key_goes_where_the_default_partitioner_puts_it(key, partitions) -> None:
    everywhere = list(range(partitions))
    assert partition_for(key, partitions) == default(key, everywhere, everywhere)


@pytest.mark.parametrize("symbol", ["BTCUSDT", "BTCUSD_PERP", "1000SHIBUSDT", "币安人生USDT"])
@pytest.mark.parametrize("market", ["future", "inverse", "spot"])
def test_the_keys_of_books_go_where_the_default_partitioner_puts_them(market, symbol) -> None:
    key = Book("binance", market, symbol).key
    assert partition_for(key, 12) == default(key, list(range(12)), list(range(12)))


@pytest.mark.parametrize(
    ("key", "hashed"),
    [(b"21", -973932308), (b"foobar", -790332482), (b"a-little-bit-long-string", -985981536), (b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971)],
)  # fmt: skip
def test_the_hash_is_that_of_kafkas_own_client(key, hashed) -> None:
    """The values are those of the tests of Kafka's Java client (`UtilsTest.testMurmur2`)."""
    assert partition_for(key, 2**31) == hashed % 2**31


def test_keys_spread_over_all_partitions() -> None:
    keys = [Book("binance", "future", f"S{number}USDT").key for number in range(500)]
    assert {partition_for(key, 12) for key in keys} == set(range(12))
