"""What only a local folder has: its way of creating, its leftovers, its errors. The rest: integration/test_store.py."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import FatalError, RetryableError
from shared.lake import layout, store_local
from shared.lake.store import Entry, open_url
from shared.lake.store_local import LocalStore


def files_below(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_a_created_object_is_a_file_and_nothing_else_is_left(tmp_path):
    assert LocalStore(tmp_path / "lake").create("a/b.parquet", b"x")
    assert files_below(tmp_path / "lake") == {"a/b.parquet"}


def test_folder_and_file_url_open_the_same_store(tmp_path):
    open_url(str(tmp_path)).create("a", b"x")
    assert open_url(f"file://{tmp_path}").get("a") == b"x"


@pytest.mark.parametrize("url", ["gs://bucket/lake", "https://host/lake", "s3:///lake"])
def test_other_urls_are_refused(url):
    with pytest.raises(FatalError):
        open_url(url)


@pytest.mark.parametrize("path", ["", "/etc/x", "../x", "a/../../x", "a//b", "a/.", "a/"])
def test_a_path_cannot_leave_the_lake(tmp_path, path):
    with pytest.raises(ValueError, match="not a path inside the lake"):
        LocalStore(tmp_path / "lake").create(path, b"x")


def test_what_a_crash_leaves_is_no_object_and_is_named(tmp_path):
    store = LocalStore(tmp_path)
    assert store.create("fobs/a.parquet", b"x")
    (tmp_path / layout.TEMPORARY_ROOT / "0123").write_bytes(b"half")
    assert store.list("") == [Entry("fobs/a.parquet", 1)]
    assert store.leftovers() == [Entry("_claims/_tmp/0123", 4)]
    assert list(tmp_path.glob("**/*.parquet")) == [tmp_path / "fobs/a.parquet"]


def test_the_probe_removes_old_leftovers_and_leaves_those_of_running_writers(tmp_path):
    store = LocalStore(tmp_path)
    store.probe()
    for name, age in (("old", store_local.LEFTOVER_AFTER_SECONDS + 60), ("new", 0)):
        path = tmp_path / layout.TEMPORARY_ROOT / name
        path.write_bytes(b"half")
        os.utime(path, (time.time() - age,) * 2)
    store.probe()
    assert files_below(tmp_path) == {"_claims/_tmp/new"}


def test_folders_that_vanish_are_made_again(tmp_path):
    store = LocalStore(tmp_path)
    assert store.create("a/b/one", b"1")
    (tmp_path / "a/b/one").unlink()
    (tmp_path / "a/b").rmdir()
    assert store.create("a/b/two", b"2")
    assert store.get("a/b/two") == b"2"


def test_each_new_folder_and_the_file_are_synced_before_create_returns(tmp_path, monkeypatch):
    synced = []
    real = os.fsync

    def fsync(descriptor):
        synced.append(str(Path(f"/proc/self/fd/{descriptor}").readlink()))
        real(descriptor)

    if not Path("/proc/self/fd").exists():
        pytest.skip("needs /proc/self/fd to name what is synced")
    monkeypatch.setattr(os, "fsync", fsync)
    assert LocalStore(tmp_path).create("a/b/c", b"x")
    assert synced[0].startswith(str(tmp_path / layout.TEMPORARY_ROOT))
    assert {str(tmp_path), str(tmp_path / "a")} <= set(synced)
    assert synced[-1] == str(tmp_path / "a/b")


def test_a_full_disk_is_worth_another_try_and_leaves_nothing(tmp_path, monkeypatch):
    def no_space(descriptor):
        raise OSError(store_local.errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", no_space)
    with pytest.raises(RetryableError, match="disk is full"):
        LocalStore(tmp_path).create("a", b"x")
    assert files_below(tmp_path) == set()


def test_a_file_system_without_hard_links_is_refused_in_words(tmp_path, monkeypatch):
    def no_links(source, target):
        raise OSError(store_local.errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", no_links)
    with pytest.raises(FatalError, match="file system without hard links"):
        LocalStore(tmp_path).probe()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission_is_fatal(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(FatalError, match="permission denied"):
        LocalStore(tmp_path / "lake").create("a", b"x")


names = st.text("ab-.=0", min_size=1, max_size=3).filter(lambda name: name not in (".", ".."))
paths = st.lists(names, min_size=1, max_size=3).map("/".join)


@given(st.lists(paths, max_size=12), paths | st.just(""), st.none() | paths, st.none() | st.integers(0, 5))
def test_listing_is_that_of_s3_in_order_prefix_start_and_limit(tmp_path_factory, wanted, prefix, start_after, limit):
    folder = tmp_path_factory.mktemp("lake")
    store, there = LocalStore(folder), []
    for path in wanted:
        target = folder / path
        if any(parent.is_file() for parent in target.parents) or target.exists():
            continue  # a folder cannot be a file too, as it can in S3
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(b"")
        there.append(path)
    expected = [p for p in sorted(there) if p.startswith(prefix) and (start_after is None or p > start_after)][:limit]
    assert [entry.path for entry in store.list(prefix, start_after, limit)] == expected
