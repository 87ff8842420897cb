"""How every client reaches Kafka: settings to aiokafka's options, records to ours, and a start that waits for Kafka.

A client that cannot connect tries for ever, with full jitter, and says so once; what a setting has to mend (credentials,
certificates, protocol) is fatal, as no waiting helps. Nothing here sends or reads a record.
"""

from __future__ import annotations

import asyncio
import logging
import random
import ssl
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import msgspec
from aiokafka import TopicPartition
from aiokafka.helpers import create_ssl_context

from shared.errors import FatalError
from shared.kafka.diagnosis import FAILURES, LOGIN_PROTOCOLS, TLS_PROTOCOLS, diagnose
from shared.kafka.errors import in_words, is_passing
from shared.log import get_logger
from shared.messages import Header  # noqa: TC001  # a field's type
from shared.metrics import KAFKA_OUTAGES, KAFKA_UNAVAILABLE

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from aiokafka.client import AIOKafkaClient
    from aiokafka.structs import ConsumerRecord

    from shared.settings import KafkaSettings

__all__ = [
    "FETCH_OPTIONS",
    "MAX_RECORD_BYTES",
    "Outage",
    "Record",
    "TopicPartition",
    "client_options",
    "close_hard",
    "start_patiently",
    "to_record",
]

MAX_RECORD_BYTES = 16 * 1024 * 1024  # a record with its headers and its batch's, before compression
# The largest record and its batch fit; a response is bounded by the same, and so is what is fetched ahead.
FETCH_OPTIONS: dict[str, Any] = {
    "auto_offset_reset": "none",
    "enable_auto_commit": False,
    "isolation_level": "read_uncommitted",
    "fetch_max_bytes": MAX_RECORD_BYTES + 1024 * 1024,
    # What is fetched ahead of each partition; a larger record comes all the same, alone. Memory under backlog is this
    # times the partitions, decompressed: at 17 MiB it doubled (`python -m bench backlog`).
    "max_partition_fetch_bytes": 2 * 1024 * 1024,
    # A broker is asked one thing at a time: while it waits for records of idle partitions, nothing comes of the busy ones.
    "fetch_max_wait_ms": 100,
    "check_crcs": True,
}
BACKOFF_FIRST_SECONDS = 0.2
BACKOFF_MAX_SECONDS = 10.0

# aiokafka logs every failed attempt, ten a second for as long as Kafka is down; `Outage` says each outage once.
logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
_log = get_logger(__name__)


class Record(msgspec.Struct, frozen=True, gc=False):
    """One record as read. An absent value is empty bytes; a header without a value has an empty one."""

    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes
    headers: tuple[Header, ...]


def to_record(record: ConsumerRecord[bytes, bytes]) -> Record:
    """The record aiokafka read, as ours."""
    headers = tuple(record.headers)
    if None in [value for _, value in headers]:  # rare, and to make all pairs anew is a tenth of the flattener's time
        headers = tuple((name, value or b"") for name, value in headers)
    return Record(
        record.topic,
        record.partition,
        record.offset,
        record.timestamp,
        record.key,
        record.value or b"",
        headers,
    )


def client_options(settings: KafkaSettings, client_id: str) -> dict[str, Any]:
    """What every aiokafka client takes. Raises `FatalError` if the CA file cannot be used."""
    options: dict[str, Any] = {
        "bootstrap_servers": settings.bootstrap_servers,
        "client_id": client_id,
        "request_timeout_ms": settings.request_timeout_ms,
        "security_protocol": settings.security_protocol,
    }
    if settings.security_protocol in TLS_PROTOCOLS:
        try:
            # Certificate and host name are verified; there is no switch.
            options["ssl_context"] = create_ssl_context(cafile=settings.ssl_cafile)
        except (OSError, ssl.SSLError) as error:
            raise FatalError(f"kafka.ssl_cafile {settings.ssl_cafile}: {error}") from error
    if settings.security_protocol in LOGIN_PROTOCOLS:
        options["sasl_mechanism"] = settings.sasl_mechanism or "PLAIN"
        options["sasl_plain_username"] = settings.sasl_username
        options["sasl_plain_password"] = settings.sasl_password.get_secret_value() if settings.sasl_password else None
    return options


class Outage:
    """Says once that Kafka is unavailable, and once that it is back."""

    def __init__(self, client_id: str) -> None:
        self._log = _log.bind(client_id=client_id)
        self.active = False

    def begin(self, reason: str) -> None:
        """Logs only at the start of an outage."""
        if not self.active:
            self.active = True
            KAFKA_OUTAGES.inc()
            KAFKA_UNAVAILABLE.inc()
            self._log.warning("kafka unavailable", reason=reason)

    def end(self) -> None:
        """Logs only at the end of an outage."""
        if self.active:
            self.active = False
            KAFKA_UNAVAILABLE.dec()
            self._log.info("kafka recovered")

    def leave(self) -> None:
        """The client is given up: its outage ends with it, and nothing is known of Kafka."""
        if self.active:
            self.active = False
            KAFKA_UNAVAILABLE.dec()


class _Client(Protocol):
    async def start(self) -> None: ...


_C = TypeVar("_C", bound=_Client)


async def start_patiently(
    make: Callable[[], _C], close: Callable[[_C], Awaitable[None]], options: dict[str, Any], outage: Outage
) -> _C:
    """A started client. Waits for Kafka for ever; raises `FatalError` where waiting cannot help."""
    try:
        return await _start(make, close, options, outage)
    except asyncio.CancelledError:
        outage.leave()
        raise


async def close_hard(client: AIOKafkaClient) -> None:
    """Closes the connections at once: an orderly close waits for ever to write to a broker that does not read."""
    for connection in client._conns.values():  # noqa: SLF001  # aiokafka has no abort
        if connection._writer is not None:  # noqa: SLF001
            connection._writer.transport.abort()  # noqa: SLF001
    task = asyncio.current_task()
    asked = 0 if task is None else task.cancelling()
    await client.close()
    if task is not None and task.cancelling() > asked:
        # It waits for a task of its own and takes any cancellation meanwhile for that task's: who was told to end, as a
        # partition is by a rebalance, would go on for good, and a group that waits for its end with it.
        raise asyncio.CancelledError


async def _start(
    make: Callable[[], _C], close: Callable[[_C], Awaitable[None]], options: dict[str, Any], outage: Outage
) -> _C:
    ceiling_seconds = BACKOFF_FIRST_SECONDS
    while True:
        client = make()
        started = False
        try:
            await client.start()
            started = True
        except FAILURES as error:
            reason = await diagnose(options) or error
            if not is_passing(error):
                raise FatalError(f"kafka {options['bootstrap_servers']}: {in_words(reason)}") from error
            outage.begin(in_words(reason))
        finally:
            if not started:
                await close(client)
        if started:
            outage.end()
            return client
        await asyncio.sleep(random.uniform(0, ceiling_seconds))  # noqa: S311  # jitter, not a secret
        ceiling_seconds = min(ceiling_seconds * 2, BACKOFF_MAX_SECONDS)
