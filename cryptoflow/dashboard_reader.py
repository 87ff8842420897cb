"""The dashboard of the reader: connections, holes, polls, request weight and the queue, by market and source address."""

from __future__ import annotations

from cryptoflow.dashboards import GREEN, ORANGE, RED, Dashboard, Panel, Query, Row, Variable

MARKET = 'exchange=~"$exchange",market=~"$market"'
ADDRESS = f'{MARKET},ip=~"$ip"'

NOW = Row(
    "Now",
    [
        Panel(
            "Symbols subscribed",
            "none",
            [
                Query(
                    f"sum by (exchange, market) (cryptoflow_symbols_subscribed{{{ADDRESS}}})", "{{exchange}} {{market}}"
                )
            ],
            kind="stat",
            width=5,
        ),
        Panel(
            "Websockets missing",
            "none",
            [
                Query(
                    f"sum by (exchange, market) (clamp_min(cryptoflow_connections_wanted{{{ADDRESS}}}"
                    f" - cryptoflow_connections{{{ADDRESS}}}, 0))",
                    "{{exchange}} {{market}}",
                )
            ],
            kind="stat",
            width=5,
            limits=[(1, RED)],
        ),
        Panel(
            "Symbols without an anchor",
            "none",
            [
                Query(
                    f"sum by (exchange, market) (cryptoflow_symbols_without_anchor{{{ADDRESS}}})",
                    "{{exchange}} {{market}}",
                )
            ],
            kind="stat",
            width=5,
            limits=[(1, ORANGE)],
        ),
        Panel(
            "Banned for",
            "s",
            [
                Query(
                    "clamp_min(max by (ip, group)"
                    ' (cryptoflow_address_banned_until_timestamp_seconds{ip=~"$ip"}) - time(), 0)',
                    "{{ip}} {{group}}",
                )
            ],
            kind="stat",
            width=5,
            decimals=0,
            limits=[(1, RED)],
        ),
        Panel(
            "Shards not running",
            "none",
            [
                Query(
                    'max(cryptoflow_shards_configured{job="reader"}) - sum(cryptoflow_shards_running{job="reader"})',
                    "shards",
                )
            ],
            kind="stat",
            width=4,
            limits=[(1, RED)],
        ),
    ],
)
HOLES = Row(
    "Holes",
    [
        Panel(
            "Gap records, by cause",
            "none",
            [
                Query(
                    f"sum by (kind, cause) (increase(cryptoflow_gaps_total{{{MARKET}}}[$__rate_interval]))",
                    "{{kind}} {{cause}}",
                )
            ],
            width=12,
        ),
        Panel(
            "Gap records in this time span",
            "none",
            [Query(f"topk(20, sum by (kind, market, cause) (increase(cryptoflow_gaps_total{{{MARKET}}}[$__range])))")],
            kind="table",
            width=12,
        ),
    ],
)
UPDATES = Row(
    "Updates",
    [
        Panel(
            "Received",
            "recps",
            [
                Query(
                    f"sum by (exchange, market) (rate(cryptoflow_updates_received_total{{{MARKET}}}[$__rate_interval]))",
                    "{{exchange}} {{market}}",
                )
            ],
        ),
        Panel(
            "Not published",
            "recps",
            [
                Query(
                    f"sum by (market, reason) (rate(cryptoflow_updates_dropped_total{{{MARKET}}}[$__rate_interval]))",
                    "{{market}} {{reason}}",
                )
            ],
        ),
        Panel(
            "Websockets",
            "none",
            [
                Query(f"cryptoflow_connections{{{ADDRESS}}}", "{{market}} {{ip}}"),
                Query(f"cryptoflow_connections_wanted{{{ADDRESS}}}", "wanted: {{market}} {{ip}}"),
            ],
        ),
        Panel(
            "Websockets ended and handed over",
            "none",
            [
                Query(
                    f"sum by (market, how) (increase(cryptoflow_connections_ended_total{{{MARKET}}}[5m]))",
                    "{{market}} ended, {{how}}",
                ),
                Query(
                    f"sum by (market, how) (increase(cryptoflow_handovers_total{{{MARKET}}}[5m]))",
                    "{{market}} handed over, {{how}}",
                ),
            ],
            says="Within 5 minutes.",
        ),
        Panel(
            "Anchors",
            "none",
            [
                Query(
                    f"sum by (market, outcome) (increase(cryptoflow_anchors_total{{{MARKET}}}[5m]))",
                    "{{market}} {{outcome}}",
                )
            ],
            says="Within 5 minutes.",
        ),
        Panel(
            "Symbols: silent, without an anchor",
            "none",
            [
                Query(f"cryptoflow_symbols_silent{{{ADDRESS}}}", "silent: {{market}} {{ip}}"),
                Query(f"cryptoflow_symbols_without_anchor{{{ADDRESS}}}", "without an anchor: {{market}} {{ip}}"),
            ],
        ),
    ],
)
POLLS = Row(
    "Polls",
    [
        Panel(
            "Good and bad",
            "reqps",
            [
                Query(
                    f'sum by (market) (rate(cryptoflow_polls_total{{{MARKET},reason="ok"}}[$__rate_interval]))',
                    "{{market}} ok",
                ),
                Query(
                    f'sum by (market) (rate(cryptoflow_polls_total{{{MARKET},reason!="ok"}}[$__rate_interval]))',
                    "{{market}} not ok",
                ),
            ],
        ),
        Panel(
            "What became of polls in this time span",
            "none",
            [Query(f"topk(15, sum by (market, reason) (increase(cryptoflow_polls_total{{{MARKET}}}[$__range])))")],
            kind="table",
        ),
        Panel(
            "Time of a poll",
            "s",
            [
                Query(
                    f"histogram_quantile({quantile}, sum by (market, le)"
                    f" (rate(cryptoflow_poll_seconds_bucket{{{MARKET}}}[5m])))",
                    f"{{{{market}}}} {name}",
                )
                for quantile, name in ((0.5, "median"), (0.99, "p99"))
            ],
        ),
    ],
)
WEIGHT = Row(
    "Request weight",
    [
        Panel(
            "Weight of the running minute",
            "none",
            [
                Query('cryptoflow_request_weight_used{ip=~"$ip"}', "{{ip}} {{group}} used"),
                Query('cryptoflow_request_weight_own{ip=~"$ip"}', "{{ip}} {{group}} by this reader"),
                Query('cryptoflow_request_weight_limit{ip=~"$ip"}', "{{ip}} {{group}} limit"),
            ],
        ),
        Panel(
            "Share of the limit",
            "percentunit",
            [
                Query('cryptoflow:request_weight:ratio_max2m{ip=~"$ip"}', "{{ip}} {{group}}"),
                Query('cryptoflow:request_weight_foreign:ratio_max2m{ip=~"$ip"}', "{{ip}} {{group}} by others"),
            ],
            limits=[(0.9, RED)],
        ),
        Panel(
            "Symbols taken over by other addresses",
            "none",
            [
                Query(
                    f"sum by (kind, market, ip) (cryptoflow_symbols_taken_over{{{ADDRESS}}})",
                    "{{kind}} {{market}} of {{ip}}",
                )
            ],
            limits=[(1, ORANGE)],
        ),
    ],
)
QUEUE = Row(
    "Queue and Kafka",
    [
        Panel(
            "Queue",
            "percentunit",
            [
                Query(
                    "cryptoflow_channel_depth_bytes / cryptoflow_channel_limit_bytes",
                    "{{instance}} {{topic}}",
                )
            ],
            limits=[(0.8, ORANGE), (1, RED)],
        ),
        Panel(
            "Not acknowledged, never sent again",
            "none",
            [
                Query("sum by (topic) (increase(cryptoflow_records_unacknowledged_total[5m]))", "records of {{topic}}"),
                Query("sum by (topic) (increase(cryptoflow_producer_failures_total[5m]))", "producers of {{topic}}"),
                Query("sum(increase(cryptoflow_overflows_total[5m]))", "overflows"),
            ],
            limits=[(0.5, RED)],
            says="Within 5 minutes.",
        ),
        Panel(
            "Published after",
            "s",
            [
                Query('cryptoflow:latency_seconds:p50_5m{stage="published"}', "median"),
                Query('cryptoflow:latency_seconds:p99_5m{stage="published"}', "p99"),
            ],
        ),
    ],
)
LISTINGS = Row(
    "Listings and shards",
    [
        Panel(
            "Symbols in no shard, or not trading",
            "none",
            [
                Query(
                    f"max by (exchange, market) (cryptoflow_symbols_unassigned{{{MARKET}}})", "{{market}} in no shard"
                ),
                Query(
                    f"max by (exchange, market) (cryptoflow_symbols_not_trading{{{MARKET}}})", "{{market}} not trading"
                ),
            ],
            limits=[(1, ORANGE)],
        ),
        Panel(
            "Shards",
            "none",
            [
                Query('max(cryptoflow_shards_configured{job="reader"})', "configured"),
                Query('cryptoflow_shards_running{job="reader"}', "run by {{instance}}"),
            ],
            base=GREEN,
        ),
        Panel(
            "Instrument lists not stored",
            "none",
            [Query('increase(cryptoflow_instruments_not_stored_total{job="reader"}[30m])', "{{instance}}")],
            limits=[(0.5, ORANGE)],
            says="Within 30 minutes.",
        ),
    ],
)

READER = Dashboard(
    "reader",
    "CryptoFlow: reader",
    "What the reader gets from the venue, what it misses, and what that costs of its addresses' budget.",
    [NOW, HOLES, UPDATES, POLLS, WEIGHT, QUEUE, LISTINGS],
    [
        Variable("exchange", "cryptoflow_polls_total"),
        Variable("market", "cryptoflow_polls_total"),
        Variable("ip", "cryptoflow_request_weight_limit"),
    ],
)
