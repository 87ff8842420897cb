"""The dashboard of the lake: what the flattener makes of the records, what the s3writers store, what it costs."""

from __future__ import annotations

from cryptoflow.dashboards import GREEN, ORANGE, RED, Dashboard, Panel, Query, Row, Variable

KIND = 'kind=~"$kind"'


def _a_day(metric: str) -> str:
    return f"sum by (kind) (rate({metric}{{{KIND}}}[1h])) * 86400"


NOW = Row(
    "Now",
    [
        Panel(
            "Store",
            "none",
            [Query('max(cryptoflow_store_unavailable{job="s3writer"})', "calls tried again")],
            kind="stat",
            width=4,
            limits=[(1, RED)],
        ),
        Panel(
            "Since the latest flush",
            "s",
            [Query("time() - max by (topic) (cryptoflow_last_flush_timestamp_seconds > 0)", "{{topic}}")],
            kind="stat",
            width=7,
            decimals=0,
        ),
        Panel(
            "Buffers",
            "percentunit",
            [
                Query(
                    'cryptoflow_writer_buffer_bytes{job="s3writer"}'
                    ' / cryptoflow_writer_buffer_limit_bytes{job="s3writer"}',
                    "{{instance}}",
                )
            ],
            kind="stat",
            width=7,
            limits=[(0.75, ORANGE), (0.95, RED)],
            says="From 75 % on the largest buffer is flushed, at 100 % fetching stops.",
        ),
        Panel(
            "Claims lost, source holes",
            "none",
            [
                Query("sum(cryptoflow_claims_lost_total)", "claims lost"),
                Query("sum(cryptoflow_source_holes_total)", "source holes"),
            ],
            kind="stat",
            width=6,
            limits=[(1, RED)],
            says="Since the processes started. `cryptoflow lake verify` lists them.",
        ),
    ],
)
FLUSHES = Row(
    "Flushes",
    [
        Panel(
            "By trigger",
            "none",
            [
                Query(
                    f"sum by (kind, trigger) (increase(cryptoflow_flushes_total{{{KIND}}}[$__rate_interval]))",
                    "{{kind}} {{trigger}}",
                )
            ],
            stacked=True,
        ),
        Panel(
            "By outcome",
            "none",
            [
                Query(
                    f"sum by (kind, outcome) (increase(cryptoflow_flushes_total{{{KIND}}}[$__rate_interval]))",
                    "{{kind}} {{outcome}}",
                )
            ],
            stacked=True,
        ),
        Panel(
            "Time of a flush",
            "s",
            [
                Query(
                    f"histogram_quantile({quantile}, sum by (kind, le)"
                    f" (rate(cryptoflow_flush_duration_seconds_bucket{{{KIND}}}[15m])))",
                    f"{{{{kind}}}} {name}",
                )
                for quantile, name in ((0.5, "median"), (0.99, "p99"))
            ],
        ),
        Panel(
            "Stored lag by partition",
            "s",
            [
                Query(
                    "max by (topic, partition) (cryptoflow_stored_lag_seconds"
                    " and on (topic) cryptoflow_flush_interval_seconds)",
                    "{{topic}}/{{partition}}",
                )
            ],
            width=12,
        ),
        Panel(
            "Store: calls that failed and are tried again",
            "none",
            [Query('increase(cryptoflow_store_failures_total{job="s3writer"}[$__rate_interval])', "{{instance}}")],
            width=12,
            limits=[(0.5, ORANGE)],
        ),
    ],
)
SIZE = Row(
    "Size and cost, at the pace of the latest hour",
    [
        Panel("Bytes a day", "bytes", [Query(_a_day("cryptoflow_stored_bytes_total"), "{{kind}}")], stacked=True),
        Panel(
            "Files a day",
            "none",
            [Query(_a_day("cryptoflow_stored_files_total"), "{{kind}}")],
            stacked=True,
            decimals=0,
        ),
        Panel("Rows a day", "short", [Query(_a_day("cryptoflow_stored_rows_total"), "{{kind}}")], stacked=True),
        Panel(
            "Mean size of a file",
            "bytes",
            [
                Query(
                    f"sum by (kind) (rate(cryptoflow_stored_bytes_total{{{KIND}}}[1h]))"
                    f" / sum by (kind) (rate(cryptoflow_stored_files_total{{{KIND}}}[1h]))",
                    "{{kind}}",
                )
            ],
            says="Small files cost PUTs and slow readers down; a longer flush interval makes fewer, larger ones.",
        ),
        Panel(
            "Bytes of a row",
            "bytes",
            [
                Query(
                    f"sum by (kind) (rate(cryptoflow_stored_bytes_total{{{KIND}}}[1h]))"
                    f" / sum by (kind) (rate(cryptoflow_stored_rows_total{{{KIND}}}[1h]))",
                    "{{kind}}",
                )
            ],
        ),
        Panel(
            "Stored after",
            "s",
            [
                Query('cryptoflow:latency_seconds:p50_5m{stage="stored"}', "median"),
                Query('cryptoflow:latency_seconds:p99_5m{stage="stored"}', "p99"),
            ],
            says="At rest it is the flush window.",
        ),
    ],
)
CLAIMS = Row(
    "Exactly once",
    [
        Panel(
            "Claims",
            "none",
            [
                Query(f"sum by (kind) (cryptoflow_claims_finished_total{{{KIND}}})", "{{kind}} finished for others"),
                Query(f"sum by (kind) (cryptoflow_claims_lost_total{{{KIND}}})", "{{kind}} lost"),
            ],
        ),
        Panel(
            "Source holes",
            "none",
            [
                Query(f"sum by (kind) (cryptoflow_source_holes_total{{{KIND}}})", "{{kind}} ranges"),
                Query(f"sum by (kind) (cryptoflow_source_hole_records_total{{{KIND}}})", "{{kind}} records"),
            ],
            limits=[(1, RED)],
        ),
        Panel(
            "Norm records dropped as repeats",
            "none",
            [
                Query(
                    f"sum by (kind) (increase(cryptoflow_repeated_records_total{{{KIND}}}[$__rate_interval]))",
                    "{{kind}}",
                )
            ],
        ),
    ],
)
FLATTENER = Row(
    "Flattener",
    [
        Panel(
            "Messages",
            "recps",
            [
                Query(
                    f"sum by (kind) (rate(cryptoflow_flattened_messages_total{{{KIND}}}[$__rate_interval]))", "{{kind}}"
                )
            ],
        ),
        Panel(
            "Rows and levels",
            "rowsps",
            [
                Query(
                    f"sum by (kind) (rate(cryptoflow_flattened_rows_total{{{KIND}}}[$__rate_interval]))",
                    "{{kind}} rows",
                ),
                Query(
                    f"sum by (kind) (rate(cryptoflow_flattened_levels_total{{{KIND}}}[$__rate_interval]))",
                    "{{kind}} levels",
                ),
            ],
        ),
        Panel(
            "Share of a core spent flattening",
            "percentunit",
            [
                Query(
                    f"sum by (instance) (rate(cryptoflow_flatten_seconds_total{{{KIND}}}[$__rate_interval]))",
                    "{{instance}}",
                )
            ],
            base=GREEN,
            limits=[(0.9, ORANGE)],
        ),
        Panel(
            "Rows of a norm record",
            "none",
            [
                Query(
                    f"histogram_quantile(0.5, sum by (kind, le) (rate(cryptoflow_norm_record_rows_bucket{{{KIND}}}[5m])))",
                    "{{kind}} median",
                )
            ],
        ),
        Panel(
            "Bytes in and out",
            "Bps",
            [
                Query(
                    f"sum by (kind) (rate(cryptoflow_flattened_bytes_total{{{KIND}}}[$__rate_interval]))", "{{kind}} in"
                ),
                Query(
                    f"sum by (kind) (rate(cryptoflow_norm_record_bytes_total{{{KIND}}}[$__rate_interval]))",
                    "{{kind}} out",
                ),
            ],
        ),
        Panel(
            "Unusual books, imprecise values",
            "recps",
            [
                Query(
                    f"sum by (kind, what) (rate(cryptoflow_unusual_books_total{{{KIND}}}[$__rate_interval]))",
                    "{{kind}} {{what}}",
                ),
                Query(
                    f"sum by (kind) (rate(cryptoflow_imprecise_values_total{{{KIND}}}[$__rate_interval]))",
                    "{{kind}} imprecise",
                ),
            ],
        ),
    ],
)

LAKE = Dashboard(
    "lake",
    "CryptoFlow: lake",
    "What the flattener makes of the records, what the s3writers store, and what it costs.",
    [NOW, FLUSHES, SIZE, CLAIMS, FLATTENER],
    [Variable("kind", "cryptoflow_stored_files_total")],
)
