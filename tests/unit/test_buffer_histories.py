"""Random histories of the buffers of one writer under a virtual clock: every record is cut once and in order, in time,
and together they never hold more than the budget and one record.

The loop around them is the writer's: fetch unless the budget is full, cut what is due, cut the largest near the budget.
"""

from collections import deque

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from services.s3writer.buffer import RECORD_OVERHEAD_BYTES, Budget, Buffer, Limits, NormRecord, window_end
from services.s3writer.take import Taker
from shared.messages import SourceRange

LINES = 3
INTERVAL_SECONDS = 300
LIMITS = Limits(INTERVAL_SECONDS, max_rows=40)
LARGEST_BYTES = 4000
BUDGET = Budget(5 * (LARGEST_BYTES + RECORD_OVERHEAD_BYTES))


class Line:
    """One partition: the open buffer, and those handed to the flush, of which the first is being written."""

    def __init__(self):
        self.taker = Taker()
        self.open_buffer = Buffer(first=0)
        self.cut = deque()
        self.position = 0
        self.flushed = []  # (first, last) of each

    @property
    def held_bytes(self):
        return self.open_buffer.size_bytes + sum(buffer.size_bytes for buffer in self.cut)

    def close(self):
        if self.open_buffer.records:
            self.cut.append(self.open_buffer)
            self.open_buffer = Buffer(first=self.open_buffer.last + 1)


class Histories(RuleBasedStateMachine):
    @initialize()
    def begin(self):
        self.now = 495_000 * 3600.0
        self.lines = [Line() for _ in range(LINES)]

    @property
    def held_bytes(self):
        return sum(line.held_bytes for line in self.lines)

    @rule(number=st.integers(0, LINES - 1), sizes=st.lists(st.integers(0, LARGEST_BYTES), min_size=1, max_size=6))
    def records_come(self, number, sizes):
        line = self.lines[number]
        for size in sizes:
            if not BUDGET.full(self.held_bytes):
                self.add(line, b"x" * size, version=1)
        self.cut_what_is_due()

    @rule(number=st.integers(0, LINES - 1))
    def a_record_of_another_version_comes(self, number):
        line = self.lines[number]
        if not BUDGET.full(self.held_bytes):
            before = line.open_buffer.records[-1].version if line.open_buffer.records else 1
            self.add(line, b"", version=3 - before)

    def add(self, line, value, version):
        src = SourceRange("raw-fobs", 0, line.position, line.position)
        taken = line.taker.take(src, lost=False, newest_recv_ns=None)
        record = NormRecord(line.position, 0, value, src, 0, version, 10, None, taken)
        if not line.open_buffer.fits(version):
            line.close()
        line.open_buffer.add(record, self.now)
        line.position += 1

    @rule(seconds=st.sampled_from([1, 60, INTERVAL_SECONDS, 3600, -4000]))
    def time_passes_or_the_clock_is_set_back(self, seconds):
        self.now += seconds
        self.cut_what_is_due()

    @precondition(lambda self: any(line.cut for line in self.lines))
    @rule(data=st.data())
    def a_flush_ends(self, data):
        line = data.draw(st.sampled_from([line for line in self.lines if line.cut]))
        buffer = line.cut.popleft()
        line.flushed.append((buffer.first, buffer.last))
        self.cut_what_is_due()

    @rule(number=st.integers(0, LINES - 1))
    def another_writers_claim_was_there_first(self, number):
        """All that is held is dropped, and the line goes on somewhere behind what it had flushed."""
        line = self.lines[number]
        if line.cut:
            line.flushed.append((line.cut[0].first, line.cut[0].first))
            line.position = line.cut[0].first + 1
            line.cut.clear()
            line.open_buffer = Buffer(first=line.position)
            line.taker = Taker(line.position - 1)

    def cut_what_is_due(self):
        for line in self.lines:
            if not line.cut and LIMITS.due(line.open_buffer, self.now) is not None:
                line.close()
        largest = BUDGET.largest(line.open_buffer for line in self.lines)
        for line in self.lines:
            if line.open_buffer is largest and not line.cut:
                line.close()

    @invariant()
    def memory_is_bounded(self):
        assert self.held_bytes < BUDGET.max_bytes + LARGEST_BYTES + RECORD_OVERHEAD_BYTES
        for line in self.lines:
            for buffer in [line.open_buffer, *line.cut]:
                assert buffer.size_bytes == sum(record.size_bytes for record in buffer.records)

    @invariant()
    def a_full_budget_is_always_worked_off(self):
        """Else fetching would stop for good: something is being flushed whenever nothing may be fetched."""
        if BUDGET.full(self.held_bytes):
            assert any(line.cut for line in self.lines)

    @invariant()
    def what_is_cut_tiles(self):
        for line in self.lines:
            held = [(buffer.first, buffer.last) for buffer in [*line.cut, line.open_buffer] if buffer.records]
            at = 0
            for first, last in line.flushed + held:
                assert first == at
                at = last + 1
            assert at == line.position

    @invariant()
    def a_buffer_holds_one_schema(self):
        for line in self.lines:
            for buffer in [line.open_buffer, *line.cut]:
                assert len({record.version for record in buffer.records}) <= 1

    @invariant()
    def nothing_is_open_beyond_its_window(self):
        """Except behind a flush that has not ended, and until the next look at the clock."""
        for line in self.lines:
            if line.open_buffer.records and not line.cut:
                opened = line.open_buffer.opened_at
                assert opened <= self.now < window_end(opened, INTERVAL_SECONDS)
                assert line.open_buffer.rows < LIMITS.max_rows + 10


TestHistories = Histories.TestCase
TestHistories.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)
