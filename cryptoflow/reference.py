"""Writes what is derived from the code, so that it cannot fall behind: ``python -m cryptoflow.reference --write``.

config/config.yml, config/config.schema.json and docs/config.md from the settings' models, docs/metrics.md from
shared/metrics.py, docs/cli.md from the command line, docs/faults.md from cryptoflow/faults.yml and what it names,
deploy/grafana/dashboards from cryptoflow/dashboard*.py. ``--check`` writes nothing and ends with 1 if one is not current.
"""

from __future__ import annotations

import json
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
import yaml
from pydantic import BaseModel

from cryptoflow import dashboard_json, faults
from cryptoflow.dashboard_lake import LAKE
from cryptoflow.dashboard_pipeline import PIPELINE
from cryptoflow.dashboard_reader import READER
from shared import metrics
from shared.config_sources import ALIASES, Keys, variable_of
from shared.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pydantic.fields import FieldInfo

ROOT = Path(__file__).parent.parent
DURATION_KEYS = frozenset({"batch_timeout", "snapshot_flush_interval", "delta_flush_interval"})
DO_NOT_EDIT = "<!-- Written by `python -m cryptoflow.reference --write`; do not edit. -->"


def config_yaml() -> str:
    """Every key with its default and its meaning; the keys that are secrets as comments."""
    lines = [
        "# yaml-language-server: $schema=config.schema.json",
        "#",
        "# Every setting, its default, and what it means. This file may hold any part of it; what is missing is the default.",
        "# Above it stand, lowest first: .env, the environment (CRYPTOFLOW_KAFKA__STREAM), the command line (--set kafka.stream=…).",
        "# `cryptoflow check-config` prints what is in force and where it came from.",
    ]

    def walk(section: BaseModel, depth: int) -> None:
        pad = "  " * depth
        for name, info in type(section).model_fields.items():
            value = getattr(section, name)
            if depth == 0:
                lines.append("")
            if isinstance(value, BaseModel):
                lines.extend([f"{pad}# {info.description}", f"{pad}{name}:"])
                walk(value, depth + 1)
            elif _is_secret(info):
                lines.append(f"{pad}# {name}: {info.description}")
            else:
                lines.extend([f"{pad}# {info.description}", f"{pad}{name}: {_yaml_value(name, value)}"])

    walk(Settings(), 0)
    return "\n".join(lines) + "\n"


def config_schema() -> str:
    """JSON schema of the YAML file, for editors. Without secrets, which it refuses; nothing in it is required."""
    schema = Settings.model_json_schema()
    for definition in [schema, *schema["$defs"].values()]:
        definition.pop("required", None)
        properties = definition.get("properties", {})
        for name in [name for name, value in properties.items() if "writeOnly" in str(value.get("anyOf"))]:
            del properties[name]
    _without_nested_defaults(schema)
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


def config_reference() -> str:
    """docs/config.md."""
    lines = [
        "# Configuration",
        "",
        DO_NOT_EDIT,
        "",
        "Precedence: `--set KEY=VALUE` > environment > `.env` > YAML (`--config PATH`, by default `config/config.yml` if there",
        "is one) > default. Lists are JSON or comma separated. A duration is seconds, or a number with `ms`, `s`, `m` or `h`.",
        "An empty variable counts as not set. Unknown keys and unknown `CRYPTOFLOW_*` variables are errors. All errors are",
        "reported at once, one line each, and end the process with exit code 2.",
    ]
    section = ""
    for key, info in Keys.of(Settings).leaves.items():
        head = key.split(".")[0]
        if head != section:
            section = head
            lines += ["", f"## {head}", "", "| key | default | meaning | variable |", "|---|---|---|---|"]
        names = [variable_of(key), *(name for name, target in ALIASES.items() if target == key)]
        default = "secret" if _is_secret(info) else f"`{_yaml_value(key.split('.')[-1], _value(key))}`"
        variables = ", ".join(f"`{name}`" for name in names)
        lines.append(f"| `{key}` | {default} | {_cell(info.description or '')} | {variables} |")
    return "\n".join(lines) + "\n"


