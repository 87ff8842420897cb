"""The measured numbers that a plan is reckoned with, each with the command or the page it is from.

Where no other is named: `python -m bench.volume`, which measures captured sessions of Binance. They say how large a plan
is, not what a given hour will bring: a market's mood changes them severalfold.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

KIB = 1024
MIB = 1024 * KIB

BUSY = re.compile(r"(BTC|ETH)-?(USD|USDT|USDC|FDUSD)(_\w+)?")
"""Ids that move as BTCUSDT and ETHUSDT did. What patterns match is not known by name: it counts as the others."""


@dataclass(frozen=True, slots=True)
class Activity:
    """How a symbol moves, and how large that is. Levels a second are the same at any spacing."""

    name: str
    source: str
    updates_per_second: float  # where the stream's spacing allows as many
    levels_per_second: float
    raw_level_bytes: float
    norm_row_bytes: float
    file_row_bytes: float


BUSY_SYMBOL = Activity(
    name="as BTCUSDT, ETHUSDT",
    source="captured 2024-07-18, eight minutes over midnight UTC",
    updates_per_second=18.7,
    levels_per_second=710,
    raw_level_bytes=20.6,
    norm_row_bytes=10,
    file_row_bytes=4.5,
)
OTHER_SYMBOL = Activity(
    # A third party's probe of 2026 (nemanull/arbitrage-observatory, docs/) had of 571 futures, the busy ones among them,
    # 4,470 updates and 1.48 MB a second at the fastest spacing: 7.8 each, of 331 bytes. Here it is 7.4 of 336.
    name="any other",
    source="captured 2021-04-05, BAT, CHR, CTK, NEO, SAND in USDT, two minutes",
    updates_per_second=7.4,
    levels_per_second=66,
    raw_level_bytes=18,
    norm_row_bytes=20,
    file_row_bytes=7.5,
)

UPDATE_BYTES = 176  # around its levels
BODY_BYTES = 86
BODY_LEVEL_BYTES = 20.6

# A record as the broker keeps it, zstd. Headers are half of an update: what a batch shares, it holds once. Under load the
# reader waits LINGER_SECONDS for company (`services.reader.publisher`).
BROKER_BATCH_BYTES = 310
BROKER_RECORD_BYTES = 36
BROKER_UPDATE_LEVEL_BYTES = 6.6
BROKER_BODY_LEVEL_BYTES = 5.1
LINGER_SECONDS = 0.003

NORM_RECORD_BYTES = 5_300  # beside its rows: schema and dictionaries
NORM_BODY_ROW_BYTES = 10.0  # of a snapshot

FILE_BYTES = 4_000  # beside its rows
FILE_BODY_ROW_BYTES = 2.2  # of a snapshot like the one before it in the file
FIRST_BODY_ROW_BYTES = 6.9  # of the first in a file, and of one among updates

# Peak resident memory. `python -m bench.reader`: 157 MiB at 5,000 frames a second. On Apache Kafka `python -m bench.line`: a
# flattener with six busy partitions of small updates 301 MiB, with two of large ones 137. `python -m bench.window` with
# writer.buffer.max_bytes 256 MiB: s3writer 538 MiB; `python -m bench.backlog` with 8 MiB: 250 MiB.
READER_BASE_BYTES = 160 * MIB
CONNECTION_BYTES = MIB
FLATTENER_BASE_BYTES = 150 * MIB
FLATTENER_PARTITION_BYTES = 25 * MIB
WRITER_BASE_BYTES = 240 * MIB  # with what it decodes and encodes at a time
WRITER_TIMES_BUFFER = 1.25

# aws.amazon.com/s3/pricing, S3 Standard, us-east-1, list price of the first 50 TB.
PUT_DOLLARS = 0.005 / 1000
GB_MONTH_DOLLARS = 0.023
GB = 1_000_000_000
