"""Writers, group, log and store in one place, and every fault between them that the claim protocol has to survive.

The protocol, the taking of records and the buffers are the real ones. A consumer group fences badly here: who has lost
the partition goes on until it asks, commits are lost, land late, or are taken from anybody while the group is empty.
"""

from contextlib import contextmanager

from services.s3writer.take import Taker
from shared.errors import CryptoFlowError, FatalError
from shared.lake import layout
from shared.lake.claim_log import Create, CreateAll, Own, Rebuild, Rebuilt
from tests.claim_logs import MemoryLake
from tests.histories.norm_log import NormLog, rows_of
from tests.histories.promises import Promises
from tests.histories.writers import Writer, files

MAX_WRITERS = 5
FAULTS = ("answer lost", "applied late", "not applied", "exists, and is not there")


class Disowned(CryptoFlowError):
    """The epoch moved on."""


class Group:
    """`safe` is the highest offset that any writer wanted to commit: what lies below has to be in the lake."""

    def __init__(self, raw_first, *, retention):
        self.lake = MemoryLake()
        self.log = NormLog(raw_first)
        for size in (1, 2, 1):
            self.log.send(size)
        self.retention = retention
        self.now = 0.0
        self.committed = None
        self.safe = 0
        self.epoch = 0
        self.writers = []
        self.started = 0
        self.late_writes = []
        self.late_commits = []
        self.foreign = set()  # paths of files that a stranger put there
        self.refused_at = None  # the offset of a record that no writer may go beyond

    def promises(self):
        return Promises(self.lake.objects, self.log)

    def resumed(self):
        return [writer for writer in self.writers if writer.resumed]

    def idle(self):
        return [writer for writer in self.resumed() if not writer.busy]

    def busy(self):
        return [writer for writer in self.writers if writer.busy]

    def owners(self):
        """Who can be raced for a claim."""
        room = len(self.writers) < MAX_WRITERS
        return [writer for writer in self.idle() if writer.epoch == self.epoch and room]

    def rebuilding(self):
        return [writer for writer in self.busy() if isinstance(writer.request, Rebuild)]

    def start_writer(self):
        self.epoch += 1
        self.started += 1
        start = self.log.beginning if self.committed is None else max(self.committed, self.log.beginning)
        writer = Writer(self.epoch, f"w{self.started}", floor=self.safe)
        writer.resume(start)
        self.writers.append(writer)
        return writer

    def fetch(self, writer, count):
        """So many records, also while an earlier buffer is being flushed."""
        for _ in range(count):
            writer.position = max(writer.position, self.log.beginning)  # what Kafka no longer has is skipped
            if writer not in self.writers or not writer.resumed or writer.position >= self.log.end:
                return
            with self.may_be_refused(writer):
                writer.add(self.log.take(writer.position, writer.taker), self.now)
                writer.position += 1
        self.begin_flush(writer)

    def cut(self, writer):
        writer.cut_buffer()
        self.begin_flush(writer)

    def begin_flush(self, writer):
        writer.flush(owned=writer.epoch == self.epoch)

    def steps_of(self, writer, until):
        """On to the next request of this type, to the end for None."""
        while writer in self.writers and writer.busy and not (until and isinstance(writer.request, until)):
            self.advance(writer)

    def advance(self, writer, how="well"):
        """Do what a writer waits for, or fail at it: it asks again then, if it does not die first."""
        writes = writes_of(writer.request)
        if isinstance(writer.request, Create) and layout.parse_claim_path(writer.request.path).what == "claim":
            assert not writer.disowned_before, "a claim by one that knew, or could have known, that it has no partition"
        if writes and how == "answer lost":
            self.lake.create(*writes[0])
        elif writes and how == "applied late":
            self.late_writes.append(writes[-1])
        elif writes and how == "exists, and is not there":  # another's write was under way, and failed
            self.send(writer, False if isinstance(writer.request, Create) else (False,) * len(writes))
        elif not writes or how not in FAULTS:
            self.send(writer, None)

    def send(self, writer, answer):
        with self.may_be_refused(writer):
            try:
                writer.request = writer.steps.send(self.answer(writer) if answer is None else answer)
            except StopIteration as end:
                self.ended(writer, end.value)
            except Disowned:
                self.writers.remove(writer)

    def answer(self, writer):
        match writer.request:
            case Own():
                if writer.epoch != self.epoch:
                    raise Disowned
                return None
            case Rebuild(claim):
                taker = Taker(claim.done_before, claim.newest_recv_ns)
                begin = max(claim.first, self.log.beginning)
                records = [self.log.take(offset, taker) for offset in range(begin, claim.last + 1)]
                made = files(claim.first, claim.last, records)
                return Rebuilt({thing.entry.path: thing for thing in made}, begin)
        return self.lake.answer(writer.request)

    def ended(self, writer, result):
        writer.steps = None
        if writer.claimed is None:
            position = result
            assert position.next_offset >= writer.floor, "the position moved backward"
            writer.resumed = True
            self.log.unsteady = not self.retention  # from here on every record is stored, or it is a repetition
            writer.go_on_from(position)
        else:
            claimed, position = writer.claimed, result.position
            standing = next(claim for claim in self.promises().claims if claim.first == claimed.first)
            assert result.won == (standing.writer == claimed.writer), "who wins is whose claim stands there"
            assert position.next_offset > claimed.first
            writer.claimed = None
            if result.won:
                writer.cut.popleft()
            else:
                writer.go_on_from(position)
        self.safe = max(self.safe, position.next_offset)
        self.late_commits.append((writer.epoch, position.next_offset))
        self.begin_flush(writer)

    def commit_lands(self, commit, *, empty):
        """A commit counts if its epoch is the group's, or if the group has no member and takes any."""
        self.late_commits.remove(commit)
        if empty or commit[0] == self.epoch:
            self.committed = commit[1]

    @contextmanager
    def may_be_refused(self, writer):
        """A writer ends with words where it met a stranger's file or another raw topic, and nowhere else."""
        try:
            yield
        except FatalError:
            assert self.foreign or self.refused_at is not None
            self.writers.remove(writer)

    def heal(self):
        """Everything that was under way lands, and one more writer takes all there is."""
        self.log.send(1)  # shows a hole at the end
        for write in self.late_writes:
            self.lake.create(*write)
        self.writers = []
        writer = self.start_writer()
        self.steps_of(writer, None)
        while writer in self.writers and writer.position < self.log.end:
            self.fetch(writer, 1)
            self.steps_of(writer, None)
        if writer in self.writers:
            self.cut(writer)
            self.steps_of(writer, None)
        return writer in self.writers

    def taken_in_one_go(self):
        """The rows that a single writer which never fails would have stored."""
        taker = Taker()
        records = [self.log.take(offset, taker) for offset in range(self.promises().origin.first, self.log.end)]
        return rows_of(records)


def writes_of(request):
    if isinstance(request, Create):
        return ((request.path, request.body),)
    if isinstance(request, CreateAll):
        return tuple((thing.entry.path, thing.body) for thing in request.objects)
    return ()
