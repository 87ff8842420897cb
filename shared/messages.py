"""The wire contract: headers and values of every record on every topic, encoded and decoded here and nowhere else.

Headers are UTF-8 text. Versions are one integer per side (`RAW_VERSION`, `NORM_VERSION`); a reader of a newer version
raises `UnknownVersion`, never guesses. Nothing here does I/O and nothing here knows Arrow.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Literal, get_args

import msgspec

from shared.errors import PoisonMessage, UnknownVersion

if TYPE_CHECKING:
    from collections.abc import Iterable

RAW_VERSION = 1
NORM_VERSION = 1

Kind = Literal["fobs", "fobd"]
KINDS: tuple[Kind, ...] = get_args(Kind)
RecordType = Literal["snapshot", "update", "gap"]
RECORD_TYPES: tuple[RecordType, ...] = get_args(RecordType)
GapCause = Literal[
    "start", "stop", "sequence", "disconnect", "stale", "overflow", "produce", "malformed", "poll", "ban"
]
GAP_CAUSES: tuple[GapCause, ...] = get_args(GapCause)

Header = tuple[str, bytes]
STREAM_PATTERN = re.compile(r"[a-z0-9_]+")
INT64_MAX = 2**63 - 1
_INT64_DIGITS = 19
_MOST_DIGITS = 100  # Python refuses to read a number of thousands


@dataclass(frozen=True, slots=True, order=True)
class Book:
    """One order book: what a symbol is on a market of an exchange. `symbol` is the venue's own id, verbatim."""

    exchange: str
    market: str
    symbol: str

    @property
    def key(self) -> bytes:
        """The Kafka key, ``exchange:market:symbol`` in UTF-8."""
        return f"{self.exchange}:{self.market}:{self.symbol}".encode()

    @classmethod
    def from_key(cls, key: bytes) -> Book:
        """Raises `PoisonMessage` (``bad_key``) if the key is not ``exchange:market:symbol``."""
        try:
            exchange, market, symbol = key.decode().split(":", 2)
        except ValueError as error:
            raise PoisonMessage("bad_key", f"key {key!r} is not exchange:market:symbol") from error
        return cls(exchange, market, symbol)

    def __str__(self) -> str:
        return f"{self.exchange}:{self.market}:{self.symbol}"


class RawHeaders(msgspec.Struct, frozen=True, kw_only=True):
    """Headers of a record on raw-fobs or raw-fobd. The value is the venue's bytes verbatim, or a `Gap` as JSON."""

    stream: str
    exchange: str
    market: str
    symbol: str
    type: RecordType
    recv_ns: int  # when the last byte was received, ns since the epoch
    conn: str  # <host>:<process start ns>:<n>, unique for ever
    seq: int  # +1 per published record of (conn, key)
    sent_ns: int | None = None  # REST: when the request left
    limit: int | None = None  # REST: levels asked for a side
    ip: str | None = None  # source address

    @property
    def book(self) -> Book:
        """The book this record belongs to."""
        return Book(self.exchange, self.market, self.symbol)

    def encode(self) -> list[Header]:
        """As Kafka headers; absent values are absent headers."""
        pairs = [("v", str(RAW_VERSION).encode())]
        for name in _RAW_NAMES:
            value = getattr(self, name)
            if value is not None:
                pairs.append((name, str(value).encode()))
        return pairs

    @classmethod
    def decode(cls, headers: Iterable[Header]) -> RawHeaders:
        """Raises `UnknownVersion`, or `PoisonMessage` (``bad_headers``) naming the header that is wrong."""
        found = _by_name(headers)
        plain = _plain_raw(found)
        if plain is not None:
            return plain
        _check_version(found, RAW_VERSION, "raw")
        values: dict[str, object] = {}
        for name in _RAW_NAMES:
            text = _text(found, name)
            if text is None:
                if name in _RAW_REQUIRED:
                    raise PoisonMessage("bad_headers", f"header {name!r} is missing")
            elif name in _RAW_INTEGERS:
                values[name] = _integer(name, text)
            else:
                values[name] = text
        if values["type"] not in RECORD_TYPES:
            raise PoisonMessage(
                "bad_headers", f"header 'type' is {values['type']!r}, not one of {', '.join(RECORD_TYPES)}"
            )
        return cls(**values)  # type: ignore[arg-type]  # every name was read by its kind above


