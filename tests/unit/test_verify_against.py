"""The lake against the raw records it was made from: equal, or different by name; and what cannot be compared."""

from __future__ import annotations

import copy
import json
import shutil

import msgspec
import numpy as np
import pyarrow as pa
import pytest
from msgspec.structs import replace

from cryptoflow.renormalise import expected
from shared.errors import FatalError
from shared.lake import claims, layout, parquet
from shared.lake.digest import digest
from shared.lake.store_local import LocalStore
from shared.lake.verify import verify
from shared.lake.verify_against import verify_against
from tests.raw_lakes import RawLake, Source, raw_record, raw_records


class Lake:
    """Raw offsets 0..199 of one partition in five claims, over several hours and three books."""

    def __init__(self, folder) -> None:
        self.folder = folder
        self.store = LocalStore(folder)
        self.line = RawLake(self.store)
        self.records = raw_records(0, 199)
        self.line.flush_all(self.records, 40)

    @property
    def source(self) -> Source:
        return Source({("fobs", 0): self.records})

    def rewrite(self, number: int, path: str, change) -> None:
        """Other rows in a file, with all that is told of them: its digest, footer and claim agree."""
        body = (self.folder / path).read_bytes()
        rows = change(parquet.decode(body, "fobs"))
        said = parquet.read_footer(body)
        fields = {name: getattr(said, name) for name in said.__slots__}
        entry = claims.FileEntry(path=path, rows=rows.num_rows, digest=digest(rows))
        footer = parquet.Footer(**(fields | {"rows": entry.rows, "digest": entry.digest}))
        (self.folder / path).write_bytes(parquet.encode(rows, footer))
        claim = self.line.claims[number]
        files = tuple(entry if known.path == path else known for known in claim.files)
        self.alter(number, files=files)

    def alter(self, number: int, **fields) -> None:
        claim = self.line.claims[number]
        self.line.claims[number] = msgspec.structs.replace(claim, **fields)
        path = self.folder / layout.claim_path("fobs", "main", 0, claim.first)
        path.write_bytes(claims.encode(self.line.claims[number]))

    def file_of(self, number: int, raw_offset: int) -> str:
        """The file of a claim that holds rows of this raw record."""
        for entry in self.line.claims[number].files:
            rows = parquet.decode((self.folder / entry.path).read_bytes(), "fobs")
            if raw_offset in rows.column("raw_offset").to_pylist():
                return entry.path
        raise AssertionError(raw_offset)


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Lake:
    return Lake(tmp_path_factory.mktemp("whole") / "lake")


@pytest.fixture
def lake(whole, tmp_path) -> Lake:
    """A copy of the whole lake, to be damaged."""
    lake = copy.deepcopy(whole)
    lake.folder = tmp_path / "lake"
    shutil.copytree(whole.folder, lake.folder)
    lake.store = lake.line.store = LocalStore(lake.folder)
    return lake


def compared(lake, source=None, **how):
    report = verify(lake.store, **how)
    verify_against(lake.store, report, source or lake.source, expected)
    return report


@pytest.mark.parametrize("how", [{}, {"fast": True}], ids=["full", "fast"])
def test_a_lake_that_holds_what_its_raw_records_become_is_complete(lake, how):
    report = compared(lake, **how)
    assert (report.verdict, report.exit_code, report.problems) == ("complete", 0, [])
    against = report.against
    assert (against.raw_records, against.rows, against.not_held) == (200, report.rows, 0)
    (line,) = against.lines
    assert (line.first, line.last, line.claims, line.files) == (0, 199, 5, report.files)
    assert list(line.notes("memory")) == []
    assert "200 raw records compared" in str(against)
    assert "all equal" in str(against)


def test_the_other_kind_is_compared_by_its_own_columns(tmp_path):
    store = LocalStore(tmp_path)
    records = raw_records(0, 99, "fobd", partition=3)
    RawLake(store, kind="fobd", partition=3).flush_all(records, 30)
    report = verify(store)
    verify_against(store, report, Source({("fobd", 3): records}), expected)
    assert report.verdict == "complete"
    assert report.against.raw_records == 100


# What only the source shows -----------------------------------------------------------------------------------------


