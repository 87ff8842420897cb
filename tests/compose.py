"""The suite of docker-compose.yml as a test runs it: a project, ports, credentials and volumes of its own, the demo's exchange.

The exchange keeps its truth in a folder of the test. What a run leaves behind when it is killed itself is removed by the
next one.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import time
import urllib.request
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import psutil
import s3fs

from tests.containers import require_engine
from tests.processes import clean_environ
from tests.prometheus import Prometheus
from tests.support import ROOT, eventually_sync, free_port, unavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

DEMO = ("deploy/compose.ci.yml", "deploy/compose.demo.yml")
PREFIX = "cryptoflow-test-"
SERVICES = ("reader", "flattener", "s3writer")
BUILD_SECONDS = 1200
COMMAND_SECONDS = 180
TRUTH = "/truth"


@dataclass(frozen=True)
class Stack:
    """A running suite. `compose` is ``docker compose`` with its files."""

    project: str
    env_file: Path
    truth: Path  # the exchange's, on this side: as in cryptoflow.demo_run.Run
    files: tuple[str, ...]
    prometheus_url: str
    s3_url: str
    access_key: str
    secret_key: str
    bucket: str

    def compose(self, *arguments: str, timeout: float = COMMAND_SECONDS) -> str:
        """What it prints; fails with all of it if the exit code is not 0."""
        done = self.run(*arguments, timeout=timeout)
        assert done.returncode == 0, f"docker compose {' '.join(arguments)}: {done.returncode}\n{_said(done)}"
        return done.stdout

    def run(self, *arguments: str, timeout: float = COMMAND_SECONDS) -> subprocess.CompletedProcess[str]:
        """`compose`, whatever comes of it."""
        files = [word for file in self.files for word in ("-f", file)]
        return compose("-p", self.project, "--env-file", str(self.env_file), *files, *arguments, timeout=timeout)

    def up(self, *arguments: str) -> float:
        """``up -d --wait``; gives the seconds it took."""
        began = time.monotonic()
        self.compose("up", "-d", "--wait", *arguments)
        return time.monotonic() - began

    def down(self, *arguments: str) -> None:
        self.compose("down", *arguments)

    def containers(self, *services: str) -> list[dict[str, Any]]:
        """What the engine knows of each container of these services (none: of all), ended ones included."""
        ids = self.compose("ps", "-a", "-q", *services).split()
        return list(json.loads(_docker("inspect", *ids))) if ids else []

    def networks(self, *names: str) -> list[dict[str, Any]]:
        """What the engine knows of each of the project's networks."""
        return list(json.loads(_docker("network", "inspect", *(f"{self.project}_{name}" for name in names))))

    def ask(self, service: str, path: str) -> str:
        """What the first replica of a service answers; nobody else can reach it."""
        code = f"import urllib.request as r; print(r.urlopen('http://127.0.0.1:9000{path}', timeout=5).read().decode())"
        return self.compose("exec", "-T", service, "python", "-c", code)

    @contextmanager
    def beside(self, service: str, start: str, environ: Mapping[str, str]) -> Iterator[None]:
        """One more container of a service, found by its name like the others, with `environ` on top of its settings.

        `start` is what its shell runs.
        """
        name = f"{self.project}-beside-{service}"
        values = [word for each in environ.items() for word in ("-e", "=".join(each))]
        options = ("--detach", "--no-deps", "--use-aliases", "--name", name, "--entrypoint", "sh", *values)
        self.compose("run", *options, service, "-c", start)
        try:
            yield
        finally:
            _docker("rm", "--force", name)

    def ready(self, service: str) -> bool:
        """Whether /readyz of the first replica of a service says yes."""
        check = ("python", "-m", "shared.health_check", "http://127.0.0.1:9000/readyz")
        return self.run("exec", "-T", service, *check).returncode == 0

    def tool(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """``cryptoflow …`` in a container, as the README says."""
        return self.run("run", "--rm", "-T", "cryptoflow", *arguments)

    @property
    def lake_url(self) -> str:
        return f"s3://{self.bucket}/lake"

    @property
    def prometheus(self) -> Prometheus:
        return Prometheus(self.prometheus_url)

    def store(self) -> s3fs.S3FileSystem:
        return s3fs.S3FileSystem(
            key=self.access_key,
            secret=self.secret_key,
            endpoint_url=self.s3_url,
            client_kwargs={"region_name": "us-east-1"},
            use_listings_cache=False,
            skip_instance_cache=True,
        )

    def files_of(self, kind: str) -> list[str]:
        """Paths of the Parquet files of a kind, in the bucket."""
        return [path for path in self.store().find(f"{self.bucket}/lake/{kind}/") if path.endswith(".parquet")]

    def copy_lake(self, folder: Path, *kinds: str) -> Path:
        """The files of these kinds, as they lie in the bucket."""
        store = self.store()
        for kind in kinds:
            for path in self.files_of(kind):
                target = folder / path.partition("/lake/")[2]
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(store.cat_file(path))
        return folder

    def report(self) -> list[tuple[str, str]]:
        """(title, text), for a test that failed."""
        logs = self.run("logs", "--no-color", "--tail", "15").stdout
        told = [("containers", self.run("ps", "-a").stdout), ("their latest words", logs)]
        beside = _docker("ps", "--all", "--format", "{{.Names}}", "--filter", f"name={self.project}-beside-").split()
        return [*told, *((name, _logs(name)) for name in beside)]


def compose(
    *arguments: str, timeout: float = COMMAND_SECONDS, environ: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """``docker compose …`` in the project's folder, without what this environment would set."""
    own = {name: value for name, value in clean_environ().items() if not name.startswith(("COMPOSE_", "GRAFANA_"))}
    return subprocess.run(
        ["docker", "compose", *arguments],
        cwd=ROOT,
        env=own | (environ or {}),
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


@contextmanager
def running_stack(
    folder: Path,
    name: str = "",
    overlays: tuple[str, ...] = DEMO,
    own: Callable[[Path], Mapping[str, Any]] | None = None,
    **values: str,
) -> Iterator[Stack]:
    """Builds the images, starts the suite, and removes it with its volumes. Skips where there is no Docker.

    `own` makes the last overlay, given the folder of the exchange's truth; `values` stand in the .env.
    """
    require_engine()
    if compose("version").returncode != 0:
        unavailable("docker compose")
    _remove_left_over()
    stack = _prepare(folder, f"{PREFIX}{os.getpid()}{name}", overlays, own or keep_truth, values)
    stack.compose("--profile", "tools", "build", "--quiet", timeout=BUILD_SECONDS)
    try:
        stack.up()
        eventually_sync(lambda: _answers(stack.prometheus_url + "/-/ready"), what="Prometheus answers")
        yield stack
    finally:
        stack.down("-v", "--remove-orphans", "--timeout", "5")
        _remove_images(stack.project)


def keep_truth(folder: Path) -> dict[str, Any]:
    """The exchange writes down what it served and sent."""
    names = [f"--truth={TRUTH}/truth.jsonl", f"--truth-bodies={TRUTH}/bodies", f"--truth-frames={TRUTH}/frames.jsonl"]
    return {"services": {"simulator": {"command": names, "volumes": [f"{folder}:{TRUTH}"]}}}


def make_env_file(path: Path, **values: str) -> Path:
    """.env.example, with these values in the place of its own, commented out or not."""
    text = (ROOT / ".env.example").read_text(encoding="utf-8")
    for name, value in (values | {"ENV_FILE": str(path)}).items():
        text, found = re.subn(rf"(?m)^(?:# )?{name}=.*$", f"{name}={value}", text)
        text += "" if found else f"{name}={value}\n"
    path.write_text(text, encoding="utf-8")
    return path


def _prepare(
    folder: Path,
    project: str,
    overlays: tuple[str, ...],
    own: Callable[[Path], Mapping[str, Any]],
    more: Mapping[str, str],
) -> Stack:
    truth = folder / "truth"
    truth.mkdir()
    truth.chmod(0o777)  # the exchange writes as a user of its own
    overlay = folder / "own.yml"
    overlay.write_text(json.dumps(own(truth)), encoding="utf-8")
    prometheus, s3 = free_port(), free_port()
    values = {
        # A tag of its own: whoever builds meanwhile does not change what runs here, nor is changed what they run.
        "IMAGE_TAG": project,
        "AWS_ACCESS_KEY_ID": project,
        "AWS_SECRET_ACCESS_KEY": f"secret-of-{project}",
        "GRAFANA_ADMIN_PASSWORD": f"password-of-{project}",
        "PROMETHEUS_PORT": str(prometheus),
        "S3_PORT": str(s3),
        "GRAFANA_PORT": str(free_port()),
        "DEMO_FLUSH_INTERVAL": "10s",
    }
    return Stack(
        project=project,
        env_file=make_env_file(folder / "test.env", **values, **more),
        truth=truth,
        files=("docker-compose.yml", *overlays, str(overlay)),
        prometheus_url=f"http://127.0.0.1:{prometheus}",
        s3_url=f"http://127.0.0.1:{s3}",
        access_key=values["AWS_ACCESS_KEY_ID"],
        secret_key=values["AWS_SECRET_ACCESS_KEY"],
        bucket="order-books",
    )


def _remove_left_over() -> None:
    for found in json.loads(compose("ls", "--all", "--format", "json").stdout or "[]"):
        ours = re.match(rf"{PREFIX}(\d+)", found["Name"])
        if ours and not psutil.pid_exists(int(ours[1])):
            compose("-p", found["Name"], "down", "-v", "--remove-orphans", "--timeout", "1")
            _remove_images(found["Name"])


def _remove_images(tag: str) -> None:
    found = _docker("images", "--filter", f"reference=cryptoflow/*:{tag}", "--format", "{{.Repository}}:{{.Tag}}")
    if found:
        _docker("rmi", *found.split())


def _answers(url: str) -> bool:
    with suppress(OSError), urllib.request.urlopen(url, timeout=2) as answer:
        return bool(answer.status == 200)
    return False


def _docker(*arguments: str) -> str:
    done = subprocess.run(["docker", *arguments], capture_output=True, text=True, timeout=60, check=True)
    return done.stdout


def _logs(name: str) -> str:
    command = ["docker", "logs", "--tail", "15", name]
    return subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60, check=False
    ).stdout


def _said(done: subprocess.CompletedProcess[str]) -> str:
    return (done.stdout + done.stderr)[-4000:]
