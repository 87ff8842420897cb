"""What the commands `cryptoflow lake …` share: arguments, how they end when nothing could be done, a console."""

from __future__ import annotations

import json
from typing import Annotated

import typer
from rich.console import Console

from shared.errors import CryptoFlowError, FatalError

NOT_DONE = 2  # as for a wrong command line: nothing was proven, in neither direction
WIDTH = 160

UrlArgument = Annotated[str, typer.Argument(metavar="URL", help="s3://bucket/prefix or a folder.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON, for a machine to read.")]


def not_done(error: CryptoFlowError, url: str, word: str, *, as_json: bool) -> typer.Exit:
    """Says why a command did nothing; the exit to raise."""
    if as_json:
        typer.echo(json.dumps({"verdict": None, "exit_code": NOT_DONE, "url": url, "error": str(error)}))
    again = "" if isinstance(error, FatalError) else " (try again)"
    typer.echo(f"not {word}: {error}{again}", err=True)
    return typer.Exit(NOT_DONE)


def console() -> Console:
    """As wide as the terminal; wide enough for any line where there is none."""
    found = Console()
    return found if found.is_terminal else Console(width=WIDTH)
