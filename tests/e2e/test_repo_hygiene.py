"""What no tool checks: the repository names no machine and no registry, locks are whole, boundaries of imports hold."""

import hashlib
import os
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LOCKS = sorted((ROOT / "requirements").glob("*.txt"))
CODE = ("cryptoflow", "services", "shared", "simulator")
LARGEST_FILE_BYTES = 500_000
APACHE_2_SHA256 = "cfc7749b96f63bd31c3c42b5c471bf756814053e847c10f3eb003417bc523d30"

# Written in parts, so that this file does not find itself.
MACHINE_PATHS = re.compile(
    r"(?<![\w.$}])/(?:" + "|".join(["wo" + "rk", "tm" + "p", "r" + "oot", "Us" + "ers", "home/[a-z]"]) + r")(?:/|\b)"
)
# What compose gives a container to write to.
CONTAINER_PATHS = re.compile(r"compose[\w.-]*\.yml:\d+: (?:tmpfs: \[\"|- )/tm" + r"p:size=")
REGISTRY_HOSTS = re.compile(
    "|".join(
        [
            "pypi" + r"\.org",
            "python" + r"hosted\.org",
            r"proxy\.golang" + r"\.org",
            "docker" + r"\.io",
            "arti" + "factory",
            r"index[-_]u" + "rl",
        ]
    )
)


def repository_files() -> list[Path]:
    """What is tracked or would be, as git sees it; everything, where this is no git checkout."""
    try:
        listed = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            cwd=ROOT,
            check=True,
            capture_output=True,
        ).stdout
    except (FileNotFoundError, subprocess.CalledProcessError):
        pytest.skip("this is no git checkout: which files belong to the project is not known")
    return [path for name in listed.decode().split("\0") if name and (path := ROOT / name).is_file()]


def lines_matching(pattern: re.Pattern[str]) -> list[str]:
    return [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()[:120]}"
        for path in repository_files()
        for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1)
        if pattern.search(line)
    ]


def test_no_file_names_a_path_of_a_machine():
    assert [line for line in lines_matching(MACHINE_PATHS) if not CONTAINER_PATHS.search(line)] == []


def test_no_file_names_a_registry_host():
    assert lines_matching(REGISTRY_HOSTS) == []


def test_no_file_is_large_and_text_files_are_tidy():
    untidy = []
    for path in repository_files():
        body = path.read_bytes()
        if len(body) > LARGEST_FILE_BYTES:
            untidy.append(f"{path.relative_to(ROOT)}: {len(body)} bytes")
        elif b"\0" not in body and body and (b"\r\n" in body or not body.endswith(b"\n")):
            untidy.append(f"{path.relative_to(ROOT)}: CRLF, or no newline at its end")
    assert untidy == []


@pytest.mark.parametrize("lock", LOCKS, ids=lambda path: path.name)
def test_a_lock_names_no_host_and_pins_everything_by_hash(lock):
    text = lock.read_text(encoding="utf-8")
    assert "://" not in text
    assert not re.search(r"^\s*--(?!hash=)", text, re.MULTILINE), "an option that leads pip elsewhere"
    requirements = re.findall(r"^[a-z0-9](?:.*\\\n)*.*$", text, re.MULTILINE | re.IGNORECASE)
    assert requirements
    for requirement in requirements:
        assert re.match(r"[A-Za-z0-9._-]+(\[[a-z0-9,-]+\])?==\S+", requirement), requirement
        assert "--hash=sha256:" in requirement, requirement


def test_there_is_a_lock_for_each_extra_that_is_installed():
    assert [lock.stem for lock in LOCKS] == [
        "bench-cryptofeed",
        "bench-mq-bridge",
        "bench-plain",
        "bench-quixstreams",
        "build",
        "demo",
        "dev",
        "flattener",
        "lake",
        "reader",
        "s3writer",
        "spark",
    ]


@pytest.mark.parametrize(
    ("library", "allowed"),
    [
        ("aiokafka", r"shared/kafka/\w+\.py"),
        ("s3fs|fsspec|botocore|aiobotocore", r"shared/lake/store(_\w+)?\.py"),
        ("duckdb", r"cryptoflow/\w+\.py|shared/lake/\w+\.py"),
        ("simdjson", r"shared/venues/\w+\.py|services/flattener/\w+\.py"),
    ],
)
def test_a_library_is_imported_only_where_it_belongs(library, allowed):
    importing = re.compile(rf"^\s*(?:import|from) (?:{library})\b")
    files = {line.split(":")[0] for line in lines_matching(importing)}
    assert [name for name in sorted(files) if name.startswith(CODE) and not re.fullmatch(allowed, name)] == []


def test_every_make_target_that_is_documented_exists():
    targets = set(re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    documents = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "ARCHITECTURE.md") if (ROOT / name).exists()]
    named = {
        target
        for document in documents
        for target in re.findall(r"(?:^|`)make ([a-z][a-z0-9-]*)", document.read_text(encoding="utf-8"), re.MULTILINE)
    }
    assert named <= targets


def test_make_help_lists_every_target_for_people():
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    phony = set(
        re.findall(
            r"[a-z0-9-]+", re.search(r"^\.PHONY:((?:.*\\\n)*.*)$", text, re.MULTILINE)[1].replace("$(CHECKS)", "")
        )
    )
    documented = set(re.findall(r"^([a-z0-9-]+):.*## ", text, re.MULTILINE))
    assert documented == phony


def test_what_ci_runs_is_executable():
    assert os.access(ROOT / ".ci/run", os.X_OK)


def test_the_licence_is_apache_2_to_the_letter():
    assert hashlib.sha256((ROOT / "LICENSE").read_bytes()).hexdigest() == APACHE_2_SHA256


@pytest.mark.xdist_group("hygiene")
def test_a_group_of_tests_stays_in_one_worker(request: pytest.FixtureRequest) -> None:
    """Else each worker starts a stack, a broker, a network of its own: pytest-xdist sees groups in node ids."""
    assert "PYTEST_XDIST_WORKER" not in os.environ or request.node.nodeid.endswith("@hygiene")
