"""The demo's broker: the one that is named, else the embedded one, else a Kafka in Docker; never a silent choice.

The embedded broker (noida-db) is memory-resident: good for a demo and for quick tests, never for data that matters. It has
no wheel for some machines (Linux on ARM among them); there the demo starts the public Kafka image, if Docker is there.
"""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from cryptoflow.demo_processes import Child, Children, DemoFailed

if TYPE_CHECKING:
    from collections.abc import Mapping

KAFKA_IMAGE = "apache/kafka:4.3.1"
EMBEDDED_START_SECONDS = 20.0
DOCKER_START_SECONDS = 180.0  # the image may have to be pulled
DOCKER_ATTEMPTS = 3

NEITHER = f"""There is no broker to run the demo with: noida-db has no wheel for this machine, and Docker does not answer.
Either start Docker (the demo then runs {KAFKA_IMAGE}), or name a Kafka you have:
    make demo ARGS="--bootstrap-servers host:9092"
It gets topics of its own, named after the run."""


@dataclass(frozen=True, slots=True)
class Broker:
    """Where it is, what it is in words, and whether it is the demo's own (else the demo leaves its topics apart)."""

    bootstrap_servers: str
    words: str
    own: bool
    child: Child | None = None
    container: str | None = None

    def close(self) -> None:
        """Removes the container, if there is one; killing the client alone would leave it running."""
        if self.container is not None:
            _docker("rm", "--force", self.container)


def start(choice: str, named: str | None, children: Children, folder: Path, environment: Mapping[str, str]) -> Broker:
    """The broker. `choice` is auto, embedded or docker; `named` goes before all. Raises `DemoFailed` in words."""
    if named is not None:
        return Broker(named, f"the Kafka at {named}", own=False)
    if choice in {"auto", "embedded"} and (program := embedded_program()) is not None:
        return _start_embedded(program, children, folder, environment)
    if choice in {"auto", "docker"} and docker_answers():
        return _start_docker(children, folder, environment)
    raise DemoFailed(NEITHER)


def docker_answers() -> bool:
    """Whether there is a Docker engine to talk to."""
    return shutil.which("docker") is not None and _docker("version", "--format", "{{.Server.Version}}") == 0


def _docker(*arguments: str) -> int:
    return subprocess.run(  # noqa: S603 - our own arguments
        ["docker", *arguments],  # noqa: S607 - wherever the user has it
        check=False,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ).returncode


def embedded_program() -> Path | None:
    """The broker itself rather than the script around it, which would stand between it and our signals."""
    package = find_spec("noida_db")
    if package is None or package.origin is None:
        return None
    program = Path(package.origin).with_name("noida-db.exe" if os.name == "nt" else "noida-db")
    if not program.is_file():
        return None
    if not os.access(program, os.X_OK):
        program.chmod(0o755)  # a wheel does not keep the bit
    return program


def _start_embedded(program: Path, children: Children, folder: Path, environment: Mapping[str, str]) -> Broker:
    command = [str(program), "start", "--only", "kafka", "--kafka-port", "0", "--data-dir", str(folder / "broker")]
    child = children.start("broker", command, environment, folder)
    address = children.wait("the embedded broker", lambda: _announced(child), EMBEDDED_START_SECONDS)
    return Broker(address, f"the embedded broker (noida-db, in memory) at {address}", own=True, child=child)


def _announced(child: Child) -> str | None:
    found = re.search(r"^\s*kafka\s+(\S+:[1-9]\d*)\s*$", child.log(), re.MULTILINE)
    return found[1] if found else None


def _start_docker(children: Children, folder: Path, environment: Mapping[str, str]) -> Broker:
    for attempt in range(1, DOCKER_ATTEMPTS + 1):
        port = _free_port()
        name = f"cryptoflow-demo-{os.getpid()}-{attempt}"
        child = children.start("broker", _docker_command(name, port), environment, folder)
        address = f"127.0.0.1:{port}"
        broker = Broker(address, f"{KAFKA_IMAGE} in Docker at {address}", own=True, child=child, container=name)
        try:
            children.wait("Kafka in Docker", partial(_kafka_started, child), DOCKER_START_SECONDS)
        except DemoFailed as error:
            broker.close()
            # A published port must be chosen beforehand: somebody else may have been quicker.
            if "port is already allocated" not in error.log and "address already in use" not in error.log:
                raise
            children.forget(child)
        except BaseException:
            broker.close()
            raise
        else:
            return broker
    raise DemoFailed("No free port for Kafka in Docker was found")


def _kafka_started(child: Child) -> bool:
    return "Kafka Server started" in child.log()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _docker_command(name: str, port: int) -> list[str]:
    # The container ends when its standard input does, that is with the demo, even if that is killed.
    script = "exec 3<&0; (cat <&3 >/dev/null; kill $$) & exec /etc/kafka/docker/run"
    settings = {
        "KAFKA_NODE_ID": "1",
        "KAFKA_PROCESS_ROLES": "broker,controller",
        "KAFKA_CONTROLLER_QUORUM_VOTERS": "1@localhost:9093",
        "KAFKA_CONTROLLER_LISTENER_NAMES": "CONTROLLER",
        "KAFKA_LISTENERS": "PLAINTEXT://:9092,CONTROLLER://localhost:9093",
        "KAFKA_ADVERTISED_LISTENERS": f"PLAINTEXT://127.0.0.1:{port}",
        "KAFKA_LISTENER_SECURITY_PROTOCOL_MAP": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "KAFKA_OFFSETS_TOPIC_REPLICATION_FACTOR": "1",
        "KAFKA_TRANSACTION_STATE_LOG_REPLICATION_FACTOR": "1",
        "KAFKA_TRANSACTION_STATE_LOG_MIN_ISR": "1",
        "KAFKA_GROUP_INITIAL_REBALANCE_DELAY_MS": "0",
        "KAFKA_AUTO_CREATE_TOPICS_ENABLE": "false",
    }
    variables = [part for key, value in settings.items() for part in ("--env", f"{key}={value}")]
    return [
        "docker",
        "run",
        "--rm",
        "--interactive",
        "--name",
        name,
        "--publish",
        f"127.0.0.1:{port}:9092",
        *variables,
        "--entrypoint",
        "sh",
        KAFKA_IMAGE,
        "-c",
        script,
    ]
