"""Random histories of the claim protocol: two and more writers, zombies, lost answers, late writes, resets, retention.

The protocol and the taking of records are the real ones; store, Kafka and group are models with every fault that
`claim_model.py` and `flush_model.py` know, and Kafka's retention on top. Whatever happens: no row twice, and no row
below an accepted commit missing without a word about it.
"""

import json
from dataclasses import dataclass, field

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from services.s3writer.take import Taker, merged
from shared.errors import CryptoFlowError
from shared.lake import claims, layout
from shared.lake.claim_log import Create, CreateAll, DataObject, FirstAfter, Own, Rebuild, Rebuilt
from shared.lake.claims import Claim, FileEntry, LostClaim, Origin
from shared.messages import Book, SourceRange
from tests.claim_logs import LOG, MemoryLake, claim_of

GROUPS = 2  # files a flush can give: raw offsets modulo this
MAX_ACTORS = 5


class Disowned(CryptoFlowError):
    """The epoch moved on."""


@dataclass
class Actor:
    """A writer's hold on the partition. Those whose epoch has passed live on as zombies."""

    epoch: int
    steps: object
    nonce: str
    request: object = None
    position: int = 0
    first: int = 0
    taker: Taker = field(default_factory=Taker)
    buffer: list = field(default_factory=list)  # (norm offset, src, taken)
    claimed: object = None

    @property
    def idle(self):
        return self.steps is None