def a_price_altered(lake):
    path = lake.file_of(1, 45)

    def change(rows):
        price = rows.column("price").to_numpy().copy()
        at = rows.column("raw_offset").to_pylist().index(45) + 1
        price[at] = np.nextafter(price[at], np.inf)
        return rows.set_column(7, "price", pa.array(price, pa.float64(), from_pandas=True))

    lake.rewrite(1, path, change)
    return "rows-differ", path, 45, "price", 1


def a_row_dropped(lake):
    path = lake.file_of(2, 81)

    def change(rows):
        at = rows.column("raw_offset").to_pylist().index(81)
        return pa.concat_tables([rows.slice(0, at), rows.slice(at + 1)])

    lake.rewrite(2, path, change)
    return "rows-lost", path, 81, None, 0


def a_row_doubled(lake):
    path = lake.file_of(0, 3)

    def change(rows):
        at = rows.column("raw_offset").to_pylist().index(3)
        return pa.concat_tables([rows.slice(0, at + 1), rows.slice(at)])

    lake.rewrite(0, path, change)
    return "rows-extra", path, 3, None, 1


def rows_of_one_record_in_another_order(lake):
    path = lake.file_of(3, 121)

    def change(rows):
        at = rows.column("raw_offset").to_pylist().index(121)
        order = list(range(rows.num_rows))
        order[at], order[at + 1] = order[at + 1], order[at]
        return rows.take(pa.array(order))

    lake.rewrite(3, path, change)
    return "rows-differ", path, 121, "price", 0


def a_null_filled(lake):
    path = lake.file_of(0, 6)  # a gap

    def change(rows):
        at = rows.column("raw_offset").to_pylist().index(6)
        level = rows.column("level").to_pylist()
        level[at] = 0
        return rows.set_column(9, "level", pa.array(level, pa.int32()))

    lake.rewrite(0, path, change)
    return "rows-differ", path, 6, "level", 0


CONSISTENT = [a_price_altered, a_row_dropped, a_row_doubled, rows_of_one_record_in_another_order, a_null_filled]


@pytest.mark.parametrize("damage", CONSISTENT, ids=lambda damage: damage.__name__)
def test_rows_altered_with_all_that_is_told_of_them_are_found_only_against_the_source(lake, damage):
    what, path, raw_offset, column, row = damage(lake)
    assert verify(lake.store, strict=True).verdict == "complete"
    report = compared(lake)
    assert [(problem.what, problem.path) for problem in report.problems] == [(what, path)]
    assert report.exit_code == 1
    first = report.against.differences[0]
    assert (first.what, first.path, first.raw_partition, first.raw_offset) == (what, path, 0, raw_offset)
    assert (first.column, first.row) == (column, row)
    assert f"raw record 0/{raw_offset}" in report.problems[0].detail
    against = report.against
    assert {"rows-differ": against.rows_differ, "rows-lost": against.rows_lost, "rows-extra": against.rows_extra}[what]


def test_a_difference_says_both_values(lake):
    a_price_altered(lake)
    difference = compared(lake).against.differences[0]
    assert isinstance(difference.lake, float)
    assert difference.lake == np.nextafter(difference.source, np.inf)
    assert f"price is {difference.lake}, the source gives {difference.source}" in str(difference)


def test_a_raw_record_without_a_row_is_lost_however_well_the_claim_covers_that_up(lake):
    path = lake.file_of(1, 50)
    lake.rewrite(1, path, lambda rows: rows.filter(pa.compute.not_equal(rows.column("raw_offset"), 50)))
    lake.alter(1, dead=lake.line.claims[1].dead + 1)
    assert verify(lake.store).verdict == "complete"
    report = compared(lake)
    assert [(problem.what, problem.path) for problem in report.problems] == [("rows-lost", path)]
    assert {difference.raw_offset for difference in report.against.differences} == {50}


def test_a_file_left_out_with_its_claims_word_is_lost(lake):
    claim = lake.line.claims[1]
    gone, *kept = claim.files
    (lake.folder / gone.path).unlink()
    lake.alter(1, files=tuple(kept), dead=100)
    assert verify(lake.store).verdict == "complete"
    report = compared(lake)
    assert [(problem.what, problem.path) for problem in report.problems] == [("rows-lost", gone.path)]
    assert report.against.rows_lost == gone.rows


