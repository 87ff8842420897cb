"""Every kind of damage done by hand to a small real lake, and found by its name and its path."""

from __future__ import annotations

import copy
import json
import shutil
from typing import TYPE_CHECKING

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from shared.errors import RetryableError
from shared.lake import claims, layout, parquet
from shared.lake.store_local import LocalStore
from shared.lake.verify import verify
from tests.lakes import BTC, CHINESE, ETH, HOUR_0, HOUR_1, ODD, Line, changed, fobs_rows

if TYPE_CHECKING:
    from pathlib import Path


class Lake:
    """Two partitions: one of three finished claims and an empty one, one that starts at offset 7."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.store = LocalStore(folder)
        self.line = Line(self.store)
        self.line.flush((BTC, HOUR_0), (ETH, HOUR_0))
        self.line.flush((BTC, HOUR_0), (BTC, HOUR_1), (CHINESE, HOUR_0))
        self.line.flush()
        self.line.flush((ETH, HOUR_1))
        self.other = Line(self.store, partition=1, first=7)
        self.other.flush((ODD, HOUR_0))

    def claim_path(self, number: int, line: Line | None = None) -> str:
        line = line or self.line
        return layout.claim_path("fobs", line.stream, line.partition, line.claims[number].first)

    def file(self, claim: int, number: int) -> str:
        return self.line.claims[claim].files[number].path

    def remove(self, path: str) -> None:
        (self.folder / path).unlink()

    def write(self, path: str, body: bytes) -> None:
        (self.folder / path).parent.mkdir(parents=True, exist_ok=True)
        (self.folder / path).write_bytes(body)

    def read(self, path: str) -> bytes:
        return (self.folder / path).read_bytes()

    def alter_claim(self, number: int, **fields) -> None:
        claim = changed(self.line.claims[number], **fields)
        self.write(self.claim_path(number), claims.encode(claim))

    def rewrite(self, path: str, rows: pa.Table, **footer) -> None:
        """Another file in a file's place, whose footer keeps what it said."""
        said = parquet.read_footer(self.read(path))
        fields = {name: getattr(said, name) for name in said.__slots__} | {"rows": rows.num_rows, **footer}
        self.write(path, parquet.encode(rows, parquet.Footer(**fields)))

    def rows(self, path: str) -> pa.Table:
        return parquet.decode(self.read(path), "fobs")


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Lake:
    return Lake(tmp_path_factory.mktemp("whole") / "lake")


@pytest.fixture
def lake(whole, tmp_path) -> Lake:
    """A copy of the whole lake, to be damaged."""
    lake = copy.deepcopy(whole)
    lake.folder = tmp_path / "lake"
    shutil.copytree(whole.folder, lake.folder)
    lake.store = lake.line.store = lake.other.store = LocalStore(lake.folder)
    return lake


def found(lake: Lake, **how) -> set[tuple[str, str]]:
    return {(problem.what, problem.path) for problem in verify(lake.store, **how).problems}


@pytest.mark.parametrize("how", [{}, {"fast": True}, {"strict": True}], ids=["full", "fast", "strict"])
def test_a_whole_lake_is_proven_complete(lake, how):
    report = verify(lake.store, **how)
    assert report.problems == report.losses == report.notes == []
    assert (report.verdict, report.ok, report.exit_code) == ("complete", True, 0)
    assert (report.claims, report.files, report.rows) == (5, 7, 140)
    assert report.objects == 7 + 5 + 2
    reach = [(line.line.partition, line.first, line.last, line.done) for line in report.lines]
    assert reach == [(0, 0, 39, 29), (1, 7, 16, 4)]


def test_the_report_is_json(lake):
    lake.remove(lake.file(0, 1))
    report = json.loads(json.dumps(verify(lake.store).as_dict()))
    assert report["verdict"] == "damaged"
    assert report["problems"] == [
        {
            "what": "file-missing",
            "path": lake.file(0, 1),
            "detail": f"{lake.claim_path(0)} promises 20 rows in it",
            "line": {"kind": "fobs", "stream": "main", "partition": 0},
        }
    ]


def test_nothing_is_not_complete(tmp_path):
    report = verify(LocalStore(tmp_path))
    assert (report.verdict, report.ok, report.exit_code) == ("empty", False, 2)


def test_progress_is_told_claim_by_claim(lake):
    told = []
    verify(lake.store, progress=lambda done, total: told.append((done, total)))
    assert told == [(number, 5) for number in range(1, 6)]


# Damage of a file ---------------------------------------------------------------------------------------------------


