"""The sections of the settings: each key with its type, default and meaning, in one place and nowhere else.

config/config.yml, config/config.schema.json and docs/config.md follow from here. Nothing here reads a source or knows a
venue. A key that nothing reads must not exist.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    WithJsonSchema,
    model_validator,
)

from shared.config_values import duration_seconds, not_boolean, topic_name, with_defaults, without_repeats

if TYPE_CHECKING:
    from collections.abc import Iterator

MIB = 1024 * 1024
DURATION_SCHEMA = {
    "anyOf": [
        {"type": "number", "exclusiveMinimum": 0},
        {"type": "string", "pattern": r"^\d+(\.\d+)?(ms|s|m|h)$"},
    ]
}

NotBoolean = BeforeValidator(not_boolean)
Duration = Annotated[
    float, Field(gt=0, allow_inf_nan=False), BeforeValidator(duration_seconds), WithJsonSchema(DURATION_SCHEMA)
]
Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False), NotBoolean]
Share = Annotated[float, Field(gt=0, le=1), NotBoolean]
Positive = Annotated[int, Field(gt=0), NotBoolean]
Word = Annotated[str, Field(min_length=1)]
Topic = Annotated[str, AfterValidator(topic_name)]
Stream = Annotated[str, Field(pattern=r"^[a-z0-9_]+$")]
WebsocketUrl = Annotated[str, Field(pattern=r"^wss?://[^\s/?#]+[^\s?#]*$")]
HttpUrl = Annotated[str, Field(pattern=r"^https?://[^\s/?#]+[^\s?#]*$")]
Symbols = Annotated[tuple[Word, ...], AfterValidator(without_repeats)]


class Section(BaseModel):
    """A group of keys. Frozen; an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)

    @model_validator(mode="before")
    @classmethod
    def _fill(cls, values: Any) -> Any:
        return with_defaults(cls, values)