def test_rows_of_records_that_never_were_are_extra(lake):
    records = [record for record in lake.records if record.offset != 77]
    report = compared(lake, Source({("fobs", 0): records}))
    assert [(problem.what, problem.path) for problem in report.problems] == [("rows-extra", lake.file_of(1, 77))]
    assert report.against.differences[0].lake["timestamp"] == "2027-01-15T09:17:00+00:00"


def test_what_another_parser_makes_of_the_records_is_a_difference_in_every_file_concerned(lake):
    altered = [
        replace(record, value=record.value.replace(b'"2"]', b'"2.5"]')) if 40 <= record.offset < 120 else record
        for record in lake.records
    ]
    report = compared(lake, Source({("fobs", 0): altered}))
    concerned = {entry.path for claim in lake.line.claims[1:3] for entry in claim.files}
    assert {(problem.what, problem.path) for problem in report.problems} == {
        ("rows-differ", path) for path in concerned
    }
    assert {difference.column for difference in report.against.differences} == {"quantity"}
    assert report.against.rows_differ == sum(record.value.count(b'"2.5"]') for record in altered)


# What cannot be compared --------------------------------------------------------------------------------------------


def test_what_the_source_no_longer_holds_is_said_and_is_no_damage(lake):
    lake.rewrite(1, lake.file_of(1, 45), lambda rows: rows.slice(0, 1))  # in what cannot be compared
    report = compared(lake, Source({("fobs", 0): lake.records}, spans=((100, 199),)), fast=True)
    assert report.verdict == "complete"
    (line,) = report.against.lines
    assert (line.not_held, line.raw_records, line.claims) == (((0, 99),), 100, 3)
    assert list(line.notes("memory")) == ["fobs/main/0: memory no longer holds raw offsets 0-99: not compared"]


def test_of_a_file_that_the_source_holds_in_part_that_part_is_compared(lake):
    path = lake.file_of(2, 105)
    lake.rewrite(2, path, lambda rows: rows.filter(pa.compute.not_equal(rows.column("raw_offset"), 105)))
    lake.alter(2, dead=100)
    report = compared(lake, Source({("fobs", 0): lake.records}, spans=((100, 199),)))
    assert [(problem.what, problem.path) for problem in report.problems] == [("rows-lost", path)]
    before = compared(lake, Source({("fobs", 0): lake.records}, spans=((106, 199),)))
    assert before.problems == []


def test_a_source_that_ends_before_the_lake_is_no_damage(lake):
    report = compared(lake, Source({("fobs", 0): lake.records}, spans=((0, 149),)))
    assert report.verdict == "complete"
    (line,) = report.against.lines
    assert (line.not_held, line.raw_records) == (((150, 199),), 150)
    assert "does not reach raw offsets 150-199" in next(line.notes("memory"))


def test_what_retention_takes_while_it_is_read_is_not_compared(lake):
    report = compared(lake, Source({("fobs", 0): lake.records}, lose_at=90))
    assert report.problems == []
    (line,) = report.against.lines
    assert line.not_held == ((0, 89),)
    assert line.raw_records == 80 + 110  # two claims were compared before


def test_raw_records_that_are_not_stored_yet_are_told_apart_from_lost_ones(lake):
    report = compared(lake, Source({("fobs", 0): raw_records(0, 249)}))
    assert report.verdict == "complete"
    assert report.against.lines[0].not_stored == 50
    assert "50 raw offsets beyond 199 are not stored yet" in next(report.against.lines[0].notes("memory"))


def test_a_declared_hole_is_a_loss_and_it_is_said_that_the_source_could_fill_it(lake):
    lake.line.flush(raw_records(220, 229))
    report = compared(lake, Source({("fobs", 0): raw_records(0, 229)}))
    assert (report.verdict, report.exit_code) == ("lossy", 3)
    (line,) = report.against.lines
    assert (line.raw_records, line.recoverable) == (210, 20)
    assert "still holds 20 records of holes" in next(line.notes("memory"))


def test_where_nothing_is_left_to_compare_with_the_lake_is_not_verified(lake):
    report = compared(lake, Source({}))
    assert (report.verdict, report.exit_code) == ("not-compared", 2)
    assert list(report.against.lines[0].notes("memory")) == ["fobs/main/0: not compared: memory has none of these"]


def test_damage_outweighs_that_nothing_was_compared(lake):
    (lake.folder / lake.line.claims[0].files[0].path).unlink()
    assert compared(lake, Source({})).verdict == "damaged"


