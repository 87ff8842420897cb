"""A writer's hold on one partition, as far as it decides anything: real buffers, limits and taker, no I/O of its own."""

import json
from collections import deque
from dataclasses import dataclass, field

from services.s3writer.buffer import Buffer, Limits
from services.s3writer.take import Taker
from shared.lake import layout
from shared.lake.claim_log import DataObject
from shared.lake.claims import FileEntry
from shared.messages import Book
from tests.claim_logs import LOG, claim_of
from tests.histories.norm_log import rows_of

GROUPS = 2  # files a flush can give: raw offsets modulo this
LIMITS = Limits(interval_seconds=300, max_rows=12)


@dataclass(eq=False)
class Writer:
    """`steps` is the protocol it is in, `request` what that waits for. One whose epoch has passed lives on as a zombie."""

    epoch: int
    nonce: str
    floor: int  # no resume may end below
    steps: object = None
    request: object = None
    resumed: bool = False
    position: int = 0
    taker: Taker = field(default_factory=Taker)
    open_buffer: Buffer = field(default_factory=lambda: Buffer(first=0))
    cut: deque = field(default_factory=deque)
    claimed: object = None
    disowned_before: bool = False  # the partition was gone before the flush began

    @property
    def busy(self):
        return self.steps is not None

    def resume(self, start):
        self.steps = LOG.resume(start=start, hint=start, nonce=self.nonce)
        self.request = next(self.steps)

    def add(self, record, now):
        """Buffer one taken record, and cut where a limit says so."""
        if not self.open_buffer.fits(record.version):
            self.cut_buffer()
        self.open_buffer.add(record, now)
        self.cut_if_due(now)

    def cut_if_due(self, now):
        if not self.cut and LIMITS.due(self.open_buffer, now) is not None:
            self.cut_buffer()

    def cut_buffer(self):
        if self.open_buffer.records:
            self.cut.append(self.open_buffer)
            self.open_buffer = Buffer(first=self.open_buffer.last + 1)

    def flush(self, *, owned):
        """Begin with the first buffer that is cut, if nothing else is being done."""
        if self.busy or not self.cut:
            return
        buffer, self.disowned_before = self.cut[0], not owned
        objects = files(buffer.first, buffer.last, buffer.records)
        self.claimed = claim_of(
            buffer.first,
            buffer.last,
            *objects,
            writer=f"{self.nonce}-{buffer.last}",
            done_before=buffer.records[0].taken.above,
            done_after=buffer.records[-1].taken.done,
            newest_recv_ns=buffer.records[-1].taken.newest_recv_ns,
            holes=buffer.holes,
        )
        self.steps = LOG.flush(self.claimed, objects)
        self.request = next(self.steps)

    def go_on_from(self, position):
        """What was fetched for another place is dropped."""
        self.taker = Taker(position.done, position.newest_recv_ns)
        self.open_buffer, self.position = Buffer(first=position.next_offset), position.next_offset
        self.cut.clear()


def files(first, last, records):
    """A file's body are its raw offsets, and these are its digest."""
    groups = {}
    for raw in rows_of(records):
        groups.setdefault(raw % GROUPS, []).append(raw)
    return tuple(
        DataObject(
            FileEntry(
                path=layout.data_path("fobs", Book("e", "m", f"s{group}"), 0, "main", 0, first, last),
                rows=len(raws),
                digest=json.dumps(raws),
            ),
            json.dumps(raws).encode(),
        )
        for group, raws in sorted(groups.items())
    )
