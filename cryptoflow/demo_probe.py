"""Asks the demo's processes how they are: the port they chose, whether they are ready, what they have taken so far."""

from __future__ import annotations

import asyncio
import urllib.error
import urllib.request
from contextlib import suppress
from typing import TYPE_CHECKING

import msgspec
from prometheus_client.parser import text_string_to_metric_families

from shared.errors import RetryableError
from shared.kafka import Admin, TopicPartition

if TYPE_CHECKING:
    from cryptoflow.demo_processes import Child
    from shared.settings import ChannelSettings, Settings

REQUEST_SECONDS = 2.0
KAFKA_SECONDS = 15.0

# Loopback goes through no proxy, whatever the environment says of proxies.
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def get(url: str) -> bytes | None:
    """The body of an answer with status 200, else None."""
    try:
        with _OPENER.open(url, timeout=REQUEST_SECONDS) as answer:
            body: bytes = answer.read()
            return body
    except (urllib.error.URLError, OSError):
        return None


class Announced(msgspec.Struct):
    """The line the simulator prints: where it listens, by market."""

    port: int
    rest: dict[str, str]
    stream: dict[str, str]


def metric_sum(url: str, name: str, **labels: str) -> float | None:
    """The sum of a metric of the service at `url` over what has these labels; None where there is none yet, or no answer."""
    text = get(f"{url}/metrics")
    if text is None:
        return None
    families = text_string_to_metric_families(text.decode())
    values = [
        sample.value
        for family in families
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    ]
    return sum(values) if values else None


def records_in(settings: Settings, channel: ChannelSettings) -> int:
    """How many records a topic has been given since it was made. Raises `RetryableError` if Kafka does not say so."""
    return asyncio.run(_records_in(settings, channel))


async def _records_in(settings: Settings, channel: ChannelSettings) -> int:
    partitions = [TopicPartition(channel.topic, number) for number in range(channel.partitions)]
    try:
        async with asyncio.timeout(KAFKA_SECONDS), Admin(settings.kafka, client_id="cryptoflow-demo") as admin:
            return sum((await admin.end_offsets(partitions)).values())
    except TimeoutError as error:
        raise RetryableError(f"Kafka did not say within {KAFKA_SECONDS:.0f} s where {channel.topic} ends") from error


def announced(simulator: Child) -> Announced | None:
    """The line the simulator prints, None as long as it has not."""
    for line in simulator.log().splitlines():
        with suppress(msgspec.MsgspecError):  # not that line, or not all of it yet
            return msgspec.json.decode(line, type=Announced)
    return None


def logged_port(service: Child) -> int | None:
    """The port a service says in its log that it listens on, None as long as it has not."""
    for line in service.log().splitlines():
        try:
            entry = msgspec.json.decode(line)
        except msgspec.DecodeError:
            continue
        if isinstance(entry, dict) and entry.get("event") == "http listening":
            return int(entry["port"])
    return None
