"""Behind the reader: Kafka, the lake, memory and dollars as tables, for a person. Formats numbers; decides nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cryptoflow.check_config_sizes import GB_MONTH_DOLLARS, MIB, PUT_DOLLARS
from cryptoflow.check_config_words import at_least, bytes_in_words, rough, table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.table import Table

    from cryptoflow.check_config import Plan
    from cryptoflow.check_config_flows import UpdatesAssumed
    from cryptoflow.check_config_output import KindOutput
    from cryptoflow.check_config_traffic import TopicDisk, Traffic


def assumed(found: Sequence[UpdatesAssumed]) -> Table:
    """What no configuration says."""
    made = table(
        "\nAssumed of updates (--assume-updates-per-second replaces the rate)",
        *("market", "symbols that move", "how many", "updates a second each", "levels each", "bytes each", "as"),
    )
    for one in found:
        made.add_row(
            f"{one.exchange} {one.market}",
            one.name,
            at_least(one.symbols, one.at_least),
            rough(one.updates_per_second),
            rough(one.levels),
            rough(one.raw_bytes),
            one.source,
        )
    return made


def traffic(found: Sequence[Traffic]) -> Table:
    """Of each kind, a second."""
    made = table("\nKafka, a second", "about", *(one.kind for one in found))
    made.add_row("messages", *(at_least(rough(one.messages_per_second), one.at_least) for one in found))
    made.add_row("rows", *(at_least(rough(one.rows_per_second), one.at_least) for one in found))
    made.add_row("the exchange's bytes", *(_bytes(one.raw_bytes_per_second, one) for one in found))
    made.add_row(
        "raw topic, headers and zstd: written, read", *(_bytes(one.broker_bytes_per_second, one) for one in found)
    )
    made.add_row("norm topic: written, read", *(_bytes(one.norm_bytes_per_second, one) for one in found))
    made.add_row("norm records", *(at_least(rough(one.norm_records_per_second), one.at_least) for one in found))
    return made


def _bytes(number: float, one: Traffic) -> str:
    return at_least(bytes_in_words(number), one.at_least)


def disk(topics: Sequence[TopicDisk]) -> Table:
    """Of each topic, all copies."""
    made = table("\nKafka's disk", "topic", "about a day", "kept", "copies", "about on disk")
    for topic in topics:
        made.add_row(
            topic.topic,
            at_least(bytes_in_words(topic.bytes_per_second * 86_400), topic.at_least),
            f"{topic.retention_hours:,} h",
            str(topic.replicas),
            at_least(bytes_in_words(topic.disk_bytes), topic.at_least),
        )
    return made


def lake(kinds: Sequence[KindOutput]) -> Table:
    """Of each kind, a day."""
    made = table("\nThe lake, a day", "about", *(kind.kind for kind in kinds))
    made.add_row("books", *(at_least(kind.books, kind.at_least) for kind in kinds))
    made.add_row("rows", *(at_least(rough(kind.rows_per_day), kind.at_least) for kind in kinds))
    made.add_row("stored", *(at_least(bytes_in_words(kind.stored_bytes_per_day), kind.at_least) for kind in kinds))
    made.add_row("a flush window, seconds", *(f"{kind.flush_interval_seconds:g}" for kind in kinds))
    made.add_row("flushes of a partition in a window, at most", *(f"{kind.flushes_per_window:g}" for kind in kinds))
    made.add_row("files (a book and flush)", *(at_least(kind.files_per_day, kind.at_least) for kind in kinds))
    made.add_row("claims (a partition and flush)", *(at_least(kind.claims_per_day, kind.at_least) for kind in kinds))
    made.add_row("PUT requests", *(at_least(kind.put_requests_per_day, kind.at_least) for kind in kinds))
    made.add_row(
        "partitions that hold a book, at most",
        *(f"{kind.partitions_used} of {kind.partitions_per_topic}" for kind in kinds),
    )
    return made


def together(plan: Plan) -> Table:
    """Sums, memory, dollars."""
    output, kafka, memory = plan.output, plan.kafka, plan.memory
    more = output.at_least

    def dollars(number: float) -> str:
        return at_least(f"${number:,.2f}", more)

    made = table("\nTogether", "what", "about")
    made.add_row(
        "Kafka: written, and again as much read, a second", at_least(bytes_in_words(kafka.in_bytes_per_second), more)
    )
    made.add_row(
        "Kafka: copied between brokers, a second", at_least(bytes_in_words(kafka.copied_bytes_per_second), more)
    )
    made.add_row("Kafka: disk", at_least(bytes_in_words(kafka.disk_bytes), more))
    made.add_row("PUT requests a day", at_least(output.put_requests_per_day, more))
    made.add_row(
        f"what they cost in S3 a month, at ${PUT_DOLLARS * 1000:g} per 1,000", dollars(output.put_dollars_per_month)
    )
    made.add_row("stored a month", at_least(bytes_in_words(output.stored_bytes_per_month), more))
    made.add_row(
        f"what keeping it costs in S3 a month, at ${GB_MONTH_DOLLARS:g} per GB",
        dollars(output.storage_dollars_per_month_kept),
    )
    made.add_row(
        "S3 in the first month, in the twelfth (all kept)",
        f"{dollars(output.dollars_first_month)}, {dollars(output.dollars_twelfth_month)}",
    )
    made.add_row("memory of the reader's queues, MiB", _mib(memory.reader_queue_bytes))
    made.add_row("memory of a reader for these addresses, Kafka away, MiB", _mib(memory.reader_bytes))
    made.add_row("memory of a flattener with every partition, catching up, MiB", _mib(memory.flattener_bytes))
    made.add_row("memory of the s3writer's buffers, MiB", _mib(memory.writer_buffer_bytes))
    made.add_row("memory of an s3writer, catching up, MiB", _mib(memory.writer_bytes))
    return made


def _mib(number: float) -> str:
    return f"{number / MIB:,.0f}"
