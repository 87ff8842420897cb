"""Kafka's disk is full under load: the broker halts. What services do, that nothing is lost untold, and that they recover."""

from __future__ import annotations

import asyncio
import uuid
from contextlib import contextmanager
from typing import TYPE_CHECKING

import docker
import pytest
from testcontainers.core.container import DockerContainer

from tests.containers import KAFKA_IMAGE, Kafka, kafka_environ, require_engine, running
from tests.matrix import operator
from tests.matrix.cells import COMPLETE
from tests.matrix.cells_kafka import revived
from tests.matrix.judge import judged
from tests.matrix.runs import lane_of
from tests.matrix.world import World
from tests.support import eventually, free_port

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.containers import S3

pytestmark = [pytest.mark.docker, pytest.mark.timeout(300)]

DISK_BYTES = 200 * 1024 * 1024
HALT_SECONDS = 60.0
LOG_DIR = "/disk"


class SmallKafka(Kafka):
    """A broker whose logs lie on a small disk, which a file beside them can fill."""

    def __init__(self, container: DockerContainer, port: int, holder: DockerContainer) -> None:
        super().__init__(container, port)
        self._holder = holder.get_wrapped_container()

    def fill(self) -> None:
        """Not a byte is left."""
        code, said = self._holder.exec_run(["dd", "if=/dev/zero", f"of={LOG_DIR}/ballast", "bs=64k"])
        assert b"No space left" in said, (code, said)

    def make_room(self) -> None:
        code, said = self._holder.exec_run(["rm", f"{LOG_DIR}/ballast"])
        assert code == 0, said

    def halted(self) -> bool:
        self._container.reload()
        return bool(self._container.status == "exited")


@pytest.fixture
def small_kafka() -> Iterator[SmallKafka]:
    require_engine()
    port = free_port()
    with disk() as volume:
        # The disk is memory, and gone when nobody has it mounted: the holder has, while the broker is down.
        holder = DockerContainer(KAFKA_IMAGE).with_command("sleep infinity").with_volume_mapping(volume, LOG_DIR, "rw")
        broker = (
            DockerContainer(KAFKA_IMAGE)
            .with_bind_ports(port, port)
            .with_envs(**kafka_environ(port), KAFKA_LOG_DIRS=LOG_DIR)
            .with_volume_mapping(volume, LOG_DIR, "rw")
        )
        with running(holder), running(broker):
            server = SmallKafka(broker, port, holder)
            server.wait()
            yield server


@contextmanager
def disk() -> Iterator[str]:
    """A volume of `DISK_BYTES` for the block."""
    client = docker.from_env()
    options = {"type": "tmpfs", "device": "tmpfs", "o": f"size={DISK_BYTES},uid=1000,gid=1000"}
    try:
        volume = client.volumes.create(f"small-{uuid.uuid4().hex[:12]}", driver="local", driver_opts=options)
        try:
            yield volume.name
        finally:
            volume.remove()
    finally:
        client.close()


async def test_a_full_disk_halts_the_broker_and_costs_nothing_that_is_not_told(
    small_kafka: SmallKafka, s3: S3, tmp_path: Path
) -> None:
    with lane_of(small_kafka, s3) as on:
        world = World(1, tmp_path, kafka=on.kafka, s3=on.s3, proxy=on.proxy, bucket=on.bucket)
        try:
            await world.begin()
            services = await world.start_all()
            await world.load(20)
            await world.flushed()
            await asyncio.to_thread(small_kafka.fill)
            await eventually(lambda: asyncio.to_thread(small_kafka.halted), HALT_SECONDS, "the broker halts")
            await asyncio.to_thread(services["s3writer"].wait_logged, "kafka unavailable")
            await asyncio.to_thread(small_kafka.make_room)
            await asyncio.to_thread(small_kafka.start)
            await operator.serving(world)
            await revived(world)
            await world.load(20)
            await world.settle()
            await judged(world, COMPLETE)
        finally:
            world.processes.end()
