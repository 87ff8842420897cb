"""The options every command shares, and how a command gets its settings or ends with exit code 2."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from shared.errors import ConfigError
from shared.service import MISCONFIGURED, overrides
from shared.settings import Loaded, load_with_origins

if TYPE_CHECKING:
    from collections.abc import Sequence

    from shared.settings import Settings

ConfigOption = Annotated[
    Path | None,
    typer.Option("--config", "-config", metavar="PATH", help="YAML file. Default: config/config.yml, if there is one."),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="One setting, above all other sources. Repeatable."),
]


def loaded(config: Path | None, pairs: Sequence[str] | None) -> Loaded:
    """Settings and their origins; ends the command with exit code 2 and one line per problem."""
    try:
        return load_with_origins(config, overrides(pairs or ()))
    except ConfigError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(MISCONFIGURED) from error


def settings_of(config: Path | None, pairs: Sequence[str] | None) -> Settings:
    """As `loaded`, only the settings."""
    return loaded(config, pairs).settings
