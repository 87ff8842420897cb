"""The reader as a process: exchange → Kafka verbatim, source addresses, outages at start, an orderly end."""

from __future__ import annotations

import hashlib
import json
import urllib.error
import urllib.request
from collections import Counter, defaultdict

import pytest
import yaml
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from shared.messages import Gap, RawHeaders
from tests.line import make_line, source
from tests.support import eventually, eventually_sync, free_port

SYMBOLS = {"future": ["BTCUSDT", "ETHUSDT"], "inverse": ["BTCUSD_PERP"], "spot": ["BTCUSDT"]}


@pytest.fixture
def line_of(services, make_config, tmp_path, embedded_kafka):
    def make(
        url: str,
        symbols=SYMBOLS,
        *,
        bootstrap_servers: str = embedded_kafka.bootstrap_servers,
        compression: str = "zstd",
        **sections,
    ):
        kafka = {"bootstrap_servers": bootstrap_servers, "compression": compression}
        chosen = source(url, symbols, interval_ms=500, limit=20)
        return make_line(services, make_config, tmp_path, kafka=kafka, source=chosen, **sections)

    return make


def told(records: list[tuple[RawHeaders, bytes]]) -> list[Gap]:
    """The gaps but those of polls that a busy machine made late."""
    gaps = [Gap.decode(value) for head, value in records if head.type == "gap"]
    return [gap for gap in gaps if gap.cause != "poll"]


def truth(simulator) -> list[dict]:
    with urllib.request.urlopen(f"{simulator.control}/truth", timeout=10) as answer:
        return json.load(answer)["entries"]


def not_ready(service) -> dict[str, str]:
    try:
        with urllib.request.urlopen(f"{service.url}/readyz", timeout=5):
            return {}
    except urllib.error.HTTPError as error:
        with error:
            return json.load(error)["not_ready"]


async def test_every_book_the_exchange_served_is_in_kafka_verbatim_once_between_start_and_stop(
    line_of, simulator
) -> None:
    line = line_of(simulator.url)
    await line.create_topics()
    reader = line.start("reader")
    await eventually(lambda: reader.metric("cryptoflow_polls_total", reason="ok") >= 20)
    assert reader.terminate() == 0
    served = Counter((entry["market"], entry["symbol"], entry["sha256"]) for entry in truth(simulator) if entry["book"])
    published: Counter = Counter()
    by_book = defaultdict(list)
    for record in await line.raw_records():
        headers = RawHeaders.decode(record.headers)
        by_book[record.key].append((headers, record))
        assert record.key == headers.book.key
        assert abs(record.timestamp_ms - headers.recv_ns // 1_000_000) < 60_000
        if headers.type == "snapshot":
            published[headers.market, headers.symbol, hashlib.sha256(record.value).hexdigest()] += 1
    assert published == served
    assert len(by_book) == 4
    for records in by_book.values():
        headers = [head for head, _ in records]
        assert [head.seq for head in headers] == list(range(len(headers)))
        assert len({head.conn for head in headers}) == 1
        gaps = told([(head, record.value) for head, record in records])
        assert [gap.cause for gap in gaps] == ["start", "stop"]
        assert headers[0].type == headers[-1].type == "gap"
        assert gaps[1].since_ns == max(head.recv_ns for head in headers if head.type == "snapshot")
        assert all(head.limit == 20 for head in headers if head.type == "snapshot")


async def test_each_shard_polls_its_symbols_from_its_address_and_foreign_shards_are_left_out(
    line_of, simulator, tmp_path
) -> None:
    path = tmp_path / "ip_shards.yml"
    shards = [
        {"ip": "127.0.0.2", "binance_future_symbols": ["BTCUSDT"], "binance_spot_symbols": ["BTCUSDT"]},
        {"ip": "127.0.0.3", "binance_future_symbols": ["ETHUSDT"]},
        {"ip": "192.0.2.1", "binance_inverse_symbols": ["BTCUSD_PERP"]},
    ]
    path.write_text(yaml.safe_dump({"shards": shards}))
    line = line_of(simulator.url, reader={"ip_shards_file": str(path)})
    await line.create_topics()
    reader = line.start("reader")
    await eventually(lambda: reader.metric("cryptoflow_polls_total", reason="ok") >= 6)
    assert reader.terminate() == 0
    seen = {(entry["ip"], entry["market"], entry["symbol"]) for entry in truth(simulator) if entry["symbol"]}
    assert seen == {
        ("127.0.0.2", "future", "BTCUSDT"),
        ("127.0.0.2", "spot", "BTCUSDT"),
        ("127.0.0.3", "future", "ETHUSDT"),
    }
    headers = [RawHeaders.decode(record.headers) for record in await line.raw_records()]
    assert {(head.ip, head.market, head.symbol) for head in headers} == seen


def test_shard_ip_of_the_environment_narrows_the_reader_to_one_shard(line_of, services, simulator, tmp_path) -> None:
    path = tmp_path / "ip_shards.yml"
    path.write_text(yaml.safe_dump({"shards": [{"ip": "127.0.0.2", "binance_future_symbols": ["BTCUSDT"]}]}))
    line = line_of(simulator.url, {"future": ["BTCUSDT"]}, reader={"ip_shards_file": str(path)})
    reader = services.start("reader", line.config, environ={"SHARD_IP": "127.0.0.9"}, ready=False)
    assert reader.wait() == 2
    assert "127.0.0.9 is none of 127.0.0.2" in reader.tail()


async def test_an_exchange_that_is_away_at_start_is_said_once_and_found_when_it_comes(line_of, services) -> None:
    port = free_port()
    line = line_of(f"http://127.0.0.1:{port}", {"future": ["BTCUSDT"]})
    await line.create_topics()
    reader = line.start("reader", ready=False)
    reader.wait_logged("exchange unavailable")
    await eventually(lambda: reader.metric("cryptoflow_polls_total", reason="refused") >= 4)
    assert "refused" in not_ready(reader)["binance future from the default route"]
    services.simulate("--port", str(port))
    reader.wait_ready()
    assert len(reader.logged("exchange unavailable")) == len(reader.logged("exchange recovered")) == 1
    assert reader.terminate() == 0
    values = [(RawHeaders.decode(record.headers).type, record.value) for record in await line.raw_records()]
    causes = [Gap.decode(value).cause for type_, value in values if type_ == "gap"]
    assert (causes[0], set(causes[1:-1]), causes[-1]) == ("start", {"poll"}, "stop")
    assert [type_ for type_, _ in values[:3]] == ["gap", "gap", "snapshot"]


def test_a_reader_that_waits_for_kafka_says_so_once_and_ends_at_once_when_told(line_of, simulator) -> None:
    line = line_of(simulator.url, bootstrap_servers=f"127.0.0.1:{free_port()}")
    reader = line.start("reader", ready=False)
    reader.wait_logged("kafka unavailable")
    eventually_sync(lambda: "kafka" in not_ready(reader))
    assert reader.terminate() == 0
    assert len(reader.logged("kafka unavailable")) == 1


async def test_topics_that_differ_from_the_settings_are_refused_in_words(line_of, make_config, simulator) -> None:
    line = line_of(simulator.url)
    await line.create_topics()
    wrong = {name: {**topic, "partitions": 3} for name, topic in line.config["channels"].items()}
    reader = line.processes.start("reader", {**line.config, "channels": wrong}, ready=False)
    assert reader.wait() == 1
    assert "partitions" in reader.tail()
    assert "Traceback" not in reader.tail()


async def limit_messages(kafka, topic: str, most_bytes: int) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka.bootstrap_servers)
    await admin.start()
    try:
        resource = ConfigResource(ConfigResourceType.TOPIC, topic, {"max.message.bytes": str(most_bytes)})
        await admin.alter_configs([resource])
    finally:
        await admin.close()


