"""Where everything lies in the lake: every name is built here, and parsed back here, strictly.

    <kind>/exchange=E/market=M/symbol=S/year=YYYY/month=MM/day=DD/hour=HH/<kind>-<stream>-<partition>-<first>-<last>.parquet
    _claims/v1/<kind>/<stream>/<partition>/{origin.json, <first>.json, <first>.lost.json}
    instruments/exchange=E/market=M/<recv_ms>-<digest>.parquet

All paths are relative to the lake's prefix, in ASCII: values are URI-escaped, which every reader of hive trees undoes.
`<kind>` is that of a line: ``fobs``, ``fobd``, or of the archive ``raw-fobs``, ``raw-fobd``; offsets are those of the topic
that the line stores, of norm records or, in the archive, of raw ones.
Offsets are padded to 20 digits, so that the order of names is the order of offsets. A name says which range of which
partition an object holds; parsing gives `None` for any name that this module would not have written itself.
Nothing here does I/O, and no clock is read.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Literal, cast
from urllib.parse import quote, unquote

from shared.lake.kinds import LAKE_KINDS
from shared.messages import INT64_MAX, STREAM_PATTERN, Book

if TYPE_CHECKING:
    from shared.lake.kinds import LakeKind

LAYOUT_VERSION = 1
CLAIMS_ROOT = "_claims"
CLAIMS_V1 = f"{CLAIMS_ROOT}/v1"
PROBE_ROOT = f"{CLAIMS_ROOT}/_probe"  # what a store's probe writes, and deletes if it may
TEMPORARY_ROOT = f"{CLAIMS_ROOT}/_tmp"  # a local store's unfinished files; no listing shows them
INSTRUMENTS_ROOT = "instruments"
HOUR_US = 3_600_000_000
PARTITION_MAX = 99_999

_DAY_US = 24 * HOUR_US
_EPOCH_DAY = date(1970, 1, 1).toordinal()


@dataclass(frozen=True, slots=True)
class DataPath:
    """What the name of a data object says. `first` and `last` are offsets of its topic, both included."""

    kind: LakeKind
    book: Book
    hour_start_us: int
    stream: str
    partition: int
    first: int
    last: int

    def __str__(self) -> str:
        return data_path(self.kind, self.book, self.hour_start_us, self.stream, self.partition, self.first, self.last)

    @property
    def hour(self) -> str:
        """The hour for people: ``2026-11-23T16Z``."""
        return hour_text(self.hour_start_us)


@dataclass(frozen=True, slots=True)
class ClaimPath:
    """What the name of an object of a claim log says. `first` is None for the origin."""

    kind: LakeKind
    stream: str
    partition: int
    what: Literal["origin", "claim", "lost"]
    first: int | None = None


@dataclass(frozen=True, slots=True)
class ListingPath:
    """What the name of a market's instrument listing says. `recv_ms`: when it was received, ms since the epoch."""

    exchange: str
    market: str
    recv_ms: int
    digest: str  # of its content: 16 hex digits

    def __str__(self) -> str:
        return listing_path(self.exchange, self.market, self.recv_ms, self.digest)


def hour_of(timestamp_us: int) -> int:
    """The start of the hour that holds this instant, both in microseconds since the epoch, UTC."""
    return timestamp_us - timestamp_us % HOUR_US


def hour_text(hour_start_us: int) -> str:
    """An hour for people: ``2026-11-23T16Z``."""
    return f"{datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=hour_start_us):%Y-%m-%dT%HZ}"


def data_path(  # noqa: PLR0917  # the parts stand in the order of the path
    kind: LakeKind, book: Book, hour_start_us: int, stream: str, partition: int, first: int, last: int
) -> str:
    """The path of a data object. Raises `ValueError` for what no name can hold (empty value, hour before 1970, …)."""
    if not first <= last:
        raise ValueError(f"a range cannot end before it begins: {first}-{last}")
    return (
        f"{hour_prefix(kind, book, hour_start_us)}"
        f"{kind}-{_stream(stream)}-{_partition(partition)}-{_offset(first)}-{_offset(last)}.parquet"
    )