class Failing(Source):
    def records(self, line, first, last):
        for record in super().records(line, first, last):
            if record.offset == 100:
                raise FatalError("raw-fobs is not readable any more")
            yield record


def test_a_source_that_fails_leaves_the_lake_unverified_and_says_how_far_it_came(lake):
    report = compared(lake, Failing({("fobs", 0): lake.records}))
    assert (report.verdict, report.exit_code) == ("not-compared", 2)
    assert next(report.against.lines[0].notes("memory")) == (
        "fobs/main/0: compared only 80 raw records: raw-fobs is not readable any more"
    )


# Beside what `verify` finds -----------------------------------------------------------------------------------------


def test_a_missing_file_is_reported_once(lake):
    path = lake.line.claims[1].files[0].path
    (lake.folder / path).unlink()
    report = compared(lake)
    assert [(problem.what, problem.path) for problem in report.problems] == [("file-missing", path)]
    assert report.against.lines[0].files_missing == 1


def test_rows_altered_alone_are_named_row_by_row(lake):
    path = lake.file_of(1, 45)
    body = (lake.folder / path).read_bytes()
    rows = parquet.decode(body, "fobs")
    (lake.folder / path).write_bytes(
        parquet.encode(rows.set_column(2, "event_time", rows.column(0)), parquet.read_footer(body))
    )
    report = compared(lake)
    assert {(problem.what, problem.path) for problem in report.problems} == {
        ("digest-wrong", path),
        ("rows-differ", path),
    }
    assert report.against.differences[0].column == "event_time"


def test_a_damaged_file_is_reported_once_where_a_footer_would_do(lake):
    path = lake.line.claims[2].files[0].path
    body = bytearray((lake.folder / path).read_bytes())
    body[200:260] = bytes(60)
    (lake.folder / path).write_bytes(body)
    lake.alter(2, dead=1)
    assert [(problem.what, problem.path) for problem in compared(lake).problems] == [("file-damaged", path)]


def test_a_claim_that_cannot_be_read_does_not_hide_the_others(lake):
    path = layout.claim_path("fobs", "main", 0, lake.line.claims[2].first)
    (lake.folder / path).write_bytes(b"{")
    report = compared(lake)
    assert [(problem.what, problem.path) for problem in report.problems] == [("claim-damaged", path)]
    assert report.against.raw_records == 160


def test_raw_offsets_taken_twice_are_extra_the_second_time(lake):
    twice = RawLake(lake.store, first=200, done=199, claims=lake.line.claims)
    twice.flush(raw_records(190, 199), done_before=189)
    report = compared(lake)
    assert {problem.what for problem in report.problems} == {"done-broken", "rows-extra"}
    assert report.against.rows_extra == sum(entry.rows for entry in twice.claims[-1].files)


def test_a_line_that_was_made_again_is_compared_with_the_stream_it_was_made_from(lake, monkeypatch):
    path = lake.folder / layout.origin_path("fobs", "main", 0)
    origin = claims.decode(path.read_bytes(), claims.Origin, "")
    path.write_bytes(claims.encode(msgspec.structs.replace(origin, raw_stream="older")))
    source = Source({("fobs", 0): raw_records(0, 249)})
    report = compared(lake, source)
    assert report.against.lines[0].not_stored == 0  # it ends where it was asked to
    assert {(asked.stream, asked.topic, asked.cluster_id) for asked in source.asked} == {
        ("older", "raw-fobs", "cluster-a")
    }


def test_the_report_is_json(lake):
    a_row_doubled(lake)
    a_price_altered(lake)
    told = json.loads(json.dumps(compared(lake).as_dict()))
    assert told["verdict"] == "damaged"
    assert told["against"]["rows_extra"] == told["against"]["rows_differ"] == 1
    assert {difference["what"] for difference in told["against"]["differences"]} == {"rows-extra", "rows-differ"}


def test_no_more_of_a_topic_is_read_than_the_lake_can_be_compared_with(lake):
    source = Source({("fobs", 0): [raw_record(offset) for offset in range(50, 1000)]})
    read: list[int] = []

    class Watched(Source):
        def records(self, line, first, last):
            for record in super().records(line, first, last):
                read.append(record.offset)
                yield record

    compared(lake, Watched(source.records_of))
    assert (read[0], read[-1]) == (50, 199)
