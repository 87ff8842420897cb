"""The dashboard for who is called at night: does it run, does it flow, how far behind is it, is anything lost."""

from __future__ import annotations

from cryptoflow.dashboards import GREEN, ORANGE, RED, Dashboard, Panel, Query, Row

SERVICES = 'job=~"reader|flattener|s3writer"'

NOW = Row(
    "Now",
    [
        Panel(
            "Replicas up",
            "none",
            [Query("cryptoflow:up:sum", "{{job}}")],
            kind="stat",
            width=5,
            base=RED,
            limits=[(1, GREEN)],
            says="Instances of each service that answer Prometheus.",
        ),
        Panel(
            "Ready",
            "percentunit",
            [Query(f"avg by (job) (cryptoflow_ready{{{SERVICES}}})", "{{job}}")],
            kind="stat",
            width=5,
            base=RED,
            limits=[(0.01, ORANGE), (1, GREEN)],
        ),
        Panel(
            "Holes in the latest hour",
            "none",
            [Query('sum by (kind) (increase(cryptoflow_gaps_total{cause!~"start|stop"}[1h]))', "{{kind}}")],
            kind="stat",
            width=4,
            decimals=0,
            limits=[(0.5, RED)],
        ),
        Panel(
            "Stored until, seconds ago",
            "s",
            [Query("cryptoflow:stored_lag_seconds:max", "{{group}} {{topic}}")],
            kind="stat",
            width=6,
            decimals=0,
            says="Red is a matter of the flush interval: see the alert StoredLagHigh.",
        ),
        Panel(
            "Alerts firing",
            "none",
            [
                Query(
                    'count by (alertname) (ALERTS{alertstate="firing"})'
                    ' or label_replace(vector(0), "alertname", "none", "", "")',
                    "{{alertname}}",
                )
            ],
            kind="stat",
            width=4,
            limits=[(1, RED)],
            says="What to do about each stands in docs/alerts.md.",
        ),
    ],
)
FLOW = Row(
    "Channels: throughput and depth",
    [
        Panel("Records produced", "recps", [Query("cryptoflow:produced_records:rate1m", "{{topic}}")]),
        Panel("Bytes produced, before compression", "Bps", [Query("cryptoflow:produced_bytes:rate1m", "{{topic}}")]),
        Panel(
            "Records consumed",
            "recps",
            [
                Query(
                    "sum by (job, topic) (rate(cryptoflow_consumed_records_total[$__rate_interval]))",
                    "{{job}} ← {{topic}}",
                )
            ],
        ),
        Panel(
            "Depth of the reader's queues",
            "bytes",
            [
                Query("sum by (topic) (cryptoflow_channel_depth_bytes)", "{{topic}}"),
                Query("max by (topic) (cryptoflow_channel_limit_bytes)", "limit of {{topic}}"),
            ],
        ),
        Panel(
            "Held by the s3writers",
            "bytes",
            [
                Query('cryptoflow_writer_buffer_bytes{job="s3writer"}', "{{instance}}"),
                Query('cryptoflow_writer_buffer_limit_bytes{job="s3writer"}', "limit of {{instance}}"),
            ],
        ),
        Panel(
            "Rows into the lake",
            "rowsps",
            [Query("sum by (kind) (rate(cryptoflow_stored_rows_total[5m]))", "{{kind}}")],
            says="Over 5 minutes, as rows come with flushes.",
        ),
    ],
)
LAG = Row(
    "Lag",
    [
        Panel(
            "Position lag",
            "s",
            [Query("cryptoflow:position_lag_seconds:max", "{{group}} {{topic}}")],
            limits=[(60, ORANGE), (600, RED)],
            says="The worst partition of each topic: what to scale on.",
        ),
        Panel("Position lag, records", "none", [Query("cryptoflow:position_lag_records:sum", "{{group}} {{topic}}")]),
        Panel(
            "Stored lag and flush interval",
            "s",
            [
                Query("cryptoflow:stored_lag_seconds:max", "{{group}} {{topic}}"),
                Query("max by (topic) (cryptoflow_flush_interval_seconds)", "interval of {{topic}}"),
            ],
        ),
        Panel(
            "Position lag by partition",
            "none",
            [
                Query(
                    "max by (group, topic, partition) (cryptoflow_position_lag_records)",
                    "{{group}} {{topic}}/{{partition}}",
                )
            ],
            width=12,
        ),
        Panel(
            "Share of the retention used",
            "percentunit",
            [
                Query(
                    "max by (group, topic) (cryptoflow_stored_lag_seconds)"
                    " / on (topic) group_left () max by (topic) (cryptoflow_retention_seconds)",
                    "{{group}} {{topic}}",
                )
            ],
            width=12,
            limits=[(0.25, ORANGE), (0.5, RED)],
            says="At 100 % Kafka deletes what is not stored.",
        ),
    ],
)
LATENCY = Row(
    "Latency from the exchange's bytes on",
    [
        Panel("Median", "s", [Query("cryptoflow:latency_seconds:p50_5m", "{{stage}}")], width=12),
        Panel("99th percentile", "s", [Query("cryptoflow:latency_seconds:p99_5m", "{{stage}}")], width=12),
    ],
)
TROUBLE = Row(
    "Trouble",
    [
        Panel(
            "Dead letters",
            "none",
            [Query("sum by (stage) (increase(cryptoflow_dead_letters_total[$__rate_interval]))", "{{stage}}")],
            limits=[(0.5, RED)],
        ),
        Panel(
            "Dead letters in this time span, by reason",
            "none",
            [Query("topk(10, sum by (stage, reason) (increase(cryptoflow_dead_letters_total[$__range])))")],
            kind="table",
        ),
        Panel(
            "Lost for good",
            "none",
            [
                Query("sum by (topic) (cryptoflow_lost_raw_records_total)", "raw records of {{topic}}"),
                Query("sum by (kind) (cryptoflow_claims_lost_total)", "claims of {{kind}}"),
                Query("sum by (kind) (cryptoflow_source_hole_records_total)", "records in source holes of {{kind}}"),
            ],
            limits=[(1, RED)],
            says="Since the processes started.",
        ),
        Panel(
            "Kafka away",
            "none",
            [Query(f"sum by (job) (cryptoflow_kafka_unavailable{{{SERVICES}}})", "{{job}}")],
            limits=[(1, RED)],
        ),
        Panel(
            "Rebalances within 15 minutes",
            "none",
            [Query("max by (group) (increase(cryptoflow_rebalances_total[15m]))", "{{group}}")],
            limits=[(10, ORANGE)],
        ),
        Panel(
            "Books with two readers",
            "none",
            [Query("sum by (kind) (cryptoflow_duplicate_publishers)", "{{kind}}")],
            limits=[(1, RED)],
        ),
    ],
)
PROCESSES = Row(
    "Processes",
    [
        Panel(
            "CPU",
            "percentunit",
            [Query(f"rate(process_cpu_seconds_total{{{SERVICES}}}[$__rate_interval])", "{{job}} {{instance}}")],
            limits=[(0.9, ORANGE)],
            says="Of one core, which is all that a process uses, but for compression.",
        ),
        Panel(
            "Memory",
            "bytes",
            [Query(f"process_resident_memory_bytes{{{SERVICES}}}", "{{job}} {{instance}}")],
            says="Resident. The s3writer's follows writer.buffer.max_bytes, the reader's channels.buffer_bytes.",
        ),
        Panel(
            "Seconds since the loop moved",
            "s",
            [Query(f"time() - cryptoflow_progress_timestamp_seconds{{{SERVICES}}}", "{{job}} {{instance}}")],
            limits=[(60, RED)],
        ),
        Panel(
            "Running for",
            "s",
            [Query(f"time() - cryptoflow_start_timestamp_seconds{{{SERVICES}}}", "{{job}} {{instance}}")],
            width=12,
        ),
        Panel(
            "What runs",
            "none",
            [Query("max by (service, instance, release, environment, version) (cryptoflow_build_info)")],
            kind="table",
            width=12,
        ),
    ],
)

PIPELINE = Dashboard(
    "pipeline",
    "CryptoFlow: pipeline",
    "From the exchange's bytes to the lake: does it run, does it flow, how far behind is it, is anything lost.",
    [NOW, FLOW, LAG, LATENCY, TROUBLE, PROCESSES],
)
