"""Random histories of the claim protocol: two and more writers, zombies, lost answers, late writes, resets, retention.

The protocol, the buffers with their triggers and the taking of records are the real ones; store, Kafka and group are
models with every fault that `claim_model.py` and `flush_model.py` know, and Kafka's retention on top. Whatever happens:
no row twice, and no row below a commit missing without a word about it.
"""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from shared.errors import FatalError
from shared.lake import layout
from shared.lake.claim_log import ClaimLog, Create, CreateAll, FirstAfter, Own, Rebuild, Rebuilt
from tests.claim_logs import LOG, MemoryLake, object_of, play
from tests.histories.group import FAULTS, MAX_WRITERS, Group

WELL_OR_NOT = st.sampled_from(["well"] * len(FAULTS) * 2 + list(FAULTS))
ELSEWHERE = ClaimLog(kind="fobs", stream="main", partition=0, topic="norm-fobs", cluster_id="another")


def having(what):
    """A rule for when there is such a writer; the rule draws one of them from `what(group)`."""
    return precondition(lambda self: what(self.group))


class Histories(RuleBasedStateMachine):
    retention = False

    @initialize(raw_first=st.sampled_from([0, 5]), end=st.sampled_from(["none", "none", "re-created", "stranger"]))
    def begin(self, raw_first, end):
        self.group = Group(raw_first, retention=self.retention)
        self.end = "none" if self.retention else end  # what, if it comes, ends the line for good
        self.proven = None

    # --- Kafka ---
    @rule(size=st.integers(1, 3), jump=st.sampled_from([0, 0, 0, 2]))
    def a_flattener_sends(self, size, jump):
        self.group.log.send(size, jump)

    @rule(back=st.integers(1, 4), size=st.integers(1, 5))
    def a_zombie_flattener_sends_again(self, back, size):
        log = self.group.log
        log.send_again(max(0, log.raw_next - back), size)

    @precondition(lambda self: self.group.refused_at is None)
    @rule(back=st.integers(1, 3))
    def a_record_lands_twice(self, back):
        self.group.log.repeat(back)

    @rule()
    def a_newer_flattener_takes_over(self):
        self.group.log.version += 1

    @precondition(lambda self: self.end == "re-created" and self.group.refused_at is None)
    @rule(size=st.integers(1, 20))
    def the_raw_topic_is_re_created(self, size):
        """Told where anything of what is sent anew repeats what is stored; then nobody may go beyond it."""
        stored = self.group.promises().claims
        if stored and stored[-1].newest_recv_ns is not None:
            self.group.refused_at = self.group.log.end
            self.group.log.send_of_a_new_topic(size)

    @rule(to=st.integers(0, 12))
    def the_group_is_reset_or_deleted(self, to):
        self.group.committed = to if to <= self.group.log.end else None

    @precondition(lambda self: self.retention)
    @rule(by=st.integers(1, 2))
    def old_records_are_deleted(self, by):
        log = self.group.log
        log.beginning = min(log.beginning + by, log.end)

    @having(lambda group: group.late_commits)
    @rule(data=st.data(), empty=st.booleans())
    def a_commit_lands(self, data, empty):
        self.group.commit_lands(data.draw(st.sampled_from(self.group.late_commits)), empty=empty)

    # --- the group ---
    @having(lambda group: len(group.writers) < MAX_WRITERS)
    @rule(until=st.sampled_from([None, None, FirstAfter, Create]))
    def the_partition_goes_to_a_new_writer(self, until):
        """Which gets so far with finding the end of the line."""
        self.group.steps_of(self.group.start_writer(), until)

    @having(lambda group: len(group.writers) > 2)
    @rule(data=st.data())
    def a_writer_dies(self, data):
        self.group.writers.remove(data.draw(st.sampled_from(self.group.writers)))

    @having(Group.owners)
    @rule(data=st.data(), counts=st.sampled_from([(1, 1), (2, 2), (1, 2), (2, 1), (3, 1)]), how=WELL_OR_NOT)
    def two_writers_claim_the_same_offset(self, data, counts, how):
        """Both have seen that they own the partition, and found the same end of the line."""
        racing = [data.draw(st.sampled_from(self.group.owners()))]
        self.up_to_its_claim(racing[0], counts[0])
        racing.append(self.group.start_writer())
        self.group.steps_of(racing[1], None)
        self.up_to_its_claim(racing[1], counts[1])
        first, second = data.draw(st.permutations(racing))
        self.advance(first, how)
        self.advance(second)
        self.group.steps_of(second, data.draw(st.sampled_from([None, CreateAll, Rebuild])))

    def up_to_its_claim(self, writer, count):
        self.group.fetch(writer, count)
        self.group.cut(writer)
        self.group.steps_of(writer, Create)

    # --- a writer at work ---
    @having(Group.resumed)
    @rule(data=st.data(), count=st.integers(1, 4), cut=st.booleans(), until=st.sampled_from([Own, Create, CreateAll]))
    def a_writer_fetches(self, data, count, cut, until):
        """Some records, and then perhaps the begin of a flush."""
        writer = data.draw(st.sampled_from(self.group.resumed()))
        self.group.fetch(writer, count)
        if cut and not writer.busy:
            self.group.cut(writer)
            self.group.steps_of(writer, until)

    @rule(seconds=st.sampled_from([1, 400, -4000]))
    def time_passes_or_the_clock_is_set_back(self, seconds):
        self.group.now += seconds
        for writer in self.group.resumed():
            writer.cut_if_due(self.group.now)
            self.group.begin_flush(writer)

    @having(Group.busy)
    @rule(data=st.data(), how=WELL_OR_NOT)
    def a_step(self, data, how):
        self.advance(data.draw(st.sampled_from(self.group.busy())), how)

    @having(Group.busy)
    @rule(data=st.data(), until=st.sampled_from([Create, CreateAll, Rebuild, None]))
    def steps(self, data, until):
        """On to the next moment where it matters who is first."""
        writer = data.draw(st.sampled_from(self.group.busy()))
        self.group.advance(writer)
        self.group.steps_of(writer, until)

    @having(Group.busy)
    @rule(data=st.data(), write=st.sampled_from([Create, CreateAll]), how=st.sampled_from(FAULTS))
    def a_write_goes_wrong_and_is_tried_again(self, data, write, how):
        writer = data.draw(st.sampled_from(self.group.busy()))
        self.group.steps_of(writer, write)
        self.advance(writer, how)
        self.group.steps_of(writer, None)

    def advance(self, writer, how="well"):
        if writer in self.group.writers and writer.busy:
            self.group.advance(writer, how)

    # --- the store ---
    @having(lambda group: group.late_writes)
    @rule(data=st.data())
    def a_late_write_lands(self, data):
        write = data.draw(st.sampled_from(self.group.late_writes))
        self.group.late_writes.remove(write)
        self.group.lake.create(*write)

    @precondition(lambda self: self.end == "stranger" and not self.group.foreign)
    @rule()
    def a_stranger_puts_a_file_of_that_name(self):
        """Where the last claim still lacks one: it can never be completed, and nobody may go beyond it."""
        promises = self.group.promises()
        missing = [entry.path for claim in promises.claims for entry in claim.files if entry.path not in promises.files]
        if missing and promises.claims[-1].first >= self.group.safe:
            self.group.lake.create(missing[0], b"[]")
            self.group.foreign.add(missing[0])

    @precondition(lambda self: not self.retention)
    @having(Group.rebuilding)
    @rule(data=st.data(), files=st.sampled_from([{}, {"another": object_of("another")}]))
    def a_re_created_norm_topic_does_not_give_what_was_claimed(self, data, files):
        writer = data.draw(st.sampled_from(self.group.rebuilding()))
        self.group.writers.remove(writer)
        with pytest.raises(FatalError, match="re-created"):
            writer.steps.send(Rebuilt(files, writer.request.claim.first))

    @precondition(lambda self: self.retention)
    @having(Group.owners)
    @rule(data=st.data(), count=st.integers(2, 5), done=st.booleans())
    def of_an_unfinished_claim_kafka_loses_the_begin(self, data, count, done):
        """Its writer dies after the claim or after the first of its files."""
        writer, log = data.draw(st.sampled_from(self.group.owners())), self.group.log
        self.up_to_its_claim(writer, count)
        self.group.steps_of(writer, CreateAll)
        self.advance(writer, "answer lost" if done else "not applied")
        if writer.claimed is not None and writer in self.group.writers:
            self.group.writers.remove(writer)
            log.beginning = max(log.beginning, data.draw(st.integers(writer.claimed.first, writer.claimed.last)) + 1)
            self.group.steps_of(self.group.start_writer(), None)

    @having(lambda group: group.promises().claims)
    @rule()
    def a_lake_of_which_a_part_is_deleted_is_refused_and_one_of_another_environment(self):
        objects, prefix = self.group.lake.objects, layout.claims_prefix("fobs", "main", 0)
        last = layout.claim_path("fobs", "main", 0, self.group.promises().claims[-1].first)
        deleted = [f"{prefix}origin.json"]
        if last.replace(".json", ".lost.json") in objects:
            deleted.append(last)
        for path in deleted:
            rest = MemoryLake({other: body for other, body in objects.items() if other != path})
            with pytest.raises(FatalError, match="part of the lake was deleted"):
                play(rest, LOG.resume(start=0, hint=0, nonce="late"))
        with pytest.raises(FatalError, match="two environments share a prefix"):
            play(MemoryLake(objects), ELSEWHERE.resume(start=0, hint=0, nonce="stranger"))

    # --- what is promised ---
    @invariant()
    def the_promises_are_kept(self):
        group = self.group
        state = (len(group.lake.objects), group.safe)  # objects are only ever added
        if state == self.proven:
            return
        self.proven = state
        promises = group.promises()
        promises.no_row_is_there_twice()
        promises.claims_tile_from_the_origin()
        promises.files_are_promised_ones(group.foreign)
        promises.only_the_last_claim_is_open()
        promises.nothing_is_missing_without_a_word(group.safe, holes_may_show_later=self.retention)
        if not self.retention:
            promises.one_claim_has_one_schema()
        for claim in promises.claims:
            if any(entry.path in group.foreign for entry in claim.files):
                assert group.safe <= claim.first, "a claim counts as ended though one of its files is a stranger's"
        assert group.refused_at is None or group.safe <= group.refused_at, "records of a re-created topic were taken"

    def teardown(self):
        """Then everything heals: one more writer takes all there is, or says what it refuses."""
        if not hasattr(self, "group"):
            return
        ended = self.group.heal()
        self.the_promises_are_kept()
        assert ended == (self.group.safe == self.group.log.end)
        assert ended or self.group.foreign or self.group.refused_at is not None
        if ended and not self.retention:
            assert sorted(self.group.promises().rows()) == sorted(self.group.taken_in_one_go())


class HistoriesWithRetention(Histories):
    retention = True


TestHistories = Histories.TestCase
TestHistories.settings = settings(max_examples=150, stateful_step_count=60, deadline=None)
TestHistoriesWithRetention = HistoriesWithRetention.TestCase
TestHistoriesWithRetention.settings = settings(max_examples=150, stateful_step_count=60, deadline=None)
