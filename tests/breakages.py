"""Break the promises on purpose, one at a time: ``python -m tests.breakages`` (or ``make breakages``).

Each breakage is a small patch. It is applied to a copy of the working tree, and the tests named with it are run there
as CI runs them; they must go red. A breakage that survives, or that no longer applies, ends the command with 1. That
every patch still applies is checked in CI (tests/unit/test_breakages.py); the whole takes minutes.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from tests.support import ROOT

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
        (TAKING,),
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


@dataclass(frozen=True)
class Outcome:
    """The test that went red, or an empty text."""

    caught_by: str
    seconds: float
    trouble: str = ""


def copy_of_the_tree(folder: Path) -> Path:
    """What git knows or would add, as it stands."""
    names = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    ).stdout.decode()
    tree = folder / "tree"
    for name in filter(None, names.split("\0")):
        if (ROOT / name).is_file():
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, tree / name)
    return tree


def attempt(tree: Path, breakage: Breakage) -> Outcome:
    """Break the copy, run the tests, mend the copy."""
    path, began, trouble = tree / breakage.path, time.monotonic(), ""
    whole = path.read_text(encoding="utf-8")
    path.write_text(breakage.patched(whole), encoding="utf-8")
    try:
        for test in breakage.tests:
            code, out = _pytest(tree, test)
            if code == 1:
                found = re.search(r"^(?:FAILED|ERROR) (\S+)", out, re.MULTILINE)
                return Outcome(found.group(1) if found else test, time.monotonic() - began)
            if code != 0:
                trouble = out[-2000:]
    finally:
        path.write_text(whole, encoding="utf-8")
    return Outcome("", time.monotonic() - began, trouble)


def _pytest(tree: Path, test: str) -> tuple[int, str]:
    options = ["-x", "-q", "-rfE", "-p", "no:cacheprovider", "-p", "tests.histories.unshrunk"]
    done = subprocess.run(
        [sys.executable, "-B", "-m", "pytest", *options, test],
        cwd=tree,
        env={**os.environ, "PYTHONPATH": str(tree)},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.breakages", description=__doc__.split("\n")[0])
    parser.add_argument("only", nargs="?", default="", help="a regular expression of names")
    parser.add_argument("--list", action="store_true", help="only say which there are")
    asked = parser.parse_args()
    say = Console(highlight=False, soft_wrap=True, markup=False).print
    chosen = [each for each in BREAKAGES if re.search(asked.only, each.name)]
    if asked.list:
        say("\n".join(f"{each.name}  ({each.path})" for each in chosen))
        return 0
    survived = 0
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="breakages-") as folder:
        tree = copy_of_the_tree(Path(folder))
        for breakage in chosen:
            outcome = attempt(tree, breakage)
            survived += not outcome.caught_by
            say(f"{breakage.name:<66} {outcome.seconds:5.0f} s  {outcome.caught_by or 'SURVIVED'}")
            if outcome.trouble:
                say(outcome.trouble)
    say(f"{len(chosen) - survived} of {len(chosen)} breakages were noticed, in {time.monotonic() - began:.0f} s")
    return 1 if survived or not chosen else 0


if __name__ == "__main__":
    sys.exit(main())