class RawHeadersOf:
    """The headers of records that are alike but for `recv_ns` and `seq`: what they share is encoded once, from one of them."""

    def __init__(self, one: RawHeaders) -> None:
        self._shared = [pair for pair in one.encode() if pair[0] not in {"recv_ns", "seq"}]

    def encode(self, recv_ns: int, seq: int) -> list[Header]:
        """As `RawHeaders.encode` does, in another order."""
        return [*self._shared, ("recv_ns", b"%d" % recv_ns), ("seq", b"%d" % seq)]

    @staticmethod
    def split(headers: tuple[Header, ...]) -> tuple[tuple[Header, ...], int] | None:
        """What such records share, and the `recv_ns` of this one: the former need decoding once for all of them.

        None where headers do not end as `encode` ends them; then only `RawHeaders.decode` can tell what they are.
        """
        if len(headers) < 2:  # noqa: PLR2004 - these two
            return None
        (first, recv_ns), (second, seq) = headers[-2:]
        if first != "recv_ns" or second != "seq" or not (recv_ns.isdigit() and seq.isdigit()):
            return None
        if len(recv_ns) > _INT64_DIGITS or len(seq) >= _INT64_DIGITS:
            return None
        told_ns = int(recv_ns)
        return (headers[:-2], told_ns) if told_ns <= INT64_MAX else None


_RAW_NAMES = RawHeaders.__struct_fields__
_RAW_TYPES: dict[bytes, RecordType] = {name.encode(): name for name in RECORD_TYPES}
_RAW_VERSION = str(RAW_VERSION).encode()
_RAW_INTEGERS = frozenset({"recv_ns", "seq", "sent_ns", "limit"})
_RAW_REQUIRED = frozenset({"stream", "exchange", "market", "symbol", "type", "recv_ns", "conn", "seq"})


def _plain_raw(found: dict[str, bytes]) -> RawHeaders | None:
    """The headers where nothing is wrong with them: a third of the time of looking at each by itself. Else None."""
    try:
        recv_ns, seq = found["recv_ns"], found["seq"]
        sent_ns, limit, ip = found.get("sent_ns"), found.get("limit"), found.get("ip")
        if found["v"] != _RAW_VERSION or not (recv_ns + seq + (sent_ns or b"") + (limit or b"")).isdigit():
            return None
        plain = RawHeaders(
            stream=found["stream"].decode(),
            exchange=found["exchange"].decode(),
            market=found["market"].decode(),
            symbol=found["symbol"].decode(),
            type=_RAW_TYPES[found["type"]],
            recv_ns=int(recv_ns),
            conn=found["conn"].decode(),
            seq=int(seq),
            sent_ns=None if sent_ns is None else int(sent_ns),
            limit=None if limit is None else int(limit),
            ip=None if ip is None else ip.decode(),
        )
    except (KeyError, ValueError):  # the latter: no UTF-8, no number
        return None
    return plain if max(plain.recv_ns, plain.seq, plain.sent_ns or 0, plain.limit or 0) <= INT64_MAX else None


class Gap(msgspec.Struct, frozen=True, kw_only=True):
    """The value of a record of type ``gap``: a known discontinuity. Null where unknown."""

    cause: GapCause
    last_id: int | None = None  # last id before the hole
    next_id: int | None = None  # first id after it
    since_ns: int | None = None  # time of the last good record

    def encode(self) -> bytes:
        """As JSON, keys in the order of the fields."""
        return msgspec.json.encode(self)

    @classmethod
    def decode(cls, value: bytes) -> Gap:
        """Raises `PoisonMessage` (``bad_gap``)."""
        try:
            return _GAP_DECODER.decode(value)
        except msgspec.MsgspecError as error:
            raise PoisonMessage("bad_gap", f"not a gap: {error}") from error


_GAP_DECODER = msgspec.json.Decoder(Gap)


