"""The settings of a process: `load` puts the sources together, `Settings` is what every part is given.

Precedence: command line (``--set KEY=VALUE``) > environment > ``.env`` > YAML > the defaults. `load` never stops at the
first mistake: it raises one `ConfigError` that holds all of them. Nothing here knows a venue, and no secret can be
written in YAML or shows in a repr.
"""

from __future__ import annotations

import os
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from pydantic import Field, ValidationError, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from shared.config_checks import contradictions
from shared.config_models import (
    BinanceSettings,
    BufferSettings,
    ChannelSettings,
    ChannelsSettings,
    CryptoflowSettings,
    DeltaSettings,
    KafkaSettings,
    LocalSettings,
    LoggingSettings,
    MarketSettings,
    MetricsSettings,
    OrderbookSettings,
    ProcessorSettings,
    ReaderSettings,
    S3Settings,
    SnapshotSettings,
    SourceSettings,
    StorageSettings,
    WriterSettings,
)
from shared.config_sources import Found, Keys, Layer, read_dotenv, read_overrides, read_variables
from shared.config_values import with_defaults
from shared.config_words import in_words
from shared.config_yaml import read_yaml
from shared.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = [
    "BinanceSettings",
    "BufferSettings",
    "ChannelSettings",
    "ChannelsSettings",
    "CryptoflowSettings",
    "DeltaSettings",
    "KafkaSettings",
    "Loaded",
    "LocalSettings",
    "LoggingSettings",
    "MarketSettings",
    "MetricsSettings",
    "OrderbookSettings",
    "ProcessorSettings",
    "ReaderSettings",
    "S3Settings",
    "Settings",
    "SnapshotSettings",
    "SourceSettings",
    "StorageSettings",
    "WriterSettings",
    "load",
    "load_with_origins",
]

DEFAULT_CONFIG_PATH = Path("config/config.yml")
DEFAULT_DOTENV_PATH = Path(".env")


_LAYERS: ContextVar[tuple[Layer, ...]] = ContextVar("layers", default=())


class Settings(BaseSettings):
    """All settings. Building it reads nothing: what is not given is the default. `load` reads the sources."""

    model_config = SettingsConfigDict(frozen=True, extra="forbid", validate_default=True)

    cryptoflow: CryptoflowSettings = Field(default=CryptoflowSettings(), description="Who this deployment is.")
    kafka: KafkaSettings = Field(default=KafkaSettings(), description="The connection to Kafka and its limits.")
    channels: ChannelsSettings = Field(default=ChannelsSettings(), description="The topics between the services.")
    reader: ReaderSettings = Field(default=ReaderSettings(), description="How exchanges are asked.")
    processor: ProcessorSettings = Field(default=ProcessorSettings(), description="How the flattener cuts records.")
    source: SourceSettings = Field(default=SourceSettings(), description="The exchanges, their markets and symbols.")
    storage: StorageSettings = Field(default=StorageSettings(), description="Where the lake is.")
    writer: WriterSettings = Field(default=WriterSettings(), description="How the s3writer buffers.")
    metrics: MetricsSettings = Field(
        default=MetricsSettings(), description="The HTTP endpoint of /metrics, /healthz and /readyz."
    )
    logging: LoggingSettings = Field(default=LoggingSettings(), description="Logs.")

    @model_validator(mode="before")
    @classmethod
    def _fill(cls, values: Any) -> Any:
        return with_defaults(cls, values)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003 - the base class's signature
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - our own layers name the place of each value
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """What is given in code, then the layers `load` has read, highest first."""
        return (init_settings, *_LAYERS.get())


@dataclass(frozen=True, slots=True)
class Loaded:
    """Settings and where each key that is not a default came from (``key`` → ``config/config.yml:12``)."""

    settings: Settings
    origins: Mapping[str, str]


def load(
    config_path: Path | None = None,
    overrides: Mapping[str, str | None] = MappingProxyType({}),
    environ: Mapping[str, str] = os.environ,
    dotenv_path: Path = DEFAULT_DOTENV_PATH,
) -> Settings:
    """The settings of this process. Raises `ConfigError` with every problem, one line each.

    `config_path` None = config/config.yml if there is one. `overrides` are the KEY and VALUE of each ``--set``; a value
    None is one that had no ``=``.
    """
    return load_with_origins(config_path, overrides, environ, dotenv_path).settings


def load_with_origins(
    config_path: Path | None = None,
    overrides: Mapping[str, str | None] = MappingProxyType({}),
    environ: Mapping[str, str] = os.environ,
    dotenv_path: Path = DEFAULT_DOTENV_PATH,
) -> Loaded:
    """As `load`, with the origin of each value."""
    keys = Keys.of(Settings)
    found = [
        read_overrides(keys, overrides),
        read_variables(keys, environ, "environment"),
        read_dotenv(keys, dotenv_path),
        read_yaml(keys, config_path, DEFAULT_CONFIG_PATH),
    ]
    problems = [problem for source in found for problem in source.problems]
    settings, refused = _validated(keys, found)
    problems += [line for _, line in refused]
    origins = {key: item.where for source in reversed(found) for key, item in source.items.items()}
    for at_odds, why in contradictions(settings):
        if {key for key, _ in refused}.isdisjoint(at_odds):
            key = next((key for key in at_odds if key in origins), at_odds[0])
            problems.append(f"{origins.get(key, 'default')}: {at_odds[0]}: {why}")
    if problems:
        raise ConfigError(problems)
    return Loaded(settings, origins)


def _validated(keys: Keys, found: Sequence[Found]) -> tuple[Settings, list[tuple[str, str]]]:
    """The settings without what is refused, and (key, line) of each value that is.

    A refused value is taken out and the rest is looked at again, so that what stands below it and what contradicts it
    come to light in the same run.
    """
    refused: list[tuple[str, str]] = []
    layers = tuple(Layer(Settings, source) for source in found)
    while True:
        token = _LAYERS.set(layers)
        try:
            return Settings(), refused
        except ValidationError as errors:
            for key, error in {_key(keys, error["loc"]): error for error in errors.errors(include_url=False)}.items():
                item = next(source for source in found if key in source.items).items.pop(key)
                words = in_words(error, secret=key in keys.secrets)
                refused.append((key, f"{item.where}: {key}: {words}"))
        finally:
            _LAYERS.reset(token)


def _key(keys: Keys, location: tuple[int | str, ...]) -> str:
    """The dotted key of an error's place, which may lead further, into a list."""
    dotted = [".".join(map(str, location[:length])) for length in range(len(location), 0, -1)]
    return next(key for key in dotted if key in keys.leaves)
