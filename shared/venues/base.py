"""What a venue is to the rest of the project: paths, prices of a request, stream names, what an answer or a frame means.

An adapter is declarative and pure: no I/O, no loop, no clock of its own (the time is an argument), no setting. It never
alters a payload, and never parses a price: that is the flattener's business.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal, NamedTuple, get_args

import msgspec

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from shared.venues.instruments import Instrument
    from shared.venues.sequence import SequenceRule, UpdateIds

SECOND_NS = 1_000_000_000
MINUTE_NS = 60 * SECOND_NS

Action = Literal["continue", "hold", "stand_down"]
"""What the source address does after an answer: goes on; sends nothing until a time because the budget is spent;
sends nothing until a time because the venue refuses the address (its books are then in a gap ``ban``)."""

Reason = Literal[
    "ok",
    # the venue's status or error code
    "rate_limited",
    "banned",
    "waf_blocked",
    "geo_blocked",
    "backend_timeout",
    "internal_error",
    "unknown_error",
    "unavailable",
    "internal_error_retry",
    "overloaded",
    "invalid_symbol",
    "bad_request",
    "error_body",
    "unexpected_status",
    # the body
    "empty_body",
    "html_body",
    "truncated_body",
    "oversize_body",
    "bad_json",
    "not_a_book",
    "foreign_symbol",
    "went_backwards",
    # the transport
    "timeout",
    "refused",
    "reset",
    "name_resolution",
    "tls",
    "source_address",
    "network",
    # the poll was not sent
    "late",
    "stopped",
    "no_weight",
    "no_connection",
    "held",
    "standing_down",
    "queue_full",
]
"""Bounded words for what became of a poll: the label of metrics and logs."""
REASONS: tuple[Reason, ...] = get_args(Reason)

MissCause = Literal["poll", "ban", "overflow"]
"""The gap causes a missed poll can have (a subset of `shared.messages.GapCause`)."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What an answer (or its absence) means, and what its source address does next."""

    reason: Reason
    action: Action = "continue"
    until_ns: int | None = None  # the end of a hold or stand-down, ns since the epoch
    text: str = ""  # for a person: what the venue said, shortened
    last_update_id: int | None = None  # of a good book

    @property
    def ok(self) -> bool:
        """Whether the body is the book that was asked for."""
        return self.reason == "ok"

    @property
    def cause(self) -> MissCause:
        """The gap cause where this is not a good book: ``ban`` where the venue refuses the address, else ``poll``."""
        return "ban" if self.action == "stand_down" else "poll"


@dataclass(frozen=True, slots=True)
class SnapshotEnvelope:
    """What stands around the levels of a book. `bids` and `asks` are slices of the payload: raw JSON arrays."""

    last_update_id: int
    event_ms: int | None
    transaction_ms: int | None
    bids: bytes
    asks: bytes


class UpdateEnvelope(msgspec.Struct, frozen=True, gc=False):
    """What stands around the levels of a depth update. `bids` and `asks` are slices of the payload: raw JSON arrays."""

    symbol: str
    ids: UpdateIds
    event_ms: int | None
    transaction_ms: int | None
    bids: bytes
    asks: bytes


class Update(NamedTuple):
    """A frame that is a depth update: whose, and its ids. Its levels were checked to be JSON, not read."""

    symbol: str
    ids: UpdateIds


class Reply(NamedTuple):
    """A frame that answers a control message; `error` is what the venue said against it."""

    id: int | None
    error: str | None


class Closing(NamedTuple):
    """A frame by which the venue announces that it will close the connection soon."""


Frame = Update | Reply | Closing


class Venue(ABC):
    """One market of one exchange."""

    exchange: ClassVar[str]
    market: ClassVar[str]
    shared_weight_group: ClassVar[str]
    """Markets of one group spend one budget per source address."""
    default_weight_limit: ClassVar[int]
    """Weight per minute and address as documented: in force until the venue's own word is learned."""
    instruments_path: ClassVar[str]
    instruments_weight: ClassVar[int]
    sequence: ClassVar[SequenceRule]
    """When one update follows another, or a snapshot."""
    stream_path: ClassVar[str]
    """Path of combined streams, to be put behind the configured ``stream_url``."""
    update_intervals_ms: ClassVar[tuple[int, ...]]
    """Spacings of updates a stream can be asked for."""
    max_streams: ClassVar[int]
    """Streams of one connection."""
    max_age_seconds: ClassVar[float]
    """Then the venue closes a connection."""
    messages_per_second: ClassVar[int]
    """Messages a client may send over one connection, pings and pongs counted; above it the venue closes it."""
    connects_per_five_minutes: ClassVar[int]
    """Connection attempts of one source address."""

    @abstractmethod
    def depth_path(self, symbol: str, limit: int) -> str:
        """Path and query of the order-book request, URL-encoded; to be put behind the configured ``rest_url``."""

    @abstractmethod
    def depth_weight(self, limit: int) -> int:
        """What the order-book request costs. Raises `ValueError` for a limit the venue refuses."""

    @abstractmethod
    def check_limit(self, limit: int) -> str | None:
        """Why the venue refuses this number of levels, in words; None if it takes it."""

    @abstractmethod
    def weight_limit(self, exchange_info: bytes) -> int:
        """Weight per minute and address, from the venue's own list. Raises `PoisonMessage` if it does not say."""

    @abstractmethod
    def instruments(self, exchange_info: bytes) -> list[Instrument]:
        """Every listing, whatever its status. Raises `PoisonMessage`."""

    @abstractmethod
    def used_weight(self, headers: Mapping[str, str]) -> int | None:
        """Weight this address has used in the running minute, as the response says; None if it does not."""

    @abstractmethod
    def classify(
        self,
        status: int,
        headers: Mapping[str, str],
        body: bytes,
        now_ns: int,
        *,
        symbol: str,
        last_update_id: int | None = None,
    ) -> Outcome:
        """What the answer to an order-book request means; the status is judged before the body is believed.

        `last_update_id` is that of the symbol's book before, if there was one: an id never falls.
        """

    @abstractmethod
    def parse_snapshot(self, payload: bytes) -> SnapshotEnvelope:
        """The envelope of a verbatim book; unknown fields are ignored. Raises `PoisonMessage` with a bounded reason."""

    @abstractmethod
    def check_interval(self, interval_ms: int) -> str | None:
        """Why no stream has updates at this spacing, in words; None if one has."""

    @abstractmethod
    def stream_name(self, symbol: str, interval_ms: int) -> str:
        """The stream of a symbol's depth updates."""

    @abstractmethod
    def subscribe(self, names: Sequence[str], request_id: int) -> str:
        """The control message that asks for these streams; its `Reply` carries the id."""

    @abstractmethod
    def unsubscribe(self, names: Sequence[str], request_id: int) -> str:
        """The control message that ends them."""

    @abstractmethod
    def read_frame(self, payload: bytes) -> Frame:
        """What a frame is. It is checked to be JSON from end to end, its levels are not read.

        Raises `PoisonMessage` for a frame that is none of these, or names no symbol.
        """

    @abstractmethod
    def parse_update(self, payload: bytes) -> UpdateEnvelope:
        """The envelope of a verbatim update, its wrapper included. Raises `PoisonMessage` with a bounded reason."""
