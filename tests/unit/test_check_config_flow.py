"""check-config behind the reader: Kafka, the lake, memory and dollars, against arithmetic by hand and what was measured."""

import json

import pytest

from cryptoflow import check_config_output, check_config_sizes
from cryptoflow.check_config_words import bytes_in_words, rough
from services.reader.publisher import LINGER_SECONDS
from services.s3writer.buffer import FLUSH_SHARE, RECORD_OVERHEAD_BYTES, window_end
from tests.unit.test_check_config import DELTA, POLLED, bare_folder, names, planned, run  # noqa: F401 - a fixture

MIB = 1024 * 1024
ONLY_POLLS = f"{DELTA}.enabled=false"
ONLY_UPDATES = f"{POLLED}.enabled=false"


def flow(*pairs, **options):
    """The traffic of the only kind there is, and the whole plan."""
    _, plan = planned(*pairs, **options)
    (traffic,) = plan["kafka"]["traffic"]
    return traffic, plan


def assumed(rate, *pairs):
    options = [part for pair in pairs for part in ("--set", pair)]
    result = run("check-config", "--json", "--assume-updates-per-second", str(rate), *options)
    return json.loads(result.stdout)["plan"]


def test_polls_flow_as_the_plan_says():
    traffic, plan = flow(ONLY_POLLS, f"{POLLED}.symbols=A,B,C", f"{POLLED}.interval_ms=2000", f"{POLLED}.limit=1000")
    assert (traffic["messages_per_second"], traffic["rows_per_second"]) == (1.5, 3000)
    assert traffic["raw_bytes_per_second"] == pytest.approx(1.5 * 41_286, rel=0.01)  # a recorded body of 1,000 levels
    assert plan["output"]["kinds"][0]["rows_per_day"] == 259_200_000


def test_all_futures_together_send_what_a_probe_of_them_had():
    """571 symbols at the fastest spacing: 4,470 updates and 1.48 MB a second."""
    _, plan = planned(ONLY_UPDATES, f"{DELTA}.symbols=*", f"{DELTA}.interval_ms=0", assume=["binance.future=571"])
    (traffic,) = plan["kafka"]["traffic"]
    assert traffic["messages_per_second"] == pytest.approx(4470, rel=0.1)
    assert traffic["raw_bytes_per_second"] == pytest.approx(1.48e6, rel=0.1)


def test_what_is_assumed_of_updates_is_stated_by_activity():
    _, plan = planned(ONLY_UPDATES, f"{DELTA}.symbols=BTCUSDT,ETHUSDT,BTCDOMUSDT,ETHFIUSDT,DOGEUSDT")
    busy, others = plan["kafka"]["assumed"]
    assert (busy["symbols"], busy["updates_per_second"], others["symbols"]) == (2, 10, 3)
    assert busy["levels"] > 5 * others["levels"]
    assert "2024-07-18" in busy["source"]
    assert " any other " in run("check-config", "--set", f"{DELTA}.symbols=DOGEUSDT").stdout


def test_a_wider_spacing_carries_the_same_levels_in_fewer_updates():
    fast, _ = flow(ONLY_UPDATES)
    slow, _ = flow(ONLY_UPDATES, f"{DELTA}.interval_ms=500")
    assert fast["messages_per_second"] - slow["messages_per_second"] == pytest.approx(2 * (10 - 2))
    assert slow["rows_per_second"] == pytest.approx(fast["rows_per_second"])
    assert slow["raw_bytes_per_second"] < fast["raw_bytes_per_second"]


def test_another_rate_of_updates_can_be_assumed():
    plan = assumed(50, ONLY_UPDATES)
    (traffic,) = plan["kafka"]["traffic"]
    assert traffic["messages_per_second"] == pytest.approx(2 * 50 + 2 / 3600)
    assert [one["updates_per_second"] for one in plan["kafka"]["assumed"]] == [50]
    twice = assumed(100, ONLY_UPDATES)
    assert twice["kafka"]["traffic"][0]["rows_per_second"] == pytest.approx(2 * traffic["rows_per_second"], rel=0.001)


@pytest.mark.parametrize("rate", ["-1", "1001", "nan", "inf"])
def test_a_rate_that_cannot_be_is_refused_in_words(rate):
    result = run("check-config", "--assume-updates-per-second", rate)
    assert result.stderr.splitlines() == [f"--assume-updates-per-second: must be between 0 and 1,000, is {rate}"]
    assert result.exit_code == 2


def test_symbols_that_say_little_have_fewer_files_than_there_are_windows():
    plan = assumed(0.0001, ONLY_UPDATES)
    assert plan["output"]["kinds"][0]["files_per_day"] == round(2 * (8.64 + 24))  # updates and anchors


