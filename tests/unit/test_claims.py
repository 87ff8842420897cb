"""The objects of a claim log and the protocol over them, case by case. Random histories: test_claims_histories.py."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.errors import FatalError, UnknownVersion
from shared.lake import claims
from shared.lake.claim_log import (
    Create,
    CreateAll,
    DataObject,
    Digests,
    FirstAfter,
    Get,
    Own,
    Position,
    Rebuild,
    Rebuilt,
    bisect_last,
)
from shared.lake.claims import Claim, FileEntry, LostClaim, Origin
from tests.claim_logs import LOG, MemoryLake, claim_of, object_of, play

CLAIMS = "_claims/v1/fobs/main/00000/"
FIRST = f"{CLAIMS}00000000000000000000.json"


def test_claims_bytes_are_pinned():
    claim = claim_of(0, 3, object_of("a"), done_after=7, holes=((2, 4),))
    assert claims.encode(claim) == (
        b'{"v":1,"kind":"fobs","stream":"main","partition":0,"first":0,"last":3,"layout":1,"schema_version":1,'
        b'"topic":"norm-fobs","files":[{"path":"a","rows":1,"digest":"digest of a"}],"done_before":-1,"done_after":7,'
        b'"holes":[[2,4]],"dead":0,"min_recv_ns":null,"max_recv_ns":null,"newest_recv_ns":null,"writer":"me",'
        b'"last_timestamp_ms":0,"last_src":"raw-fobs/0/0-7"}'
    )


@pytest.mark.parametrize(
    "document",
    [
        claim_of(0, 3, object_of("a"), object_of("b"), done_after=7, holes=((2, 4),)),
        Origin(first=5, cluster_id="c", topic="norm-fobs"),
        LostClaim(
            kind="fobs",
            stream="main",
            partition=0,
            first=0,
            last=3,
            promised=(),
            missing=("a",),
            kafka_first=9,
            writer="me",
        ),
    ],
    ids=lambda document: type(document).__name__,
)
def test_a_log_object_comes_back_as_it_was(document):
    assert claims.decode(claims.encode(document), type(document), "path") == document


def test_a_claim_of_a_newer_release_asks_for_an_upgrade():
    with pytest.raises(UnknownVersion, match="upgrade"):
        claims.decode(b'{"v":2,"news":[]}', Claim, "path")


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"v":1}', b'{"v":"1"}', b"\xff"], ids=repr)
def test_a_damaged_log_object_is_fatal_and_named(body):
    with pytest.raises(FatalError, match="the/path is damaged"):
        claims.decode(body, Claim, "the/path")


def test_a_new_line_starts_at_the_origin_it_creates():
    lake = MemoryLake()
    assert play(lake, LOG.resume(start=42, hint=42, nonce="me")) == Position(next_offset=42)
    assert claims.decode(lake.objects[f"{CLAIMS}origin.json"], Origin, "") == Origin(
        first=42, cluster_id="cluster", topic="norm-fobs"
    )


def test_an_existing_origin_outranks_where_kafka_would_start():
    lake = MemoryLake()
    play(lake, LOG.resume(start=7, hint=7, nonce="me"))
    assert play(lake, LOG.resume(start=42, hint=42, nonce="me")) == Position(next_offset=7)


@pytest.mark.parametrize(
    "origin",
    [Origin(first=0, cluster_id="other", topic="norm-fobs"), Origin(first=0, cluster_id="cluster", topic="other")],
    ids=["cluster", "topic"],
)
def test_a_foreign_origin_is_fatal_in_words(origin):
    lake = MemoryLake({f"{CLAIMS}origin.json": claims.encode(origin)})
    with pytest.raises(FatalError, match="two environments share a prefix, or Kafka was set up anew: set a new stream"):
        play(lake, LOG.resume(start=0, hint=0, nonce="me"))


def test_claims_without_an_origin_are_fatal():
    lake = MemoryLake({FIRST: claims.encode(claim_of(0, 3))})
    with pytest.raises(FatalError, match="part of the lake was deleted"):
        play(lake, LOG.resume(start=0, hint=0, nonce="me"))


def test_a_lost_mark_without_its_claim_is_fatal():
    lake = MemoryLake({f"{CLAIMS}00000000000000000000.lost.json": b"{}"})
    with pytest.raises(FatalError, match="without its claim"):
        play(lake, LOG.resume(start=0, hint=0, nonce="me"))


def test_a_flush_claims_before_it_creates_and_asks_for_ownership_before_both():
    lake = MemoryLake()
    claim, thing = claim_of(0, 3, object_of("a"), done_after=7), object_of("a")
    flushed = play(lake, LOG.flush(claim, (thing,)))
    assert (flushed.won, flushed.position) == (True, Position(next_offset=4, done=7))
    assert lake.asked == [Own(), Create(FIRST, claims.encode(claim)), CreateAll((thing,))]


def test_our_own_claim_under_exists_is_a_lost_answer():
    claim, thing = claim_of(0, 3, object_of("a")), object_of("a")
    lake = MemoryLake({FIRST: claims.encode(claim)})
    assert play(lake, LOG.flush(claim, (thing,))).won
    assert lake.objects["a"] == thing.body


def test_anothers_claim_wins_and_is_finished_from_exactly_its_range():
    theirs = claim_of(0, 5, object_of("a"), writer="they", done_after=11)
    lake = MemoryLake({FIRST: claims.encode(theirs)}, rebuilt={0: Rebuilt({"a": object_of("a")}, 0)})
    flushed = play(lake, LOG.flush(claim_of(0, 3, object_of("b")), (object_of("b"),)))
    assert (flushed.won, flushed.position) == (False, Position(next_offset=6, done=11))
    assert Rebuild(theirs) in lake.asked
    assert lake.objects.keys() == {FIRST, "a"}


def test_a_complete_claim_is_not_read_again():
    lake = _lake_with(claim_of(0, 3, object_of("a"), done_after=7), {"a": object_of("a").body})
    assert play(lake, LOG.resume(start=0, hint=0, nonce="me")) == Position(next_offset=4, done=7)
    assert not any(isinstance(request, Rebuild) for request in lake.asked)


def test_only_the_missing_files_of_an_incomplete_claim_are_created():
    lake = _lake_with(claim_of(0, 3, object_of("a"), object_of("b")), {"a": object_of("a").body})
    lake.rebuilt[0] = Rebuilt({name: object_of(name) for name in "ab"}, 0)
    assert play(lake, LOG.resume(start=0, hint=0, nonce="me")).next_offset == 4
    assert [r for r in lake.asked if isinstance(r, CreateAll)] == [CreateAll((object_of("b"),))]


@pytest.mark.parametrize("hint", [0, 3, 4, 5, 1000, 2**63], ids=str)
def test_the_committed_offset_is_only_a_hint(hint):
    lake = _lake_with(claim_of(0, 3), {})
    lake.objects[f"{CLAIMS}00000000000000000004.json"] = claims.encode(claim_of(4, 9, done_after=20))
    assert play(lake, LOG.resume(start=hint, hint=hint, nonce="me")) == Position(next_offset=10, done=20)


def test_a_foreign_file_of_a_promised_name_is_fatal():
    foreign = DataObject(FileEntry(path="a", rows=1, digest="other"), b"other\n")
    lake = _lake_with(claim_of(0, 3, object_of("a"), object_of("b")), {"a": foreign.body})
    with pytest.raises(FatalError, match="it is foreign"):
        play(lake, LOG.resume(start=0, hint=0, nonce="me"))


def test_a_foreign_file_met_while_creating_is_fatal():
    lake = MemoryLake({"a": b"other\n"})
    with pytest.raises(FatalError, match="it is foreign"):
        play(lake, LOG.flush(claim_of(0, 3, object_of("a")), (object_of("a"),)))


def test_a_file_that_exists_with_the_promised_digest_is_kept():
    lake = MemoryLake({"a": object_of("a").body + b"by another encoder"})
    assert play(lake, LOG.flush(claim_of(0, 3, object_of("a")), (object_of("a"),))).won
    assert lake.objects["a"].endswith(b"by another encoder")


def test_whole_records_that_do_not_give_what_was_promised_are_fatal():
    lake = _lake_with(claim_of(0, 3, object_of("a")), {})
    lake.rebuilt[0] = Rebuilt({"b": object_of("b")}, 0)
    with pytest.raises(FatalError, match="the same records do not give it"):
        play(lake, LOG.resume(start=0, hint=0, nonce="me"))


def test_what_kafka_no_longer_has_is_listed_and_the_claim_counts_as_ended():
    lake = _lake_with(claim_of(0, 3, object_of("a"), object_of("b"), done_after=7), {})
    lake.rebuilt[0] = Rebuilt({"b": object_of("b")}, 2)
    assert play(lake, LOG.resume(start=0, hint=0, nonce="me")) == Position(next_offset=4, done=7)
    lost = claims.decode(lake.objects[f"{CLAIMS}00000000000000000000.lost.json"], LostClaim, "")
    assert (lost.missing, lost.kafka_first, len(lost.promised)) == (("a",), 2, 2)
    assert lake.objects["b"] == object_of("b").body
    assert play(lake, LOG.resume(start=0, hint=0, nonce="me")) == Position(next_offset=4, done=7)
    assert sum(isinstance(request, Rebuild) for request in lake.asked) == 1


@pytest.mark.parametrize("change", [{"layout": 2}, {"schema_version": 2}], ids=str)
def test_a_claim_of_a_newer_layout_is_left_to_a_newer_release(change):
    lake = _lake_with(claim_of(0, 3, **change), {})
    with pytest.raises(UnknownVersion, match="upgrade"):
        play(lake, LOG.resume(start=0, hint=0, nonce="me"))


def test_a_claim_that_exists_and_is_not_there_is_asked_for_again():
    steps = LOG.flush(claim_of(0, 3), ())
    assert isinstance(next(steps), Own)
    assert isinstance(steps.send(None), Create)
    assert isinstance(steps.send(False), Get)
    assert isinstance(steps.send(None), Own)
    assert isinstance(steps.send(None), Create)


def test_a_file_that_exists_and_is_not_there_is_asked_for_again():
    thing = object_of("a")
    steps = LOG.flush(claim_of(0, 3, thing), (thing,))
    next(steps)
    steps.send(None)
    assert steps.send(True) == CreateAll((thing,))
    assert steps.send((False,)) == Digests(("a",))
    assert steps.send((None,)) == CreateAll((thing,))


def test_a_lost_mark_that_exists_and_is_not_there_is_asked_for_again():
    claim = claim_of(0, 3, object_of("a"))
    steps = LOG.finish(claim, "me")
    assert next(steps) == Digests(("a",))
    assert isinstance(steps.send((None,)), Get)
    assert isinstance(steps.send(None), Rebuild)
    wanted = steps.send(Rebuilt({}, 2))
    assert isinstance(wanted, Create)
    assert steps.send(False) == Get(wanted.path)
    assert steps.send(None) == wanted


@settings(deadline=None)
@given(st.sets(st.integers(0, 2**63 - 1)), st.integers(0, 2**63))
def test_the_last_claim_of_a_log_is_found_from_any_hint_in_few_calls(offsets, hint):
    assert _bisect(offsets, hint) == (max(offsets, default=None), pytest.approx(64, abs=64))


@settings(deadline=None)
@given(st.integers(1, 3000), st.integers(1, 10_000), st.integers(0, 2000))
def test_a_good_hint_finds_it_in_few_calls_however_many_there_are(count, length, behind):
    offsets = {number * length for number in range(count)}
    end = max(offsets) + length
    last, calls = _bisect(offsets, max(0, end - behind))
    assert last == max(offsets)
    assert calls <= 2 * (max(length, behind) + length).bit_length() + 2


def _bisect(offsets, hint):
    calls = 0

    def first_from(offset):
        nonlocal calls
        calls += 1
        yield FirstAfter("", str(offset))
        return min((each for each in offsets if each >= offset), default=None)

    steps = bisect_last(first_from, hint)
    try:
        next(steps)
        while True:
            steps.send(None)
    except StopIteration as end:
        return end.value, calls


def _lake_with(claim, files):
    origin = Origin(first=0, cluster_id="cluster", topic="norm-fobs")
    return MemoryLake({f"{CLAIMS}origin.json": claims.encode(origin), FIRST: claims.encode(claim), **files})