def hour_prefix(kind: LakeKind, book: Book, hour_start_us: int) -> str:
    """The folder of one hour of a book, with the slash at its end. Raises `ValueError` for an hour before 1970."""
    if hour_start_us < 0 or hour_start_us % HOUR_US:
        raise ValueError(f"{hour_start_us} is not the start of an hour since 1970 in microseconds")
    day = date.fromordinal(_EPOCH_DAY + hour_start_us // _DAY_US)
    hour = hour_start_us % _DAY_US // HOUR_US
    return f"{book_prefix(kind, book)}year={day.year:04}/month={day.month:02}/day={day.day:02}/hour={hour:02}/"


def book_prefix(kind: LakeKind, book: Book) -> str:
    """The folder of one book, with the slash at its end."""
    values = [("exchange", book.exchange), ("market", book.market), ("symbol", book.symbol)]
    return f"{kind}/" + "".join(f"{name}={_escape(name, value)}/" for name, value in values)


def parse_data_path(path: str) -> DataPath | None:
    """What a name says, or None if `data_path` would not have written it so, to the letter."""
    match = _DATA.fullmatch(path)
    if match is None:
        return None
    try:
        day = date(int(match["year"]), int(match["month"]), int(match["day"]))
        book = Book(*(unquote(match[name], errors="strict") for name in ("exchange", "market", "symbol")))
        parsed = DataPath(
            cast("LakeKind", match["kind"]),
            book,
            (day.toordinal() - _EPOCH_DAY) * _DAY_US + int(match["hour"]) * HOUR_US,
            match["stream"],
            int(match["partition"]),
            int(match["first"]),
            int(match["last"]),
        )
        return parsed if str(parsed) == path else None
    except ValueError:  # no such day, not UTF-8, too large an offset, an end before the beginning
        return None


def claims_prefix(kind: LakeKind, stream: str, partition: int) -> str:
    """The folder of one claim log, with the slash at its end."""
    return f"{CLAIMS_V1}/{kind}/{_stream(stream)}/{_partition(partition)}/"


def origin_path(kind: LakeKind, stream: str, partition: int) -> str:
    """The path of a claim log's origin. It sorts after all claims."""
    return f"{claims_prefix(kind, stream, partition)}origin.json"


def claim_path(kind: LakeKind, stream: str, partition: int, first: int) -> str:
    """The path of the claim that begins at offset `first`."""
    return f"{claims_prefix(kind, stream, partition)}{_offset(first)}.json"


def lost_path(kind: LakeKind, stream: str, partition: int, first: int) -> str:
    """The path of what says that this claim's records were no longer to be had. It sorts right after the claim."""
    return f"{claims_prefix(kind, stream, partition)}{_offset(first)}.lost.json"


def parse_claim_path(path: str) -> ClaimPath | None:
    """What a name in a claim log says, or None if this module would not have written it so."""
    match = _CLAIM.fullmatch(path)
    if match is None:
        return None
    where = cast("LakeKind", match["kind"]), match["stream"], int(match["partition"])
    if match["first"] is None:
        return ClaimPath(*where, "origin")
    first = int(match["first"])
    if first > INT64_MAX:
        return None
    return ClaimPath(*where, "lost" if match["lost"] else "claim", first)


def listing_prefix(exchange: str, market: str) -> str:
    """The folder of a market's instrument listings, with the slash at its end."""
    values = (("exchange", exchange), ("market", market))
    return f"{INSTRUMENTS_ROOT}/" + "".join(f"{name}={_escape(name, value)}/" for name, value in values)


def listing_path(exchange: str, market: str, recv_ms: int, digest: str) -> str:
    """The path of one listing. `digest` is that of its content, in hex; its first 16 digits stand in the name."""
    if not 0 <= recv_ms < 10**13:
        raise ValueError(f"{recv_ms} is not a time in milliseconds since 1970")
    return f"{listing_prefix(exchange, market)}{recv_ms:013}-{digest[:16]}.parquet"


def parse_listing_path(path: str) -> ListingPath | None:
    """What the name of a listing says, or None if `listing_path` would not have written it so, to the letter."""
    match = _LISTING.fullmatch(path)
    if match is None:
        return None
    try:
        exchange, market = (unquote(match[name], errors="strict") for name in ("exchange", "market"))
    except ValueError:  # not UTF-8
        return None
    parsed = ListingPath(exchange, market, int(match["recv_ms"]), match["digest"])
    return parsed if str(parsed) == path else None


def _escape(name: str, value: str) -> str:
    if not value:
        raise ValueError(f"{name} is empty: a path key needs a value")
    return quote(value, safe="")


def _stream(stream: str) -> str:
    if STREAM_PATTERN.fullmatch(stream) is None:
        raise ValueError(f"stream {stream!r} does not match {STREAM_PATTERN.pattern}")
    return stream


def _partition(partition: int) -> str:
    if not 0 <= partition <= PARTITION_MAX:
        raise ValueError(f"partition {partition} is not in 0..{PARTITION_MAX}")
    return f"{partition:05}"


def _offset(offset: int) -> str:
    if not 0 <= offset <= INT64_MAX:
        raise ValueError(f"offset {offset} is not in 0..{INT64_MAX}")
    return f"{offset:020}"


_KIND = f"(?P<kind>{'|'.join(LAKE_KINDS)})"
_DATA = re.compile(
    rf"{_KIND}/exchange=(?P<exchange>[^/]+)/market=(?P<market>[^/]+)/symbol=(?P<symbol>[^/]+)"
    r"/year=(?P<year>[0-9]{4})/month=(?P<month>[0-9]{2})/day=(?P<day>[0-9]{2})/hour=(?P<hour>[0-9]{2})"
    rf"/(?P=kind)-(?P<stream>{STREAM_PATTERN.pattern})-(?P<partition>[0-9]{{5}})"
    r"-(?P<first>[0-9]{20})-(?P<last>[0-9]{20})\.parquet",
    re.ASCII,
)
_CLAIM = re.compile(
    rf"{re.escape(CLAIMS_V1)}/{_KIND}/(?P<stream>{STREAM_PATTERN.pattern})/(?P<partition>[0-9]{{5}})"
    r"/(?:origin|(?P<first>[0-9]{20})(?P<lost>\.lost)?)\.json",
    re.ASCII,
)
_LISTING = re.compile(
    rf"{INSTRUMENTS_ROOT}/exchange=(?P<exchange>[^/]+)/market=(?P<market>[^/]+)"
    r"/(?P<recv_ms>[0-9]{13})-(?P<digest>[0-9a-f]{16})\.parquet",
    re.ASCII,
)
