"""The embedded broker (noida-db) as a process of its own, and what it cannot do that Apache Kafka can."""

from __future__ import annotations

import importlib.util
import signal
import subprocess
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from tests.containers import broker_answers
from tests.support import eventually_sync, free_port, unavailable

if TYPE_CHECKING:
    from collections.abc import Iterator


class EmbeddedKafka:
    """A running noida-db with nothing but its Kafka."""

    def __init__(self, process: subprocess.Popen[bytes], port: int) -> None:
        self.process = process
        self.port = port
        self.bootstrap_servers = f"127.0.0.1:{port}"

    def answers(self) -> bool:
        assert self.process.poll() is None, f"noida-db ended with {self.process.returncode}"
        return broker_answers(self.port)

    def pause(self) -> None:
        """SIGSTOP: connections stay open, nothing answers."""
        self.process.send_signal(signal.SIGSTOP)
        eventually_sync(lambda: psutil.Process(self.process.pid).status() == psutil.STATUS_STOPPED)

    def resume(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    def recover(self) -> None:
        """Whatever a test did to it, it runs afterwards."""
        self.resume()


@contextmanager
def embedded_kafka(folder: Path) -> Iterator[EmbeddedKafka]:
    """A broker of its own for the block; its data goes with `folder`. Skips where there is no wheel."""
    found = importlib.util.find_spec("noida_db")
    if found is None or found.origin is None:
        unavailable("the noida-db wheel (there is none for this platform)")
        raise AssertionError
    binary = Path(found.origin).with_name("noida-db")
    port = free_port()
    # Of its services only Kafka; a control port of its own choice on 127.0.0.1 cannot be switched off.
    command = [binary, "start", "--only", "kafka", "--kafka-port", str(port), "--data-dir", folder]
    with (folder / "noida-db.log").open("wb") as log:
        process = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log)
    try:
        server = EmbeddedKafka(process, port)
        eventually_sync(server.answers, what="the embedded broker answers")
        yield server
    finally:
        process.kill()  # SIGTERM would save all it holds, for seconds; nobody reads it again
        process.wait()
