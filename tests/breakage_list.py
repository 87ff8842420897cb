"""The promises broken on purpose, as small patches, each with the tests that must notice. Run by tests/breakages.py.

They match on lines that seldom move; one that no longer applies is corrected here, never left out.
"""

from __future__ import annotations

from dataclasses import dataclass

CLAIM_LOG = "shared/lake/claim_log.py"
TAKE = "services/s3writer/take.py"
FLUSH = "services/s3writer/flush.py"
PARTITION = "services/s3writer/partition.py"
WRITER = "services/s3writer/writer.py"
BUFFER = "services/s3writer/buffer.py"
FLATTENER_PARTITION = "services/flattener/partition.py"
PUBLISH = "services/flattener/publish.py"
CLAIMS = "tests/unit/test_claims_histories.py"
TAKING = "tests/unit/test_taking_histories.py"
BUFFERS = "tests/unit/test_buffer_histories.py"
S3WRITERS = "tests/unit/test_s3writer_histories.py"
TABLES = "tests/unit/test_claims.py"
LOST_ANSWER = "            if found == mine:  # an answer was lost"


class DoesNotApply(Exception):
    """What a breakage replaces is not there exactly once."""


@dataclass(frozen=True)
class Breakage:
    """`old` in `path` becomes `new`; one of `tests` must notice. Each of them alone is run until one does."""

    name: str
    path: str
    old: str
    new: str
    tests: tuple[str, ...]

    def patched(self, text: str) -> str:
        if text.count(self.old) != 1:
            raise DoesNotApply(f"{self.name}: {self.path} holds {text.count(self.old)} times, not once:\n{self.old}")
        return text.replace(self.old, self.new)


