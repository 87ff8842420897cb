"""Structured logs: a constant event name plus keys, JSON in a container, readable on a terminal. Never a secret.

The loggers of libraries (asyncio, aiohttp, botocore) go the same way, from WARNING up; shared/kafka speaks for aiokafka.
Nothing is logged per message of the data.
"""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING, Any

import structlog

if TYPE_CHECKING:
    from collections.abc import MutableMapping
    from typing import TextIO

    from structlog.typing import FilteringBoundLogger, Processor

    from shared.settings import LoggingSettings

MASK = "***"
_SECRET_WORDS = ("password", "secret", "token", "credential", "access_key")


def get_logger(name: str) -> FilteringBoundLogger:
    """A logger whose lines carry `name` as ``logger``. Usable before `configure`."""
    logger: FilteringBoundLogger = structlog.get_logger(name)
    return logger


def configure(settings: LoggingSettings, service: str, *, environment: str = "") -> None:
    """Sets up all logging of this process; every line carries ``service`` and, where given, ``environment``."""
    stream = sys.stdout if settings.output == "stdout" else sys.stderr
    level = logging.getLevelNamesMapping()[settings.level]
    before: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _mask_secrets,
    ]
    structlog.configure(
        processors=[*before, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.make_filtering_bound_logger(level),
    )
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*before, structlog.stdlib.ExtraAdder(), _mask_secrets],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *_rendering(settings, stream)],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(max(level, logging.WARNING))
    for name in ("shared", "services", "cryptoflow", "simulator"):
        logging.getLogger(name).setLevel(level)
    logging.captureWarnings(capture=True)
    structlog.contextvars.clear_contextvars()
    names = {"service": service, "environment": environment}
    structlog.contextvars.bind_contextvars(**{key: value for key, value in names.items() if value})


def _rendering(settings: LoggingSettings, stream: TextIO) -> list[Processor]:
    terminal = stream.isatty()
    if settings.format == "console" or (settings.format == "auto" and terminal):
        return [structlog.dev.ConsoleRenderer(colors=terminal)]
    return [
        structlog.processors.format_exc_info,
        _known_keys_first,
        structlog.processors.JSONRenderer(default=str, ensure_ascii=False),
    ]


def _known_keys_first(logger: Any, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:  # noqa: ARG001
    first = {key: event[key] for key in ("timestamp", "level", "event", "service", "logger") if key in event}
    return {**first, **event}


def _mask_secrets(logger: Any, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:  # noqa: ARG001
    for key in event:
        if any(word in key.lower() for word in _SECRET_WORDS):
            event[key] = MASK
    return event
