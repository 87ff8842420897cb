"""The command `cryptoflow lake verify`. It parses, calls one function, prints; nothing is decided here."""

from __future__ import annotations

import json
from contextlib import contextmanager, nullcontext
from importlib.util import find_spec
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from cryptoflow import lake
from cryptoflow.lake_options import JsonOption, UrlArgument, not_done
from cryptoflow.options import ConfigOption, SetOption, settings_of
from shared.errors import CryptoFlowError, FatalError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    from cryptoflow.raw_topics import RawTopics
    from shared.lake.raw_source import RawSource

SHOWN = 50

RawLakeOption = Annotated[
    str | None,
    typer.Option("--raw-lake", metavar="URL", help="The lake that holds the raw archive. Default: the same."),
]


def verify(
    url: UrlArgument,
    config: ConfigOption = None,
    pairs: SetOption = None,
    *,
    as_json: JsonOption = False,
    fast: Annotated[bool, typer.Option("--fast", help="Read the files' footers, not their rows.")] = False,
    strict: Annotated[
        bool, typer.Option("--strict", help="An unfinished last claim is damage: for a lake nobody writes to.")
    ] = False,
    against_kafka: Annotated[
        bool,
        typer.Option(
            "--against-kafka",
            help="Compare every row with what the raw topics still hold. --config and --set say which Kafka and stream.",
        ),
    ] = False,
    against_raw: Annotated[
        bool, typer.Option("--against-raw", help="Compare every row with the raw archive (storage.s3.archive_raw).")
    ] = False,
    raw_lake: RawLakeOption = None,
) -> None:
    """Prove from claims and objects alone that nothing is missing, doubled, altered or foreign.

    With --against-kafka or --against-raw also from the raw records, made into rows anew and compared row by row, as far as
    they are still to be had: what is not, and what is not stored yet, is said with numbers, and is no damage.

    Exit codes: 0 proven complete, 1 damaged, 2 could not be verified (or nothing is left to compare with), 3 sound, but
    with losses that the lake declares.
    """
    if against_kafka and against_raw:
        raise typer.BadParameter("--against-kafka and --against-raw: choose one")
    if raw_lake is not None and not against_raw:
        raise typer.BadParameter("--raw-lake is of --against-raw")
    if (config or pairs) and not against_kafka:
        raise typer.BadParameter("--config and --set are of --against-kafka")
    source: AbstractContextManager[RawSource | None] = nullcontext()
    try:
        if against_kafka:
            source = raw_topics(config, pairs)
        elif against_raw:
            source = raw_archive(raw_lake or url)
        with source as against, bar("claims") as progress:
            report = lake.verify(url, fast=fast, strict=strict, against=against, progress=progress)
    except CryptoFlowError as error:
        raise not_done(error, url, "verified", as_json=as_json) from error
    if as_json:
        typer.echo(json.dumps(report.as_dict(), ensure_ascii=False))
    else:
        _print_report(report)
    raise typer.Exit(report.exit_code)


def raw_topics(config: Path | None, pairs: Sequence[str] | None) -> RawTopics:
    """The raw topics of the settings. Raises `FatalError` where what reads raw records is not installed."""
    settings = settings_of(config, pairs)
    _needs_parser()
    from cryptoflow.raw_topics import RawTopics  # noqa: PLC0415  # aiokafka, only where it is needed

    return RawTopics(settings)


def raw_archive(url: str) -> AbstractContextManager[RawSource]:
    """The raw archive of a lake. Raises as `raw_topics` does."""
    _needs_parser()
    from cryptoflow.raw_archive import RawArchive  # noqa: PLC0415  # as above

    return nullcontext(RawArchive(lake.open_url(url)))


@contextmanager
def bar(what: str) -> Iterator[Callable[[int, int], None]]:
    """A progress bar on a terminal, nothing elsewhere."""
    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    errors = Console(stderr=True)
    with Progress(*columns, console=errors, transient=True, disable=not errors.is_terminal) as progress:
        task = progress.add_task(what, total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)


def _needs_parser() -> None:
    if find_spec("simdjson") is None:
        raise FatalError("to read raw records needs pysimdjson: pip install 'cryptoflow[lake]'")


def _print_report(report: lake.Report) -> None:
    for problem in report.problems[:SHOWN]:
        typer.echo(str(problem))
    if len(report.problems) > SHOWN:
        typer.echo(f"… and {len(report.problems) - SHOWN:,} more problems: --json has all of them")
    for loss in report.losses[:SHOWN]:
        typer.echo(str(loss))
    if len(report.losses) > SHOWN:
        typer.echo(f"… and {len(report.losses) - SHOWN:,} more losses: --json has all of them")
    for line in report.open:
        typer.echo(f"open: {line.open}: {len(line.open_files):,} files to come; a writer is at work there, or will be")
    for note in report.notes:
        typer.echo(f"note: {note}")
    if report.against is not None:
        _print_against(report.against)
    if report.verdict == "empty":
        typer.echo(f"empty: no claim and no object in {report.url}: is it a lake?", err=True)
    else:
        typer.echo(f"{report.url}: {report}")


def _print_against(against: lake.Against) -> None:
    for difference in against.differences[:SHOWN]:
        typer.echo(f"{difference.what}: {difference.path}: {difference}")
    if len(against.differences) > SHOWN:
        typer.echo(f"… and {len(against.differences) - SHOWN:,} more named differences: --json has them")
    notes = [note for line in against.lines for note in line.notes(against.source)]
    for note in notes[:SHOWN]:
        typer.echo(f"note: {note}")
    if len(notes) > SHOWN:
        typer.echo(f"… and {len(notes) - SHOWN:,} more notes: --json has the numbers")
    typer.echo(f"against {against.source}: {against}")
