"""A lake in S3, or in any store that honours ``If-None-Match: *`` on PutObject.

Each object is one PutObject, whatever its size: a multipart upload's conditional completion is not atomic everywhere.
Neither botocore nor s3fs retries on its own here, and every call has an end; the caller backs off where it is seen.
Only aiohttp does, below them, once, where a connection that was kept died: so a creation may meet its own object.
Credentials are those of the settings, else of the default AWS chain. Never overwrites; deletes nothing but its own probe.
"""

# ruff: noqa: D102  # `Store` says what each method does

from __future__ import annotations

import contextlib
import random
import threading
import time
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import botocore.exceptions
import s3fs
from fsspec.asyn import sync

from shared.errors import CryptoFlowError, FatalError, RetryableError
from shared.lake.patient import tried
from shared.lake.store import Credentials, Entries, Entry, prove_create_only

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

CONNECT_TIMEOUT_SECONDS = 5.0
READ_TIMEOUT_SECONDS = 30.0  # between two packets
CALL_TIMEOUT_SECONDS = 60.0  # of a call, plus its bytes at SLOWEST_BYTES_PER_SECOND
SLOWEST_BYTES_PER_SECOND = 1_000_000
MAX_CONNECTIONS = 64
CONFLICT_ATTEMPTS = 5
PAGE_OBJECTS = 1000  # as many as Amazon gives

_CONFLICT, _PRECONDITION, _NOT_FOUND, _SERVER_ERROR = 409, 412, 404, 500
_PASSES = (408, 429, _CONFLICT)
_NOT_ACCEPTED = "the credentials are not accepted"
_HINTS = {
    "NoSuchBucket": "create the bucket, or correct its name",
    "RequestTimeTooSkewed": "set this machine's clock",
    **dict.fromkeys(("InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken"), _NOT_ACCEPTED),
}
_STATUS_HINTS = {
    403: "the credentials need s3:GetObject, s3:PutObject and s3:ListBucket here",
    501: "the store must implement conditional PUT (If-None-Match) and ListObjectsV2",
}