def test_disk_grows_with_retention_and_copies():
    _, plan = planned()
    _, longer = planned(
        "kafka.replication_factor=3", *(f"channels.{name}.retention_hours=336" for name in ("raw_fobd", "norm_fobd"))
    )
    before, after = ([topic["disk_bytes"] for topic in one["kafka"]["topics"]] for one in (plan, longer))
    assert after == pytest.approx([3 * before[0], 3 * before[1], 6 * before[2], 6 * before[3]])
    assert plan["kafka"]["copied_bytes_per_second"] == 0
    assert longer["kafka"]["copied_bytes_per_second"] == pytest.approx(2 * longer["kafka"]["in_bytes_per_second"])
    assert [topic["topic"] for topic in plan["kafka"]["topics"]] == ["raw-fobs", "norm-fobs", "raw-fobd", "norm-fobd"]


def test_norm_records_are_as_many_as_messages_partitions_or_rows_make_them():
    rare, _ = flow(ONLY_POLLS)
    assert rare["norm_records_per_second"] == 0.2  # each poll alone
    waiting, _ = flow(ONLY_UPDATES, f"{DELTA}.symbols={names(40)}", f"{DELTA}.anchor_interval=24h")
    assert waiting["norm_records_per_second"] == 6 / 0.2  # a partition's record waits for 200 ms
    full, _ = flow(ONLY_UPDATES, f"{DELTA}.symbols={names(571)}", "processor.batch_size=100")
    assert full["norm_records_per_second"] == pytest.approx(full["rows_per_second"] / 100)


def test_records_that_come_in_company_take_less_room_on_the_broker():
    few, _ = flow(ONLY_UPDATES, f"{DELTA}.symbols=A")
    many, _ = flow(ONLY_UPDATES, f"{DELTA}.symbols={names(571)}")
    assert few["broker_bytes_per_second"] > few["raw_bytes_per_second"]
    assert many["broker_bytes_per_second"] < 0.7 * many["raw_bytes_per_second"]


@pytest.mark.parametrize("seconds", [60, 300, 420, 1700, 1800, 3600, 7200])
def test_windows_of_a_day_are_those_of_the_s3writer(seconds):
    ends = {window_end(at, seconds) for at in range(0, 86_400, 10)}
    _, plan = planned(ONLY_POLLS, f"{POLLED}.interval_ms=100000", f"writer.buffer.snapshot_flush_interval={seconds}s")
    assert plan["output"]["kinds"][0]["windows_per_day"] == len(ends)


def test_it_reckons_with_the_constants_of_the_services():
    assert check_config_output.FLUSH_SHARE == FLUSH_SHARE
    assert check_config_output.HELD_OVERHEAD_BYTES == RECORD_OVERHEAD_BYTES
    assert check_config_sizes.LINGER_SECONDS == LINGER_SECONDS


def test_windows_that_do_not_fit_the_buffer_are_flushed_by_bytes_and_said():
    _, plan = planned(f"{DELTA}.symbols={names(60)}")
    roomy = {kind["kind"]: kind for kind in plan["output"]["kinds"]}
    filled = plan["output"]["buffered_bytes"]
    assert (plan["notes"], plan["output"]["s3writers_for_windows"]) == ([], 1)
    _, plan = planned(f"{DELTA}.symbols={names(60)}", f"writer.buffer.max_bytes={round(filled / 3.1 / 0.75)}")
    tight = {kind["kind"]: kind for kind in plan["output"]["kinds"]}
    assert plan["output"]["s3writers_for_windows"] == 4
    assert tight["fobs"] == roomy["fobs"]  # its small buffers keep their room
    assert tight["fobd"]["flushed_by"] == "bytes"
    assert tight["fobd"]["files_per_day"] == pytest.approx(roomy["fobd"]["files_per_day"] * 3.1, rel=0.1)
    (note,) = plan["notes"]
    assert note.startswith("fobd: all windows fill ")
    assert "it flushes by bytes, up to 3." in note
    assert (
        planned(f"{DELTA}.symbols={names(60)}", f"writer.buffer.max_bytes={round(filled / 0.75) + 1}")[1]["notes"] == []
    )


def test_windows_of_too_many_rows_are_flushed_by_rows_and_said():
    _, plan = planned(ONLY_POLLS, f"{POLLED}.symbols=A,B", "writer.buffer.max_rows=20000")
    (kind,) = plan["output"]["kinds"]
    assert (kind["flushes_per_window"], kind["flushed_by"]) == (3, "rows")  # 30 polls of 2,000 rows
    assert kind["files_per_day"] == 3 * 576
    (note,) = plan["notes"]
    assert note == (
        "fobs: a partition's window has more rows than writer.buffer.max_rows 20,000: it is flushed up to 3.0 times a "
        "window, with as many times the files"
    )


def test_dollars_are_those_of_requests_and_of_what_is_kept():
    _, plan = planned()
    output = plan["output"]
    assert output["put_dollars_per_month"] == 0.35  # 2,304 x 30 = 69,120 requests at $0.005 per 1,000
    kept = output["storage_dollars_per_month_kept"]
    assert kept == pytest.approx(output["stored_bytes_per_month"] / 1e12 * 23, abs=0.01)  # $23 per TB
    assert output["dollars_first_month"] == pytest.approx(0.35 + kept, abs=0.01)
    assert output["dollars_twelfth_month"] == pytest.approx(0.35 + 12 * kept, abs=0.1)


