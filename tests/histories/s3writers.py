"""s3writers on one norm partition: the real partition, hands, encoder and files, in virtual time; Kafka is a model.

Calls of the store answer one by one when the history says so, as the threads of a busy machine do. Who has lost the
partition goes on as a zombie until it asks who it is.
"""

from concurrent.futures import Executor
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from types import SimpleNamespace

from services.s3writer.buffer import Limits
from services.s3writer.flush import Protocol
from services.s3writer.lines import take_of
from services.s3writer.meters import PartitionMeters
from services.s3writer.partition import Partition
from services.s3writer.storage import Storage
from shared.kafka import Epoch, OffsetsLost, OwnershipLost, Record, TopicPartition
from tests import norm_records
from tests.claim_logs import LOG
from tests.histories.memory_store import MemoryStore
from tests.histories.virtual_time import VirtualLoop
from tests.norm_records import BTC, ETH, NOON_NS

NORM = TopicPartition("norm-fobs", 0)
LIMITS = Limits(interval_seconds=300, max_rows=24)


@dataclass(eq=False)
class Call:
    """A call of the store in a thread; it happens when it is answered."""

    function: object
    arguments: tuple
    future: object

    def answer(self):
        try:
            result = self.function(*self.arguments)
        except Exception as error:  # noqa: BLE001  # whatever it raises is the caller's
            self.future.cancelled() or self.future.set_exception(error)
        else:
            self.future.cancelled() or self.future.set_result(result)


class Threads(VirtualLoop):
    """Encoding is done at once; calls of the store wait in `calls` while `held`."""

    def __init__(self):
        super().__init__()
        self.calls = []
        self.held = False

    def run_in_executor(self, executor, function, *arguments):
        call = Call(function, arguments, self.create_future())
        if self.held and isinstance(executor, Executor):
            self.calls.append(call)
        else:
            call.answer()
        return call.future


class NormTopic:
    """Records in the order in which they landed, each of its raw offsets; `raw_next` follows the highest."""

    def __init__(self):
        self.records = []
        self.beginning = 0
        self.raw_next = 0
        self.batches = {}  # raw offset -> number of its rows

    def send(self, first, size):
        messages = [(raw, BTC if raw % 2 else ETH, NOON_NS + raw * 10**9) for raw in range(first, first + size)]
        value = norm_records.value(norm_records.rows(messages, levels=1))
        headers = tuple(norm_records.headers(first, first + size - 1))
        offset = len(self.records)
        self.records.append(Record(NORM.topic, 0, offset, 1_000 + offset, None, value, headers))
        self.raw_next = max(self.raw_next, first + size)


class Member:
    """The `Consumer` of one writer, as a partition sees it."""

    def __init__(self, group, generation):
        self._group = group
        self._epoch = Epoch(generation, "member")
        self.knows = True  # a zombie that was frozen does not know that the group went on

    def epoch(self):
        if self.knows and self._epoch.generation != self._group.generation:
            raise OwnershipLost("the group went on")
        return self._epoch

    async def commit(self, offsets, epoch):
        self._group.wanted = max(self._group.wanted, offsets[NORM])
        if self.knows and epoch.generation != self._group.generation:  # a group without members takes any
            raise OwnershipLost("the group went on")
        self._group.committed = offsets[NORM]

    async def read_range(self, tp, first, last):
        topic = self._group.topic
        if first < topic.beginning:
            raise OffsetsLost(tp, first, topic.beginning)
        for record in topic.records[first : last + 1]:
            yield record


class Group:
    """`wanted` is the highest offset that anybody tried to commit: what lies below has to be in the lake."""

    def __init__(self):
        self.loop = Threads()
        self.store = MemoryStore()
        self.storage = Storage(self.store, SimpleNamespace(ready=lambda *_: None))
        self.topic = NormTopic()
        self.generation = 0
        self.committed = None
        self.wanted = 0
        self.writers = []
        self._nonces = count()

    def assign(self):
        """A new writer; those before it are zombies that may not know it yet."""
        self.generation += 1
        writer = Writer(self, Member(self, self.generation), lambda: f"nonce-{next(self._nonces)}")
        self.writers.append(writer)
        self.loop.settle()
        return writer

    def remove(self, writer):
        """It is killed, or the partition revoked: what is on its way may still be applied."""
        self.writers.remove(writer)
        writer.task.cancel()
        self.loop.settle()

    def close(self):
        self.storage.close()
        self.loop.end(*(writer.task for writer in self.writers))


class Writer:
    """One assignment, and the fetch loop's part for it."""

    def __init__(self, group, member, nonce):
        self._group, self.member = group, member
        start = group.topic.beginning if group.committed is None else max(group.committed, group.topic.beginning)
        protocol = Protocol(
            LOG,
            tp=NORM,
            epoch=Epoch(group.generation, "member"),
            consumer=member,
            storage=group.storage,
            encoder=None,
            compression="zstd",
            take=take_of("fobs"),
        )
        self.partition = Partition(
            NORM,
            epoch=Epoch(group.generation, "member"),
            start=start,
            protocol=protocol,
            consumer=member,
            limits=LIMITS,
            meters=PartitionMeters("fobs", "group", NORM),
            nonce=nonce,
            clock=group.loop.time,
        )
        self.position = start
        self.task = group.loop.create_task(self.partition.run())

    def fetch(self, number):
        """So many records, from where the partition wants them; nothing before it is resumed."""
        partition, topic = self.partition, self._group.topic
        if partition.seek_to is not None:
            self.position, partition.seek_to = partition.seek_to, None
        if partition.resumed:
            self.position = max(self.position, topic.beginning)
            records = topic.records[self.position : self.position + number]
            self.position += len(records)
            partition.add(records)
        self.cut_if_due()

    def cut_if_due(self):
        self.partition.cut_if_due(self._group.loop.time())
        self._group.loop.settle()

    def flush(self):
        if self.partition.waiting is not None:
            self.partition.cut("bytes")
        self._group.loop.settle()

    @property
    def failure(self):
        """What ended it, if anything did."""
        with suppress(OwnershipLost):
            return self.task.exception() if self.task.done() and not self.task.cancelled() else None
        return None
