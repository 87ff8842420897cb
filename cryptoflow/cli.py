"""The command `cryptoflow`: what a person types. It parses, calls one function, prints; nothing is decided here."""

from __future__ import annotations

import asyncio
import json
from dataclasses import asdict
from importlib import import_module
from typing import TYPE_CHECKING, Annotated

import typer

from cryptoflow.options import ConfigOption, SetOption, loaded, settings_of
from shared.errors import ConfigError, CryptoFlowError, FatalError
from shared.service import DRAINED, FATAL, MISCONFIGURED, release
from shared.service import main as run_service

if TYPE_CHECKING:
    from collections.abc import Sequence

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
topics_app = typer.Typer(help="The Kafka topics of the configured stream.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(topics_app, name="topics")

OWN_PACKAGES = frozenset({"cryptoflow", "services", "shared"})
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON, for a machine to read.")]


def main() -> None:
    """The console script. Exit codes: 0 done, 1 failed, 2 the command line or the configuration is wrong."""
    try:
        app()
    except CryptoFlowError as error:
        typer.echo(str(error), err=True)
        raise SystemExit(FATAL) from error


def _print_version(wanted: bool) -> None:  # noqa: FBT001 - the signature typer calls
    if wanted:
        typer.echo(f"cryptoflow {release()}")
        raise typer.Exit


@app.callback()
def _root(
    *,
    _version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """Records the order books of crypto exchanges into Parquet that you keep, exactly once, with proof."""


@app.command()
def reader(config: ConfigOption = None, pairs: SetOption = None) -> None:
    """Run the reader: polls the exchanges and publishes their bytes, verbatim, to raw-fobs."""
    from services.reader.service import serve  # noqa: PLC0415 - one service's libraries at a time

    raise typer.Exit(run_service("reader", serve, _argv(config, pairs)))


@app.command()
def flattener(config: ConfigOption = None, pairs: SetOption = None) -> None:
    """Run the flattener: turns raw-fobs and raw-fobd into Arrow record batches on norm-fobs and norm-fobd."""
    from services.flattener.service import serve  # noqa: PLC0415

    raise typer.Exit(run_service("flattener", serve, _argv(config, pairs)))


@app.command()
def s3writer(config: ConfigOption = None, pairs: SetOption = None) -> None:
    """Run the s3writer: writes norm-fobs and norm-fobd into the lake, exactly once."""
    from services.s3writer.service import serve  # noqa: PLC0415

    raise typer.Exit(run_service("s3writer", serve, _argv(config, pairs)))


@topics_app.command("create")
def topics_create(config: ConfigOption = None, pairs: SetOption = None, *, as_json: JsonOption = False) -> None:
    """Create the topics that are missing. What exists is left as it is."""
    settings = settings_of(config, pairs)
    from shared.topics import create  # noqa: PLC0415 - aiokafka, only where it is needed

    report = asyncio.run(create(settings))
    if as_json:
        typer.echo(json.dumps(asdict(report)))
    else:
        for name in report.created:
            typer.echo(f"{name}: created")
        for name in report.exists:
            typer.echo(f"{name}: is there already")
    for problem in report.differs:
        typer.echo(problem, err=True)
    raise typer.Exit(FATAL if report.differs else DRAINED)


@topics_app.command("check")
def topics_check(config: ConfigOption = None, pairs: SetOption = None, *, as_json: JsonOption = False) -> None:
    """Compare the topics with the configuration. Exit code 1 if they differ."""
    settings = settings_of(config, pairs)
    from shared.topics import check  # noqa: PLC0415

    problems = asyncio.run(check(settings))
    if as_json:
        typer.echo(json.dumps({"ok": not problems, "problems": problems}))
    else:
        for problem in problems:
            typer.echo(problem, err=True)
        if not problems:
            typer.echo("topics are as configured")
    raise typer.Exit(FATAL if problems else DRAINED)


@app.command("check-config")
def check_config(
    config: ConfigOption = None,
    pairs: SetOption = None,
    assume_symbols: Annotated[
        list[str] | None,
        typer.Option(
            metavar="EXCHANGE.MARKET=N", help="Count as if the patterns of a market matched N symbols. Repeatable."
        ),
    ] = None,
    assume_updates_per_second: Annotated[
        float | None,
        typer.Option(metavar="N", help="Reckon with N updates of every symbol, instead of what was measured once."),
    ] = None,
    *,
    as_json: JsonOption = False,
) -> None:
    """Print the effective settings, where each came from, and what they amount to. Exit code 2 if that cannot be."""
    from cryptoflow.check_config import assumed_rate, assumptions, effective, plan  # noqa: PLC0415

    found = loaded(config, pairs)
    try:
        assumed, rate = assumptions(assume_symbols or ()), assumed_rate(assume_updates_per_second)
    except ConfigError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(MISCONFIGURED) from error
    values, arithmetic = list(effective(found)), plan(found, assumed, rate)
    if as_json:
        settings = {value.key: {"value": value.value, "from": value.origin} for value in values}
        typer.echo(json.dumps({"settings": settings, "plan": arithmetic.as_json()}, ensure_ascii=False))
    else:
        from cryptoflow.check_config_tables import print_plan, print_settings  # noqa: PLC0415

        print_settings(values)
        print_plan(arithmetic)
    for problem in arithmetic.problems:
        typer.echo(problem, err=True)
    raise typer.Exit(MISCONFIGURED if arithmetic.problems else DRAINED)


def _mount(name: str, module: str, extra: str) -> None:
    """Adds the commands of `module`; where its libraries are not installed, one that says which extra brings them."""
    try:
        app.add_typer(import_module(module).app, name=name)
    except ModuleNotFoundError as missing:
        if missing.name is None or missing.name.partition(".")[0] in OWN_PACKAGES:
            raise
        _mount_missing(name, f"cryptoflow {name} needs {missing.name}: pip install 'cryptoflow[{extra}]'")


def _mount_missing(name: str, why: str) -> None:
    @app.command(name, help=why, context_settings={"ignore_unknown_options": True})
    def _(_arguments: Annotated[list[str] | None, typer.Argument(metavar="…")] = None) -> None:
        raise FatalError(why)


_mount("lake", "cryptoflow.lake_cli", "lake")
_mount("dead-letters", "cryptoflow.dead_letters_cli", "flattener")


def _argv(config: object, pairs: Sequence[str] | None) -> list[str]:
    return [*(["--config", str(config)] if config else []), *(part for pair in pairs or () for part in ("--set", pair))]


if __name__ == "__main__":
    main()
