"""The ten kinds of damage that `verify` must find, done by hand to what flattener and s3writer made of raw records.

Each gives exactly its word and its path, and nothing else. Finer cases stand in test_verify.py, on rows made by hand.
"""

from __future__ import annotations

import copy
import shutil

import msgspec
import numpy as np
import pyarrow as pa
import pytest

from shared.lake import claims, layout, parquet
from shared.lake.store_local import LocalStore
from shared.lake.verify import verify
from tests.raw_lakes import RawLake, raw_records


class Lake:
    """Both kinds, two partitions each, three claims a line: over hours, with gaps, dead letters and empty books."""

    def __init__(self, folder) -> None:
        self.folder = folder
        self.store = LocalStore(folder)
        self.lines = {}
        for kind in ("fobs", "fobd"):
            for partition in (0, 1):
                line = self.lines[kind, partition] = RawLake(self.store, kind=kind, partition=partition)
                line.flush_all(raw_records(0, 119, kind, partition=partition), 40)

    def claim(self, kind, number, partition=0):
        return self.lines[kind, partition].claims[number]

    def claim_path(self, kind, number, partition=0) -> str:
        return layout.claim_path(kind, "main", partition, self.claim(kind, number, partition).first)

    def file(self, kind, claim, number=0) -> str:
        return self.claim(kind, claim).files[number].path

    def read(self, path: str) -> bytes:
        return (self.folder / path).read_bytes()

    def write(self, path: str, body: bytes) -> None:
        (self.folder / path).parent.mkdir(parents=True, exist_ok=True)
        (self.folder / path).write_bytes(body)

    def alter(self, kind, number, **fields) -> None:
        self.write(
            self.claim_path(kind, number), claims.encode(msgspec.structs.replace(self.claim(kind, number), **fields))
        )


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Lake:
    return Lake(tmp_path_factory.mktemp("whole") / "lake")


@pytest.fixture
def lake(whole, tmp_path) -> Lake:
    lake = copy.deepcopy(whole)
    lake.folder = tmp_path / "lake"
    shutil.copytree(whole.folder, lake.folder)
    lake.store = LocalStore(lake.folder)
    return lake


def missing_object(lake, kind):
    path = lake.file(kind, 1)
    (lake.folder / path).unlink()
    return "file-missing", path


def extra_object(lake, kind):
    """Rows that are there twice: a whole file of ours, under the name of a claim that nobody made."""
    known = layout.parse_data_path(lake.file(kind, 1))
    path = layout.data_path(kind, known.book, known.hour_start_us, "main", 0, known.first, known.last + 1)
    lake.write(path, lake.read(lake.file(kind, 1)))
    return "foreign-object", path


def truncated_object(lake, kind):
    path = lake.file(kind, 2, 1)
    body = lake.read(path)
    lake.write(path, body[: len(body) // 2])
    return "file-damaged", path


def overlapping_ranges(lake, kind):
    lake.alter(kind, 1, last=lake.claim(kind, 1).last + 5)
    # The names of its files say where it ended; so it takes the next claim to see that it now ends later.
    return "overlap", lake.claim_path(kind, 2)


def hole(lake, kind):
    """A claim in the middle and its files are gone, and the one behind it is made to fit."""
    claim, behind = lake.claim(kind, 1), lake.claim(kind, 2)
    (lake.folder / lake.claim_path(kind, 1)).unlink()
    for entry in claim.files:
        (lake.folder / entry.path).unlink()
    holes = ((claim.done_before + 1, claim.done_after),)
    lake.alter(kind, 2, done_before=claim.done_before, holes=holes)
    assert behind.first == claim.last + 1
    return "hole", lake.claim_path(kind, 2)


def wrong_rows(lake, kind):
    """One price is another; digest and footer are left as they were."""
    path = lake.file(kind, 0)
    body = lake.read(path)
    rows = parquet.decode(body, kind)
    price = rows.column("price").to_numpy().copy()
    price[0] = np.nextafter(price[0], np.inf)
    at = rows.column_names.index("price")
    rows = rows.set_column(at, "price", pa.array(price, pa.float64(), from_pandas=True))
    lake.write(path, parquet.encode(rows, parquet.read_footer(body)))
    return "digest-wrong", path


def wrong_digest(lake, kind):
    """The file is right; what its claim says of it is not."""
    entry, *others = lake.claim(kind, 2).files
    lake.alter(kind, 2, files=(msgspec.structs.replace(entry, digest="0" * 32), *others))
    return "digest-wrong", entry.path


def foreign_file(lake, kind):
    path = f"{lake.file(kind, 0).rpartition('/')[0]}/part-00000.snappy.parquet"
    lake.write(path, b"of another tool")
    return "foreign-object", path


def claim_altered(lake, kind):
    lake.alter(kind, 1, done_after=lake.claim(kind, 1).done_before - 1)
    return "claim-damaged", lake.claim_path(kind, 1)


def two_lineages(lake, kind):
    """Another environment has begun a line under the same prefix and stream."""
    path = layout.origin_path(kind, "main", 2)
    lake.write(path, claims.encode(claims.Origin(first=0, cluster_id="cluster-b", topic=f"norm-{kind}")))
    return "two-lineages", path


DAMAGE = [
    missing_object,
    extra_object,
    truncated_object,
    overlapping_ranges,
    hole,
    wrong_rows,
    wrong_digest,
    foreign_file,
    claim_altered,
    two_lineages,
]
ALSO = {  # what else such damage means, of the same claims
    overlapping_ranges: {"file-not-of-claim"},
    claim_altered: {"done-broken", "rows-misplaced"},
}


def test_the_lake_is_whole_before_it_is_damaged(lake):
    report = verify(lake.store, strict=True)
    assert (report.verdict, report.claims, len(report.lines)) == ("complete", 12, 4)


@pytest.mark.parametrize("kind", ["fobs", "fobd"])
@pytest.mark.parametrize("damage", DAMAGE, ids=lambda damage: damage.__name__)
def test_damage_is_found_by_its_word_and_its_path(lake, damage, kind):
    expected = damage(lake, kind)
    report = verify(lake.store, strict=True)
    found = {(problem.what, problem.path) for problem in report.problems}
    assert expected in found
    assert {what for what, _ in found - {expected}} == ALSO.get(damage, set())
    assert (report.verdict, report.exit_code) == ("damaged", 1)
    others = [problem for problem in report.problems if problem.line is not None and problem.line.kind != kind]
    assert others == []
