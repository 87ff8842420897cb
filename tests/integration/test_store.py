"""One suite over every store: a local folder, and a real S3 store."""

from __future__ import annotations

import copy
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from shared.errors import FatalError
from shared.lake import layout
from shared.lake.store import Credentials, Entry, open_store, open_url
from shared.lake.store_local import LocalStore
from shared.lake.store_s3 import S3Store
from shared.lake.verify import verify
from tests.lakes import BTC, CHINESE, ETH, HOUR_0, HOUR_1, ODD, Line

if TYPE_CHECKING:
    from shared.lake.store import Store

NAMES = ["plain", "a=%E5%B8%81", "with space", "50%", "plus+and&", "币安人生", "dots..x", "ünïcode/ö=ä", "a.b-c_d~e"]


def s3_store(server, prefix: str, **changes: str) -> S3Store:
    keys = Credentials(server.access_key, changes.get("secret_key", server.secret_key))
    return S3Store(server.bucket, prefix, endpoint_url=server.endpoint_url, region=server.region, credentials=keys)


@pytest.fixture(scope="module")
def clients() -> dict[str, S3Store]:
    """One client for all tests: each costs a second to make."""
    return {}


@pytest.fixture(params=["local", pytest.param("s3", marks=pytest.mark.docker)])
def store(request, tmp_path, prefix, clients) -> Store:
    if request.param == "local":
        return LocalStore(tmp_path / "lake")
    server = request.getfixturevalue("s3")
    store = copy.copy(clients.setdefault(server.endpoint_url, s3_store(server, "")))
    store._prefix = f"{prefix}/"
    return store


def test_what_is_created_is_read_back(store):
    assert store.create("a/b", b"bytes")
    assert store.get("a/b") == b"bytes"
    assert store.size("a/b") == 5


def test_what_exists_is_not_created_again_and_stays(store):
    assert store.create("a/b", b"first")
    assert not store.create("a/b", b"second")
    assert not store.create("a/b", b"first")
    assert store.get("a/b") == b"first"


def test_what_is_not_there_is_none(store):
    assert store.get("a/b") is None
    assert store.size("a/b") is None
    assert store.tail("a/b", 10) is None
    assert store.list("a/") == []


def test_an_empty_object_is_an_object(store):
    assert store.create("empty", b"")
    assert store.get("empty") == b""
    assert store.tail("empty", 10) == b""
    assert store.size("empty") == 0
    assert not store.create("empty", b"x")


def test_the_tail_is_the_end_or_all_of_it(store):
    store.create("a", b"0123456789")
    assert store.tail("a", 3) == b"789"
    assert store.tail("a", 10) == b"0123456789"
    assert store.tail("a", 1000) == b"0123456789"


@pytest.mark.parametrize("name", NAMES)
def test_any_name_is_kept_to_the_letter(store, name):
    path = f"folder/{name}"
    assert store.create(path, b"x")
    assert not store.create(path, b"y")
    assert store.get(path) == b"x"
    assert store.list("folder/") == [Entry(path, 1)]
    assert list(store.walk("folder/")) == [Entry(path, 1)]


def test_of_many_writers_of_one_object_one_wins_and_its_bytes_stay(store):
    bodies = [bytes([number]) * 200_000 for number in range(10)]
    start = threading.Barrier(len(bodies))

    def create(body: bytes) -> bool:
        start.wait()
        return store.create("race", body)

    with ThreadPoolExecutor(len(bodies)) as pool:
        won = list(pool.map(create, bodies))
    assert won.count(True) == 1
    assert store.get("race") == bodies[won.index(True)]


def test_an_object_beyond_the_size_of_multipart_uploads_is_created_at_once(store):
    body = bytes(range(256)) * 450_000  # 115 MB: s3fs cuts what is longer than 100 MiB
    assert store.create("large", body)
    assert not store.create("large", b"x")
    assert store.size("large") == len(body)
    assert store.tail("large", 256) == bytes(range(256))


