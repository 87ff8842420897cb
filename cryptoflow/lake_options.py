"""What the commands `cryptoflow lake …` share: arguments and how they are read, how they end undone, a console."""

from __future__ import annotations

import json
from typing import Annotated

import typer
from rich.console import Console

from shared.errors import CryptoFlowError, FatalError
from shared.lake.instant import instant_ns
from shared.messages import STREAM_PATTERN

NOT_DONE = 2  # as for a wrong command line: nothing was proven, in neither direction
WIDTH = 160
INSTANT = "TIME"  # what the help calls one

UrlArgument = Annotated[str, typer.Argument(metavar="URL", help="s3://bucket/prefix or a folder.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON, for a machine to read.")]


def instant(text: str | int) -> int:
    """For typer, which hands its own result over once more. Raises what makes it a wrong command line."""
    try:
        return instant_ns(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error


def stream_name(text: str | None) -> str | None:
    """For typer, likewise."""
    if text is not None and STREAM_PATTERN.fullmatch(text) is None:
        raise typer.BadParameter(f"{text!r} is no stream: {STREAM_PATTERN.pattern}")
    return text


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