@dataclass(frozen=True, slots=True)
class SourceRange:
    """``topic/partition/first-last``: a contiguous range of offsets, both ends included. Empty where last = first - 1."""

    topic: str
    partition: int
    first: int
    last: int

    def __str__(self) -> str:
        return f"{self.topic}/{self.partition}/{self.first}-{self.last}"

    @classmethod
    def parse(cls, text: str) -> SourceRange:
        """Raises `PoisonMessage` (``bad_headers``)."""
        match = re.fullmatch(r"(?P<topic>[^/]+)/(?P<partition>\d+)/(?P<first>\d+)-(?P<last>\d+)", text)
        if match is None:
            raise PoisonMessage("bad_headers", f"header 'src' is {text!r}, not topic/partition/first-last")
        return cls(match["topic"], int(match["partition"]), int(match["first"]), int(match["last"]))


@dataclass(frozen=True, slots=True, kw_only=True)
class NormHeaders:
    """Headers of a record on norm-fobs or norm-fobd. The value is one Arrow IPC stream holding one record batch."""

    stream: str
    src: SourceRange  # the raw offsets this record covers; ranges of one partition tile
    dead: int = 0  # how many raw records of the range went to dead letters
    lost: bool = False  # an empty batch over raw offsets that Kafka no longer had

    def encode(self) -> list[Header]:
        """As Kafka headers; ``lost`` is there only when true."""
        pairs = [
            ("v", str(NORM_VERSION).encode()),
            ("stream", self.stream.encode()),
            ("src", str(self.src).encode()),
            ("dead", str(self.dead).encode()),
        ]
        if self.lost:
            pairs.append(("lost", b"1"))
        return pairs

    @classmethod
    def decode(cls, headers: Iterable[Header]) -> NormHeaders:
        """Raises `UnknownVersion`, or `PoisonMessage` (``bad_headers``) naming the header that is wrong."""
        found = _by_name(headers)
        _check_version(found, NORM_VERSION, "norm")
        texts = {name: _text(found, name) for name in ("stream", "src", "dead")}
        for name, text in texts.items():
            if text is None:
                raise PoisonMessage("bad_headers", f"header {name!r} is missing")
        return cls(
            stream=str(texts["stream"]),
            src=SourceRange.parse(str(texts["src"])),
            dead=_integer("dead", str(texts["dead"])),
            lost=_text(found, "lost") == "1",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetterHeaders:
    """What is added, after the original headers, to the offending bytes on the dead-letter topic."""

    error: str  # ``reason: text``
    stage: str  # the service that gave up: reader, flattener
    src: str  # topic/partition/offset of the record, or the connection of a frame

    def encode(self, original: Iterable[Header]) -> list[Header]:
        """The original headers first, as they were, then these three."""
        return [*original, *((name, str(getattr(self, name)).encode()) for name in _DEAD_LETTER_NAMES)]

    @classmethod
    def split(cls, headers: Iterable[Header]) -> tuple[DeadLetterHeaders, list[Header]]:
        """The dead letter's own headers, and the original ones as they were."""
        pairs = list(headers)
        own = {name: value.decode(errors="replace") for name, value in pairs if name in _DEAD_LETTER_NAMES}
        original = [(name, value) for name, value in pairs if name not in _DEAD_LETTER_NAMES]
        return cls(**{name: own.get(name, "") for name in _DEAD_LETTER_NAMES}), original


_DEAD_LETTER_NAMES = tuple(field.name for field in fields(DeadLetterHeaders))


def _by_name(headers: Iterable[Header]) -> dict[str, bytes]:
    return dict(headers)


def _text(found: dict[str, bytes], name: str) -> str | None:
    value = found.get(name)
    if value is None:
        return None
    try:
        return value.decode()
    except UnicodeDecodeError as error:
        raise PoisonMessage("bad_headers", f"header {name!r} is not UTF-8: {value!r}") from error


def _integer(name: str, text: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > _MOST_DIGITS or int(text) > INT64_MAX:
        raise PoisonMessage("bad_headers", f"header {name!r} is {text[:50]!r}, not a non-negative 64-bit integer")
    return int(text)


def _check_version(found: dict[str, bytes], known: int, side: str) -> None:
    text = _text(found, "v")
    if text is None:
        raise PoisonMessage("bad_headers", "header 'v' is missing")
    version = _integer("v", text)
    if version != known:
        raise UnknownVersion(f"a {side} record of version {version}; this release knows {known}: upgrade it")
