"""One norm partition as Kafka keeps it: what flatteners sent, in the order it landed, and where retention begins."""

from dataclasses import dataclass, field, replace

from services.s3writer.buffer import NormRecord
from shared.messages import SourceRange

NEXT_LIFE_NS = 10**6  # the raw topic re-created: everything is received later than before


@dataclass(frozen=True)
class Sent:
    """One norm record: the raw offsets it covers, in the schema of some version."""

    first: int
    last: int
    version: int = 1
    newest_recv_ns: int = 0


@dataclass
class NormLog:
    """`beginning` is the first offset that Kafka still has."""

    raw_next: int  # the first raw offset that no record covers
    version: int = 1
    beginning: int = 0
    records: list = field(default_factory=list)
    unsteady: bool = False  # raw records are not in the order of their receive times
    received_ns: list = field(default_factory=list)  # of each raw record

    def __post_init__(self):
        self.received_ns += [10 * raw for raw in range(self.raw_next)]

    @property
    def end(self):
        return len(self.records)

    def send(self, size, jump=0):
        """The next `size` raw records; `jump` are left out, as a flattener does that skipped what Kafka lost."""
        self.send_again(self.raw_next + jump, size)

    def send_again(self, first, size):
        """Any raw records, as a zombie does, or one that was given an older commit."""
        last = first + size - 1
        for raw in range(self.raw_next, last + 1):
            self.received_ns.append(10 * raw + (45 if self.unsteady and raw >= first and raw % 5 == 0 else 0))
        self.records.append(Sent(first, last, self.version, max(self.received_ns[first : last + 1])))
        self.raw_next = max(self.raw_next, last + 1)

    def repeat(self, back):
        """One of the last records once more."""
        self.records.append(replace(self.records[-back], version=self.version))

    def send_of_a_new_topic(self, size):
        """Raw records under offsets that were there before, and received later than all of those."""
        self.records.append(Sent(0, size - 1, self.version, NEXT_LIFE_NS))

    def take(self, offset, taker):
        """A record as a writer takes it."""
        sent = self.records[offset]
        src = SourceRange("raw-fobs", 0, sent.first, sent.last)
        repeated_ns = None
        if sent.first <= taker.done < sent.last:
            told_ns = self.received_ns[sent.first : taker.done + 1]
            repeated_ns = sent.newest_recv_ns if sent.newest_recv_ns == NEXT_LIFE_NS else max(told_ns)
        taken = taker.take(src, lost=False, newest_recv_ns=sent.newest_recv_ns, repeated_recv_ns=repeated_ns)
        rows = sent.last - sent.first + 1
        return NormRecord(offset, 0, b"x" * rows, src, 0, sent.version, rows, sent.newest_recv_ns, taken)

    def raws(self, end):
        """The raw offsets of all records before offset `end`."""
        return {raw for sent in self.records[:end] for raw in range(sent.first, sent.last + 1)}


def rows_of(records):
    """The raw offsets whose rows are taken from these records, in order."""
    return [
        raw for record in records for raw in range(max(record.src.first, record.taken.above + 1), record.src.last + 1)
    ]