def metrics_reference() -> str:
    """docs/metrics.md."""
    lines = [
        "# Metrics",
        "",
        DO_NOT_EDIT,
        "",
        "`GET /metrics` on `metrics.host`:`metrics.port` of each service, beside the process' own (`process_*`, `python_*`).",
    ]
    section = ""
    for definition in metrics.DEFINITIONS:
        if definition.section != section:
            section = definition.section
            title = "every service" if section == "shared" else section
            lines += [
                "",
                f"## {title}",
                "",
                "| metric | kind | unit | labels | meaning | when it moves |",
                "|---|---|---|---|---|---|",
            ]
        cells = [
            f"`{definition.name}`",
            definition.kind,
            definition.unit,
            ", ".join(f"`{label}`" for label in definition.labels),
            definition.help,
            definition.when_it_moves,
        ]
        lines.append("| " + " | ".join(map(_cell, cells)) + " |")
    return "\n".join(lines) + "\n"


def cli_reference() -> str:
    """docs/cli.md: the help text of every command."""
    from cryptoflow.cli import app  # noqa: PLC0415 - the command line imports much, the other references need none of it

    lines = ["# Command line", "", DO_NOT_EDIT, ""]
    for path, text in _help(typer.main.get_command(app), "cryptoflow", None):
        lines += [f"## {path}", "", "```text", text.rstrip(), "```", ""]
    return "\n".join(lines)


DASHBOARDS = (PIPELINE, READER, LAKE)
FILES: dict[str, Callable[[], str]] = {
    "config/config.yml": config_yaml,
    "config/config.schema.json": config_schema,
    "docs/config.md": config_reference,
    "docs/metrics.md": metrics_reference,
    "docs/cli.md": cli_reference,
    "docs/faults.md": faults.page,
    **{f"deploy/grafana/dashboards/{each.name}.json": partial(dashboard_json.render, each) for each in DASHBOARDS},
}


def stale(root: Path = ROOT) -> list[str]:
    """The files under `root` that are missing or not what would be written now."""
    return [
        name
        for name, text in FILES.items()
        if not (root / name).is_file() or (root / name).read_text(encoding="utf-8") != text()
    ]


def main(
    write: Annotated[bool, typer.Option("--write", help="Write the files that are not current.")] = False,  # noqa: FBT002
    check: Annotated[bool, typer.Option("--check", help="Write nothing; exit code 1 if one is not current.")] = False,  # noqa: FBT002
) -> None:
    """Reference files from the code: config, schema, metrics, command line."""
    if write == check:
        raise typer.BadParameter("either --write or --check")
    names = stale()
    for name in names:
        if write:
            (ROOT / name).parent.mkdir(parents=True, exist_ok=True)
            (ROOT / name).write_text(FILES[name](), encoding="utf-8")
        typer.echo(f"{name}: {'written' if write else 'not current; run python -m cryptoflow.reference --write'}")
    sys.exit(1 if check and names else 0)


def _help(command: Any, path: str, parent: Any) -> Iterator[tuple[str, str]]:
    context = command.context_class(command, info_name=path.rsplit(" ", 1)[-1], parent=parent, terminal_width=100)
    yield path, command.get_help(context)
    for name, child in getattr(command, "commands", {}).items():
        yield from _help(child, f"{path} {name}", context)


def _is_secret(info: FieldInfo) -> bool:
    return "SecretStr" in str(info.annotation)


def _value(key: str) -> Any:
    value: Any = Settings()
    for part in key.split("."):
        value = getattr(value, part)
    return value


def _yaml_value(name: str, value: Any) -> str:
    if name in DURATION_KEYS:
        return f"{value * 1000:g}ms" if value < 1 else f"{value:g}s"
    plain = list(value) if isinstance(value, tuple) else str(value) if isinstance(value, Path) else value
    text = yaml.safe_dump(plain, default_flow_style=True, allow_unicode=True, width=10_000)
    return text.removesuffix("\n").removesuffix("\n...")


def _without_nested_defaults(node: Any) -> None:
    """The defaults of whole sections repeat those of their keys: an editor needs them once."""
    if isinstance(node, dict):
        if isinstance(node.get("default"), dict):
            del node["default"]
        for value in node.values():
            _without_nested_defaults(value)
    elif isinstance(node, list):
        for value in node:
            _without_nested_defaults(value)


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    typer.run(main)
