"""A lake in a local folder: create = temporary file, fsync, `link`, fsync of the folders.

`link` is the put-if-absent of POSIX: it fails if the name exists, and the name never shows half a file. Temporary files
lie in one folder of their own on the same file system, where no glob for ``*.parquet`` and no listing finds them.
Never overwrites; deletes nothing but its own temporary files.
"""

# ruff: noqa: D102  # `Store` says what each method does

from __future__ import annotations

import contextlib
import errno
import heapq
import os
import secrets
import time
from pathlib import Path
from typing import TYPE_CHECKING

from shared.errors import FatalError, RetryableError
from shared.lake.layout import TEMPORARY_ROOT
from shared.lake.store import Entries, Entry, prove_create_only

if TYPE_CHECKING:
    from collections.abc import Iterator

LEFTOVER_AFTER_SECONDS = 3600  # a temporary file lives for the time of one write
_NO_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EXDEV, errno.EMLINK}
_DISK_FULL = {errno.ENOSPC, errno.EDQUOT}


class LocalStore:
    """A `Store` in a folder, which is created if need be."""

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self._root = Path(folder).absolute()
        self._temporary = self._root / TEMPORARY_ROOT
        self._durable: set[Path] = set()  # folders whose names this process has synced up to the root

    @property
    def url(self) -> str:
        return str(self._root)

    def create(self, path: str, body: bytes) -> bool:
        target = self._at(path)
        temporary = self._temporary / secrets.token_hex(16)
        with _translated(f"write {target}"):
            try:
                self._temporary.mkdir(parents=True, exist_ok=True)
                with temporary.open("xb") as file:
                    file.write(body)
                    file.flush()
                    os.fsync(file.fileno())
                self._make_durable(target.parent)
                try:
                    created = _link(temporary, target)
                except FileNotFoundError:  # somebody has removed the folder since this process made it
                    self._durable.clear()
                    self._make_durable(target.parent)
                    created = _link(temporary, target)
                _sync(target.parent)  # also where it existed: who made it may have died before this
            finally:
                temporary.unlink(missing_ok=True)
        return created

    def get(self, path: str) -> bytes | None:
        with _translated(f"read {path}"), contextlib.suppress(FileNotFoundError, NotADirectoryError):
            return self._at(path).read_bytes()
        return None

    def tail(self, path: str, size_bytes: int) -> bytes | None:
        with (
            _translated(f"read {path}"),
            contextlib.suppress(FileNotFoundError, NotADirectoryError),
            self._at(path).open("rb") as file,
        ):
            file.seek(max(0, file.seek(0, os.SEEK_END) - size_bytes))
            return file.read()
        return None

    def size(self, path: str) -> int | None:
        with _translated(f"read {path}"), contextlib.suppress(FileNotFoundError, NotADirectoryError):
            return self._at(path).stat().st_size
        return None

    def list(self, prefix: str, start_after: str | None = None, limit: int | None = None) -> Entries:
        entries: Entries = []
        if limit == 0:
            return entries
        with _translated(f"list {self._root}"):
            for entry in self._walk(prefix.rpartition("/")[0], prefix, start_after or ""):
                entries.append(entry)
                if len(entries) == limit:
                    break
        return entries

    def walk(self, prefix: str) -> Iterator[Entry]:
        with _translated(f"list {self._root}"):
            yield from self._walk(prefix.rpartition("/")[0], prefix, "")

    def leftovers(self) -> Entries:
        found = []
        with (
            _translated(f"list {self._temporary}"),
            contextlib.suppress(FileNotFoundError),
            os.scandir(self._temporary) as items,
        ):
            for item in items:
                with contextlib.suppress(FileNotFoundError):  # its writer has just finished
                    found.append(Entry(f"{TEMPORARY_ROOT}/{item.name}", item.stat().st_size))
        return sorted(found)

    def probe(self) -> None:
        self._clean()
        path = prove_create_only(self)
        with contextlib.suppress(OSError):  # a stray probe object harms nobody
            self._at(path).unlink()

    def _clean(self) -> None:
        """Remove what crashes have left, once it is older than any write takes."""
        old = time.time() - LEFTOVER_AFTER_SECONDS
        for entry in self.leftovers():
            path = self._root / entry.path
            with contextlib.suppress(OSError):  # another process cleans as well
                if path.stat().st_mtime < old:
                    path.unlink()

    def _at(self, path: str) -> Path:
        if not path or path.startswith("/") or any(part in ("", ".", "..") for part in path.split("/")):
            raise ValueError(f"{path!r} is not a path inside the lake")
        return self._root / path

    def _make_durable(self, folder: Path) -> None:
        """Make a folder and sync the names of all on the way up: who made them may have died before syncing."""
        if folder in self._durable:
            return
        folder.mkdir(parents=True, exist_ok=True)
        chain = [folder, *folder.parents]
        for path in chain[: chain.index(self._root) + 1]:
            _sync(path.parent)
            self._durable.add(path)

    def _walk(self, folder: str, prefix: str, after: str) -> Iterator[Entry]:
        """Objects below a folder in the order of their whole paths, leaving out folders that cannot hold any."""
        base = f"{folder}/" if folder else ""
        wanted: list[tuple[str, os.DirEntry[str]]] = []
        try:
            with os.scandir(self._root / folder) as items:
                for item in items:
                    path = f"{base}{item.name}"
                    if item.is_dir():
                        path += "/"  # a folder's name sorts with its slash, as the paths below it do
                        inside = path.startswith(prefix) or prefix.startswith(path)
                        all_before = path < after and not after.startswith(path)
                        if inside and not all_before and path != f"{TEMPORARY_ROOT}/":
                            wanted.append((path, item))
                    elif path.startswith(prefix) and path > after:
                        wanted.append((path, item))
        except (FileNotFoundError, NotADirectoryError):
            return
        # A heap: who wants the first of 100,000 names, as the search for the last claim does, need not sort them all.
        heapq.heapify(wanted)
        while wanted:
            path, item = heapq.heappop(wanted)
            if path.endswith("/"):
                yield from self._walk(path[:-1], prefix, after)
            else:
                with contextlib.suppress(FileNotFoundError):
                    yield Entry(path, item.stat().st_size)


def _link(source: Path, target: Path) -> bool:
    """Whether the name was free. Raises `FatalError` where the file system has no hard links."""
    try:
        os.link(source, target)
    except FileExistsError:
        return False
    except OSError as error:
        if error.errno in _NO_LINKS:
            raise FatalError(
                f"{target.parent} lies on a file system without hard links ({error.strerror}): put-if-absent needs them"
            ) from error
        raise
    return True


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _translated(what: str) -> Iterator[None]:
    """Errors of the operating system, as ours."""
    try:
        yield
    except PermissionError as error:
        raise FatalError(f"cannot {what}: permission denied ({error.filename})") from error
    except OSError as error:
        if error.errno in _DISK_FULL:
            raise RetryableError(f"cannot {what}: the disk is full") from error
        raise RetryableError(f"cannot {what}: {error.strerror or error}") from error
