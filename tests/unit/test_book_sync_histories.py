"""Random histories of one symbol: faults on the way, connections lost and handed over, anchors late, ahead and stale.

Whatever happens, a consumer who follows the recipe holds the true book after every record, every update received is
published once and in order, and each hole is told by one gap with what happened in it; where nothing was lost there is none.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from services.reader.book_sync import HOLD_NS, UNDECIDED_NS
from shared.messages import Gap
from tests.book_sync_world import Told, World, apply

HEAVIEST_FIRST = ("overflow", "stale", "disconnect", "malformed")
SETTLE_ROUNDS = 25

steps = st.tuples(
    st.sampled_from(
        ["change"] * 12
        + [
            "drop",
            "garble",
            "twice",
            "overtaken",
            "mute",
            "cut",
            "back",
            "back",
            "overflow",
            "hand_over",
            "poll",
            "poll",
        ]
    ),
    st.sampled_from([0, 0, 20, 100, 400, 1000, 4000, 12_000, 35_000]),
    st.integers(0, 2**20),
)


@settings(max_examples=300, deadline=None)
@given(st.booleans(), st.booleans(), st.booleans(), st.lists(steps, min_size=3, max_size=60))
def test_every_history_is_told_as_it_was(spot, slow, lagging, script) -> None:
    world = World(spot=spot, slow=slow, lagging=lagging)
    for step in script:
        world.step(*step)
    settle(world)
    consumer = Consumer(world)
    for told in world.told:
        consumer.take(told)
    assert consumer.id == world.changes[-1][0], "in the end there is a book, and it is the latest"
    world.sync.stop(world.now)
    assert Gap.decode(world.told[-1].record.value).cause == "stop"
    every_update_received_is_published_once_and_in_order(world)
    anchors_are_valid_at_their_place(world)
    gaps_tell_what_stands_around_them(world)
    each_hole_has_its_gap(world)
    if not lagging:
        gaps_tell_what_happened(world)


def settle(world: World) -> None:
    """The connection stands, the symbol trades, anchors come soon."""
    world.slow = world.lagging = False
    world.step("back", 1000, 1)
    for draw in range(SETTLE_ROUNDS):
        world.step("poll", 10, draw)
        world.step("change", 4000, draw)
    world.wait(4000)


@dataclass
class Consumer:
    """The recipe of the documentation, in plain Python."""

    world: World
    book: dict[int, int] | None = None
    id: int = 0
    applied: bool = False  # whether an update was, since the anchor

    def take(self, told: Told) -> None:
        record = told.record
        if record.type == "gap":
            self.book = None
        elif record.type == "snapshot":
            self.id, self.applied = record.last_id or 0, False
            self.book = self.world.book(self.id)
        elif self.book is not None:
            event = self.world.events[int(record.value)]
            if event.ids.last_id <= self.id:
                return
            follows = self.world.rule.after_update if self.applied else self.world.rule.after_anchor
            assert follows(self.id, event.ids) == "next", "a broken chain without a gap"
            apply(self.book, event.levels)
            self.id, self.applied = event.ids.last_id, True
        if self.book is not None:
            assert self.book == self.world.book(self.id)


def every_update_received_is_published_once_and_in_order(world: World) -> None:
    published = [int(told.record.value) for told in world.told if told.record.type == "update"]
    assert published == sorted(set(published))
    assert len(published) + world.sync.repeats == len(world.delivered)
    missing = set(world.delivered) - set(published)
    for number in missing:
        before = world.delivered[: world.delivered.index(number)]
        assert max(before, default=-1) > number, f"update {number} was neither late nor a repeat"


def anchors_are_valid_at_their_place(world: World) -> None:
    newest, late = 0, 0
    for told in world.told:
        id_ = told.record.last_id or 0
        if told.record.type == "snapshot":
            assert id_ >= newest, "an anchor behind a newer update"
            if told.at_ns - told.record.recv_ns < HOLD_NS:
                late = max(late, id_)
        elif told.record.type == "update":
            assert id_ > late, "an update that belongs before an anchor, which did not wait for it"
            newest = id_
        elif world.lagging:
            newest = late = 0


def gaps_tell_what_stands_around_them(world: World) -> None:
    known, since = None, None
    for number, told in enumerate(world.told):
        record = told.record
        if record.type != "gap":
            known, since = max(known or 0, record.last_id or 0), record.recv_ns
            continue
        gap = Gap.decode(record.value)
        assert (gap.last_id, gap.since_ns) == (known, since)
        if gap.next_id is not None:
            following = next(one.record for one in world.told[number:] if one.record.type == "update")
            assert gap.next_id == world.events[int(following.value)].ids.first_id
        known = None


@dataclass
class Stretch:
    """What stands between two updates, of which the second is `end`."""

    begin: int
    end: int = -1
    between: list[Told] = field(default_factory=list)

    def gaps(self) -> list[tuple[Told, Gap]]:
        return [(told, Gap.decode(told.record.value)) for told in self.between if told.record.type == "gap"]


def stretches(world: World) -> list[Stretch]:
    found = [Stretch(-1)]
    for told in world.told[1:]:  # behind the gap `start`
        if told.record.type == "update":
            found[-1].end = int(told.record.value)
            found.append(Stretch(found[-1].end))
        else:
            found[-1].between.append(told)
    found[-1].between.pop()  # `stop`
    found[-1].end = len(world.events)
    return found


def each_hole_has_its_gap(world: World) -> None:
    for first, second in pairwise(world.told[:-1]):  # without `stop`
        assert {first.record.type, second.record.type} != {"gap"}, "two gaps without a record between them"
    for stretch in stretches(world):
        gaps = [gap for told, gap in stretch.gaps() if not timed_out(world, stretch, told)]
        lost = [event.ids.last_id for event in world.events[stretch.begin + 1 : stretch.end]]
        anchors = [told.record.last_id or 0 for told in stretch.between if told.record.type == "snapshot"]
        if stretch.begin < 0:  # what came before the first update and the first anchor was never recorded
            lost = [id_ for id_ in lost if anchors and id_ > anchors[0]]
        holes = sum(any(id_ > low and id_ <= high for id_ in lost) for low, high in spans(anchors))
        assert len(gaps) <= holes
        assert bool(stretch.gaps()) >= bool(lost), f"updates {lost} are missing and nobody says so"


def spans(anchors: list[int]) -> list[tuple[int, int]]:
    """The ids before the first anchor, between each two, and behind the last."""
    edges = [0, *anchors, 2**62]
    return list(pairwise(edges))


def timed_out(world: World, stretch: Stretch, told: Told) -> bool:
    """Whether this gap is told because nothing decided for so long, which may be a hole in nothing."""
    lost_ns = [at for at, cause in world.happened if cause in {"disconnect", "overflow"} and at <= told.at_ns]
    heard_ns = world.received_ns.get(stretch.begin, 0)
    return bool(lost_ns) and told.at_ns - max(heard_ns, min(lost_ns)) >= UNDECIDED_NS


def gaps_tell_what_happened(world: World) -> None:
    """The first gap behind an update, where neither was decided by an anchor before."""
    for stretch in stretches(world):
        if stretch.begin < 0 or not stretch.between or stretch.between[0].record.type != "gap":
            continue
        told, gap = stretch.gaps()[0]
        begin, end = world.received_ns[stretch.begin], told.record.recv_ns
        happened = {cause for at, cause in world.happened if begin < at <= end}
        expected = next((cause for cause in HEAVIEST_FIRST if cause in happened), "sequence")
        assert gap.cause == expected
