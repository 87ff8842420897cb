"""Random histories from raw to taken rows: flatteners with different cuts on one partition, zombies, sends that fail or
land late, commits that go back, retention. The exhaustive model of it is dedup_model.py.

Cutting, publishing and taking are the real ones; only Kafka is not. Whatever happens: every raw record's rows are taken
once and in order, and what is committed is in the norm topic.
"""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.histories.flatteners import NORM, RawLine
from tests.histories.virtual_time import VirtualLoop

MAX_FLATTENERS = 3
ROWS = st.sampled_from([2, 4, 6])  # a book has two


def sending(line):
    return [flattener for flattener in line.flatteners if flattener.wire.sendings]


class Histories(RuleBasedStateMachine):
    @initialize()
    def begin(self):
        self.loop = VirtualLoop()
        self.line = RawLine(self.loop)
        self.lost = set()  # what retention took before anybody had it

    @rule(count=st.integers(1, 3), junk=st.sampled_from([False, False, True]))
    def the_reader_publishes(self, count, junk):
        for _ in range(count):
            self.line.publish()
        if junk:
            self.line.publish(b"junk")

    @precondition(lambda self: self.line.raw)
    @rule(by=st.integers(1, 2))
    def old_records_are_deleted(self, by):
        line = self.line
        before, line.beginning = line.beginning, min(line.beginning + by, len(line.raw))
        self.lost |= set(range(before, line.beginning))

    @precondition(lambda self: len(self.line.flatteners) < MAX_FLATTENERS)
    @rule(max_rows=ROWS, count=st.integers(0, 6))
    def the_partition_goes_to_another_flattener(self, max_rows, count):
        """With other cuts; the one before does not know yet."""
        self.line.fetch(self.line.assign(max_rows), count)

    @precondition(lambda self: self.line.flatteners)
    @rule(data=st.data(), count=st.integers(1, 6))
    def a_flattener_fetches(self, data, count):
        self.line.fetch(data.draw(st.sampled_from(self.line.flatteners)), count)

    @rule()
    def time_passes(self):
        self.loop.settle(0.5)

    @precondition(lambda self: sending(self.line))
    @rule(data=st.data(), times=st.integers(1, 3))
    def a_record_lands(self, data, times):
        flattener = data.draw(st.sampled_from(sending(self.line)))
        for _ in range(times):
            if flattener.wire.sendings:
                self.line.land(flattener)

    @precondition(lambda self: sending(self.line))
    @rule(data=st.data(), landed=st.booleans())
    def a_send_gets_no_answer(self, data, landed):
        self.line.fail(data.draw(st.sampled_from(sending(self.line))), landed)

    @precondition(lambda self: self.line.flatteners)
    @rule(data=st.data())
    def a_flattener_dies_or_loses_the_partition(self, data):
        self.line.kill(data.draw(st.sampled_from(self.line.flatteners)))

    @precondition(lambda self: self.line.landing_late)
    @rule(data=st.data())
    def a_dead_flatteners_record_lands(self, data):
        self.line.land_late(data.draw(st.sampled_from(self.line.landing_late)))

    @precondition(lambda self: self.line.flatteners)
    @rule(data=st.data())
    def a_commit_lands(self, data):
        """Of anybody, so it may go back."""
        self.line.committed = data.draw(st.sampled_from(self.line.flatteners)).partition.acked_offset

    @invariant()
    def one_norm_record_is_on_its_way_at_most(self):
        for flattener in self.line.flatteners:
            assert sum(each.topic == NORM for each in flattener.wire.sendings) <= 1

    @invariant()
    def rows_are_taken_once_in_order_and_only_what_is_lost_is_left_out(self):
        rows, holes = self.line.taken()
        assert rows == sorted(set(rows))
        assert set(holes) <= self.lost
        assert set(rows).isdisjoint(holes)
        committed = max([self.line.committed or 0, *(each.partition.acked_offset for each in self.line.flatteners)])
        assert set(range(committed)) <= set(rows) | self.lost

    def teardown(self):
        """Then everything lands, and a last flattener takes what is left."""
        if not hasattr(self, "line"):
            return
        line = self.line
        for late in list(line.landing_late):
            line.land_late(late)
        for flattener in list(line.flatteners):
            line.kill(flattener)
        last = line.assign(4)
        line.fetch(last, len(line.raw))
        last.partition.drain()
        self.loop.settle()
        while last.wire.sendings:
            line.land(last)
        assert last.task.done()
        rows, holes = line.taken()
        assert set(rows) | set(holes) >= set(range(len(line.raw))) - self.lost
        self.rows_are_taken_once_in_order_and_only_what_is_lost_is_left_out()
        self.loop.end()


TestHistories = Histories.TestCase
TestHistories.settings = settings(max_examples=60, stateful_step_count=50, deadline=None)
