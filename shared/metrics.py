"""Every metric, defined once: name, kind, help, labels, and what to do when it moves. docs/metrics.md follows from here.

Names: prefix ``cryptoflow_``, base units (seconds, bytes), ``_total`` on counters, timestamps rather than ages, bounded
labels. Bind ``.labels()`` once and update per batch. To add one: a line in the section of your service.
Nothing here counts by itself.

A counter that is born at 1 is an increase that nobody sees: Prometheus' rate() and increase() start at the first value
they are shown. So the values a label can have stand with the definition, and each service calls `show_zeros` at its start.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import product
from typing import TYPE_CHECKING, Literal

from prometheus_client import Counter, Gauge, disable_created_metrics

from shared.histogram import BatchHistogram
from shared.messages import GAP_CAUSES, KINDS

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

disable_created_metrics()  # type: ignore[no-untyped-call]

SECTIONS = ("shared", "reader", "flattener", "s3writer")
UNITS = ("timestamp_seconds", "seconds", "bytes", "rows", "records", "ratio")
Kind = Literal["counter", "gauge", "histogram"]
LATENCY_BUCKETS_SECONDS = (
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1.0,
    2.5,
    5.0,
    10.0,
    30.0,
    60.0,
    120.0,
    300.0,
    600.0,
)


@dataclass(frozen=True, slots=True)
class Definition:
    """What docs/metrics.md prints of a metric. `section` is the service that moves it, or ``shared``.

    `values` are all that a label can have, where the code knows them; `metric` is what counts.
    """

    section: str
    name: str
    kind: Kind
    help: str
    labels: tuple[str, ...]
    when_it_moves: str
    values: Mapping[str, Collection[str]] = field(default_factory=dict)
    metric: Counter | Gauge | BatchHistogram | None = None

    @property
    def unit(self) -> str:
        """The end of the name if it is a unit, else empty: a plain number."""
        return next((unit for unit in UNITS if self.name.removesuffix("_total").endswith(f"_{unit}")), "")


DEFINITIONS: list[Definition] = []
POISON_REASONS = (
    # a record's headers and key
    "bad_headers",
    "bad_key",
    "bad_type",
    "bad_gap",
    "bad_time",
    "unknown_venue",
    "foreign_symbol",
    # a frame
    "bad_frame",
    "bad_ids",
    "no_symbol",
    "not_an_update",
    "truncated_frame",
    "unknown_event",
    "unknown_frame",
    # a body
    "bad_json",
    "empty_body",
    "error_body",
    "html_body",
    "not_a_book",
    "truncated_body",
    # levels
    "bad_level",
    "bad_levels",
    "negative_quantity",
    "not_a_number",
    "not_finite",
    # any
    "too_large",
)


@dataclass(frozen=True, slots=True)
class Section:
    """The metrics of one service. `kinds` are the values of their label ``kind``, where it knows them."""

    name: str
    kinds: tuple[str, ...] = KINDS

    def counter(
        self,
        name: str,
        text: str,
        labels: tuple[str, ...] = (),
        *,
        values: Mapping[str, Collection[str]] | None = None,
        when_it_moves: str,
    ) -> Counter:
        """Only ever grows."""
        counter = Counter(name, text, labels)
        self._define("counter", counter, name, text, labels, values, when_it_moves)
        return counter

    def gauge(self, name: str, text: str, labels: tuple[str, ...] = (), *, when_it_moves: str) -> Gauge:
        """Goes up and down."""
        gauge = Gauge(name, text, labels)
        self._define("gauge", gauge, name, text, labels, None, when_it_moves)
        return gauge

    def histogram(
        self,
        name: str,
        text: str,
        labels: tuple[str, ...] = (),
        *,
        buckets: tuple[float, ...] = LATENCY_BUCKETS_SECONDS,
        values: Mapping[str, Collection[str]] | None = None,
        when_it_moves: str,
    ) -> BatchHistogram:
        """How values are spread over `buckets`."""
        histogram = BatchHistogram(name, text, labels, buckets=buckets)
        self._define("histogram", histogram, name, text, labels, values, when_it_moves)
        return histogram

    def _define(  # noqa: PLR0917 - as the definition has them
        self,
        kind: Kind,
        metric: Counter | Gauge | BatchHistogram,
        name: str,
        text: str,
        labels: tuple[str, ...],
        values: Mapping[str, Collection[str]] | None,
        when_it_moves: str,
    ) -> None:
        known = {label: self.kinds for label in labels if label == "kind" and self.kinds} | dict(values or {})
        DEFINITIONS.append(Definition(self.name, name, kind, text, labels, when_it_moves, known, metric))


def show_zeros(which: str, **known: Collection[str]) -> None:
    """Shows counters and histograms of a section, or the one of this name, at 0 for all combinations of label values.

    The values stand with the definition, or else are given: ``show_zeros("reader", exchange=["binance"], market=["spot"])``.
    Where a label has neither, its metric is born with its first event.
    """
    for definition in DEFINITIONS:
        if which in {definition.section, definition.name} and definition.kind != "gauge" and definition.labels:
            each = [definition.values.get(label, known.get(label, ())) for label in definition.labels]
            for values in product(*each):
                assert definition.metric is not None
                definition.metric.labels(*values)


# --- every service ----------------------------------------------------------------------------------------------------
_shared = Section("shared")

BUILD_INFO = _shared.gauge(
    "cryptoflow_build_info",
    "Always 1; the labels say what runs here.",
    ("name", "environment", "version", "service", "release"),
    when_it_moves="Join it to other series to see which release or configuration they come from.",
)
STARTED = _shared.gauge(
    "cryptoflow_start_timestamp_seconds",
    "When the process started, seconds since the epoch.",
    when_it_moves="The service was restarted. Not by you: read the last lines of the log before it.",
)
READY = _shared.gauge(
    "cryptoflow_ready",
    "1 while /readyz answers 200.",
    when_it_moves="0 for longer than a start takes: ask /readyz, it names what is missing and why.",
)
PROGRESS = _shared.gauge(
    "cryptoflow_progress_timestamp_seconds",
    "When the service's loop last made progress, seconds since the epoch.",
    when_it_moves="More than 60 s in the past: the loop hangs and /healthz fails; `kill -USR1` prints every thread's stack; then restart.",
)
KAFKA_OUTAGES = _shared.counter(
    "cryptoflow_kafka_outages_total",
    "Times a client of this process found Kafka away, at its start or later; each is one log line and its end another.",
    when_it_moves="Kafka was unreachable or did not answer for 10 s; look at the brokers and at the reason in the log.",
)
KAFKA_UNAVAILABLE = _shared.gauge(
    "cryptoflow_kafka_unavailable",
    "Clients of this process that find Kafka away now.",
    when_it_moves="Above 0 for a minute: bring the brokers back. The reader queues up to channels.buffer_bytes, then tells gaps; the others wait and lose nothing.",
)
RETENTION = _shared.gauge(
    "cryptoflow_retention_seconds",
    "How long the settings let Kafka keep the records of a topic.",
    ("topic",),
    when_it_moves="With the settings. What a consumer has not read by then is gone: compare the lags with it.",
)
POSITION_LAG_RECORDS = _shared.gauge(
    "cryptoflow_position_lag_records",
    "Records between the consumer's position and the end of the partition.",
    ("group", "topic", "partition"),
    when_it_moves="Growing for minutes: add instances of this service, up to the partition count.",
)
POSITION_LAG_SECONDS = _shared.gauge(
    "cryptoflow_position_lag_seconds",
    "Age of the next record to be fetched; 0 at the end of the partition.",
    ("group", "topic", "partition"),
    when_it_moves="Growing for minutes: add instances of this service, up to the partition count.",
)
STORED_LAG_RECORDS = _shared.gauge(
    "cryptoflow_stored_lag_records",
    "Records between what is durable further down (committed) and the end of the partition.",
    ("group", "topic", "partition"),
    when_it_moves="At rest it equals the flush window: do not scale on it. Above three windows: the store or the next topic does not take what it is given.",
)
STORED_LAG_SECONDS = _shared.gauge(
    "cryptoflow_stored_lag_seconds",
    "Age of the oldest record that is not durable further down; 0 if there is none.",
    ("group", "topic", "partition"),
    when_it_moves="Near retention: data is about to be lost. Bring the store back, or raise retention_hours at once.",
)
PRODUCED_RECORDS = _shared.counter(
    "cryptoflow_produced_records_total",
    "Records that Kafka acknowledged.",
    ("topic",),
    when_it_moves="Flat while sources are enabled: look at failed sends and at Kafka.",
)
PRODUCED_BYTES = _shared.counter(
    "cryptoflow_produced_bytes_total",
    "Bytes of the values of acknowledged records, before compression.",
    ("topic",),
    when_it_moves="Doubling without new symbols: the venue sends more levels; check disk and retention.",
)
PRODUCER_FAILURES = _shared.counter(
    "cryptoflow_producer_failures_total",
    "Producers that ended at a failed send.",
    ("topic",),
    when_it_moves="Kafka had no leader or no room for request_timeout_ms; look at the brokers. Each leaves gaps of cause `produce` (reader) or a restart (flattener).",
)
CONSUMED_RECORDS = _shared.counter(
    "cryptoflow_consumed_records_total",
    "Records taken from a topic.",
    ("topic",),
    when_it_moves="Flat while the lag grows: the service is stuck; see /healthz.",
)
REBALANCES = _shared.counter(
    "cryptoflow_rebalances_total",
    "Times this member was given partitions.",
    ("group",),
    when_it_moves="More often than deployments: members miss session_timeout_ms; look for restarts or an overloaded host.",
)
LATENCY = _shared.histogram(
    "cryptoflow_latency_seconds",
    "From the receipt of the exchange's bytes until a stage is done: published, flattened, stored.",
    ("stage",),
    values={"stage": ("published", "flattened", "stored")},
    when_it_moves="`published` up: Kafka is slow. `flattened` up alone: add flatteners. `stored` equals the flush window at rest.",
)
CHANNEL_DEPTH_BYTES = _shared.gauge(
    "cryptoflow_channel_depth_bytes",
    "Bytes queued in this process in front of a topic.",
    ("topic",),
    when_it_moves="Near channels.buffer_bytes: Kafka takes less than the exchange sends; gaps of cause `overflow` follow.",
)
CHANNEL_LIMIT_BYTES = _shared.gauge(
    "cryptoflow_channel_limit_bytes",
    "Bytes that may be queued in this process in front of a topic (channels.buffer_bytes).",
    ("topic",),
    when_it_moves="With the settings.",
)
DEAD_LETTERS = _shared.counter(
    "cryptoflow_dead_letters_total",
    "Records that cannot be processed and went to the dead-letter topic.",
    ("stage", "reason"),
    values={"reason": POISON_REASONS},
    when_it_moves="`cryptoflow dead-letters list` shows them. All of one reason: the venue changed its format.",
)

UNKNOWN_VERSION = _shared.gauge(
    "cryptoflow_unknown_version",
    "1 while a partition stands at a record of a version this release does not know.",
    ("topic", "partition"),
    when_it_moves="Upgrade me: s3writer first, then the flattener, then the reader.",
)

_PER_PARTITION = (POSITION_LAG_RECORDS, POSITION_LAG_SECONDS, STORED_LAG_RECORDS, STORED_LAG_SECONDS)


def remove_partition(group: str, topic: str, partition: int) -> None:
    """Forgets the lags of a partition that was revoked: another member reports them now."""
    for gauge in _PER_PARTITION:
        gauge.remove(group, topic, str(partition))


# --- reader -----------------------------------------------------------------------------------------------------------
_reader = Section("reader")

POLLS = _reader.counter(
    "cryptoflow_polls_total",
    "Polls of order-book snapshots by what became of them: `ok`, or the named fault, or why none was sent.",
    ("exchange", "market", "reason"),
    when_it_moves="Anything but `ok` is a hole in fobs, and a gap row says so. `late`, `no_weight`, `no_connection`: the plan is too dense, see `cryptoflow check-config`. `rate_limited`: others spend this address's budget, lower reader.weight_share. `queue_full`: Kafka does not keep up.",
)
POLL_SECONDS = _reader.histogram(
    "cryptoflow_poll_seconds",
    "From the request's leaving to the last byte of its answer.",
    ("exchange", "market"),
    when_it_moves="Near reader.request_timeout_seconds: the venue or the way to it is slow; late polls follow.",
)
REQUEST_WEIGHT_USED = _reader.gauge(
    "cryptoflow_request_weight_used",
    "Request weight spent in the running minute, by our count or the venue's, whichever is higher.",
    ("ip", "group"),
    when_it_moves="Far above what this reader's polls cost: something else uses the address.",
)
REQUEST_WEIGHT_OWN = _reader.gauge(
    "cryptoflow_request_weight_own",
    "Request weight that this reader has spent in the running minute, by its own count.",
    ("ip", "group"),
    when_it_moves="Below cryptoflow_request_weight_used: something else spends weight from this address.",
)
REQUEST_WEIGHT_LIMIT = _reader.gauge(
    "cryptoflow_request_weight_limit",
    "Request weight per minute that the venue allows an address; reader.weight_share of it is spent.",
    ("ip", "group"),
    when_it_moves="The venue changed its limit: run `cryptoflow check-config` again.",
)
BANNED_UNTIL = _reader.gauge(
    "cryptoflow_address_banned_until_timestamp_seconds",
    "Until when the venue refuses a source address, seconds since the epoch; 0 if it never did.",
    ("ip", "group"),
    when_it_moves="In the future: the address stands down and its symbols are in a gap `ban`. Look for what broke the limit before it ends; bans grow up to three days.",
)
GAPS = _reader.counter(
    "cryptoflow_gaps_total",
    "Gap records written, by cause.",
    ("kind", "exchange", "market", "cause"),
    values={"cause": GAP_CAUSES},
    when_it_moves="`start` and `stop` follow restarts. Any other is data that could not be recorded: the rows of cause `…` say which symbols and since when.",
)
RECORDS_UNACKNOWLEDGED = _reader.counter(
    "cryptoflow_records_unacknowledged_total",
    "Records whose producer failed before Kafka acknowledged them: never sent again, told by a gap `produce`.",
    ("topic",),
    when_it_moves="Kafka was away for longer than request_timeout_ms; look at the brokers.",
)
UPDATES_RECEIVED = _reader.counter(
    "cryptoflow_updates_received_total",
    "Depth updates received over websockets, those of a standby connection included.",
    ("exchange", "market"),
    when_it_moves="Flat while symbols are subscribed: the venue sends nothing; see cryptoflow_connections and the log.",
)
UPDATES_DROPPED = _reader.counter(
    "cryptoflow_updates_dropped_total",
    "Updates that were not published because they are published already (repeat: sent twice or late; overlap: of both"
    " connections of a hand-over), or because their symbol is not recorded (unwanted).",
    ("exchange", "market", "reason"),
    values={"reason": ("repeat", "overlap", "unwanted")},
    when_it_moves="`overlap` follows hand-overs. `repeat` steadily: the venue repeats itself; nothing is lost.",
)
CONNECTIONS = _reader.gauge(
    "cryptoflow_connections",
    "Open websockets for the symbols of a source address, standby connections of a hand-over included.",
    ("exchange", "market", "ip"),
    when_it_moves="Below what `cryptoflow check-config` counts for longer than a minute: the venue is unreachable.",
)
CONNECTIONS_WANTED = _reader.gauge(
    "cryptoflow_connections_wanted",
    "Websockets that the subscribed symbols need, without standby connections.",
    ("exchange", "market", "ip"),
    when_it_moves="With listings. More than cryptoflow_connections for a minute: the venue is unreachable or refuses.",
)
CONNECTIONS_ENDED = _reader.counter(
    "cryptoflow_connections_ended_total",
    "Websockets that ended: planned (handed over, stopped) or broken (each log line says why).",
    ("exchange", "market", "how"),
    values={"how": ("planned", "broken")},
    when_it_moves="`broken` often: the network or the venue closes connections; gaps of cause `disconnect` may follow.",
)
HANDOVERS = _reader.counter(
    "cryptoflow_handovers_total",
    "Websockets replaced by a fresh one: planned before the venue's age limit, or forced by the end of the old one.",
    ("exchange", "market", "how"),
    values={"how": ("planned", "forced")},
    when_it_moves="`planned` about once per reader.max_connection_age and connection.",
)
ANCHORS = _reader.counter(
    "cryptoflow_anchors_total",
    "Snapshots asked for as anchors: placed among the updates, stale (older than what was published: asked for again),"
    " failed (no good answer: asked for again).",
    ("exchange", "market", "outcome"),
    values={"outcome": ("placed", "stale", "failed")},
    when_it_moves="`stale` often: the venue's snapshots lag behind its stream. `failed`: see cryptoflow_polls_total's reasons in the log.",
)
SYMBOLS_SUBSCRIBED = _reader.gauge(
    "cryptoflow_symbols_subscribed",
    "Symbols whose updates are recorded.",
    ("exchange", "market", "ip"),
    when_it_moves="With listings and the configuration; the log line `symbols followed` says how many came and went.",
)
SYMBOLS_WITHOUT_ANCHOR = _reader.gauge(
    "cryptoflow_symbols_without_anchor",
    "Subscribed symbols whose updates have had no anchor since their last gap: their books cannot be rebuilt now.",
    ("exchange", "market", "ip"),
    when_it_moves="Above 0 for minutes: anchors do not come; look at the request weight and at cryptoflow_anchors_total.",
)
SYMBOLS_SILENT = _reader.gauge(
    "cryptoflow_symbols_silent",
    "Subscribed symbols without an update for reader.stale_after.",
    ("exchange", "market", "ip"),
    when_it_moves="Quiet symbols are compared with snapshots, and a gap `stale` tells where updates were missing.",
)
OVERFLOWS = _reader.counter(
    "cryptoflow_overflows_total",
    "Times the queue was full for so long that all websockets were closed.",
    when_it_moves="Kafka took less than the venue sent; gaps of cause `overflow` tell what it cost. Look at the brokers, raise channels.buffer_bytes.",
)
INSTRUMENTS_NOT_STORED = _reader.counter(
    "cryptoflow_instruments_not_stored_total",
    "Times a market's instrument list had changed and could not be stored in the lake; tried again with the next list.",
    when_it_moves="The store does not answer this reader, or refuses it: the log says why. Nothing else waits for it.",
)
SYMBOLS_UNASSIGNED = _reader.gauge(
    "cryptoflow_symbols_unassigned",
    "Trading symbols that match the configuration and stand in no shard: nobody records them.",
    ("exchange", "market"),
    when_it_moves="Above 0: add a pattern to a shard of config/ip_shards.yml.",
)
SYMBOLS_TAKEN_OVER = _reader.gauge(
    "cryptoflow_symbols_taken_over",
    "Symbols of a source address (`ip`) whose polls (fobs) or updates (fobd) go out from others of this process, by"
    " reader.rebalance_on_ban.",
    ("kind", "exchange", "market", "ip"),
    when_it_moves="The venue refuses the address, or it has gone from the host: the log says which and since when. They come back by themselves.",
)
SHARDS_CONFIGURED = _reader.gauge(
    "cryptoflow_shards_configured",
    "Shards of reader.ip_shards_file that have anything to record, on whatever host; 1 without a file.",
    when_it_moves="With the file. All readers that share one must say the same.",
)
SHARDS_RUNNING = _reader.gauge(
    "cryptoflow_shards_running",
    "Of these, those that this process runs: their addresses are on its host, and reader.shard_ip leaves them in.",
    when_it_moves="Their sum over all readers below cryptoflow_shards_configured: nobody records the rest. The log line `shards of others` names what each reader skipped; start a reader there, or add the address to its host and restart.",
)
SYMBOLS_NOT_TRADING = _reader.gauge(
    "cryptoflow_symbols_not_trading",
    "Configured symbols that the venue's instrument list does not show as trading.",
    ("exchange", "market"),
    when_it_moves="Delisted, halted or misspelt: the log names them; take them out of the configuration.",
)

# --- flattener --------------------------------------------------------------------------------------------------------
_flattener = Section("flattener")

FLATTENED_MESSAGES = _flattener.counter(
    "cryptoflow_flattened_messages_total",
    "Raw records whose rows are acknowledged on the norm topic, gaps and dead letters included.",
    ("kind",),
    when_it_moves="Flat while the position lag grows: the flattener is stuck; see /healthz and /readyz.",
)
FLATTENED_ROWS = _flattener.counter(
    "cryptoflow_flattened_rows_total",
    "Rows acknowledged on the norm topic.",
    ("kind",),
    when_it_moves="Follows the number of symbols and levels asked for.",
)
FLATTENED_LEVELS = _flattener.counter(
    "cryptoflow_flattened_levels_total",
    "Levels among those rows; the others are empty books, empty updates and gaps.",
    ("kind",),
    when_it_moves="Follows the number of symbols and levels asked for.",
)
FLATTENED_BYTES = _flattener.counter(
    "cryptoflow_flattened_bytes_total",
    "Bytes of the values of those raw records.",
    ("kind",),
    when_it_moves="Follows the number of symbols and levels asked for.",
)
FLATTEN_SECONDS = _flattener.counter(
    "cryptoflow_flatten_seconds_total",
    "Time spent turning messages into norm records, without Kafka.",
    ("kind",),
    when_it_moves="Its rate is the share of a core in use: near 1 add flatteners.",
)
NORM_RECORD_ROWS = _flattener.histogram(
    "cryptoflow_norm_record_rows",
    "Rows of a norm record.",
    ("kind",),
    buckets=(1, 10, 100, 1_000, 2_000, 4_000, 8_192, 16_384, 32_768, 65_536),
    when_it_moves="Small at rest (a record waits batch_timeout at most), near processor.batch_size under a backlog.",
)
NORM_RECORD_BYTES = _flattener.counter(
    "cryptoflow_norm_record_bytes_total",
    "Bytes of the values of norm records, compressed.",
    ("kind",),
    when_it_moves="Against flattened_bytes: how well the rows compress.",
)
UNUSUAL_BOOKS = _flattener.counter(
    "cryptoflow_unusual_books_total",
    "Books that are kept as the exchange sent them, though they are empty, one_sided, crossed, unsorted or repeated (a price twice). An update is no book: of updates only the empty ones are counted.",
    ("kind", "what"),
    values={"what": ("empty", "one_sided", "crossed", "unsorted", "repeated")},
    when_it_moves="Some are normal around halts. All books of a market: the venue's format or matching changed.",
)
IMPRECISE_VALUES = _flattener.counter(
    "cryptoflow_imprecise_values_total",
    "Prices and quantities of more than 15 significant digits, which a float64 may round; the raw bytes keep them all.",
    ("kind",),
    when_it_moves="A symbol with huge supply: use the raw topic or archive where every digit matters.",
)
LOST_RECORDS = _flattener.counter(
    "cryptoflow_lost_raw_records_total",
    "Raw offsets that Kafka no longer had when the flattener came to them.",
    ("topic",),
    when_it_moves="Data is lost: retention is shorter than an outage of the flattener was. Raise retention_hours.",
)
DUPLICATE_PUBLISHERS = _flattener.gauge(
    "cryptoflow_duplicate_publishers",
    "Books that two reader processes go on publishing at the same time, among this flattener's partitions: for longer"
    " than a hand-over of 60 s, until one of them has been silent for 300 s (of the records' time).",
    ("kind",),
    when_it_moves="Above 0: every message of those books is in the lake twice. Stop one of the readers that the log names: readers scale by shards, not by replicas.",
)

# --- s3writer ---------------------------------------------------------------------------------------------------------
_s3writer = Section("s3writer", kinds=())  # of lines of the lake: the settings say whether the archive's are among them

FLUSHES = _s3writer.counter(
    "cryptoflow_flushes_total",
    "Buffers that became a claim and its files, by what triggered them and how they ended:"
    " written, adopted (another writer's claim for the range was first), disowned (the partition went to another).",
    ("kind", "trigger", "outcome"),
    values={
        "trigger": ("interval", "rows", "bytes", "schema", "shutdown"),
        "outcome": ("written", "adopted", "disowned"),
    },
    when_it_moves="Mostly `bytes` or `rows` instead of `interval`: raise writer.buffer.max_bytes or add s3writers. `adopted` outside of rebalances: two writers hold one partition; look at session_timeout_ms and at clocks.",
)
FLUSH_SECONDS = _s3writer.histogram(
    "cryptoflow_flush_duration_seconds",
    "From the decision to flush a buffer until its files exist.",
    ("kind",),
    when_it_moves="Near the flush interval: the store is slow or one core does not do; add s3writers.",
)
STORED_FILES = _s3writer.counter(
    "cryptoflow_stored_files_total",
    "Parquet files created.",
    ("kind",),
    when_it_moves="It costs one PUT each: raise the flush interval if that is too many.",
)
STORED_ROWS = _s3writer.counter(
    "cryptoflow_stored_rows_total",
    "Rows in the Parquet files created.",
    ("kind",),
    when_it_moves="Flat while the topics grow: look at cryptoflow_store_unavailable and at /readyz.",
)
STORED_BYTES = _s3writer.counter(
    "cryptoflow_stored_bytes_total",
    "Bytes of the Parquet files created.",
    ("kind",),
    when_it_moves="It is what the bill grows by.",
)
LAST_FLUSH = _s3writer.gauge(
    "cryptoflow_last_flush_timestamp_seconds",
    "When a flush of this partition last ended, seconds since the epoch; 0 before the first.",
    ("topic", "partition"),
    when_it_moves="Older than two flush intervals while the stored lag grows: the store does not take the files.",
)
WRITER_BUFFER_BYTES = _s3writer.gauge(
    "cryptoflow_writer_buffer_bytes",
    "Bytes of records in memory that are not stored yet, those being flushed included.",
    when_it_moves="At writer.buffer.max_bytes fetching stops: the store is down or too slow.",
)
WRITER_BUFFER_LIMIT_BYTES = _s3writer.gauge(
    "cryptoflow_writer_buffer_limit_bytes",
    "Bytes at which fetching stops (writer.buffer.max_bytes).",
    when_it_moves="With the settings.",
)
FLUSH_INTERVAL = _s3writer.gauge(
    "cryptoflow_flush_interval_seconds",
    "Age at which a buffer of this topic is written.",
    ("topic",),
    when_it_moves="With the settings. The stored lag at rest lies between 0 and this.",
)
CLAIMS_FINISHED = _s3writer.counter(
    "cryptoflow_claims_finished_total",
    "Claims of another writer, or of an earlier life of this one, that were found incomplete and finished.",
    ("kind",),
    when_it_moves="Once per crash or rebalance is what claims are for. Steadily: writers die while they flush; look at their logs.",
)
CLAIMS_LOST = _s3writer.counter(
    "cryptoflow_claims_lost_total",
    "Claims whose files could not be made any more, because Kafka had deleted the records.",
    ("kind",),
    when_it_moves="Data is gone. `cryptoflow lake verify` lists the files; raise retention_hours above your longest outage.",
)
SOURCE_HOLES = _s3writer.counter(
    "cryptoflow_source_holes_total",
    "Ranges of raw offsets that no norm record covered or, of the archive, that Kafka no longer had. They stand in the claims.",
    ("kind",),
    when_it_moves="Data is missing for every symbol of that partition: `cryptoflow lake verify` lists the ranges. Look at the flattener's log and at the raw topic's retention. Of `raw-fobs` and `raw-fobd` the archive alone misses it: the s3writer was away for longer than that retention.",
)
SOURCE_HOLE_RECORDS = _s3writer.counter(
    "cryptoflow_source_hole_records_total",
    "Raw records in those ranges.",
    ("kind",),
    when_it_moves="As cryptoflow_source_holes_total: it says how much each of those holes took.",
)
REPEATED_RECORDS = _s3writer.counter(
    "cryptoflow_repeated_records_total",
    "Norm records that repeated what was taken already, and were dropped whole.",
    ("kind",),
    when_it_moves="A few after a flattener's crash are expected. Steadily: two flatteners hold one partition.",
)
STORE_FAILURES = _s3writer.counter(
    "cryptoflow_store_failures_total",
    "Calls of the store that failed and are tried again.",
    when_it_moves="The store throttles, is down, or the network is; /readyz says what it answered.",
)
STORE_UNAVAILABLE = _s3writer.gauge(
    "cryptoflow_store_unavailable",
    "1 while a call of the store is being tried again.",
    when_it_moves="1 for minutes: bring the store back. Nothing is lost while Kafka keeps the records: compare the stored lag with retention.",
)