def missing_file(lake):
    lake.remove(lake.file(1, 1))
    return "file-missing", lake.file(1, 1)


def truncated_file(lake):
    path = lake.file(0, 0)
    lake.write(path, lake.read(path)[:-100])
    return "file-damaged", path


def empty_file(lake):
    path = lake.file(0, 0)
    lake.write(path, b"")
    return "file-damaged", path


def fewer_rows(lake):
    path = lake.file(0, 0)
    lake.rewrite(path, lake.rows(path).slice(4))
    return "rows-wrong", path


def another_files_footer(lake):
    path = lake.file(0, 0)
    lake.rewrite(path, lake.rows(path), symbol="ETHUSDT")
    return "footer-wrong", path


def another_digest_in_the_footer(lake):
    path = lake.file(0, 0)
    lake.rewrite(path, lake.rows(path), digest="0" * 32)
    return "digest-wrong", path


def another_symbols_file(lake):
    path = lake.file(0, 0)
    lake.write(path, lake.read(lake.file(0, 1)))
    return "digest-wrong", path


def foreign_parquet_in_a_files_place(lake):
    path = lake.file(0, 0)
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table({"a": [1]}), sink)
    lake.write(path, sink.getvalue().to_pybytes())
    return "file-damaged", path


FOOTER_DAMAGE = [
    missing_file,
    truncated_file,
    empty_file,
    fewer_rows,
    another_files_footer,
    another_digest_in_the_footer,
    another_symbols_file,
    foreign_parquet_in_a_files_place,
]


@pytest.mark.parametrize("how", [{}, {"fast": True}], ids=["full", "fast"])
@pytest.mark.parametrize("damage", FOOTER_DAMAGE, ids=lambda damage: damage.__name__)
def test_a_damaged_file_is_found(lake, damage, how):
    expected = damage(lake)
    assert found(lake, **how) == {expected}
    assert verify(lake.store, **how).exit_code == 1


def one_price_changed(lake):
    path = lake.file(0, 0)
    rows = lake.rows(path)
    price = rows.column("price").to_numpy().copy()
    price[3] += 1e-12
    lake.rewrite(path, rows.set_column(7, "price", pa.array(price)))
    return "digest-wrong", path


def two_rows_changed_places(lake):
    path = lake.file(0, 0)
    rows = lake.rows(path)
    lake.rewrite(path, rows.take(pa.array([1, 0, *range(2, rows.num_rows)])))
    return "digest-wrong", path


def bytes_flipped_in_the_middle(lake):
    path = lake.file(0, 0)
    body = bytearray(lake.read(path))
    for at in range(200, 260):
        body[at] ^= 0xFF
    lake.write(path, bytes(body))
    return "file-damaged", path


@pytest.mark.parametrize(
    "damage",
    [one_price_changed, two_rows_changed_places, bytes_flipped_in_the_middle],
    ids=lambda damage: damage.__name__,
)
def test_what_only_the_rows_show_is_found_by_reading_them(lake, damage):
    expected = damage(lake)
    assert found(lake) == {expected}
    assert found(lake, fast=True) == set()


def put_other_rows(lake: Lake, rows: pa.Table) -> None:
    """A file and a claim that agree with each other, and hold rows that cannot be."""
    entry, body = lake.line.file(rows, BTC, HOUR_0, 0, 9)
    lake.write(entry.path, body)
    lake.alter_claim(0, files=(entry, lake.line.claims[0].files[1]))


@pytest.mark.parametrize(
    ("rows", "what"),
    [
        (lambda: fobs_rows(5, hour=HOUR_1), "rows-misplaced"),
        (lambda: fobs_rows(5, partition=1), "rows-misplaced"),
        (lambda: fobs_rows(5, raw_offset=8), "rows-misplaced"),
        (lambda: fobs_rows(5).take(pa.array([*range(19, -1, -1)])), "rows-misplaced"),
        (
            lambda: fobs_rows(5).set_column(1, "recv_ns", pa.array([HOUR_0 * 1000] * 20)),
            "rows-misplaced",
        ),
        (lambda: fobs_rows(5).slice(0, 0), "rows-wrong"),
    ],
    ids=["of another hour", "of another partition", "outside the claim", "in another order", "at two times", "none"],
)
def test_rows_that_cannot_be_there_are_found_though_the_digest_is_right(lake, rows, what):
    put_other_rows(lake, rows())
    assert found(lake) == {(what, lake.file(0, 0))}


