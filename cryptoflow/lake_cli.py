"""The commands `cryptoflow lake …`. They parse, call one function, print; nothing is decided here.

`book` and `gaps` stand in `cryptoflow.lake_book_cli`.
"""

from __future__ import annotations

import json
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from cryptoflow import lake, lake_book_cli
from cryptoflow.lake_options import NOT_DONE, JsonOption, UrlArgument, console, not_done
from shared.errors import CryptoFlowError
from shared.lake.watermark import LATENESS_SECONDS, hour_or_none

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SHOWN = 50

app = typer.Typer(
    help="The lake: prove it, ask how far it reaches, rebuild a book, list its gaps.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
app.command()(lake_book_cli.book)
app.command()(lake_book_cli.gaps)


@app.command()
def verify(
    url: UrlArgument,
    *,
    as_json: JsonOption = False,
    fast: Annotated[bool, typer.Option("--fast", help="Read the files' footers, not their rows.")] = False,
    strict: Annotated[
        bool, typer.Option("--strict", help="An unfinished last claim is damage: for a lake nobody writes to.")
    ] = False,
) -> None:
    """Prove from claims and objects alone that nothing is missing, doubled, altered or foreign.

    Exit codes: 0 proven complete, 1 damaged, 2 could not be verified, 3 sound, but with losses that the lake declares.
    """
    try:
        with _bar() as progress:
            report = lake.verify(url, fast=fast, strict=strict, progress=progress)
    except CryptoFlowError as error:
        raise not_done(error, url, "verified", as_json=as_json) from error
    if as_json:
        typer.echo(json.dumps(report.as_dict(), ensure_ascii=False))
    else:
        _print_report(report)
    raise typer.Exit(report.exit_code)


@app.command()
def watermark(
    url: UrlArgument,
    *,
    as_json: JsonOption = False,
    lateness_seconds: Annotated[
        float, typer.Option(min=0, help="How late a row may still come after one that was received later.")
    ] = LATENESS_SECONDS,
) -> None:
    """Say until when each symbol is closed: no row of an hour before that is expected any more."""
    try:
        found = lake.watermark(url, lateness_seconds=lateness_seconds)
    except CryptoFlowError as error:
        raise not_done(error, url, "read", as_json=as_json) from error
    if as_json:
        typer.echo(json.dumps(found.as_dict(), ensure_ascii=False))
        return
    if not found.lines:
        typer.echo(f"no claim in {found.url}: is it a lake?", err=True)
        raise typer.Exit(NOT_DONE)
    table = Table("kind", "stream", "exchange", "market", "symbol", "closed until", box=None, pad_edge=False)
    for mark in found.lines:
        until = hour_or_none(mark.closed_until_us) or "nothing closed"
        for book in mark.books:
            table.add_row(mark.line.kind, mark.line.stream, book.exchange, book.market, book.symbol, until)
    console().print(table)
    for kind, stream in found.streams():
        until = hour_or_none(found.closed_until_us(kind, stream)) or "nothing closed"
        typer.echo(f"all of {kind}, stream {stream}: {until}")


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
    if report.verdict == "empty":
        typer.echo(f"empty: no claim and no object in {report.url}: is it a lake?", err=True)
    else:
        typer.echo(f"{report.url}: {report}")


@contextmanager
def _bar() -> Iterator[Callable[[int, int], None]]:
    """A progress bar on a terminal, nothing elsewhere."""
    columns = (TextColumn("claims"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    errors = Console(stderr=True)
    with Progress(*columns, console=errors, transient=True, disable=not errors.is_terminal) as progress:
        task = progress.add_task("verify", total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)
