"""What a store answers, and what we make of it: against a tiny HTTP server that answers as it is told."""

from __future__ import annotations

import threading
from collections import deque
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

import pytest
from fsspec.exceptions import FSTimeoutError

from shared.errors import FatalError, RetryableError
from shared.lake import layout, patient
from shared.lake.store import Credentials
from shared.lake.store_s3 import CONFLICT_ATTEMPTS, S3Store
from tests.support import eventually_sync, free_port

NO_BODY = {204, 304}


class TinyS3(ThreadingHTTPServer):
    """Objects in memory; `honours` If-None-Match or not; `answers` are given first, one to each request."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.objects: dict[str, bytes] = {}
        self.honours = True
        self.answers: deque[tuple[int, str, dict[str, str]]] = deque()
        self.requests: list[tuple[str, str, dict[str, str]]] = []
        self.lock = threading.Lock()

    def served(self) -> int:
        """Requests that are wholly dealt with."""
        with self.lock:
            return len(self.requests)

    def forget(self) -> None:
        self.honours = True
        for kept in (self.objects, self.answers, self.requests):
            kept.clear()

    def say(self, status: int, code: str, times: int = 1, **headers: str) -> None:
        self.answers.extend([(status, code, headers)] * times)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: TinyS3

    def handle_any(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        key = unquote(urlsplit(self.path).path)
        with self.server.lock:
            self.server.requests.append((self.command, key, dict(self.headers)))
            if self.server.answers:
                status, code, headers = self.server.answers.popleft()
                self.answer(status, f"<Error><Code>{code}</Code><Message>told so</Message></Error>".encode(), headers)
            elif self.command == "PUT":
                if self.server.honours and self.headers.get("If-None-Match") and key in self.server.objects:
                    self.answer(412, b"<Error><Code>PreconditionFailed</Code></Error>")
                else:
                    self.server.objects[key] = body
                    self.answer(200, b"")
            elif self.command == "DELETE":
                self.server.objects.pop(key, None)
                self.answer(204, b"")
            elif "list-type=2" in self.path:
                self.answer(200, b"<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>")
            elif key in self.server.objects:
                self.answer(200, self.server.objects[key])
            else:
                self.answer(404, b"<Error><Code>NoSuchKey</Code></Error>")

    do_GET = do_PUT = do_HEAD = do_DELETE = handle_any  # noqa: N815

    def answer(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name.replace("_", "-"), value)
        if status not in NO_BODY:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD" and status not in NO_BODY:
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass


@pytest.fixture(scope="module")
def running():
    server = TinyS3()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def store_at(port: int) -> S3Store:
    return S3Store(
        "bucket", "some/lake", endpoint_url=f"http://127.0.0.1:{port}", credentials=Credentials("key", "secret-word")
    )


@pytest.fixture
def server(running) -> TinyS3:
    running.forget()
    return running


@pytest.fixture(scope="module")
def store(running) -> S3Store:
    return store_at(running.server_port)


def test_an_object_is_one_conditional_put_under_the_prefix(server, store):
    assert store.create("a/b=%20c.parquet", b"x" * 3_000_000)
    ((method, key, headers),) = server.requests
    assert (method, key) == ("PUT", "/bucket/some/lake/a/b= c.parquet".replace(" ", "%20"))
    assert headers["If-None-Match"] == "*"


def test_an_existing_object_stays(server, store):
    assert store.create("a", b"first")
    assert not store.create("a", b"second")
    assert store.get("a") == b"first"


@pytest.mark.parametrize("code", ["PreconditionFailed", "412", "SomethingElse"])
def test_412_says_exists_whatever_its_code(server, store, code):
    server.say(412, code)
    assert store.create("a", b"x") is False


def test_a_conflict_of_writers_is_tried_again(server, store):
    server.say(409, "ConditionalRequestConflict", times=CONFLICT_ATTEMPTS - 1)
    assert store.create("a", b"x") is True
    assert len(server.requests) == CONFLICT_ATTEMPTS


def test_a_conflict_that_does_not_end_is_handed_back(server, store):
    server.say(409, "ConditionalRequestConflict", times=100)
    with pytest.raises(RetryableError, match="kept answering 409"):
        store.create("a", b"x")


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (500, "InternalError"),
        (502, "BadGateway"),
        (503, "SlowDown"),
        (503, "ServiceUnavailable"),
        (504, "GatewayTimeout"),
        (429, "TooManyRequests"),
        (408, "RequestTimeout"),
    ],
)
@pytest.mark.parametrize("call", ["create", "get", "size", "list"])
def test_trouble_that_passes_is_retryable_and_not_retried_here(server, store, call, status, code):
    server.say(status, code, times=50)
    with pytest.raises(RetryableError):
        perform(store, call)
    assert len(server.requests) == 1


def test_a_400_that_says_timeout_is_retryable(server, store):
    server.say(400, "RequestTimeout")
    with pytest.raises(RetryableError):
        store.create("a", b"x")


@pytest.mark.parametrize("failures", [patient.ATTEMPTS - 1, patient.ATTEMPTS])
def test_a_walk_asks_for_each_page_some_times(server, store, monkeypatch, failures):
    monkeypatch.setattr(patient, "BACKOFF_FIRST_SECONDS", 0.0)
    server.say(503, "SlowDown", times=failures)
    if failures < patient.ATTEMPTS:
        assert list(store.walk("")) == []
    else:
        with pytest.raises(RetryableError):
            list(store.walk(""))
    assert len(server.requests) == patient.ATTEMPTS


def test_retry_after_is_handed_on(server, store):
    server.say(503, "SlowDown", Retry_After="7")
    with pytest.raises(RetryableError) as caught:
        store.create("a", b"x")
    assert caught.value.retry_after_seconds == 7


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ((403, "AccessDenied"), "need s3:GetObject, s3:PutObject and s3:ListBucket"),
        ((403, "InvalidAccessKeyId"), "credentials are not accepted"),
        ((403, "SignatureDoesNotMatch"), "credentials are not accepted"),
        ((400, "ExpiredToken"), "credentials are not accepted"),
        ((403, "RequestTimeTooSkewed"), "set this machine's clock"),
        ((404, "NoSuchBucket"), "create the bucket"),
        ((400, "InvalidRequest"), "InvalidRequest"),
        ((501, "NotImplemented"), "must implement conditional PUT"),
    ],
)
@pytest.mark.parametrize("call", ["create", "get", "list"])
def test_trouble_that_does_not_pass_is_fatal_in_words(server, store, call, answer, words):
    server.say(*answer)
    with pytest.raises(FatalError, match=words) as caught:
        perform(store, call)
    assert "secret-word" not in str(caught.value)


def test_a_store_that_is_not_there_is_retryable():
    store = store_at(free_port())
    for call in ("create", "get", "size", "list"):
        with pytest.raises(RetryableError, match="does not answer"):
            perform(store, call)


def test_an_answer_that_breaks_off_is_retryable(server, store):
    server.objects["/bucket/some/lake/a"] = b"x" * 1000
    server.say(200, "", Content_Length="5000", Connection="close")
    with pytest.raises(RetryableError, match="does not answer"):
        store.get("a")


def test_a_store_that_stalls_is_given_up(server, store, monkeypatch):
    monkeypatch.setattr("shared.lake.store_s3.CALL_TIMEOUT_SECONDS", 0.3)
    with server.lock, pytest.raises(RetryableError, match="does not answer") as caught:
        store.create("a", b"x")
    assert isinstance(caught.value.__cause__, FSTimeoutError)  # not the end of a single read, which may never come
    eventually_sync(server.served, 5, "the late request is dealt with, before the next test's begin")


def test_a_store_that_ignores_if_none_match_is_refused_in_words(server, store):
    server.honours = False
    with pytest.raises(
        FatalError, match=r"ignores If-None-Match: of 4 writers .* 4 were told .* later was told so too"
    ):
        store.probe()


def test_the_probe_leaves_nothing(server, store):
    store.probe()
    assert server.objects == {}
    assert all(key.startswith(f"/bucket/some/lake/{layout.PROBE_ROOT}/") for _, key, _ in server.requests)


def test_the_probe_passes_where_nothing_may_be_deleted(server, store):
    original = Handler.do_DELETE
    Handler.do_DELETE = lambda self: self.answer(403, b"<Error><Code>AccessDenied</Code></Error>")
    try:
        store.probe()
    finally:
        Handler.do_DELETE = original
    assert len(server.objects) == 1


def test_the_url_is_for_people_and_holds_no_secret():
    endpoint = "http://user:secret-word@127.0.0.1:9"
    store = S3Store("bucket", "/some/lake/", endpoint_url=endpoint, credentials=Credentials("key", "secret-word"))
    assert store.url == "s3://bucket/some/lake at http://127.0.0.1:9"
    assert "secret-word" not in repr(Credentials("key", "secret-word"))


def test_without_credentials_nothing_is_sent(server, monkeypatch, tmp_path):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    store = S3Store("bucket", endpoint_url=f"http://127.0.0.1:{server.server_port}")
    with pytest.raises(FatalError, match="Set AWS_ACCESS_KEY_ID"):
        store.create("a", b"x")
    assert server.requests == []


def test_credentials_of_the_environment_are_used(server, monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "FROMENVIRONMENT")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "x")
    S3Store("bucket", endpoint_url=f"http://127.0.0.1:{server.server_port}").create("a", b"x")
    assert "FROMENVIRONMENT" in server.requests[0][2]["Authorization"]


@pytest.mark.parametrize("path", ["", "/x", "../x", "a//b", "a/"])
def test_a_path_cannot_leave_the_lake(server, store, path):
    with pytest.raises(ValueError, match="not a path inside the lake"):
        store.create(path, b"x")
    assert server.requests == []


def perform(store: S3Store, call: str) -> object:
    if call == "create":
        return store.create("a", b"x")
    return getattr(store, call)("a")