@pytest.mark.parametrize(
    "rows",
    [lambda: fobs_rows(4), lambda: fobs_rows(6)],
    ids=["a raw message without a row", "a raw message in two files"],
)
def test_every_raw_message_has_rows_in_one_file(lake, rows):
    put_other_rows(lake, rows())
    assert found(lake) == {("rows-missing", lake.claim_path(0))}


def test_a_dead_letter_that_named_no_book_needs_no_row(lake):
    put_other_rows(lake, fobs_rows(4))
    claim = claims.decode(lake.read(lake.claim_path(0)), claims.Claim, "")
    lake.write(lake.claim_path(0), claims.encode(changed(claim, dead=1)))
    assert found(lake) == set()


# Damage of the claim log --------------------------------------------------------------------------------------------


def no_origin(lake):
    path = layout.origin_path("fobs", "main", 0)
    lake.remove(path)
    return {("origin-missing", path)}


def broken_origin(lake):
    path = layout.origin_path("fobs", "main", 0)
    lake.write(path, b'{"v":1,"first":0')
    return {("origin-damaged", path)}


def origin_of_a_newer_release(lake):
    path = layout.origin_path("fobs", "main", 0)
    lake.write(path, b'{"v":2}')
    return {("unknown-version", path)}


def origin_before_the_first_claim(lake):
    origin = claims.Origin(first=3, cluster_id="cluster-a", topic="norm-fobs")
    lake.write(layout.origin_path("fobs", "main", 1), claims.encode(origin))
    return {("hole", lake.claim_path(0, lake.other))}


def first_claim_gone(lake):
    lake.remove(lake.claim_path(0))
    foreign = {("foreign-object", entry.path) for entry in lake.line.claims[0].files}
    return {("hole", lake.claim_path(1)), ("done-broken", lake.claim_path(1)), *foreign}


def claim_in_the_middle_gone(lake):
    lake.remove(lake.claim_path(1))
    foreign = {("foreign-object", entry.path) for entry in lake.line.claims[1].files}
    return {("hole", lake.claim_path(2)), ("done-broken", lake.claim_path(2)), *foreign}


def broken_claim(lake):
    lake.write(lake.claim_path(1), b"not json")
    return {("claim-damaged", lake.claim_path(1))}


def claim_of_a_newer_release(lake):
    lake.write(lake.claim_path(1), lake.read(lake.claim_path(1)).replace(b'"v":1', b'"v":9'))
    return {("unknown-version", lake.claim_path(1))}


def claim_of_another_partition(lake):
    lake.alter_claim(2, partition=1)
    return {("claim-misplaced", lake.claim_path(2))}


def claim_of_another_topic(lake):
    lake.alter_claim(2, topic="norm-fobs-2")
    return {("another-topic", lake.claim_path(2))}


def claim_that_ends_too_early(lake):
    lake.alter_claim(2, last=27)
    return {("hole", lake.claim_path(3))}


def claim_that_ends_too_late(lake):
    lake.alter_claim(2, last=35)
    return {("overlap", lake.claim_path(3))}


def claim_that_ends_before_it_begins(lake):
    lake.alter_claim(2, last=19)
    return {("claim-damaged", lake.claim_path(2)), ("hole", lake.claim_path(3))}


def two_claims_for_one_range(lake):
    claim = changed(lake.line.claims[2], first=25)
    path = layout.claim_path("fobs", "main", 0, 25)
    lake.write(path, claims.encode(claim))
    return {("overlap", path)}


def raw_offsets_taken_twice(lake):
    lake.alter_claim(2, done_before=20, done_after=20)
    return {("done-broken", lake.claim_path(2)), ("done-broken", lake.claim_path(3))}


def raw_offsets_left_out(lake):
    lake.alter_claim(2, done_after=26)
    return {("rows-missing", lake.claim_path(2)), ("done-broken", lake.claim_path(3))}


def done_goes_back(lake):
    lake.alter_claim(2, done_after=20)
    return {("claim-damaged", lake.claim_path(2)), ("done-broken", lake.claim_path(3))}


def hole_outside_the_claim(lake):
    lake.alter_claim(0, holes=((100, 110),))
    return {("claim-damaged", lake.claim_path(0))}


def rows_inside_a_declared_hole(lake):
    lake.alter_claim(0, holes=((3, 5),))
    return {("rows-missing", lake.claim_path(0))}


def another_layout(lake):
    lake.alter_claim(2, layout=2)
    return {("claim-damaged", lake.claim_path(2))}


def claim_that_names_another_ranges_file(lake):
    files = (*lake.line.claims[0].files, lake.line.claims[1].files[0])
    lake.alter_claim(0, files=files)
    return {("file-not-of-claim", files[-1].path)}