class Histories(RuleBasedStateMachine):
    retention = False

    @initialize(first=st.sampled_from([0, 5]))
    def begin(self, first):
        self.lake = MemoryLake()
        self.norm = [(first, first), (first + 1, first + 2), (first + 3, first + 3)]  # src of each record
        self.beginning = 0
        self.raw_next = first + 4
        self.committed = None
        self.proven = None
        self.safe = 0  # the highest commit that was ever accepted
        self.epoch = 0
        self.late_writes = []
        self.late_commits = []
        self.actors = []
        self.started = 0

    # --- Kafka ---
    @rule(size=st.integers(1, 3), jump=st.sampled_from([0, 0, 0, 2]))
    def produce(self, size, jump):
        first = self.raw_next + jump
        self.norm.append((first, first + size - 1))
        self.raw_next = first + size

    @precondition(lambda self: self.norm)
    @rule(back=st.integers(1, 4), size=st.integers(1, 5))
    def produce_again_by_a_zombie_flattener(self, back, size):
        first = max(0, self.raw_next - back)
        self.norm.append((first, first + size - 1))
        self.raw_next = max(self.raw_next, first + size)

    @rule(to=st.integers(0, 12))
    def reset_the_group(self, to):
        self.committed = to if to <= len(self.norm) else None  # or delete it

    @precondition(lambda self: self.retention and self.norm)
    @rule(by=st.integers(1, 2))
    def delete_old_records(self, by):
        self.beginning = min(self.beginning + by, len(self.norm))

    @precondition(lambda self: self.late_commits)
    @rule(data=st.data())
    def a_late_commit_lands(self, data):
        epoch, offset = data.draw(st.sampled_from(self.late_commits))
        self.late_commits.remove((epoch, offset))
        if epoch == self.epoch:
            self.committed = offset

    # --- the group ---
    @precondition(lambda self: len(self.actors) < MAX_ACTORS)
    @rule(until=st.sampled_from([None, None, FirstAfter, Create]))
    def assign(self, until):
        """To a new writer, which gets so far with finding the end of the line."""
        self.start_writer()
        self.steps_of(self.actors[-1], until)

    def start_writer(self):
        self.epoch += 1
        self.started += 1
        start = self.beginning if self.committed is None else max(self.committed, self.beginning)
        nonce = f"w{self.started}"
        steps = LOG.resume(start=start, hint=start, nonce=nonce)
        self.actors.append(Actor(self.epoch, steps, nonce))
        self.actors[-1].request = next(steps)

    @precondition(lambda self: len(self.actors) > 2)
    @rule(data=st.data())
    def crash(self, data):
        self.actors.remove(data.draw(st.sampled_from(self.actors)))

    # --- a writer at work ---
    @precondition(lambda self: any(actor.idle for actor in self.actors))
    @rule(data=st.data(), count=st.integers(1, 4), flush=st.booleans(), until=st.sampled_from([Own, Create, CreateAll]))
    def fetch(self, data, count, flush, until):
        """Some records, and then perhaps the begin of a flush."""
        actor = data.draw(st.sampled_from([actor for actor in self.actors if actor.idle]))
        for _ in range(count):
            self.fetch_one(actor)
        if flush and actor.buffer:
            self.start_flush(actor)
            self.steps_of(actor, until)

    def fetch_one(self, actor):
        actor.position = max(actor.position, self.beginning)  # what Kafka no longer has is skipped
        if actor.position < len(self.norm):
            actor.buffer.append(self.take(actor.position, actor.taker))
            actor.position += 1

    def start_flush(self, actor):
        last = actor.buffer[-1][0]
        taken = [each for _, _, each in actor.buffer]
        objects = self.files(actor.first, last, actor.buffer)
        actor.claimed = claim_of(
            actor.first,
            last,
            *objects,
            writer=f"{actor.nonce}-{last}",
            done_before=taken[0].above,
            done_after=taken[-1].done,
            holes=merged([each.hole for each in taken if each.hole]),
        )
        actor.steps = LOG.flush(actor.claimed, objects)
        actor.request = next(actor.steps)

    @precondition(lambda self: any(not actor.idle for actor in self.actors))
    @rule(data=st.data(), how=st.sampled_from(["well"] * 6 + ["answer lost", "applied late", "not applied"]))
    def step(self, data, how):
        self.advance(data.draw(st.sampled_from([actor for actor in self.actors if not actor.idle])), how)

    @precondition(lambda self: any(not actor.idle for actor in self.actors))
    @rule(data=st.data(), until=st.sampled_from([Create, CreateAll, Rebuild, None]))
    def steps(self, data, until):
        """On to the next moment where it matters who is first."""
        actor = data.draw(st.sampled_from([actor for actor in self.actors if not actor.idle]))
        self.advance(actor)
        self.steps_of(actor, until)

    def steps_of(self, actor, until):
        while actor in self.actors and not actor.idle and not (until and isinstance(actor.request, until)):
            self.advance(actor)

    @precondition(lambda self: self.late_writes)
    @rule(data=st.data())
    def a_late_write_lands(self, data):
        write = data.draw(st.sampled_from(self.late_writes))
        self.late_writes.remove(write)
        self.lake.create(*write)

    # --- the model's inside ---
    def advance(self, actor, how="well"):
        request = actor.request
        writes = ()
        if isinstance(request, Create):
            writes = ((request.path, request.body),)
        elif isinstance(request, CreateAll):
            writes = tuple((thing.entry.path, thing.body) for thing in request.objects)
        if writes and how != "well":  # the call failed; it is asked again, if nobody dies first
            if how == "answer lost":
                self.lake.create(*writes[0])
            elif how == "applied late":
                self.late_writes.append(writes[-1])
            return
        try:
            actor.request = actor.steps.send(self.answer(actor, request))
        except StopIteration as end:
            self.ended(actor, end.value, late=how == "answer lost")
        except Disowned:
            self.actors.remove(actor)

    def answer(self, actor, request):
        match request:
            case Own():
                if actor.epoch != self.epoch:
                    raise Disowned
                return None
            case Rebuild(claim):
                taker = Taker(claim.done_before, claim.newest_recv_ns)
                begin = max(claim.first, self.beginning)
                records = [self.take(offset, taker) for offset in range(begin, claim.last + 1)]
                objects = self.files(claim.first, claim.last, records)
                return Rebuilt({thing.entry.path: thing for thing in objects}, begin)
        return self.lake.answer(request)

    def ended(self, actor, result, *, late):
        flushed = actor.claimed is not None
        position = result.position if flushed else result
        if not flushed or not result.won:
            actor.buffer, actor.position = [], position.next_offset
            actor.taker = Taker(position.done, position.newest_recv_ns)
        else:
            last = actor.claimed.last
            actor.buffer = [each for each in actor.buffer if each[0] > last]
        actor.first, actor.steps, actor.claimed = position.next_offset, None, None
        if late:
            self.late_commits.append((actor.epoch, position.next_offset))
        elif actor.epoch == self.epoch:
            self.committed = position.next_offset
        self.safe = max(self.safe, position.next_offset)

    def take(self, offset, taker):
        first, last = self.norm[offset]
        src = SourceRange("raw-fobs", 0, first, last)
        return offset, src, taker.take(src, lost=False, newest_recv_ns=last)

    def files(self, first, last, records):
        rows = {}
        for _, src, taken in records:
            for raw in range(max(src.first, taken.above + 1), src.last + 1):
                rows.setdefault(raw % GROUPS, []).append(raw)
        return tuple(
            DataObject(
                FileEntry(
                    path=layout.data_path("fobs", Book("e", "m", f"s{group}"), 0, "main", 0, first, last),
                    rows=len(raws),
                    digest=json.dumps(raws),
                ),
                json.dumps(raws).encode(),
            )
            for group, raws in sorted(rows.items())
        )

    def visible(self):
        return [raw for path, body in self.lake.objects.items() if path.startswith("fobs/") for raw in json.loads(body)]

    def log_of(self, type_, what):
        found = [
            (parsed.first, claims.decode(body, type_, path))
            for path, body in sorted(self.lake.objects.items())
            if (parsed := layout.parse_claim_path(path)) and parsed.what == what
        ]
        return [document for _, document in found]

    def excused(self):
        """Raw offsets of which the lake says that they are missing, or that lie before its origin."""
        said = {
            raw for claim in self.log_of(Claim, "claim") for low, high in claim.holes for raw in range(low, high + 1)
        }
        digests = {entry.path: entry.digest for claim in self.log_of(Claim, "claim") for entry in claim.files}
        for lost in self.log_of(LostClaim, "lost"):
            said |= {raw for path in lost.missing for raw in json.loads(digests[path])}
        for origin in self.log_of(Origin, "origin"):
            said |= self.accepted(origin.first)
        return said

    def accepted(self, end):
        """Raw offsets whose rows belong into the lake, of the norm records before `end`."""
        return {raw for first, last in self.norm[:end] for raw in range(first, last + 1)}

    @invariant()
    def the_promise_holds(self):
        state = (len(self.lake.objects), self.safe)  # objects are only ever added
        if state != self.proven:
            self.no_row_is_there_twice()
            self.claims_tile_from_the_origin()
            self.nothing_below_a_commit_is_missing_without_a_word()
            self.proven = state

    def no_row_is_there_twice(self):
        visible = self.visible()
        assert len(visible) == len(set(visible)), sorted(raw for raw in visible if visible.count(raw) > 1)

    def nothing_below_a_commit_is_missing_without_a_word(self):
        missing = self.accepted(self.safe) - set(self.visible()) - self.excused()
        if self.retention:  # a hole is seen at the first record behind it
            ended = [claim for claim in self.log_of(Claim, "claim") if claim.last < self.safe]
            done = max((claim.done_after for claim in ended), default=-1)
            missing = {raw for raw in missing if raw <= done}
        assert not missing, (self.safe, missing)

    def claims_tile_from_the_origin(self):
        at = next((origin.first for origin in self.log_of(Origin, "origin")), None)
        for claim in self.log_of(Claim, "claim"):
            assert claim.first == at
            at = claim.last + 1

    def teardown(self):
        """Then everything heals: one more writer takes all there is."""
        if not hasattr(self, "norm"):
            return
        self.norm.append((self.raw_next, self.raw_next))  # shows a hole at the end
        for write in self.late_writes:
            self.lake.create(*write)
        self.actors = []
        self.start_writer()
        (actor,) = self.actors
        self.steps_of(actor, None)
        while actor.position < len(self.norm):
            self.fetch_one(actor)
        if actor.buffer:
            self.start_flush(actor)
        self.steps_of(actor, None)
        assert self.safe == len(self.norm)
        self.the_promise_holds()
        if not self.retention:
            assert sorted(self.visible()) == self.taken_in_one_go()

    def taken_in_one_go(self):
        """The rows that a single writer which never fails would have stored."""
        origin = self.log_of(Origin, "origin")[0].first
        taker = Taker()
        records = [self.take(offset, taker) for offset in range(origin, len(self.norm))]
        return sorted(raw for _, src, each in records for raw in range(max(src.first, each.above + 1), src.last + 1))


class HistoriesWithRetention(Histories):
    retention = True


TestHistories = Histories.TestCase
TestHistories.settings = settings(max_examples=150, stateful_step_count=60, deadline=None)
TestHistoriesWithRetention = HistoriesWithRetention.TestCase
TestHistoriesWithRetention.settings = settings(max_examples=150, stateful_step_count=60, deadline=None)