class CryptoflowSettings(Section):
    """Who this deployment is."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]*$")] = Field(
        default="cryptoflow",
        description="Prefix of the consumer groups and client ids: deployments that share a Kafka differ in it.",
    )
    version: Word = Field(
        default="1", description="Version of this configuration, yours to choose; shown in build_info."
    )
    environment: Word = Field(
        default="development", description="Where this runs; shown in build_info and in every log line."
    )


class KafkaSettings(Section):
    """The connection to Kafka and its limits."""

    bootstrap_servers: Word = Field(default="localhost:9092", description="host:port, comma separated.")
    stream: Stream = Field(
        default="main",
        description="Id of this incarnation of the topics, part of every lineage and object name. Re-created topics or another partition count = new stream.",
    )
    compression: Literal["lz4", "zstd", "none"] = Field(
        default="zstd",
        description="Of raw records on the wire and on the broker's disk; zstd is both smaller and cheaper here (`python -m bench.reader`).",
    )
    replication_factor: Positive = Field(
        default=1, description="Of topics that `cryptoflow topics create` makes; 3 where data matters."
    )
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        default="PLAINTEXT", description="How brokers are talked to."
    )
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] | None = Field(
        default=None, description="With SASL_PLAINTEXT or SASL_SSL."
    )
    sasl_username: Word | None = Field(default=None, description="With SASL_PLAINTEXT or SASL_SSL.")
    sasl_password: SecretStr | None = Field(
        default=None,
        description="A secret: CRYPTOFLOW_KAFKA__SASL_PASSWORD in the environment or in .env, never in YAML.",
    )
    ssl_cafile: Path | None = Field(
        default=None, description="PEM file of the CA that signed the brokers' certificates; null = the system's."
    )
    session_timeout_ms: Positive = Field(
        default=30_000, description="A consumer that is silent this long loses its partitions."
    )
    heartbeat_interval_ms: Positive = Field(default=3_000, description="At most a third of session_timeout_ms.")
    rebalance_timeout_ms: Positive = Field(default=60_000, description="Time a member has to let go of its partitions.")
    max_poll_interval_ms: Positive = Field(
        default=300_000, description="A consumer that does not fetch this long leaves the group."
    )
    request_timeout_ms: Positive = Field(
        default=30_000,
        description="Of one request to a broker; a partition without a leader for so long fails the producer.",
    )


class ChannelSettings(Section):
    """One topic."""

    topic: Topic = Field(description="Name of the topic.")
    partitions: Positive = Field(default=6, description="Fixed per stream; equal for raw and norm of a kind.")
    retention_hours: Positive = Field(
        default=168,
        description="How long Kafka keeps the records: the window in which rows can be traced to raw bytes.",
    )


class ChannelsSettings(Section):
    """The topics between the services, and the room in front of the producer."""

    raw_fobs: ChannelSettings = Field(
        default=ChannelSettings(topic="raw-fobs"), description="Snapshots, the exchange's bytes verbatim."
    )
    norm_fobs: ChannelSettings = Field(
        default=ChannelSettings(topic="norm-fobs"), description="Snapshots as Arrow record batches."
    )
    raw_fobd: ChannelSettings = Field(
        default=ChannelSettings(topic="raw-fobd"), description="Deltas, the exchange's bytes verbatim."
    )
    norm_fobd: ChannelSettings = Field(
        default=ChannelSettings(topic="norm-fobd"), description="Deltas as Arrow record batches."
    )
    dead_letters: ChannelSettings = Field(
        default=ChannelSettings(topic="dead-letters"), description="What cannot be parsed, verbatim."
    )
    buffer_bytes: Positive = Field(
        default=64 * MIB,
        description="Bytes the reader queues in front of each of its two topics before it pushes back.",
    )


class ReaderSettings(Section):
    """How exchanges are asked."""

    request_timeout_seconds: Seconds = Field(default=10.0, description="Of one REST request, body included.")
    max_connections: Positive = Field(default=20, description="Open REST connections per source address.")
    weight_share: Share = Field(
        default=0.8,
        description="Share of the venue's request weight that is spent; the rest is left to others on the address.",
    )
    gap_after_seconds: Seconds = Field(
        default=60.0,
        description="A run of missed polls is published as a gap after this long, or before the next snapshot.",
    )
    streams_per_connection: Positive = Field(
        default=200, description="Streams of one websocket at most; more symbols open more of them."
    )
    max_connection_age: Duration = Field(
        default=82_800.0,
        description="A websocket is handed over to a fresh one at about this age, before the venue's own limit ends it.",
    )
    silence_timeout: Duration = Field(
        default=30.0, description="A websocket on which no update came for so long is closed and opened anew."
    )
    stale_after: Duration = Field(
        default=60.0, description="A symbol without an update for so long is compared with a snapshot."
    )
    instruments_interval: Duration = Field(
        default=300.0, description="How often a market's instrument list is asked for: listings, ticks, limits."
    )
    ip_shards_file: Path | None = Field(
        default=None,
        description="Source addresses and their symbols (config/ip_shards.yml); null = one shard on the default route.",
    )
    shard_ip: Word | None = Field(
        default=None, description="Run only the shard of this address (also SHARD_IP); null = all shards of this host."
    )
    rebalance_on_ban: bool = Field(
        default=False,
        description="true = while the venue refuses a source address, or it has gone from the host, others of the same process ask for its symbols, each within its own budget. A venue may take that for evasion of its ban: yours to decide. An address that is missing at the start stays untouched: it may be on another host.",
    )


class ProcessorSettings(Section):
    """How the flattener cuts records."""

    batch_size: Positive = Field(
        default=32_768, description="Rows of a norm record at most; always at least one whole raw message."
    )
    batch_timeout: Duration = Field(default=0.2, description="A norm record waits at most this long to be filled.")
    dead_letter_ceiling: Share = Field(
        default=0.05,
        description="Share of dead letters among the latest 1000 or more records at which the service stops.",
    )


class SnapshotSettings(Section):
    """Full order-book snapshots of a market."""

    enabled: bool = Field(default=False, description="Whether this market is polled.")
    interval_ms: Annotated[int, Field(ge=100, le=86_400_000), NotBoolean] = Field(
        default=10_000, description="Between two polls of a symbol, aligned to the wall clock."
    )
    limit: Positive = Field(
        default=1_000,
        description="Levels asked for a side; the venue's own list decides what is valid and what it weighs.",
    )
    symbols: Symbols = Field(default=(), description="The venue's own ids, verbatim, or patterns (*USDT).")


class DeltaSettings(Section):
    """Order-book updates of a market over websockets, with snapshots among them as anchors."""

    enabled: bool = Field(default=False, description="Whether this market's updates are recorded.")
    interval_ms: Annotated[int, Field(ge=0, le=86_400_000), NotBoolean] = Field(
        default=100, description="Spacing of a symbol's updates; the venue's own list decides what is valid."
    )
    anchor_interval: Duration = Field(
        default=3_600.0,
        description="A snapshot of each symbol is placed among its updates this often, and after every gap.",
    )
    limit: Positive = Field(default=1_000, description="Levels of these snapshots, a side; as snapshots.limit.")
    symbols: Symbols = Field(default=(), description="The venue's own ids, verbatim, or patterns (*USDT).")


class OrderbookSettings(Section):
    """What is recorded of the order books of a market."""

    snapshots: SnapshotSettings = Field(default=SnapshotSettings(), description="Full order-book snapshots over REST.")
    delta: DeltaSettings = Field(default=DeltaSettings(), description="Order-book updates over websockets.")


class MarketSettings(Section):
    """One market of an exchange."""

    rest_url: HttpUrl = Field(description="Scheme and host of the REST API; the path comes from the venue's adapter.")
    stream_url: WebsocketUrl = Field(
        description="Scheme, host and route of the websockets; the path comes from the venue's adapter."
    )
    orderbook: OrderbookSettings = Field(default=OrderbookSettings(), description="What is recorded.")


def _market(rest_url: str, stream_url: str, *symbols: str, enabled: bool = False) -> MarketSettings:
    return MarketSettings(
        rest_url=rest_url,
        stream_url=stream_url,
        orderbook=OrderbookSettings(
            snapshots=SnapshotSettings(enabled=enabled, symbols=symbols),
            delta=DeltaSettings(enabled=enabled, symbols=symbols),
        ),
    )


class BinanceSettings(Section):
    """Binance."""

    future: MarketSettings = Field(
        default=_market(
            "https://fapi.binance.com", "wss://fstream.binance.com/public", "BTCUSDT", "ETHUSDT", enabled=True
        ),
        description="USDS-M futures.",
    )
    inverse: MarketSettings = Field(
        default=_market("https://dapi.binance.com", "wss://dstream.binance.com", "BTCUSD_PERP", "ETHUSD_PERP"),
        description="COIN-M futures.",
    )
    spot: MarketSettings = Field(
        default=_market("https://api.binance.com", "wss://stream.binance.com:9443", "BTCUSDT", "ETHUSDT"),
        description="Spot.",
    )


class SourceSettings(Section):
    """The exchanges."""

    binance: BinanceSettings = Field(default=BinanceSettings(), description="Binance.")

    def markets(self) -> Iterator[tuple[str, str, MarketSettings]]:
        """(exchange, market, its settings) of every market there is, enabled or not."""
        for exchange in type(self).model_fields:
            for market in type(getattr(self, exchange)).model_fields:
                yield exchange, market, getattr(getattr(self, exchange), market)

    def snapshots(self) -> Iterator[tuple[str, str, MarketSettings]]:
        """(exchange, market, its settings) of every market whose snapshots are enabled."""
        return (found for found in self.markets() if found[2].orderbook.snapshots.enabled)

    def deltas(self) -> Iterator[tuple[str, str, MarketSettings]]:
        """(exchange, market, its settings) of every market whose updates are enabled."""
        return (found for found in self.markets() if found[2].orderbook.delta.enabled)


class S3Settings(Section):
    """The lake in an S3 bucket."""

    enabled: bool = Field(
        default=False, description="true = the lake is in this bucket; false = it is in storage.local.path."
    )
    bucket: Word | None = Field(default=None, description="Also S3_BUCKET.")
    prefix: Annotated[str, Field(pattern=r"^([^\s/*?]+(/[^\s/*?]+)*)?$")] = Field(
        default="lake", description="Folder in the bucket. Two deployments never share one."
    )
    endpoint_url: HttpUrl | None = Field(default=None, description="Also S3_ENDPOINT_URL; null = Amazon.")
    region: Word | None = Field(default=None, description="Also AWS_REGION; null = what the AWS chain finds.")
    compression: Literal["zstd", "snappy", "lz4", "none"] = Field(
        default="zstd", description="Of the Parquet files, in the bucket or in the local folder."
    )
    archive_raw: bool = Field(
        default=False,
        description="true = what the raw topics hold is kept too, the exchange's bytes verbatim, as Parquet beside the rows, in the bucket or in the local folder. See docs/raw-archive.md.",
    )
    access_key_id: SecretStr | None = Field(
        default=None, description="AWS_ACCESS_KEY_ID in the environment or in .env; null = the AWS credential chain."
    )
    secret_access_key: SecretStr | None = Field(
        default=None, description="AWS_SECRET_ACCESS_KEY in the environment or in .env."
    )
    session_token: SecretStr | None = Field(
        default=None, description="AWS_SESSION_TOKEN in the environment or in .env, with temporary credentials."
    )


class LocalSettings(Section):
    """The lake in a folder."""

    path: Path | None = Field(default=Path("lake"), description="Folder of the lake while storage.s3.enabled is false.")


class StorageSettings(Section):
    """Where the lake is."""

    s3: S3Settings = Field(default=S3Settings(), description="An S3 bucket.")
    local: LocalSettings = Field(default=LocalSettings(), description="A local folder.")


class BufferSettings(Section):
    """When a buffer is flushed."""

    snapshot_flush_interval: Duration = Field(
        default=300.0, description="Age at which buffered snapshots are written, aligned to the wall clock."
    )
    delta_flush_interval: Duration = Field(
        default=300.0, description="Age at which buffered deltas are written, aligned to the wall clock."
    )
    max_rows: Positive = Field(default=5_000_000, description="Rows of one partition's buffer at which it is written.")
    max_bytes: Positive = Field(
        default=256 * MIB, description="Bytes of all buffers together; beyond it the largest is written first."
    )


class WriterSettings(Section):
    """How the s3writer buffers."""

    buffer: BufferSettings = Field(default=BufferSettings(), description="When a buffer is flushed.")


class MetricsSettings(Section):
    """The HTTP endpoint of /metrics, /healthz and /readyz."""

    host: Word = Field(default="127.0.0.1", description="Address to listen on; 0.0.0.0 in a container.")
    port: Annotated[int, Field(ge=0, le=65_535), NotBoolean] = Field(
        default=9_000, description="0 = a free port, which the log names."
    )


class LoggingSettings(Section):
    """Logs."""

    level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        default="INFO", description="Lines below it are dropped."
    )
    format: Literal["auto", "json", "console"] = Field(
        default="auto", description="auto = console on a terminal, else JSON."
    )
    output: Literal["stdout", "stderr"] = Field(default="stderr", description="Where log lines go.")
