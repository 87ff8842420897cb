"""Real servers in containers: Apache Kafka and an S3 store, one of each per test worker, images pinned by tag.

A container keeps its port and its data through kill, stop and start. What a run leaves behind when it is killed itself
is removed by the next one.
"""

from __future__ import annotations

import os
import socket
import urllib.error
import urllib.request
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING

import docker
import psutil
from docker.errors import APIError, DockerException
from testcontainers.core.container import DockerContainer

from tests.support import eventually_sync, free_port, unavailable

if TYPE_CHECKING:
    from collections.abc import Iterator

KAFKA_IMAGE = "apache/kafka:4.3.1"
STORE_IMAGE = "chrislusf/seaweedfs:4.47"
OWNER_LABEL = "cryptoflow.tests.pid"
START_SECONDS = 120.0
ALREADY_REMOVED = (404, 409)  # by another test process, or it is about to


class Server:
    """A server in a container that can be made to suffer. Every way back waits until it answers again."""

    def __init__(self, container: DockerContainer) -> None:
        self._container = container.get_wrapped_container()

    def answers(self) -> bool:
        """Whether it serves, and not only listens: a published port accepts connections before anything is there."""
        raise NotImplementedError

    def wait(self) -> None:
        eventually_sync(self.answers, START_SECONDS, f"{type(self).__name__} answers")

    def pause(self) -> None:
        """Freezes it: connections stay open, nothing answers."""
        self._container.pause()

    def resume(self) -> None:
        self._container.unpause()

    def kill(self) -> None:
        """SIGKILL."""
        self._container.kill()
        self._container.wait()

    def stop(self) -> None:
        """SIGTERM, and waits for its end."""
        self._container.stop(timeout=60)

    def start(self) -> None:
        """After `kill` or `stop`: the same port, the same data."""
        self._container.start()
        self.wait()

    def restart(self) -> None:
        """Killed and started."""
        self.kill()
        self.start()

    def recover(self) -> None:
        """Whatever a test did to it, it runs afterwards."""
        self._container.reload()
        if self._container.status == "paused":
            self.resume()
        elif self._container.status != "running":
            self.start()

    def logs(self) -> str:
        return bytes(self._container.logs(tail=50)).decode(errors="replace")


class Kafka(Server):
    """Apache Kafka: one node, topics only when asked for, groups that rebalance quickly."""

    def __init__(self, container: DockerContainer, port: int) -> None:
        super().__init__(container)
        self.port = port
        self.bootstrap_servers = f"127.0.0.1:{port}"

    def answers(self) -> bool:
        return broker_answers(self.port)


class S3(Server):
    """SeaweedFS."""

    access_key = "cryptoflow"
    secret_key = "cryptoflow-secret"
    region = "us-east-1"
    bucket = "lake"

    def __init__(self, container: DockerContainer, port: int) -> None:
        super().__init__(container)
        self.endpoint_url = f"http://127.0.0.1:{port}"

    def answers(self) -> bool:
        """The bucket appears after /healthz says 200; unsigned, it answers 403 once it is there and 404 before."""
        return _status(f"{self.endpoint_url}/healthz") == 200 and _status(f"{self.endpoint_url}/{self.bucket}") == 403

    @property
    def environ(self) -> dict[str, str]:
        """What a process needs to reach it."""
        return {
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_REGION": self.region,
            "S3_BUCKET": self.bucket,
            "S3_ENDPOINT_URL": self.endpoint_url,
        }


# Length, key 18 (ApiVersions), version 0, correlation id 1, no client id: any broker answers it.
API_VERSIONS_REQUEST = bytes.fromhex("0000000a 0012 0000 00000001 ffff")


