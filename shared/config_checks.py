"""What single values cannot show: settings that contradict one another. Pure; knows no venue and opens nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from shared.settings import Settings

Contradiction = tuple[tuple[str, ...], str]


def contradictions(settings: Settings) -> Iterator[Contradiction]:
    """(the keys that are at odds, what is wrong), for each."""
    yield from _channels(settings)
    yield from _kafka(settings)
    yield from _storage(settings)
    yield from _source(settings)


def _channels(settings: Settings) -> Iterator[Contradiction]:
    channels = settings.channels
    for kind in ("fobs", "fobd"):
        raw, norm = getattr(channels, f"raw_{kind}").partitions, getattr(channels, f"norm_{kind}").partitions
        if raw != norm:
            keys = (f"channels.norm_{kind}.partitions", f"channels.raw_{kind}.partitions")
            yield keys, f"must be equal for raw and norm, raw has {raw} and norm {norm}"
    names: dict[str, str] = {}
    for name in ("raw_fobs", "norm_fobs", "raw_fobd", "norm_fobd", "dead_letters"):
        topic = getattr(channels, name).topic
        if topic in names:
            yield (
                (f"channels.{name}.topic", f"channels.{names[topic]}.topic"),
                f"must be a topic of its own, {topic!r} is also channels.{names[topic]}.topic",
            )
        names.setdefault(topic, name)


def _kafka(settings: Settings) -> Iterator[Contradiction]:
    kafka = settings.kafka
    if kafka.heartbeat_interval_ms * 3 > kafka.session_timeout_ms:
        yield (
            ("kafka.heartbeat_interval_ms", "kafka.session_timeout_ms"),
            f"must be at most a third of kafka.session_timeout_ms, is {kafka.heartbeat_interval_ms} of {kafka.session_timeout_ms}",
        )
    sasl = kafka.security_protocol.startswith("SASL_")
    for name in ("sasl_mechanism", "sasl_username", "sasl_password"):
        given = getattr(kafka, name) is not None
        if sasl and not given:
            yield (f"kafka.{name}", "kafka.security_protocol"), f"must be set with {kafka.security_protocol}"
        if given and not sasl:
            keys = (f"kafka.{name}", "kafka.security_protocol")
            yield keys, f"is set, but kafka.security_protocol {kafka.security_protocol} does not use it"
    if kafka.ssl_cafile is not None and "SSL" not in kafka.security_protocol.replace("SASL", ""):
        keys = ("kafka.ssl_cafile", "kafka.security_protocol")
        yield keys, f"is set, but kafka.security_protocol {kafka.security_protocol} does not use it"


def _storage(settings: Settings) -> Iterator[Contradiction]:
    s3, local = settings.storage.s3, settings.storage.local
    if s3.enabled and s3.bucket is None:
        yield ("storage.s3.bucket", "storage.s3.enabled"), "must be set (or S3_BUCKET) while storage.s3.enabled is true"
    if not s3.enabled and local.path is None:
        yield ("storage.local.path", "storage.s3.enabled"), "must be set while storage.s3.enabled is false"
    if (s3.access_key_id is None) != (s3.secret_access_key is None):
        missing, present = ("access_key_id", "secret_access_key")
        if s3.access_key_id is not None:
            missing, present = present, missing
        yield (f"storage.s3.{missing}", f"storage.s3.{present}"), f"must be set together with storage.s3.{present}"
    elif s3.session_token is not None and s3.access_key_id is None:
        yield ("storage.s3.session_token",), "must come with storage.s3.access_key_id and secret_access_key"


def _source(settings: Settings) -> Iterator[Contradiction]:
    for exchange, market, found in settings.source.markets():
        for name in ("snapshots", "delta"):
            section = getattr(found.orderbook, name)
            prefix = f"source.{exchange}.{market}.orderbook.{name}"
            if section.enabled and not section.symbols:
                yield (f"{prefix}.symbols", f"{prefix}.enabled"), "must name at least one symbol while enabled is true"
