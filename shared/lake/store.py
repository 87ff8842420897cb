"""The store under the lake: create-only objects in a local folder or in S3, through one narrow protocol.

A few verbs (create, get, tail, size, list, walk) and a probe are all that the protocol of claims needs; there is no overwrite and no
delete. Calls are synchronous and thread-safe: services run them through `asyncio.to_thread`. A call either answers or
raises; nothing here retries for long or for ever: backing off is the caller's affair.

* `RetryableError`: network, timeout, throttling, 5xx. The create may or may not have been applied.
* `FatalError`: permission, no such bucket, a file system without hard links: waiting will not help.

All paths are relative to the store's root or prefix, with ``/`` between the parts.
"""

from __future__ import annotations

import os
import secrets
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol
from urllib.parse import unquote, urlsplit

from shared.errors import FatalError, RetryableError
from shared.lake.layout import PROBE_ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator

    from shared.settings import StorageSettings

PROBE_WRITERS = 4


@dataclass(frozen=True, slots=True, order=True)
class Entry:
    """One object of a listing: its path and its size in bytes."""

    path: str
    size: int


@dataclass(frozen=True, slots=True)
class Credentials:
    """Static keys of S3; where None the AWS credential chain finds them."""

    access_key_id: str | None = None
    secret_access_key: str | None = field(default=None, repr=False)
    session_token: str | None = field(default=None, repr=False)


Entries = list[Entry]  # inside the classes `list` is the verb


class Store(Protocol):
    """What the lake asks of a store."""

    @property
    def url(self) -> str:
        """Where it is, for people; holds no secret."""

    def create(self, path: str, body: bytes) -> bool:
        """Put-if-absent, atomic and durable. True: this call created it. False: an object of this name exists.

        After a lost answer a second call says False of the caller's own bytes: compare before concluding.
        """

    def get(self, path: str) -> bytes | None:
        """The whole object, or None if there is none."""

    def tail(self, path: str, size_bytes: int) -> bytes | None:
        """The last `size_bytes` of an object (all of it if it is shorter), or None if there is none."""

    def size(self, path: str) -> int | None:
        """The size of an object in bytes, or None if there is none."""

    def list(self, prefix: str, start_after: str | None = None, limit: int | None = None) -> Entries:
        """Objects whose path starts with `prefix` and is greater than `start_after`, in the order of their paths.

        With `start_after` or `limit` the prefix must be one folder without folders in it: SeaweedFS sorts ``BTC/…``
        before ``BTC-PERP/…``, Amazon the other way round, and what comes "after" is as the store sorts.
        """

    def walk(self, prefix: str) -> Iterator[Entry]:
        """All objects whose path starts with `prefix`, as they come, in any order, without holding them all.

        A store that answers by pages asks for each of them some times before it raises `RetryableError`.
        """

    def leftovers(self) -> Entries:
        """What crashes left of writes that never became objects. Harmless; no listing and no reader sees it."""

    def probe(self) -> None:
        """Prove that create means put-if-absent here, for one writer and for several at once.

        Raises `FatalError` in words if it does not.
        """


def open_store(storage: StorageSettings) -> Store:
    """The store that the settings name: S3 where enabled, else the local folder."""
    if storage.s3.enabled:
        from shared.lake.store_s3 import S3Store  # noqa: PLC0415  # a local lake needs no s3fs

        s3 = storage.s3
        keys = (s3.access_key_id, s3.secret_access_key, s3.session_token)
        return S3Store(
            str(s3.bucket),
            s3.prefix,
            endpoint_url=s3.endpoint_url,
            region=s3.region,
            credentials=Credentials(*(key.get_secret_value() if key else None for key in keys)),
        )
    return _local(str(storage.local.path))


def open_url(url: str, *, endpoint_url: str | None = None, region: str | None = None) -> Store:
    """The store at ``s3://bucket/prefix``, ``file:///folder`` or a plain folder. Raises `FatalError` for other URLs.

    `endpoint_url` and `region` are by default what the environment says (``S3_ENDPOINT_URL``, ``AWS_REGION``);
    credentials are those of the AWS chain.
    """
    parts = urlsplit(url)
    if parts.scheme == "s3":
        if not parts.netloc:
            raise FatalError(f"{url} names no bucket: s3://bucket/prefix")
        from shared.lake.store_s3 import S3Store  # noqa: PLC0415  # a local lake needs no s3fs

        return S3Store(
            parts.netloc,
            unquote(parts.path),
            endpoint_url=endpoint_url or os.environ.get("S3_ENDPOINT_URL") or None,
            region=region or os.environ.get("AWS_REGION") or None,
        )
    if parts.scheme == "file":
        return _local(unquote(parts.path))
    if "://" in url:
        raise FatalError(f"{url}: a lake is s3://bucket/prefix, file:///folder or a folder")
    return _local(url)


def prove_create_only(store: Store) -> str:
    """Race `PROBE_WRITERS` creates of one new object, then one more. Returns the object's path.

    Raises `FatalError` unless exactly one won, its bytes stayed, and the late one was refused; `RetryableError` where
    the winner was not told: a connection that died with the answer, and the client that sent the call once more.
    """
    path = f"{PROBE_ROOT}/{secrets.token_hex(16)}"
    bodies = [f"probe {number}".encode() for number in range(PROBE_WRITERS)]
    with ThreadPoolExecutor(PROBE_WRITERS) as pool:
        created = list(pool.map(lambda body: store.create(path, body), bodies))
    late = store.create(path, b"late")
    if not late and not any(created) and store.get(path) in bodies:
        raise RetryableError(f"{store.url}: none of {PROBE_WRITERS} writers was told that it had created {path}")
    if created.count(True) != 1 or late:
        raise FatalError(
            f"{store.url} ignores If-None-Match: of {PROBE_WRITERS} writers creating one object at once"
            f" {created.count(True)} were told that they had created it, and one that came later was"
            f" {'told so too' if late else 'refused'}. Without put-if-absent rows can be written twice:"
            " use Amazon S3, SeaweedFS, VersityGW or another store that honours conditional PUT"
        )
    if store.get(path) != bodies[created.index(True)]:
        raise FatalError(f"{store.url} says that it refuses to overwrite an object, and overwrites it")
    return path


def _local(folder: str) -> Store:
    from shared.lake.store_local import LocalStore  # noqa: PLC0415  # as above

    return LocalStore(folder)
