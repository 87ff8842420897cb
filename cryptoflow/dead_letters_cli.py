"""The commands `cryptoflow dead-letters …`: look at what could not be processed, and hand it in again.

A dead letter is never altered or removed: retention ends it. What is replayed is published to the raw topic a second
time, with its bytes, key and headers, and gets a new raw offset there; the `malformed` gap row of the first stays true.
"""

from __future__ import annotations

import asyncio
import base64
import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from cryptoflow.options import ConfigOption, SetOption, settings_of
from shared.errors import FatalError
from shared.kafka import Admin, Producer, Record, TopicPartition, read_range
from shared.messages import DeadLetterHeaders

if TYPE_CHECKING:
    from collections.abc import Sequence

    from shared.messages import Header
    from shared.settings import Settings

DEFAULT_LIMIT = 50
STOP_SECONDS = 10.0
REPLAYABLE_STAGE = "flattener"  # what the reader gave up was never a record of a raw topic

app = typer.Typer(
    help="What could not be processed: look at it, hand it in again.", no_args_is_help=True, rich_markup_mode=None
)

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON, for a machine to read.")]
ReasonOption = Annotated[str | None, typer.Option("--reason", help="Only those whose error begins with this word.")]
SourceOption = Annotated[
    list[str] | None, typer.Option("--src", metavar="TOPIC/PARTITION/OFFSET", help="Only these records. Repeatable.")
]
LimitOption = Annotated[int, typer.Option("--limit", min=1, help="The latest so many of those that match.")]


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """One record of the dead-letter topic: what it says about itself, and what it was."""

    record: Record
    own: DeadLetterHeaders
    original: list[Header]

    @property
    def reason(self) -> str:
        """The bounded word its error begins with."""
        return self.own.error.partition(":")[0]

    @property
    def destination(self) -> TopicPartition | None:
        """The raw partition it came from; None where its bytes are not here or never were in one."""
        topic, _, rest = self.own.src.partition("/")
        partition, _, offset = rest.partition("/")
        whole = self.record.value or ": left in " not in self.own.error
        if self.own.stage != REPLAYABLE_STAGE or not (partition.isdigit() and offset.isdigit()) or not whole:
            return None
        return TopicPartition(topic, int(partition))

    def as_dict(self) -> dict[str, Any]:
        """For JSON; bytes as base64."""
        return {
            "partition": self.record.partition,
            "offset": self.record.offset,
            "time": self._time.isoformat(),
            "reason": self.reason,
            "error": self.own.error,
            "stage": self.own.stage,
            "src": self.own.src,
            "key": (self.record.key or b"").decode(errors="replace"),
            "headers": {name: value.decode(errors="replace") for name, value in self.original},
            "bytes": len(self.record.value),
            "value_base64": base64.b64encode(self.record.value).decode(),
        }

    def as_row(self) -> tuple[str, ...]:
        """For the table."""
        key = (self.record.key or b"").decode(errors="replace")
        time = self._time.isoformat(sep=" ", timespec="seconds").removesuffix("+00:00")
        return time, self.own.stage, self.own.src, key, f"{len(self.record.value):,}", self.own.error

    @property
    def _time(self) -> datetime:
        return datetime.fromtimestamp(self.record.timestamp_ms / 1000, UTC)


@app.command("list")
def list_(
    config: ConfigOption = None,
    pairs: SetOption = None,
    *,
    reason: ReasonOption = None,
    src: SourceOption = None,
    limit: LimitOption = DEFAULT_LIMIT,
    as_json: JsonOption = False,
) -> None:
    """Show the latest dead letters, the newest last."""
    letters = asyncio.run(_read(settings_of(config, pairs), reason, src, limit))
    if as_json:
        typer.echo(json.dumps([letter.as_dict() for letter in letters], ensure_ascii=False))
        return
    if not letters:
        typer.echo("no dead letters")
        return
    table = Table("time (UTC)", "stage", "src", "key", "bytes", "error", box=None, pad_edge=False)
    for letter in letters:
        table.add_row(*letter.as_row())
    console = Console(markup=False)
    (console if console.is_terminal else Console(markup=False, width=200)).print(table)