def test_a_folder_is_listed_from_any_point_in_order(store):
    names = [f"log/{number:020}.json" for number in (5, 30, 31, 200)]
    for name in reversed(names):
        store.create(name, b"x")
    store.create("log2/other", b"x")
    assert [entry.path for entry in store.list("log/")] == names
    assert [entry.path for entry in store.list("log/", names[1])] == names[2:]
    assert store.list("log/", "log/" + f"{30:020}", limit=1) == [Entry(names[1], 1)]
    assert store.list("log/", limit=2) == [Entry(name, 1) for name in names[:2]]
    assert store.list("log/", names[-1], limit=1) == []
    assert store.list("nothing/", limit=1) == []


def test_long_listings_come_whole(store, monkeypatch):
    monkeypatch.setattr("shared.lake.store_s3.PAGE_OBJECTS", 100)
    names = {f"n/{number % 7}/{number:05}" for number in range(205)}
    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(lambda name: store.create(name, b""), names))
    assert [entry.path for entry in store.list("n/")] == sorted(names)
    assert {entry.path for entry in store.walk("n/")} == names


def test_sibling_folders_of_which_one_name_begins_the_other_come_whole(store):
    names = {f"symbol={symbol}/x" for symbol in ("BTC", "BTC-PERP", "BTC!", "BTCA")}
    for name in names:
        store.create(name, b"x")
    assert [entry.path for entry in store.list("")] == sorted(names)
    assert [entry.path for entry in store.list("symbol=BTC/")] == ["symbol=BTC/x"]


def test_the_probe_passes_and_leaves_nothing_that_a_reader_could_see(store):
    store.probe()
    store.probe()
    assert [entry for entry in store.walk("") if not entry.path.startswith(layout.CLAIMS_ROOT)] == []


def test_a_lake_is_proven_and_its_damage_found(store):
    line = Line(store)
    line.flush((BTC, HOUR_0), (CHINESE, HOUR_0))
    line.flush((ODD, HOUR_1), (ETH, HOUR_1))
    for fast in (False, True):
        report = verify(store, fast=fast)
        assert report.problems == []
        assert (report.ok, report.rows, report.objects) == (True, 80, 7)
    claim = line.flush((BTC, HOUR_1), complete=False)
    assert verify(store).open[0].open_files == (claim.files[0].path,)
    line.flush((BTC, HOUR_1))
    store.create("fobs/stray.parquet", b"x")
    found = {(problem.what, problem.path) for problem in verify(store).problems}
    assert found == {("file-missing", claim.files[0].path), ("foreign-object", "fobs/stray.parquet")}


@pytest.mark.docker
def test_settings_and_url_open_the_same_lake(s3, prefix, make_settings, monkeypatch):
    storage = make_settings(
        storage={
            "s3": {
                "enabled": True,
                "bucket": s3.bucket,
                "prefix": prefix,
                "endpoint_url": s3.endpoint_url,
            }
        }
    ).storage
    for name, value in s3.environ.items():
        monkeypatch.setenv(name, value)
    assert open_store(storage).create("a", b"x")
    assert open_url(f"s3://{s3.bucket}/{prefix}").get("a") == b"x"


@pytest.mark.docker
def test_two_prefixes_of_a_bucket_see_nothing_of_each_other(s3, prefix):
    one, other = s3_store(s3, prefix), s3_store(s3, f"{prefix}-2")
    one.create("a", b"x")
    assert other.get("a") is None
    assert list(other.walk("")) == []
    assert [entry.path for entry in one.walk("")] == ["a"]


@pytest.mark.docker
@pytest.mark.parametrize("call", ["create", "get", "size", "list"])
def test_a_wrong_key_is_fatal(s3, prefix, call):
    store = s3_store(s3, prefix, secret_key="wrong")
    arguments = ("a", b"x") if call == "create" else ("a",)
    with pytest.raises(FatalError, match="credentials"):
        getattr(store, call)(*arguments)


def test_settings_without_s3_open_the_folder(make_settings, tmp_path):
    store = open_store(make_settings(storage={"local": {"path": str(tmp_path / "here")}}).storage)
    assert store.create("a", b"x")
    assert (tmp_path / "here" / "a").read_bytes() == b"x"