def claim_that_names_a_file_twice(lake):
    entry = lake.line.claims[3].files[0]
    lake.alter_claim(3, files=(entry, entry))
    return {("claim-damaged", lake.claim_path(3))}


def claim_that_promises_other_rows(lake):
    entry = lake.line.claims[3].files[0]
    lake.alter_claim(3, files=(msgspec.structs.replace(entry, rows=19),))
    return {("rows-wrong", entry.path)}


def claim_that_promises_a_file_less(lake):
    first, second = lake.line.claims[0].files
    lake.alter_claim(0, files=(first,))
    return {("foreign-object", second.path), ("rows-missing", lake.claim_path(0))}


def loss_without_its_claim(lake):
    path = layout.lost_path("fobs", "main", 0, 5)
    lake.write(path, b"{}")
    return {("claim-missing", path)}


def two_clusters(lake):
    origin = claims.Origin(first=7, cluster_id="cluster-b", topic="norm-fobs")
    path = layout.origin_path("fobs", "main", 1)
    lake.write(path, claims.encode(origin))
    return {("two-lineages", path)}


LOG_DAMAGE = [
    no_origin,
    broken_origin,
    origin_of_a_newer_release,
    origin_before_the_first_claim,
    first_claim_gone,
    claim_in_the_middle_gone,
    broken_claim,
    claim_of_a_newer_release,
    claim_of_another_partition,
    claim_of_another_topic,
    claim_that_ends_too_early,
    claim_that_ends_too_late,
    claim_that_ends_before_it_begins,
    two_claims_for_one_range,
    raw_offsets_taken_twice,
    raw_offsets_left_out,
    done_goes_back,
    hole_outside_the_claim,
    rows_inside_a_declared_hole,
    another_layout,
    claim_that_names_another_ranges_file,
    claim_that_names_a_file_twice,
    claim_that_promises_other_rows,
    claim_that_promises_a_file_less,
    loss_without_its_claim,
    two_clusters,
]


@pytest.mark.parametrize("damage", LOG_DAMAGE, ids=lambda damage: damage.__name__)
def test_a_damaged_claim_log_is_found(lake, damage):
    expected = damage(lake)
    assert found(lake) == expected


def test_an_origin_of_another_topic_is_found(lake):
    origin = claims.Origin(first=7, cluster_id="cluster-a", topic="norm-fobs-2")
    path = layout.origin_path("fobs", "main", 1)
    lake.write(path, claims.encode(origin))
    assert found(lake) == {("two-lineages", path), ("another-topic", lake.claim_path(0, lake.other))}


# What lies beside ---------------------------------------------------------------------------------------------------

FOREIGN = [
    "fobs/exchange=binance/market=future/symbol=BTCUSDT/part-0.parquet",
    "fobs/exchange=binance/market=future/symbol=BTCUSDT/year=2026/month=09/day=21/hour=15/.part.crc",
    "_SUCCESS",
    "notes.txt",
    "_claims/notes.txt",
    "_claims/v1/fobs/main/00000/12.json",
    layout.data_path("fobs", BTC, HOUR_0, "main", 0, 0, 8),
    layout.data_path("fobs", BTC, HOUR_0, "main", 9, 0, 9),
    layout.data_path("fobs", ODD, HOUR_0, "main", 0, 0, 9),
]


@pytest.mark.parametrize("path", FOREIGN)
def test_a_foreign_object_is_found(lake, path):
    lake.write(path, b"x")
    assert found(lake) == {("foreign-object", path)}


def test_a_copy_of_a_file_under_another_name_is_found(lake):
    path = lake.file(0, 0).replace(".parquet", " (copy).parquet")
    lake.write(path, lake.read(lake.file(0, 0)))
    assert found(lake) == {("foreign-object", path)}


def test_leftovers_of_a_crash_and_of_a_probe_are_no_damage(lake):
    lake.write(f"{layout.TEMPORARY_ROOT}/0123", b"half")
    lake.write(f"{layout.PROBE_ROOT}/4567", b"probe")
    report = verify(lake.store)
    assert report.verdict == "complete"
    assert [note.split(":")[0] for note in report.notes] == [f"{layout.TEMPORARY_ROOT}/0123"]


# Open, lost, meanwhile ----------------------------------------------------------------------------------------------


def test_an_unfinished_last_claim_is_open_and_is_damage_only_to_the_strict(lake):
    claim = lake.line.flush((BTC, HOUR_1), (ETH, HOUR_1), complete=False)
    report = verify(lake.store)
    assert (report.verdict, report.exit_code) == ("complete", 0)
    (line,) = report.open
    assert line.open == lake.claim_path(4)
    assert line.open_files == tuple(entry.path for entry in claim.files)
    assert "1 open claim" in str(report)
    assert found(lake, strict=True) == {("file-missing", entry.path) for entry in claim.files}


