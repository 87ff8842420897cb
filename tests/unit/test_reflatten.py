"""Rows made again from raw records: the same rows, into another lake or stream, whatever is killed; and what is refused."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from msgspec import structs

from cryptoflow import lake, reflatten_line
from cryptoflow.reflatten import reflatten
from cryptoflow.reflatten_line import Remaker
from cryptoflow.reflatten_range import Wanted
from cryptoflow.renormalise import expected
from shared.errors import FatalError
from shared.lake import claims, layout, parquet
from shared.lake.claim_log import ClaimLog
from shared.lake.claims import Claim, Origin
from shared.lake.raw_source import RawLine
from shared.lake.store_local import LocalStore
from shared.lake.verify import verify
from shared.lake.verify_against import verify_against
from tests.raw_lakes import BEGIN_NS, HOUR_NS, RawLake, Source, raw_records

RECORDS = raw_records(0, 199)
ALL = Wanted(("fobs", "fobd"))


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> LocalStore:
    """A lake of 200 raw records of one partition, a minute apart, in claims of 40."""
    store = LocalStore(tmp_path_factory.mktemp("lake") / "lake")
    RawLake(store).flush_all(RECORDS, 40)
    return store


@pytest.fixture
def target(tmp_path) -> LocalStore:
    return LocalStore(tmp_path / "again")


def source(records=None, **how) -> Source:
    return Source({("fobs", 0): RECORDS if records is None else records}, **how)


def rows_of(store, stream="main") -> dict[str, list[dict]]:
    """The rows of a line by book and hour, in the order of their files."""
    found: dict[str, list[dict]] = {}
    for entry in sorted(store.walk("fobs/")):
        if layout.parse_data_path(entry.path).stream == stream:
            folder = entry.path.rpartition("/")[0]
            found.setdefault(folder, []).extend(parquet.decode(store.get(entry.path), "fobs").to_pylist())
    return found


def claims_of(store, stream="main") -> list[Claim]:
    prefix = layout.claims_prefix("fobs", stream, 0)
    paths = sorted(entry.path for entry in store.list(prefix) if not entry.path.endswith(("origin.json", "lost.json")))
    return [claims.decode(store.get(path), Claim, path) for path in paths]


def proven(store, records=None):
    report = verify(store, strict=True)
    verify_against(store, report, source(records), expected)
    return report


def test_what_is_made_again_is_row_by_row_what_was_there_and_is_proven_like_it(store, target):
    made = reflatten(store, target, source(), ALL)
    assert rows_of(target) == rows_of(store)
    report = proven(target)
    assert (report.verdict, report.against.raw_records, report.against.not_held) == ("complete", 200, 0)
    assert made.exit_code == 0
    (line,) = made.lines
    assert (line.raw_offsets, line.rows, line.claims, line.not_made) == (200, report.rows, 4, ())
    assert f"{report.rows:,} rows of 200 raw records" in str(made)


def test_its_claims_are_of_raw_offsets_and_end_with_the_hours(store, target):
    reflatten(store, target, source(), ALL)
    made = claims_of(target)
    assert [(claim.first, claim.last) for claim in made] == [(0, 59), (60, 119), (120, 179), (180, 199)]
    assert all((claim.done_before, claim.done_after) == (claim.first - 1, claim.last) for claim in made)
    assert {(claim.topic, claim.stream) for claim in made} == {("raw-fobs", "main")}
    path = layout.origin_path("fobs", "main", 0)
    origin = claims.decode(target.get(path), Origin, path)
    assert origin == Origin(first=0, cluster_id="cluster-a", topic="raw-fobs", raw_stream="main")
    hours = [{layout.parse_data_path(entry.path).hour_start_us for entry in claim.files} for claim in made]
    assert [len(each) for each in hours] == [1, 1, 1, 1]


def test_a_large_hour_is_cut_and_holds_the_same_rows(store, target, monkeypatch):
    monkeypatch.setattr(reflatten_line, "CLAIM_ROWS", 50)
    monkeypatch.setattr("cryptoflow.renormalise.NORM_ROWS", 20)
    reflatten(store, target, source(), ALL)
    assert len(claims_of(target)) > 10
    assert rows_of(target) == rows_of(store)
    assert proven(target).verdict == "complete"


def test_a_parser_that_reads_the_records_rightly_now_gives_the_right_rows(store, target):
    """The lake has what a bug made of them: the source's records stand for what they really say."""
    right = [structs.replace(record, value=record.value.replace(b'"2"]', b'"2.5"]')) for record in RECORDS]
    assert proven(store, right).verdict == "damaged"
    reflatten(store, target, source(right), ALL)
    assert proven(target, right).verdict == "complete"
    quantities = {row["quantity"] for rows in rows_of(target).values() for row in rows}
    assert 2.5 in quantities
    assert 2.0 not in quantities


