"""Random histories of whole s3writer partitions: what `test_claims_histories` asks of the protocol, asked of all that
stands around it (buffers, commits, the hands, Parquet), and the lake's own proof at the end of each.
"""

import pyarrow.compute as pc
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from shared.lake import parquet
from shared.lake.verify import verify
from tests.histories.memory_store import FAULTS
from tests.histories.s3writers import Group

MAX_WRITERS = 3
HELD = st.sampled_from([True, True, False])


class Histories(RuleBasedStateMachine):
    @initialize()
    def begin(self):
        self.group = Group()
        self.group.topic.send(0, 2)

    @rule(size=st.integers(1, 3), back=st.sampled_from([0, 0, 0, 1, 3]))
    def a_flattener_sends(self, size, back):
        topic = self.group.topic
        topic.send(max(0, topic.raw_next - back), size)

    @precondition(lambda self: len(self.group.writers) < MAX_WRITERS)
    @rule(known=st.booleans(), held=HELD)
    def the_partition_goes_to_a_new_writer(self, known, held):
        for writer in self.group.writers:
            writer.member.knows = known
        self.group.loop.held = held
        self.group.assign()

    @precondition(lambda self: self.group.writers)
    @rule(data=st.data())
    def a_writer_dies_or_is_told_that_it_lost_the_partition(self, data):
        self.group.remove(data.draw(st.sampled_from(self.group.writers)))

    @rule(to=st.integers(0, 8))
    def the_group_is_reset_or_deleted(self, to):
        self.group.committed = to if to <= len(self.group.topic.records) else None

    @precondition(lambda self: self.group.writers)
    @rule(data=st.data(), number=st.integers(1, 4), flush=st.booleans(), held=HELD)
    def a_writer_fetches(self, data, number, flush, held):
        self.group.loop.held = held
        writer = data.draw(st.sampled_from(self.group.writers))
        writer.fetch(number)
        if flush:
            writer.flush()

    @precondition(lambda self: len(self.group.writers) < MAX_WRITERS - 1)
    @rule(counts=st.sampled_from([(1, 1), (1, 2), (2, 1)]), more=st.integers(0, 2))
    def a_writer_finds_its_offset_claimed(self, counts, more):
        """By one that was assigned after it, while its own claim was on its way; it may hold more behind it."""
        for _ in range(4):
            self.group.topic.send(self.group.topic.raw_next, 1)
        first = self.up_to_its_claim(counts[0])
        first.fetch(more)
        first.member.knows = False
        self.group.loop.held = False
        self.fed_and_flushed(self.group.assign(), counts[1])
        while self.group.loop.calls:
            self.answer(self.group.loop.calls[0])
        self.fed_and_flushed(first, 1)

    @precondition(lambda self: len(self.group.writers) < MAX_WRITERS)
    @rule(count=st.integers(1, 3))
    def a_writer_dies_after_its_claim(self, count):
        """Of records that repeat in part what was stored before; the next one finishes it."""
        topic = self.group.topic
        topic.send(max(0, topic.raw_next - 1), 2)
        writer = self.up_to_its_claim(count)
        if self.group.loop.calls:
            self.answer(self.group.loop.calls[0])
        self.group.remove(writer)
        self.group.loop.calls.clear()
        self.group.loop.held = False
        self.group.assign()

    def up_to_its_claim(self, number):
        """A new writer, of which all else is answered."""
        loop = self.group.loop
        while loop.calls:
            self.answer(loop.calls[0])
        loop.held = False
        writer = self.group.assign()
        loop.settle(60)
        writer.fetch(number)
        loop.held = True
        writer.flush()
        return writer

    def fed_and_flushed(self, writer, number):
        self.group.loop.settle(60)
        writer.fetch(number)
        writer.flush()

    @precondition(lambda self: self.group.loop.calls)
    @rule(data=st.data(), fault=st.sampled_from(["", "", "", *FAULTS]), times=st.integers(1, 4))
    def the_store_answers(self, data, fault, times):
        if fault:
            self.group.store.faults.append(fault)
        for _ in range(times):
            if self.group.loop.calls:
                self.answer(data.draw(st.sampled_from(self.group.loop.calls)))

    @rule(seconds=st.sampled_from([20, 400]))
    def time_passes(self, seconds):
        self.group.loop.settle(seconds)
        for writer in self.group.writers:
            writer.cut_if_due()

    @rule()
    def late_writes_land(self):
        self.group.store.land()

    def answer(self, call):
        self.group.loop.calls.remove(call)
        call.answer()
        self.group.loop.settle()

    @invariant()
    def nobody_fails(self):
        assert [writer.failure for writer in self.group.writers if writer.failure] == []

    @invariant()
    def no_row_is_there_twice_and_none_below_a_commit_is_missing(self):
        state = (len(self.group.store.objects), self.group.wanted)
        if state == getattr(self, "proven", None):
            return
        self.proven = state
        found = self.rows()
        assert len(found) == len(set(found))
        origins = [path for path in self.group.store.objects if path.endswith("origin.json")]
        if origins and b'"first":0' in self.group.store.objects[origins[0]]:
            assert raws(self.group.topic.records[: self.group.wanted]) <= set(found)

    def rows(self):
        """The raw offset of each message in the lake, as often as files hold it."""
        found = []
        for path, body in self.group.store.objects.items():
            if path.startswith("fobs/"):
                found += pc.unique(parquet.decode(body, "fobs").column("raw_offset")).to_pylist()
        return found

    def teardown(self):
        """Then the store answers, and one more writer takes all there is."""
        if not hasattr(self, "group"):
            return
        group = self.group
        try:
            group.store.faults.clear()
            group.loop.held = False
            for writer in list(group.writers):
                group.remove(writer)
            group.store.land()
            last = group.assign()
            group.loop.settle(60)
            last.fetch(len(group.topic.records))
            last.flush()
            group.loop.settle(60)
            assert last.failure is None
            assert group.wanted == len(group.topic.records)
            self.no_row_is_there_twice_and_none_below_a_commit_is_missing()
            assert verify(group.store, strict=True).problems == []
        finally:
            group.close()


def raws(records):
    """The raw offsets that these records cover."""
    found = set()
    for record in records:
        low, high = dict(record.headers)["src"].decode().rsplit("/", 1)[1].split("-")
        found |= set(range(int(low), int(high) + 1))
    return found


TestHistories = Histories.TestCase
TestHistories.settings = settings(max_examples=30, stateful_step_count=40, deadline=None)