def test_an_unfinished_claim_before_the_last_is_damage(lake):
    claim = lake.line.flush((BTC, HOUR_1), complete=False)
    lake.line.flush((ETH, HOUR_1))
    assert found(lake) == {("file-missing", claim.files[0].path)}


def test_a_declared_source_hole_is_a_loss(lake):
    rows = fobs_rows(3)
    put_other_rows(lake, rows)
    claim = claims.decode(lake.read(lake.claim_path(0)), claims.Claim, "")
    lake.write(lake.claim_path(0), claims.encode(changed(claim, holes=((3, 4),))))
    report = verify(lake.store)
    assert report.problems == []
    assert (report.verdict, report.ok, report.exit_code) == ("lossy", False, 3)
    (loss,) = report.losses
    assert (loss.what, loss.first, loss.last, loss.path) == ("source-hole", 3, 4, lake.claim_path(0))


def lose(lake: Lake, claim: claims.Claim, missing: tuple[str, ...], **fields) -> str:
    document = claims.LostClaim(
        kind="fobs",
        stream="main",
        partition=0,
        first=claim.first,
        last=claim.last,
        promised=fields.get("promised", claim.files),
        missing=missing,
        kafka_first=claim.last,
        writer="w",
    )
    path = layout.lost_path("fobs", "main", 0, claim.first)
    lake.write(path, claims.encode(document))
    return path


@pytest.mark.parametrize("how", [{}, {"fast": True}], ids=["full", "fast"])
def test_a_lost_claim_is_a_loss_with_the_files_that_are_not_there(lake, how):
    claim = lake.line.claims[1]
    lake.remove(claim.files[0].path)
    path = lose(lake, claim, (claim.files[0].path,))
    report = verify(lake.store, **how)
    assert report.problems == []
    assert (report.verdict, report.exit_code) == ("lossy", 3)
    (loss,) = report.losses
    assert (loss.what, loss.path, loss.files) == ("lost-claim", path, (claim.files[0].path,))


def test_a_file_that_no_loss_declares_is_damage(lake):
    claim = lake.line.claims[1]
    for entry in claim.files[:2]:
        lake.remove(entry.path)
    lose(lake, claim, (claim.files[0].path,))
    assert found(lake) == {("file-missing", claim.files[1].path)}


def test_a_loss_of_other_files_is_damage(lake):
    path = lose(lake, lake.line.claims[1], (), promised=())
    assert found(lake) == {("claim-damaged", path)}


def test_damage_outweighs_loss(lake):
    claim = lake.line.claims[1]
    lake.remove(claim.files[0].path)
    lose(lake, claim, (claim.files[0].path,))
    lake.write("x", b"x")
    assert verify(lake.store).verdict == "damaged"


def test_what_a_writer_adds_meanwhile_is_no_damage(lake):
    report = verify(lake.store, progress=lambda done, total: lake.line.flush((BTC, HOUR_1)) if done == total else None)
    assert report.problems == []
    assert report.verdict == "complete"
    assert report.notes == ["1 files were written while this ran; they are not counted"]


def test_files_of_a_damaged_claim_are_not_called_foreign(lake):
    lake.write(lake.claim_path(1), b"{")
    report = verify(lake.store)
    assert [problem.what for problem in report.problems] == ["claim-damaged"]
    assert report.notes == ["3 files belong to claims that cannot be read; they are not counted"]


class Stumbling(LocalStore):
    """A store of which every first read of an object is throttled."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.asked: set[str] = set()

    def get(self, path: str) -> bytes | None:
        if path not in self.asked:
            self.asked.add(path)
            raise RetryableError("503 SlowDown")
        return super().get(path)


def test_a_store_that_throttles_is_asked_again(lake, monkeypatch):
    monkeypatch.setattr("shared.lake.patient.BACKOFF_FIRST_SECONDS", 0.0)
    report = verify(Stumbling(lake.folder))
    assert report.ok
    assert report.rows == 140


def test_two_streams_of_one_lake_are_two_lines(lake):
    second = Line(lake.store, stream="second", cluster_id="cluster-b", topic="norm-fobs-2")
    second.flush((BTC, HOUR_0))
    report = verify(lake.store)
    assert report.problems == []
    assert [line.line.stream for line in report.lines] == ["main", "main", "second"]