def test_memory_is_near_what_was_measured():
    """`python -m bench.window` with 256 MiB, `bench.backlog` with 8; `bench.line`, `bench.reader`."""
    _, plan = planned()
    assert plan["memory"]["writer_bytes"] / MIB == pytest.approx(538, rel=0.05)
    assert planned("writer.buffer.max_bytes=8388608")[1]["memory"]["writer_bytes"] / MIB == pytest.approx(250, rel=0.1)
    assert 217 < plan["memory"]["flattener_bytes"] / MIB < 301, "of books, of small updates"
    assert plan["memory"]["reader_bytes"] / MIB == pytest.approx(160 + 128, rel=0.05)


def test_a_reader_s_memory_grows_with_its_addresses_and_connections(bare_folder):  # noqa: F811
    (bare_folder / "shards.yml").write_text(
        "shards:\n"
        "  - {ip: 192.0.2.1, binance_future_symbols: [BTCUSDT]}\n"
        "  - {ip: 192.0.2.2, binance_future_symbols: [ETHUSDT]}\n"
    )
    both = planned("reader.ip_shards_file=shards.yml")[1]["memory"]["reader_bytes"]
    one = planned("reader.ip_shards_file=shards.yml", "reader.shard_ip=192.0.2.1")[1]["memory"]["reader_bytes"]
    assert both - one == pytest.approx(20 * 41_286 + 2 * MIB, rel=0.01)


def test_what_kafka_deletes_before_it_is_stored_is_refused_with_the_numbers():
    hour = "channels.norm_fobs.retention_hours=1"
    assert planned(hour, "writer.buffer.snapshot_flush_interval=30m")[0].exit_code == 0
    result, _ = planned(hour, "writer.buffer.snapshot_flush_interval=45m")
    (line,) = result.stderr.splitlines()
    assert line == (
        "plan: channels.norm_fobs.retention_hours is 1, two windows of writer.buffer.snapshot_flush_interval are 1.5 h: "
        "Kafka deletes what is not stored yet: keep it for 2 hours at least, better for longer than any outage"
    )
    assert result.exit_code == 2
    assert planned(hour, "writer.buffer.snapshot_flush_interval=45m", f"{POLLED}.enabled=false")[0].exit_code == 0


def test_every_problem_is_told_at_once():
    result, _ = planned(
        *(f"channels.norm_{kind}.retention_hours=1" for kind in ("fobs", "fobd")),
        *(f"writer.buffer.{kind}_flush_interval=1h" for kind in ("snapshot", "delta")),
        f"{POLLED}.interval_ms=1000",
        "reader.streams_per_connection=2000",
    )
    assert len(result.stderr.splitlines()) == 4
    assert result.exit_code == 2


def test_polls_that_need_quick_answers_are_said():
    dense = (ONLY_POLLS, f"{POLLED}.limit=50", f"{POLLED}.symbols={names(10)}", f"{POLLED}.interval_ms=1000")
    assert planned(*dense)[1]["notes"] == []
    _, plan = planned(*dense, "reader.max_connections=2")
    (note,) = plan["notes"]
    assert note == (
        "default route: 600 polls a minute over reader.max_connections 2: if answers take longer than 0.2 s on average, "
        "polls are late"
    )


def test_another_compression_than_the_measured_one_is_said():
    _, plan = planned("kafka.compression=lz4")
    assert plan["notes"] == ["kafka.compression is lz4: sizes are those of zstd, it needs more"]


def test_that_the_archive_is_not_counted_is_said():
    (note,) = planned("storage.s3.archive_raw=true")[1]["notes"]
    assert "the raw archive is in none of these figures" in note


def test_of_patterns_the_flow_is_the_least():
    text = run("check-config", "--set", f"{DELTA}.symbols=*USDT,BTCUSDT").stdout
    (line,) = [line for line in text.splitlines() if line.startswith("messages")]
    assert line.split() == ["messages", "0.20", "at", "least", "10"]
    assert "at least $" in text


@pytest.mark.parametrize(
    ("number", "text"),
    [(0, "0"), (0.1, "0.10"), (0.0123, "0.012"), (9.96, "10"), (1999, "2,000"), (123_456, "120,000")],
)
def test_two_digits_are_shown(number, text):
    assert rough(number) == text


@pytest.mark.parametrize(
    ("number", "text"),
    [(0, "0 B"), (12, "12 B"), (996, "1.0 kB"), (8_344, "8.3 kB"), (2.5e12, "2.5 TB"), (5e18, "5,000 PB")],
)
def test_bytes_are_shown_in_powers_of_a_thousand(number, text):
    assert bytes_in_words(number) == text