def broker_answers(port: int) -> bool:
    """Whether a Kafka broker serves there."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=2) as connection:
            connection.sendall(API_VERSIONS_REQUEST)
            return bool(connection.recv(4))
    except OSError:
        return False


def _status(url: str) -> int:
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code
    except OSError:
        return 0


@contextmanager
def kafka() -> Iterator[Kafka]:
    """A Kafka of its own for the block. Skips where Docker is missing."""
    require_engine()
    port = free_port()
    container = DockerContainer(KAFKA_IMAGE).with_bind_ports(port, port).with_envs(**kafka_environ(port))
    with running(container):
        server = Kafka(container, port)
        server.wait()
        yield server


@contextmanager
def s3() -> Iterator[S3]:
    """An S3 store of its own for the block. Skips where Docker is missing."""
    require_engine()
    port = free_port()
    container = (
        DockerContainer(STORE_IMAGE)
        .with_bind_ports(8333, port)
        .with_command("mini -dir=/data -webdav=false -admin.ui=false -master.telemetry=false")
        .with_envs(AWS_ACCESS_KEY_ID=S3.access_key, AWS_SECRET_ACCESS_KEY=S3.secret_key, S3_BUCKET=S3.bucket)
    )
    with running(container):
        server = S3(container, port)
        server.wait()
        yield server


def kafka_environ(port: int) -> dict[str, str]:
    """The full configuration of a broker of one node."""
    # The advertised port has to be known before the start; with any KAFKA_ variable the full set is needed.
    return {
        "KAFKA_NODE_ID": "1",
        "KAFKA_PROCESS_ROLES": "broker,controller",
        "KAFKA_CONTROLLER_QUORUM_VOTERS": "1@localhost:29093",
        "KAFKA_CONTROLLER_LISTENER_NAMES": "CONTROLLER",
        "KAFKA_LISTENERS": f"PLAINTEXT://0.0.0.0:{port},CONTROLLER://localhost:29093",
        "KAFKA_ADVERTISED_LISTENERS": f"PLAINTEXT://127.0.0.1:{port}",
        "KAFKA_LISTENER_SECURITY_PROTOCOL_MAP": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "KAFKA_OFFSETS_TOPIC_REPLICATION_FACTOR": "1",
        "KAFKA_OFFSETS_TOPIC_NUM_PARTITIONS": "1",
        "KAFKA_TRANSACTION_STATE_LOG_REPLICATION_FACTOR": "1",
        "KAFKA_TRANSACTION_STATE_LOG_MIN_ISR": "1",
        "KAFKA_GROUP_INITIAL_REBALANCE_DELAY_MS": "0",
        "KAFKA_GROUP_MIN_SESSION_TIMEOUT_MS": "1000",
        "KAFKA_AUTO_CREATE_TOPICS_ENABLE": "false",
        "KAFKA_BROKER_SESSION_TIMEOUT_MS": "3000",  # a killed broker serves again after this, not after 9 s
        "KAFKA_BROKER_HEARTBEAT_INTERVAL_MS": "500",
        "KAFKA_HEAP_OPTS": "-Xms256m -Xmx512m",
    }


@contextmanager
def running(container: DockerContainer) -> Iterator[None]:
    """Runs a container for the block, marked as this process's."""
    container.with_kwargs(labels={OWNER_LABEL: str(os.getpid())})
    client = container.get_docker_client().client
    try:
        container.start()
        yield
    finally:
        try:
            container.stop()
        finally:
            client.close()


def require_engine() -> None:
    """Skips where there is no Docker; removes the containers of test processes that are gone."""
    try:
        client = docker.from_env()
    except DockerException:
        client = None
    if client is None:
        unavailable("a Docker engine (for real Kafka and a real S3 store)")
        return
    with closing(client):
        for container in client.containers.list(all=True, ignore_removed=True, filters={"label": OWNER_LABEL}):
            if not psutil.pid_exists(int(container.labels[OWNER_LABEL])):
                try:
                    container.remove(force=True, v=True)
                except APIError as error:
                    if error.status_code not in ALREADY_REMOVED:
                        raise