class S3Store:
    """A `Store` under a prefix of a bucket. The bucket must exist."""

    def __init__(
        self,
        bucket: str,
        prefix: str = "",
        *,
        endpoint_url: str | None = None,
        region: str | None = None,
        credentials: Credentials | None = None,
    ) -> None:
        self._bucket = bucket
        self._prefix = f"{prefix.strip('/')}/" if prefix.strip("/") else ""
        if endpoint_url and region is None:
            region = "us-east-1"  # a store of one's own has no regions; a signature needs one
        credentials = credentials or Credentials()
        self._endpoint = endpoint_url
        self._connecting = threading.Lock()
        self._filesystem: Any = s3fs.S3FileSystem(
            key=credentials.access_key_id,
            secret=credentials.secret_access_key,
            token=credentials.session_token,
            endpoint_url=endpoint_url,
            client_kwargs={"region_name": region} if region else {},
            config_kwargs={
                "retries": {"total_max_attempts": 1},
                "connect_timeout": CONNECT_TIMEOUT_SECONDS,
                "read_timeout": READ_TIMEOUT_SECONDS,
                "max_pool_connections": MAX_CONNECTIONS,
                **({"s3": {"addressing_style": "path"}} if endpoint_url else {}),
            },
            use_listings_cache=False,
            skip_instance_cache=True,
        )
        self._filesystem.retries = 1  # s3fs' own, around botocore's
        self._connected = False

    @property
    def url(self) -> str:
        where = f"s3://{self._bucket}/{self._prefix}".rstrip("/")
        if self._endpoint is None:
            return where
        parts = urlsplit(self._endpoint)
        return f"{where} at {parts.scheme}://{parts.hostname}{f':{parts.port}' if parts.port else ''}"

    def create(self, path: str, body: bytes) -> bool:
        for attempt in range(CONFLICT_ATTEMPTS):
            try:
                self._call("put_object", len(body), Key=self._key(path), Body=body, IfNoneMatch="*")
            except _Answer as answer:
                if answer.status == _PRECONDITION:
                    return False
                if answer.status != _CONFLICT:
                    raise answer.as_error(f"create {path} in {self.url}") from answer
                # Two conditional writes of one key met: the store asks the loser to come again.
                time.sleep(random.uniform(0, 0.05 * 2**attempt))  # noqa: S311  # jitter is no secret
            else:
                return True
        raise RetryableError(f"{self.url} kept answering 409 to the creation of {path}")

    def get(self, path: str) -> bytes | None:
        return self._read(path)

    def tail(self, path: str, size_bytes: int) -> bytes | None:
        return self._read(path, Range=f"bytes=-{size_bytes}")

    def size(self, path: str) -> int | None:
        try:
            return int(self._call("head_object", Key=self._key(path))["ContentLength"])
        except _Answer as answer:
            if answer.status == _NOT_FOUND and answer.code != "NoSuchBucket":
                return None
            raise answer.as_error(f"look at {path} in {self.url}") from answer

    def list(self, prefix: str, start_after: str | None = None, limit: int | None = None) -> Entries:
        return sorted(islice(_entries(self._pages(prefix, start_after, limit), self._prefix), limit))

    def walk(self, prefix: str) -> Iterator[Entry]:
        return _entries(self._pages(prefix, None, None, patiently=True), self._prefix)

    def leftovers(self) -> Entries:
        return []

    def probe(self) -> None:
        path = prove_create_only(self)
        with contextlib.suppress(_Answer, CryptoFlowError):  # no right to delete: a stray probe object harms nobody
            self._call("delete_object", Key=self._key(path))

    def _pages(
        self, prefix: str, start_after: str | None, limit: int | None, *, patiently: bool = False
    ) -> Iterator[Sequence[dict[str, Any]]]:
        more: dict[str, Any] = {"MaxKeys": PAGE_OBJECTS if limit is None else max(1, min(limit, PAGE_OBJECTS))}
        if start_after is not None:
            more["StartAfter"] = self._prefix + start_after
        while True:
            ask = partial(self._page, prefix, dict(more))
            page = tried(ask) if patiently else ask()
            yield page.get("Contents", [])
            if not page.get("IsTruncated"):
                return
            more["ContinuationToken"] = page["NextContinuationToken"]

    def _page(self, prefix: str, more: dict[str, Any]) -> Any:
        try:
            return self._call("list_objects_v2", Prefix=self._prefix + prefix, **more)
        except _Answer as answer:
            raise answer.as_error(f"list {prefix} in {self.url}") from answer

    def _read(self, path: str, **more: Any) -> bytes | None:
        body: bytes | None = None
        try:
            answer = self._call("get_object", Key=self._key(path), **more)
            read = partial(sync, self._filesystem.loop, _body, answer["Body"])
            body = self._bounded(read, int(answer["ContentLength"]))
            self._check_part(path, answer.get("ContentRange", ""), len(body or b""))
        except _Answer as answer:
            if answer.code == "InvalidRange":  # the tail of an empty object
                return b""
            if answer.status != _NOT_FOUND or answer.code == "NoSuchBucket":
                raise answer.as_error(f"read {path} in {self.url}") from answer
        return body

    def _call(self, method: str, size_bytes: int = 0, **arguments: Any) -> Any:
        """One call to the store. Raises `_Answer` where it answered with an error."""
        if not self._connected:
            with self._connecting:  # s3fs would make a client for each thread that comes first
                if not self._connected:
                    self._bounded(self._filesystem.connect)
                    self._connected = True
        call = partial(self._filesystem.call_s3, method, Bucket=self._bucket, **arguments)
        return self._bounded(call, size_bytes)

    def _bounded(self, call: Callable[..., Any], size_bytes: int = 0) -> Any:
        """Let a call of s3fs run to its end, or be cancelled when its time is over; errors as ours."""
        seconds = CALL_TIMEOUT_SECONDS + size_bytes / SLOWEST_BYTES_PER_SECOND
        try:
            return call(timeout=seconds)
        except botocore.exceptions.ClientError as error:
            raise _Answer(error) from error
        except (botocore.exceptions.NoCredentialsError, botocore.exceptions.PartialCredentialsError) as error:
            raise FatalError(
                f"{self.url}: no credentials. Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or a role ({error})"
            ) from error
        except (ValueError, botocore.exceptions.ParamValidationError, botocore.exceptions.NoRegionError) as error:
            raise FatalError(f"{self.url}: {error}") from error
        except OSError as error:
            if isinstance(error.__cause__, botocore.exceptions.ClientError):
                raise _Answer(error.__cause__) from error
            raise self._unreachable(error) from error
        except (*s3fs.core.S3_RETRYABLE_ERRORS, botocore.exceptions.BotoCoreError) as error:
            raise self._unreachable(error) from error

    def _check_part(self, path: str, content_range: str, size_bytes: int) -> None:
        """Raises `RetryableError` for less than what ``bytes <first>-<last>/<of all>`` says."""
        first, _, last = content_range.removeprefix("bytes ").partition("/")[0].partition("-")
        if last and int(last) - int(first) + 1 != size_bytes:
            raise RetryableError(f"{self.url} gave {size_bytes} bytes of {int(last) - int(first) + 1} of {path}")

    def _unreachable(self, error: BaseException) -> RetryableError:
        return RetryableError(f"{self.url} does not answer: {error or type(error).__name__}")

    def _key(self, path: str) -> str:
        if not path or path.startswith("/") or any(part in ("", ".", "..") for part in path.split("/")):
            raise ValueError(f"{path!r} is not a path inside the lake")
        return self._prefix + path


class _Answer(Exception):
    """The store answered a call with an error."""

    def __init__(self, error: botocore.exceptions.ClientError) -> None:
        super().__init__(str(error))
        details = error.response.get("Error", {})
        metadata = error.response.get("ResponseMetadata", {})
        self.code = str(details.get("Code", ""))
        self.status = int(metadata.get("HTTPStatusCode", 0))
        self.message = str(details.get("Message", ""))
        retry_after = metadata.get("HTTPHeaders", {}).get("retry-after", "")
        self.retry_after_seconds = float(retry_after) if retry_after.isdigit() else None

    def as_error(self, what: str) -> CryptoFlowError:
        """What it means to the caller."""
        text = f"cannot {what}: {self.status} {self.code} {self.message}".rstrip()
        hint = _HINTS.get(self.code) or _STATUS_HINTS.get(self.status)
        passes = self.status >= _SERVER_ERROR or self.status in _PASSES or self.code in ("RequestTimeout", "SlowDown")
        if passes and not hint:
            return RetryableError(text, retry_after_seconds=self.retry_after_seconds)
        return FatalError(f"{text}: {hint}" if hint else text)


def _entries(pages: Iterator[Sequence[dict[str, Any]]], prefix: str) -> Iterator[Entry]:
    for page in pages:
        for item in page:
            path = item["Key"][len(prefix) :]
            if path and not path.endswith("/"):  # a console's "folder"
                yield Entry(path, int(item["Size"]))


async def _body(stream: Any) -> bytes:
    async with stream as opened:
        return bytes(await opened.read())
