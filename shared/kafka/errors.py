"""What can go wrong with Kafka beyond "it is down": each an error a caller has to handle by name.

    CryptoFlowError
    ├── RetryableError
    │   └── ProducerFailed   this producer is finished; a new one may succeed
    ├── OwnershipLost        the partitions may belong to another member now: drop what was not committed
    └── OffsetsLost          Kafka no longer has the records at the position

`from_kafka` turns what aiokafka raises into `RetryableError` or `FatalError`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiokafka import errors as kafka_errors

from shared.errors import CryptoFlowError, FatalError, RetryableError

if TYPE_CHECKING:
    from aiokafka import AIOKafkaConsumer, TopicPartition

# Not marked retriable by aiokafka, and gone after the next connection, election or refetch all the same.
_PASSING = (
    kafka_errors.CoordinatorNotAvailableError,
    kafka_errors.CorruptRecordException,
    kafka_errors.KafkaConnectionError,
    kafka_errors.KafkaTimeoutError,
    kafka_errors.NodeNotReadyError,
    kafka_errors.NotControllerError,
    kafka_errors.RebalanceInProgressError,
    kafka_errors.RequestTimedOutError,
    kafka_errors.StaleMetadata,
)
REFUSED_LOGIN = (
    kafka_errors.AuthenticationFailedError,
    kafka_errors.AuthenticationMethodNotSupported,
    kafka_errors.IllegalSaslStateError,
    kafka_errors.SaslAuthenticationFailed,
    kafka_errors.UnsupportedSaslMechanismError,
)
LOST_MEMBERSHIP = (
    kafka_errors.CommitFailedError,
    kafka_errors.IllegalGenerationError,
    kafka_errors.IllegalStateError,
    kafka_errors.RebalanceInProgressError,
    kafka_errors.UnknownMemberIdError,
)


class ProducerFailed(RetryableError):
    """A send failed, so its sequence number is spent: this producer never sends again. Close it, make a new one."""


class OwnershipLost(CryptoFlowError):
    """The group moved on since the epoch was captured. Nothing was committed; the partitions may be another's."""


class OffsetsLost(CryptoFlowError):
    """Kafka no longer has the records from `position` to before `beginning`. The caller may seek to `beginning`."""

    def __init__(self, tp: TopicPartition, position: int, beginning: int) -> None:
        super().__init__(
            f"{tp.topic}/{tp.partition}: offsets {position} to {beginning - 1} are gone, the log begins at {beginning}"
        )
        self.tp = tp
        self.position = position
        self.beginning = beginning


def is_passing(error: BaseException) -> bool:
    """Whether the same call may succeed later."""
    return isinstance(error, (*_PASSING, OSError, TimeoutError)) or bool(getattr(error, "retriable", False))


def from_kafka(error: BaseException, doing: str) -> CryptoFlowError:
    """`RetryableError` for what may pass, `FatalError` for the rest (authorization, invalid requests)."""
    text = f"{doing}: {in_words(error)}"
    return RetryableError(text) if is_passing(error) else FatalError(text)


def in_words(error: BaseException) -> str:
    """The error for a person: never empty, as a TimeoutError's text is."""
    return str(error) or type(error).__name__


async def lost_or_retry(client: AIOKafkaConsumer, error: kafka_errors.OffsetOutOfRangeError) -> None:
    """Tells why a position is out of range: `OffsetsLost` below the log, `FatalError` above it, nothing if neither now."""
    positions: dict[TopicPartition, int] = error.args[0]
    for tp, position in positions.items():
        beginning = (await client.beginning_offsets([tp]))[tp]
        if position < beginning:
            raise OffsetsLost(tp, position, beginning)
        end = (await client.end_offsets([tp]))[tp]
        if position > end:
            raise FatalError(
                f"{tp.topic}/{tp.partition} ends at offset {end}, before the position {position}: "
                "was the topic re-created? set a new kafka.stream"
            )