def test_a_new_stream_stands_beside_the_old_one_in_the_same_lake(tmp_path):
    store = LocalStore(tmp_path)
    RawLake(store).flush_all(RECORDS, 40)
    reflatten(store, store, source(), ALL, as_stream="main_2")
    assert rows_of(store, "main_2") == rows_of(store)
    report = proven(store)
    assert report.verdict == "complete"
    assert [(line.line.stream, line.raw_records) for line in report.against.lines] == [("main", 200), ("main_2", 200)]
    with pytest.raises(FatalError, match=r"its streams are main$"):
        reflatten(store, store, source(), replace(ALL, stream="other"), as_stream="main_2")


def test_kinds_and_partitions_can_be_made_by_runs_of_their_own(tmp_path, target):
    store = LocalStore(tmp_path / "lake")
    records = {}
    for kind, partition in (("fobs", 0), ("fobd", 0), ("fobd", 1)):
        records[kind, partition] = raw_records(0, 59, kind, partition=partition)
        RawLake(store, kind=kind, partition=partition).flush_all(records[kind, partition], 30)
    for wanted in (Wanted(("fobs",)), Wanted(("fobd",), partition=1), Wanted(("fobd",), partition=0)):
        reflatten(store, target, Source(records), wanted)
    report = verify(target, strict=True)
    verify_against(target, report, Source(records), expected)
    assert (report.verdict, report.against.raw_records, len(report.lines)) == ("complete", 180, 3)


def test_all_that_is_asked_of_a_lake_is_answered_as_by_the_one_it_was_made_of(store, target):
    reflatten(store, target, source(), ALL)
    here, there = lake.watermark(store.url), lake.watermark(target.url)
    assert (here.lines[0].closed_until_us, here.lines[0].books) == (
        there.lines[0].closed_until_us,
        there.lines[0].books,
    )
    gaps = [[gap.as_dict() for gap in lake.gaps(url)] for url in (store.url, target.url)]
    assert gaps[0] == gaps[1]
    assert {gap["cause"] for gap in gaps[1]} == {"poll", "malformed"}


def test_an_s3writer_refuses_to_go_on_with_a_line_made_again(store, target):
    reflatten(store, target, source(), ALL)
    log = ClaimLog(kind="fobs", stream="main", partition=0, topic="norm-fobs", cluster_id="cluster-a")
    raw = RawLine("fobs", "main", 0, "raw-fobs", "cluster-a")
    with pytest.raises(FatalError, match="belongs to topic raw-fobs"):
        Remaker(target, log, source(), raw)._play(log.resume(start=200, hint=200, nonce="n"))


# Which part ---------------------------------------------------------------------------------------------------------


def test_a_range_of_raw_offsets_is_a_whole_lake_of_its_own(store, target):
    reflatten(store, target, source(), Wanted(("fobs",), partition=0, first=50, last=99))
    report = proven(target)
    assert report.verdict == "complete"
    assert report.against.raw_records == 50
    assert [(claim.first, claim.last) for claim in claims_of(target)] == [(50, 59), (60, 99)]