@pytest.mark.docker
async def test_a_producer_that_fails_costs_a_produce_gap_first_in_the_next_conn_and_nothing_is_sent_twice(
    line_of, simulator, kafka
) -> None:
    line = line_of(
        simulator.url,
        {"future": ["BTCUSDT", "ETHUSDT"]},
        bootstrap_servers=kafka.bootstrap_servers,
        compression="lz4",  # so that the limit below lies between the size of a batch of gaps and that of a book
    )
    await line.create_topics()
    reader = line.start("reader")
    await eventually(lambda: reader.metric("cryptoflow_polls_total", reason="ok") >= 4)
    topic = line.config["channels"]["raw_fobs"]["topic"]
    await limit_messages(kafka, topic, 600)  # gaps pass, books do not: every send of one is refused for good
    await eventually(lambda: reader.metric("cryptoflow_producer_failures_total") >= 2, timeout=60)
    await limit_messages(kafka, topic, 16 * 1024 * 1024)
    seen = reader.metric("cryptoflow_produced_records_total")
    await eventually(lambda: reader.metric("cryptoflow_produced_records_total") >= seen + 10, timeout=60)
    assert reader.terminate() == 0
    records = [(RawHeaders.decode(record.headers), record.value) for record in await line.raw_records()]
    conns = list(dict.fromkeys(head.conn for head, _ in records))
    assert len(conns) >= 2
    for key in {head.book.key for head, _ in records}:
        for conn in conns[1:]:
            mine = [(head, value) for head, value in records if head.conn == conn and head.book.key == key]
            assert [head.seq for head, _ in mine] == list(range(len(mine)))
    produce = [Gap.decode(value) for head, value in records if head.type == "gap" and b'"produce"' in value]
    assert produce
    assert all(gap.since_ns for gap in produce)
    digests = [hashlib.sha256(value).hexdigest() for head, value in records if head.type == "snapshot"]
    served = [entry["sha256"] for entry in truth(simulator) if entry["book"]]
    assert len(digests) == len(set(digests)), "nothing was sent twice"
    assert set(digests) < set(served), "some were lost, and told"
    lost = reader.logged("records unacknowledged")
    assert lost


@pytest.mark.docker
async def test_a_broker_that_hangs_for_longer_than_a_request_costs_nothing(line_of, simulator, kafka) -> None:
    """What is sent waits in the producer and in the queue, and arrives once, in order."""
    line = line_of(simulator.url, {"future": ["BTCUSDT"]}, bootstrap_servers=kafka.bootstrap_servers)
    await line.create_topics()
    reader = line.start("reader")
    await eventually(lambda: reader.metric("cryptoflow_polls_total", reason="ok") >= 4)
    kafka.pause()
    beyond = line.config["kafka"]["request_timeout_ms"] / 500 + 4  # polls in a request's time, and some
    seen = reader.metric("cryptoflow_polls_total", reason="ok")
    await eventually(lambda: reader.metric("cryptoflow_polls_total", reason="ok") >= seen + beyond, timeout=60)
    kafka.resume()
    assert reader.terminate() == 0
    records = [(RawHeaders.decode(record.headers), record.value) for record in await line.raw_records()]
    digests = Counter(hashlib.sha256(value).hexdigest() for head, value in records if head.type == "snapshot")
    assert digests == Counter(entry["sha256"] for entry in truth(simulator) if entry["book"])
    assert [gap.cause for gap in told(records)] == ["start", "stop"]
    assert [head.recv_ns for head, _ in records] == sorted(head.recv_ns for head, _ in records)
