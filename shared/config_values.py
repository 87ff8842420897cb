"""What a value may look like beyond its type: durations, topic names, lists without repeats, partial sections.

Pure functions for the models in config_models.py; a `ValueError` here becomes one line of a `ConfigError`.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

if TYPE_CHECKING:
    from collections.abc import Mapping

_DURATION = re.compile(r"(?P<number>\d+(?:\.\d+)?)\s*(?P<unit>ms|s|m|h)?")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, None: 1.0}
_TOPIC = re.compile(r"[A-Za-z0-9._-]{1,249}")


def duration_seconds(value: object) -> float:
    """Seconds of ``0.2``, ``"0.2"``, ``"200ms"``, ``"300s"``, ``"5m"`` or ``"1h"``. Raises `ValueError`."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    match = _DURATION.fullmatch(value.strip()) if isinstance(value, str) else None
    if match is None:
        raise ValueError('must be a duration: seconds, or a number with a unit like "200ms", "300s", "5m", "1h"')
    return float(match["number"]) * _SECONDS[match["unit"]]


def not_boolean(value: object) -> object:
    """The value, unless it is true or false, which pydantic would take for 1 or 0. Raises `ValueError`."""
    if isinstance(value, bool):
        raise ValueError("must be a number")  # noqa: TRY004 - pydantic turns a ValueError, not a TypeError, into a line
    return value


def topic_name(value: str) -> str:
    """The value, if Kafka takes it for a topic name. Raises `ValueError`."""
    if not _TOPIC.fullmatch(value) or value in {".", ".."}:
        raise ValueError("must be 1 to 249 characters out of letters, digits, '.', '_' and '-'")
    return value


def without_repeats(values: tuple[str, ...]) -> tuple[str, ...]:
    """The values, if none stands twice. Raises `ValueError` naming those that do."""
    repeated = sorted({value for value in values if values.count(value) > 1})
    if repeated:
        raise ValueError(f"must not name anything twice: {', '.join(repeated)}")
    return values


def merged(lower: Mapping[str, Any], upper: Mapping[str, Any]) -> dict[str, Any]:
    """Both, key for key; where both have a key that is no section, `upper` wins."""
    result = dict(lower)
    for key, value in upper.items():
        below = result.get(key)
        result[key] = merged(below, value) if isinstance(below, dict) and isinstance(value, dict) else value
    return result


def with_defaults(model: type[BaseModel], values: Any) -> Any:
    """`values` with sections given in part completed from the default of that very section.

    Without it ``raw_fobs: {partitions: 3}`` would lose the topic name that stands in the default of ``raw_fobs``.
    """
    if not isinstance(values, dict):
        return values
    defaults = {
        name: field.default.model_dump()
        for name, field in model.model_fields.items()
        if isinstance(field.default, BaseModel) and isinstance(values.get(name), dict)
    }
    return merged(defaults, values)
