"""The reader on the host's network: every shard address of this host, or one; Kafka, the store and Prometheus reach it."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from shared.health_check import ask
from tests.compose import Stack, running_stack
from tests.support import eventually_sync, free_port, unavailable

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [pytest.mark.docker, pytest.mark.xdist_group("compose"), pytest.mark.timeout(900)]

BRIDGE = "172.17.0.1"
SHARDS = {"127.0.0.2": "BTCUSDT", "127.0.0.3": "ETHUSDT"}  # any 127.… is an address of this host
FOREIGN = "192.0.2.10"


@pytest.fixture(scope="module")
def exchange_port() -> int:
    return free_port()


@pytest.fixture(scope="module")
def reader_port() -> int:
    return free_port()


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory, exchange_port: int, reader_port: int) -> Iterator[Stack]:
    """The suite with the reader on the host's network, and an exchange that can be reached from there."""
    bound = [address.address for found in psutil.net_if_addrs().values() for address in found]
    if BRIDGE not in bound:
        unavailable(f"Docker's bridge at {BRIDGE}")
    folder = tmp_path_factory.mktemp("host")
    lines = [f"  - {{ip: {ip}, binance_future_symbols: [{symbol}]}}" for ip, symbol in SHARDS.items()]
    shards = folder / "ip_shards.yml"
    shards.write_text("\n".join(["shards:", *lines, f"  - {{ip: {FOREIGN}, binance_spot_symbols: [BTCUSDT]}}", ""]))
    targets = folder / "targets"
    targets.mkdir()
    (targets / "reader.yml").write_text(f'- targets: ["host.docker.internal:{reader_port}"]\n')
    with running_stack(
        folder,
        "host",
        ("deploy/compose.ci.yml", "deploy/compose.host-network.yml"),
        lambda _: _exchange(exchange_port),
        KAFKA_PORT=str(free_port()),
        READER_METRICS_PORT=str(reader_port),
        IP_SHARDS_FILE=str(shards),
        PROMETHEUS_TARGETS=str(targets),
    ) as running:
        yield running


def _exchange(port: int) -> dict[str, Any]:
    build = {"context": ".", "dockerfile": "deploy/Dockerfile", "target": "simulator"}
    made = {"build": build, "image": "cryptoflow/simulator:${IMAGE_TAG}"}
    market = "CRYPTOFLOW_SOURCE__BINANCE__FUTURE"
    urls = {
        f"{market}__REST_URL": f"http://127.0.0.1:{port}",
        f"{market}__STREAM_URL": f"ws://127.0.0.1:{port}/ws-future/public",
    }
    return {
        "services": {
            "simulator": made | {"networks": ["published"], "ports": [f"127.0.0.1:{port}:8000"]},
            "reader": {"environment": urls, "depends_on": {"simulator": {"condition": "service_healthy"}}},
        }
    }


def sources(exchange_port: int) -> set[str]:
    """From which addresses of this host there are connections to the exchange."""
    return {
        found.laddr.ip
        for found in psutil.net_connections("tcp")
        if found.raddr and found.raddr.port == exchange_port and found.status == psutil.CONN_ESTABLISHED
    }


def test_the_reader_binds_every_shard_address_of_this_host_and_prometheus_finds_it(
    stack: Stack, exchange_port: int, reader_port: int
) -> None:
    eventually_sync(lambda: sources(exchange_port) == {*SHARDS}, what="connections from both addresses")
    target = {"instance": f"host.docker.internal:{reader_port}", "job": "reader"}

    def scraped() -> bool:
        return any(each["labels"] == target and each["health"] == "up" for each in stack.prometheus.targets())

    eventually_sync(scraped, 60, "Prometheus reads the reader")
    eventually_sync(
        lambda: stack.prometheus.value('sum(cryptoflow_produced_records_total{job="reader"})'), what="Kafka has records"
    )
    assert any("/instruments/" in path for path in stack.store().find(f"{stack.bucket}/lake/"))


def test_the_reader_listens_on_the_bridge_alone_and_its_health_check_finds_it(stack: Stack, reader_port: int) -> None:
    assert ask(f"http://{BRIDGE}:{reader_port}/readyz") is None
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", reader_port)) != 0
    (reader,) = stack.containers("reader")
    assert reader["State"]["Health"]["Status"] == "healthy"
    assert reader["HostConfig"]["NetworkMode"] == "host"


def test_shard_ip_narrows_it_to_one(stack: Stack, exchange_port: int, tmp_path: Path) -> None:
    chosen = [*SHARDS][1]
    text = stack.env_file.read_text().replace("# SHARD_IP=203.0.113.10", f"SHARD_IP={chosen}")
    stack.env_file.write_text(text)
    stack.up("--no-deps", "reader")
    eventually_sync(lambda: sources(exchange_port) == {chosen}, what="connections from that address alone")
