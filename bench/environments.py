"""The environments of the peers: one each below bench/out/, installed from a lock file with hashes, made once for each lock."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
OUT = ROOT / "bench" / "out"
NAMES = ("plain", "quixstreams", "mq-bridge", "cryptofeed")
_NAMED = re.compile(r"^([A-Za-z0-9._-]+)(\[.*\])?==(\S+)", re.MULTILINE)


class NotInstalled(Exception):
    """A peer could not be installed here: no network, or no wheel for this machine."""


def lock_file(name: str) -> Path:
    """What `make lock` pinned for it."""
    return ROOT / "requirements" / f"bench-{name}.txt"


def asked_for(name: str) -> list[str]:
    """The packages that its lock was made for."""
    wanted = (ROOT / "requirements" / f"bench-{name}.in").read_text()
    return re.findall(r"^([A-Za-z0-9._-]+)", wanted, re.MULTILINE)


def python(name: str) -> Path:
    """Its interpreter, installed if it is not yet. Raises `NotInstalled` with the installer's words."""
    lock = lock_file(name)
    folder = OUT / f"env-{name}"
    stamp, digest = folder / "lock", hashlib.sha256(lock.read_bytes()).hexdigest()
    program = folder / "bin" / "python"
    if stamp.exists() and stamp.read_text() == digest:
        return program
    shutil.rmtree(folder, ignore_errors=True)
    uv = [sys.executable, "-m", "uv"]
    for command in (
        [*uv, "venv", "--quiet", "--python", sys.executable, str(folder)],
        [*uv, "pip", "install", "--quiet", "--python", str(program), "--require-hashes", "-r", str(lock)],
    ):
        done = subprocess.run(command, cwd=ROOT, check=False, capture_output=True)
        if done.returncode != 0:
            raise NotInstalled(f"{name}: {done.stderr.decode(errors='replace').strip()}")
    stamp.write_text(digest)
    return program


def versions(name: str) -> dict[str, str]:
    """Of what was asked for, as it is installed."""
    command = [sys.executable, "-m", "uv", "pip", "list", "--quiet", "--format", "json", "--python", str(python(name))]
    listed = json.loads(subprocess.run(command, cwd=ROOT, check=True, capture_output=True).stdout)
    found = {entry["name"]: entry["version"] for entry in listed}
    return {package: found[package] for package in asked_for(name)}


def locked(name: str) -> dict[str, str]:
    """Every package of a lock, with its version."""
    return {match[1]: match[3] for match in _NAMED.finditer(lock_file(name).read_text())}