BREAKAGES = (
    # The six that the promise stands on.
    Breakage(
        "claim check: an existing claim does not win",
        CLAIM_LOG,
        LOST_ANSWER,
        "            if found is not None:",
        (CLAIMS, TABLES),
    ),
    Breakage(
        "origin: a line begins wherever the committed offset says",
        CLAIM_LOG,
        "next_offset=origin.first",
        "next_offset=start",
        (CLAIMS, TABLES),
    ),
    Breakage(
        "nonce: our own claim under a lost answer is taken for another's",
        CLAIM_LOG,
        LOST_ANSWER,
        "            if False:",
        (CLAIMS, TABLES),
    ),
    Breakage(
        "nonce: another's claim of the same range is taken for ours",
        CLAIM_LOG,
        LOST_ANSWER,
        "            if found is not None and claims.decode(found, Claim, path).last == claim.last:",
        (CLAIMS, TABLES),
    ),
    Breakage(
        "dedup: a record is taken whole, whatever was taken before",
        TAKE,
        "        return Taken(before, dropped",
        "        return Taken(src.first - 1, False",
        (TAKING, CLAIMS),
    ),
    Breakage(
        "dedup: no row is left out at the flush",
        TAKE,
        "    return batch.slice(first) if first else batch",
        "    return batch",
        (TAKING, "tests/unit/test_take.py"),
    ),
    Breakage(
        "one in flight: the next norm record is sent before the ack",
        FLATTENER_PARTITION,
        "            await self._publisher.publish(self.tp, cut)\n",
        "            before, self._sending = getattr(self, '_sending', None), asyncio.ensure_future("
        "self._publisher.publish(self.tp, cut))\n            await (before or asyncio.sleep(0))\n",
        (TAKING,),
    ),
    Breakage(
        "one in flight: offsets count as acknowledged before the ack",
        FLATTENER_PARTITION,
        "            await self._publisher.publish(self.tp, cut)\n            self.acked_offset = cut.last + 1\n",
        "            self.acked_offset = cut.last + 1\n            await self._publisher.publish(self.tp, cut)\n",
        (TAKING,),
    ),
    Breakage(
        "one in flight: nobody waits for an ack",
        PUBLISH,
        "            await asyncio.shield(sent)\n",
        "",
        (TAKING,),
    ),
    Breakage(
        "create-only: S3 is not told If-None-Match",
        "shared/lake/store_s3.py",
        ', IfNoneMatch="*"',
        "",
        ("tests/unit/test_store_s3.py",),
    ),
    Breakage(
        "create-only: a local file is replaced",
        "shared/lake/store_local.py",
        "        os.link(source, target)",
        "        os.replace(source, target)",
        ("tests/unit/test_store_local.py", "tests/integration/test_store.py"),
    ),
    # And others.
    Breakage("ownership is not asked before a claim", CLAIM_LOG, "            yield Own()\n", "", (CLAIMS, TABLES)),
    Breakage(
        "digests: a stranger's file completes a claim",
        CLAIM_LOG,
        "        _check_digests(claim.files, digests)\n",
        "",
        (CLAIMS, TABLES),
    ),
    Breakage(
        "digests: a stranger's file stands for ours",
        CLAIM_LOG,
        "        _check_digests(entries, digests)\n        # One",
        "        # One",
        (CLAIMS, TABLES),
    ),
    Breakage(
        "commit before the files",
        CLAIM_LOG,
        "        yield from _create_all(objects)\n        return Flushed(won=True",
        "        return Flushed(won=True",
        (CLAIMS, TABLES),
    ),
    Breakage(
        "the last claim is not finished at the start",
        CLAIM_LOG,
        "        return (yield from self.finish(claims.decode(body, Claim, path), nonce))",
        "        return position_after(claims.decode(body, Claim, path))",
        (CLAIMS, TABLES),
    ),
    Breakage(
        "another's claim is adopted and not finished",
        CLAIM_LOG,
        "position=(yield from self.finish(winner, claim.writer))",
        "position=position_after(winner)",
        (CLAIMS, TABLES),
    ),
    Breakage(
        "the committed offset is believed",
        CLAIM_LOG,
        "        return (yield from bisect_last(first_claim_from, hint))",
        "        return (yield from first_claim_from(hint))",
        (CLAIMS, TABLES),
    ),
    Breakage(
        "done is not carried from claim to claim",
        CLAIM_LOG,
        "done=claim.done_after",
        "done=claim.done_before",
        (CLAIMS, TABLES),
    ),
    Breakage(
        "other records of the same offsets count as lost",
        CLAIM_LOG,
        "        if lost and rebuilt.kafka_first <= claim.first:",
        "        if False:",
        (CLAIMS, TABLES),
    ),
    Breakage(
        "what cannot be made any more is not said",
        CLAIM_LOG,
        "            while not (yield Create(lost_path, said)):",
        "            while False:",
        (CLAIMS, TABLES),
    ),
    Breakage(
        "a lost mark is believed to exist",
        CLAIM_LOG,
        "                if (yield Get(lost_path)) is not None:  # another",
        "                if True:  # another",
        (TABLES, CLAIMS),
    ),
    Breakage(
        "half a file is made under a promised name",
        CLAIM_LOG,
        "for entry in missing if made.get(entry.path) == entry)",
        "for entry in missing if entry.path in made)",
        (CLAIMS, TABLES),
    ),
    Breakage(
        "the foreign origin of another environment is taken",
        CLAIM_LOG,
        "        if (origin.cluster_id, origin.topic",
        "        if False and (origin.cluster_id, origin.topic",
        (CLAIMS, TABLES),
    ),
    Breakage(
        "a re-created raw topic is taken for repetition",
        TAKE,
        "repeated_recv_ns > known",
        "False",
        (CLAIMS, "tests/unit/test_take.py"),
    ),
    Breakage(
        "a source hole is not said",
        TAKE,
        "            elif src.first > before + 1:",
        "            elif False:",
        (TAKING, "tests/unit/test_take.py"),
    ),
    Breakage(
        "a failed send does not end the flattener",
        PUBLISH,
        '            raise FatalError(f"{error}: the process ends, the next one goes on from the last commit") from error',
        "            return",
        (TAKING, "tests/integration/test_flattener_publish.py"),
    ),
    Breakage(
        "lost raw records are not said to be",
        PUBLISH,
        "            lost=cut.lost,",
        "            lost=False,",
        (TAKING,),
    ),
    Breakage(
        "the budget does not stop fetching",
        BUFFER,
        "        return held_bytes >= self.max_bytes",
        "        return False",
        (BUFFERS,),
    ),
    Breakage(
        "two schemas share a buffer",
        BUFFER,
        "        return not self.records or self.records[-1].version == version",
        "        return True",
        (BUFFERS, CLAIMS),
    ),
    Breakage(
        "s3writer: what another's claim made void is kept",
        PARTITION,
        "            self._cut.clear()\n            self._go_on_from(flushed.position)\n",
        "            self._cut.popleft()\n",
        (S3WRITERS,),
    ),
    Breakage(
        "s3writer: what was taken before is forgotten with each assignment",
        PARTITION,
        "        self._taker = Taker(position.done, position.newest_recv_ns)",
        "        self._taker = Taker()",
        (S3WRITERS,),
    ),
    Breakage(
        "s3writer: after a resume fetching goes on from the committed offset",
        PARTITION,
        "        self.seek_to = position.next_offset",
        "        self.seek_to = None",
        (S3WRITERS,),
    ),
    Breakage(
        "s3writer: a claim says that nothing was taken before it",
        PARTITION,
        "            done_before=buffer.records[0].taken.above,",
        "            done_before=-1,",
        (S3WRITERS,),
    ),
    Breakage(
        "s3writer: a claim is finished as if nothing was taken before it",
        FLUSH,
        "Taker(claim.done_before, claim.newest_recv_ns)",
        "Taker(-1, None)",
        (S3WRITERS,),
    ),
    Breakage(
        "verify: done_before is not held against the claim before",
        "shared/lake/verify.py",
        "        if self._done is not None and claim.done_before != self._done:",
        "        if False:",
        ("tests/unit/test_verify.py",),
    ),
)