@pytest.mark.parametrize(
    ("start", "end", "expected_range"),
    [
        (None, None, (0, 199)),
        (45, 50, (40, 79)),
        (40, 80, (40, 79)),
        (39, 81, (0, 119)),
        (None, 1, (0, 39)),
        (199, None, (160, 199)),
    ],
)
def test_times_choose_the_claims_that_hold_what_was_received_then(store, target, start, end, expected_range):
    times = [None if minute is None else BEGIN_NS + minute * HOUR_NS // 60 for minute in (start, end)]
    reflatten(store, target, source(), replace(ALL, start_ns=times[0], end_ns=times[1]))
    made = claims_of(target)
    assert (made[0].first, made[-1].last) == expected_range


@pytest.mark.parametrize(
    "wanted",
    [
        replace(ALL, start_ns=BEGIN_NS + 300 * HOUR_NS),
        replace(ALL, end_ns=BEGIN_NS - 1),
        replace(ALL, partition=1),
        Wanted(("fobd",)),
        replace(ALL, stream="other"),
    ],
    ids=["after all", "before all", "another partition", "another kind", "another stream"],
)
def test_where_the_lake_has_nothing_of_it_nothing_is_made(store, target, wanted):
    with pytest.raises(FatalError, match="has nothing of that"):
        reflatten(store, target, source(), wanted)
    assert list(target.walk("")) == []


def test_what_the_source_does_not_hold_is_said_and_not_made(store, target):
    made = reflatten(store, target, source(spans=((100, 149),)), ALL)
    assert (made.exit_code, made.not_made) == (3, 150)
    assert made.lines[0].not_made == ((0, 99), (150, 199))
    assert proven(target).verdict == "complete"
    assert (claims_of(target)[0].first, claims_of(target)[-1].last) == (100, 149)


def test_what_the_source_lacks_in_between_is_a_declared_hole(store, target):
    records = [record for record in RECORDS if not 70 <= record.offset <= 79 and record.offset != 130]
    made = reflatten(store, target, source(records), ALL)
    assert made.exit_code == 3
    report = verify(target, strict=True)
    assert (report.verdict, report.exit_code) == ("lossy", 3)
    assert [(loss.first, loss.last) for loss in report.losses] == [(70, 79), (130, 130)]
    assert made.lines[0].in_holes == 11


def test_a_source_that_holds_nothing_is_refused_in_its_words(store, target):
    with pytest.raises(FatalError, match="nothing to make it of: memory has none of these"):
        reflatten(store, target, Source({}), ALL)


# Killed, run again, run twice ---------------------------------------------------------------------------------------


class Killed(BaseException):
    """Nothing catches it, as nothing catches SIGKILL."""


@dataclass
class Dying:
    """A store whose process dies at its `nth` create: before or after it is applied."""

    store: LocalStore
    nth: int
    applied: bool
    creates: int = 0

    def create(self, path: str, body: bytes) -> bool:
        self.creates += 1
        if self.creates < self.nth:
            return self.store.create(path, body)
        if self.creates == self.nth and self.applied:
            self.store.create(path, body)
        raise Killed

    def __getattr__(self, name: str):
        return getattr(self.store, name)


@pytest.mark.parametrize("applied", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("nth", [1, 2, 3, 4, 5, 7, 10, 13])
def test_killed_at_any_create_it_goes_on_and_nothing_is_doubled(store, target, nth, applied):
    with pytest.raises(Killed):
        reflatten(store, Dying(target, nth, applied), source(), ALL)
    before = {entry.path for entry in target.walk("")}
    made = reflatten(store, target, source(), ALL)
    assert before <= {entry.path for entry in target.walk("")}
    assert rows_of(target) == rows_of(store)
    assert proven(target).verdict == "complete"
    assert made.exit_code == 0


def test_killed_again_and_again_it_arrives(store, target):
    runs = 0
    while True:
        runs += 1
        try:
            reflatten(store, Dying(target, 3, applied=True), source(), ALL)
        except Killed:
            assert runs < 50
        else:
            break
    assert runs > 3
    assert rows_of(target) == rows_of(store)
    assert proven(target).verdict == "complete"


def test_run_again_it_adds_what_the_lake_has_taken_since(tmp_path, target):
    store = LocalStore(tmp_path / "lake")
    line = RawLake(store)
    line.flush_all(RECORDS[:100], 50)
    reflatten(store, target, source(), ALL)
    line.flush_all(RECORDS[100:], 50)
    made = reflatten(store, target, source(), ALL)
    assert made.lines[0].raw_offsets == 100
    assert proven(target).against.raw_records == 200
    assert reflatten(store, target, source(), ALL).lines[0].claims == 0


def test_two_runs_at_once_make_one_lake(store, target):
    """The second overtakes the first between two of its claims, and is overtaken by it."""

    class Overtaken(Dying):
        def create(self, path, body):
            if path.endswith("00060.json"):  # the second claim
                other = Wanted(("fobs",), partition=0, first=0, last=99)
                reflatten(store, self.store, source(), other)
            return self.store.create(path, body)

    reflatten(store, Overtaken(target, 0, applied=True), source(), ALL)
    assert [(claim.first, claim.last) for claim in claims_of(target)] == [
        (0, 59),
        (60, 99),
        (100, 119),
        (120, 179),
        (180, 199),
    ]
    assert rows_of(target) == rows_of(store)
    assert proven(target).verdict == "complete"


def test_records_that_are_gone_when_a_claim_is_to_be_finished_are_a_declared_loss(store, target):
    # Dies with a claim of 60 records made, and none of its files.
    with pytest.raises(Killed):
        reflatten(store, Dying(target, 3, applied=False), source(), ALL)
    reflatten(store, target, source(spans=((30, 199),)), ALL)
    report = verify(target, strict=True)
    assert (report.verdict, [loss.what for loss in report.losses]) == ("lossy", ["lost-claim"])
    assert proven(target).verdict == "lossy"


def test_what_retention_took_between_two_runs_is_a_declared_hole(store, target):
    reflatten(store, target, source(), Wanted(("fobs",), partition=0, first=0, last=99))
    made = reflatten(store, target, source(spans=((120, 199),)), ALL)
    report = verify(target, strict=True)
    assert [(loss.what, loss.first, loss.last) for loss in report.losses] == [("source-hole", 100, 119)]
    assert (made.lines[0].in_holes, made.exit_code) == (20, 3)
    assert made.lines[0].not_made == ()  # what an earlier run made is there


def test_a_claim_begun_by_a_release_that_read_the_records_otherwise_is_not_finished(store, target):
    with pytest.raises(Killed):
        reflatten(store, Dying(target, 4, applied=False), source(), ALL)
    other = [structs.replace(record, value=record.value.replace(b'"2"]', b'"2.5"]')) for record in RECORDS]
    with pytest.raises(FatalError, match="was begun by another release"):
        reflatten(store, target, source(other), ALL)


# Refused ------------------------------------------------------------------------------------------------------------


def refused(match, store, target, wanted=ALL, **how):
    before = sorted(target.walk(""))
    with pytest.raises(FatalError, match=match):
        reflatten(store, target, source(), wanted, **how)
    assert sorted(target.walk("")) == before


@pytest.mark.parametrize("how", [{}, {"as_stream": "main"}], ids=["by default", "by name"])
def test_it_is_never_made_again_in_place(store, how):
    refused("never made again in place", store, store, **how)


def test_one_lake_in_the_other_is_refused(store):
    refused("one in the other", store, LocalStore(f"{store.url}/again"))


def test_a_lake_of_another_origin_is_refused(store, target):
    RawLake(target, stream="other").flush(RECORDS[:10])
    refused("holds lines of another origin", store, target)


def test_a_line_of_another_cluster_is_refused(store, target):
    reflatten(store, target, source(), ALL)
    path = layout.origin_path("fobs", "main", 0)
    origin = Origin(first=0, cluster_id="cluster-b", topic="raw-fobs", raw_stream="main")
    (Path(target.url) / path).write_bytes(claims.encode(origin))
    refused("cluster-b", store, target)


def test_a_stream_of_the_same_lake_that_is_live_is_refused(tmp_path):
    store = LocalStore(tmp_path)
    RawLake(store).flush(RECORDS[:10])
    RawLake(store, stream="second").flush(RECORDS[:10])
    refused("holds lines of another origin", store, store, replace(ALL, stream="main"), as_stream="second")
    refused("has main, second streams: say which", store, LocalStore(f"{tmp_path}-again"))


def test_a_folder_with_other_things_in_it_is_refused(store, target):
    target.create("notes.txt", b"mine")
    refused("is not empty and no lake of ours: notes.txt", store, target)


def test_a_range_that_would_leave_a_hole_is_refused(store, target):
    reflatten(store, target, source(), Wanted(("fobs",), partition=0, first=20, last=59))
    refused(
        "holds raw offsets 20-59, and what is wanted begins at 61",
        store,
        target,
        Wanted(("fobs",), None, 0, None, None, 61, 99),
    )
    reflatten(store, target, source(), Wanted(("fobs",), partition=0, first=60, last=99))
    assert proven(target).against.raw_records == 80
