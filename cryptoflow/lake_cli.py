"""The commands `cryptoflow lake …`. They parse, call one function, print; nothing is decided here.

`book` and `gaps` stand in `cryptoflow.lake_book_cli`, `verify` in `lake_proof_cli`, `reflatten` in `lake_reflatten_cli`.
"""

from __future__ import annotations

import json
from typing import Annotated

import typer
from rich.table import Table

from cryptoflow import lake, lake_book_cli, lake_proof_cli, lake_reflatten_cli
from cryptoflow.lake_options import NOT_DONE, JsonOption, UrlArgument, console, not_done
from shared.errors import CryptoFlowError
from shared.lake.watermark import LATENESS_SECONDS, hour_or_none

app = typer.Typer(
    help="The lake: prove it, ask how far it reaches, rebuild a book, list its gaps, make rows again.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
app.command()(lake_proof_cli.verify)
app.command()(lake_reflatten_cli.reflatten)
app.command()(lake_book_cli.book)
app.command()(lake_book_cli.gaps)


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
