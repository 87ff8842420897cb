"""The configuration of one test: topics, groups and lake of its own, and groups that rebalance quickly."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

QUICK_GROUPS = {
    "session_timeout_ms": 6000,
    "heartbeat_interval_ms": 500,
    "rebalance_timeout_ms": 10_000,
    "request_timeout_ms": 10_000,
}
CHANNELS = ("raw_fobs", "norm_fobs", "raw_fobd", "norm_fobd", "dead_letters")


def config_of(stream: str, folder: Path, **overrides: Any) -> dict[str, Any]:
    """As in config.yml, nested; `overrides` are merged into it."""
    base: dict[str, Any] = {
        "cryptoflow": {"name": f"test-{stream}"},
        "kafka": {"stream": stream, **QUICK_GROUPS},
        "channels": {name: {"topic": f"{name.replace('_', '-')}-{stream}"} for name in CHANNELS},
        "storage": {"local": {"path": str(folder / "lake")}},
        "logging": {"format": "json"},
    }
    return merged(base, overrides)


def merged(base: dict[str, Any], more: dict[str, Any]) -> dict[str, Any]:
    """`base` with what `more` says otherwise, section by section."""
    made = dict(base)
    for name, value in more.items():
        both = isinstance(value, dict) and isinstance(made.get(name), dict)
        made[name] = merged(made[name], value) if both else value
    return made
