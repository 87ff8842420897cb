"""Who takes part in `bench.line`: what each does of the work, how it is set up, and how large a work it is given.

A work's size is a factor: rates are per row and CPU second, beyond the CPU time of a start. The slow ones are given less
of it, else a round would wait minutes for them.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from bench import environments, ours
from bench.accounting import Account, Spent
from bench.stored import rows_in

if TYPE_CHECKING:
    from bench.ours import Place, Task

PEERS = Path(__file__).parent / "peers"
OURS = "cryptoflow"
DRAIN = "aiokafka, drain only"
RUN_SECONDS = 900.0


@dataclass(frozen=True)
class Contender:
    """`until_stopped`: it has no notion of enough and is stopped when its files hold every message."""

    name: str
    does: str
    setup: str
    size: int
    environment: str | None = None
    script: str = ""
    options: list[str] = field(default_factory=list)
    row_is: str = "level"
    until_stopped: bool = False
    stores: bool = True


CONTENDERS = (
    Contender(
        OURS,
        "a row a level, numbers parsed, a file a book and window; exactly once, claims, digests, gap rows, dead letters; fsync",
        "flattener and s3writer, one process each, all settings at their defaults",
        16,
    ),
    Contender(
        "plain json + dict rows + pyarrow",
        "a row a level, numbers parsed, all books in one file; at least once; what cannot be parsed stops it; no fsync",
        "aiokafka getmany, json.loads, a dict a level, Table.from_pylist, zstd, a file each 200,000 rows",
        1,
        "plain",
        "plain_rows.py",
    ),
    Contender(
        "hand-written aiokafka loop",
        "a row a level, numbers parsed, all books in one file; at least once; what cannot be parsed stops it; no fsync",
        "aiokafka getmany on uvloop, orjson, texts cast by Arrow in bulk, zstd, a file each million rows",
        4,
        "plain",
        "columns_loop.py",
    ),
    Contender(
        "quixstreams, a row a level",
        "a row a level, numbers parsed, a file a partition and checkpoint; at least once; no fsync",
        "apply(expand=True), LocalFileSink(ParquetFormat(zstd)), commit_every for about 200,000 rows, rest default",
        1,
        "quixstreams",
        "quix_rows.py",
    ),
    Contender(
        "quixstreams, a row a message",
        "a row a message, levels nested as texts: nothing parsed or exploded; at least once; no fsync",
        "the frame straight into LocalFileSink(ParquetFormat(zstd)), commit_every for about 200,000 levels, rest default",
        4,
        "quixstreams",
        "quix_rows.py",
        ["--nested"],
        "message",
    ),
    Contender(
        "mq-bridge",
        "a row a message, levels nested as texts: it cannot explode, and drops the headers; effectively once by object names;"
        " fsync once a second",
        "kafka to object_store, format parquet, compression zstd, batch_size 1024, concurrency 1 (one core), rest default",
        4,
        "mq-bridge",
        "mq_bridge_rows.py",
        row_is="message",
        until_stopped=True,
    ),
    Contender(
        DRAIN,
        "a limit: records fetched, decompressed and thrown away",
        "aiokafka getmany on uvloop",
        16,
        "plain",
        "drain.py",
        stores=False,
    ),
)


def run(contender: Contender, place: Place, task: Task, *, own_python: bool) -> dict[str, Spent]:
    """One run of it over all that the topic holds: what each of its processes cost."""
    if contender.name == OURS:
        return ours.run(place, task)
    assert contender.environment is not None
    program = sys.executable if own_python else str(environments.python(contender.environment))
    command = [program, str(PEERS / contender.script), place.bootstrap, *task.arguments(), *contender.options]
    child = place.children.start("peer", command, ours.environment({}), place.folder)
    account = Account(child)
    if contender.until_stopped:

        def complete() -> bool:
            account.look()
            return rows_in(task.folder) >= task.filled.messages

        place.children.wait(f"{contender.name} to store its messages", complete, RUN_SECONDS, child)
        child.process.terminate()
    place.children.forget(child)
    return {contender.name: account.end(contender.name, RUN_SECONDS)}