@app.command()
def replay(
    config: ConfigOption = None,
    pairs: SetOption = None,
    *,
    reason: ReasonOption = None,
    src: SourceOption = None,
    limit: LimitOption = DEFAULT_LIMIT,
    yes: Annotated[bool, typer.Option("--yes", help="Publish. Without it, only say what would be published.")] = False,
) -> None:
    """Publish dead letters to their raw topic again: same bytes, key and headers, but new offsets.

    To do after an upgrade that understands them. Done twice, they are in the lake twice: each time is a new record.
    """
    settings = settings_of(config, pairs)
    letters = asyncio.run(_read(settings, reason, src, limit))
    ready = [letter for letter in letters if _belongs(letter, settings)]
    for letter in letters:
        verdict = "replay" if letter in ready else "leave: not a whole record of this stream's raw topics"
        typer.echo(f"{letter.own.src}: {verdict} ({letter.own.error})")
    if not yes:
        typer.echo(f"{len(ready)} of {len(letters)} would be published again, at new offsets; --yes does it")
        return
    offsets = asyncio.run(_publish(settings, ready))
    for letter, (tp, offset) in zip(ready, offsets, strict=True):
        typer.echo(f"{letter.own.src} is now also {tp.topic}/{tp.partition}/{offset}")
    typer.echo(f"{len(ready)} published again; their `malformed` gap rows stay in the lake at the old offsets")


def _belongs(letter: DeadLetter, settings: Settings) -> bool:
    raw = {settings.channels.raw_fobs.topic, settings.channels.raw_fobd.topic}
    return letter.destination is not None and letter.destination.topic in raw


async def _read(settings: Settings, reason: str | None, src: Sequence[str] | None, limit: int) -> list[DeadLetter]:
    """The latest `limit` that match, oldest first."""
    found: list[DeadLetter] = []
    topic, client_id = settings.channels.dead_letters.topic, f"{settings.cryptoflow.name}-dead-letters"
    async with Admin(settings.kafka, client_id=client_id) as admin:
        description = (await admin.describe([topic]))[topic]
        if description is None:
            raise FatalError(f"topic {topic} does not exist: run `cryptoflow topics create`")
        tps = [TopicPartition(topic, partition) for partition in range(description.partitions)]
        begins, ends = await admin.beginning_offsets(tps), await admin.end_offsets(tps)
    for tp in tps:
        mine: list[DeadLetter] = []
        async for record in read_range(settings.kafka, tp, begins[tp], ends[tp] - 1, client_id=client_id):
            letter = DeadLetter(record, *DeadLetterHeaders.split(record.headers))
            if (reason is None or letter.reason == reason) and (not src or letter.own.src in src):
                mine.append(letter)
                del mine[:-limit]
        found += mine
    found.sort(key=lambda letter: (letter.record.timestamp_ms, letter.record.partition, letter.record.offset))
    return found[-limit:]


async def _publish(settings: Settings, letters: Sequence[DeadLetter]) -> list[tuple[TopicPartition, int]]:
    """To the partition each came from, in the order given. Raises `ProducerFailed`: those not yet said are not there."""
    producer = Producer(settings.kafka, client_id=f"{settings.cryptoflow.name}-dead-letters")
    await producer.start()
    try:
        published: list[tuple[TopicPartition, int]] = []
        for letter in letters:
            tp = letter.destination
            assert tp is not None  # _belongs() looked
            record = letter.record
            sent = await producer.send(
                tp.topic, record.value, key=record.key, partition=tp.partition, headers=letter.original
            )
            published.append((tp, await sent))
        return published
    finally:
        await producer.stop(STOP_SECONDS)
