"""Where settings come from: .env, the environment, the command line (YAML: config_yaml.py). Each source becomes one `Layer`.

A layer holds what it found, each value with its place, and one line for everything in it that cannot be meant: keys and
variables nobody knows (with a suggestion), secrets where others read along. It never decides
whether a value is right; that is the models' business. Nothing here knows a single key by name.
"""

from __future__ import annotations

import difflib
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, get_args, get_origin

import dotenv
from dotenv.parser import parse_stream
from pydantic import BaseModel, SecretStr
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from pydantic.fields import FieldInfo

PREFIX = "CRYPTOFLOW_"
MOST_SUGGESTIONS = 3
ALIASES = {
    "AWS_ACCESS_KEY_ID": "storage.s3.access_key_id",
    "AWS_SECRET_ACCESS_KEY": "storage.s3.secret_access_key",
    "AWS_SESSION_TOKEN": "storage.s3.session_token",
    "AWS_REGION": "storage.s3.region",
    "S3_BUCKET": "storage.s3.bucket",
    "S3_ENDPOINT_URL": "storage.s3.endpoint_url",
    "SHARD_IP": "reader.shard_ip",
}


@dataclass(frozen=True, slots=True)
class Keys:
    """Every dotted key of a model: the leaves with their fields, and the names of the sections."""

    leaves: Mapping[str, FieldInfo]
    sections: frozenset[str]

    @classmethod
    def of(cls, model: type[BaseModel]) -> Keys:
        """Walks the model, section by section."""
        leaves: dict[str, FieldInfo] = {}
        sections: set[str] = set()

        def walk(section: type[BaseModel], prefix: str) -> None:
            for name, info in section.model_fields.items():
                key = prefix + name
                if isinstance(info.annotation, type) and issubclass(info.annotation, BaseModel):
                    sections.add(key)
                    walk(info.annotation, key + ".")
                else:
                    leaves[key] = info

        walk(model, "")
        return cls(leaves, frozenset(sections))

    @property
    def secrets(self) -> frozenset[str]:
        """The keys whose value is never shown."""
        return frozenset(key for key, info in self.leaves.items() if SecretStr in _types(info))

    def unknown(self, key: str) -> str:
        """Why `key` is refused, with the nearest that exist: first those that end alike, at another depth."""
        every = [*self.leaves, *self.sections]
        alike = [other for other in every if other.rpartition(".")[2] == key.rpartition(".")[2]]
        close = self.deeper(key) or nearest(key, alike, cutoff=0.4) or nearest(key, every)
        return "unknown key" + did_you_mean(close)

    def deeper(self, key: str) -> list[str]:
        """The leaves of which `key` leaves out sections."""
        return [other for other in self.leaves if _leaves_out(key.split("."), other.split("."))]


def _leaves_out(parts: Sequence[str], of: Sequence[str]) -> bool:
    rest = iter(of)
    return parts[-1] == of[-1] and all(part in rest for part in parts)


def nearest(word: str, words: Iterable[str], *, cutoff: float = 0.6) -> list[str]:
    """The word most like it; all of them, where several are equally so."""
    close = difflib.get_close_matches(word, list(words), n=MOST_SUGGESTIONS, cutoff=cutoff)
    likeness = [difflib.SequenceMatcher(a=other, b=word).ratio() for other in close]
    return [other for other, ratio in zip(close, likeness, strict=True) if ratio == likeness[0]]


def did_you_mean(words: Sequence[str]) -> str:
    """``; did you mean A or B?`` or nothing."""
    if len(words) > MOST_SUGGESTIONS:
        words = (words[0], f"one of {len(words) - 1} like it")
    return f"; did you mean {' or '.join(words)}?" if words else ""


def variable_of(key: str) -> str:
    """The environment variable of a key: ``CRYPTOFLOW_KAFKA__STREAM``."""
    return PREFIX + key.upper().replace(".", "__")


def first_key(keys: Keys, section: str) -> str:
    """The first key of a section, as an example."""
    return next(key for key in keys.leaves if key.startswith(section + "."))


def where_secrets_go(key: str) -> str:
    """What to do with a secret instead."""
    names = [name for name, target in ALIASES.items() if target == key] or [variable_of(key)]
    return f"set {names[0]} in the environment or in .env"


@dataclass(frozen=True, slots=True)
class Item:
    """One value and the place where it stands (``config/config.yml:12``)."""

    value: object
    where: str


@dataclass(slots=True)
class Found:
    """What a source holds, key by key, and one line per mistake in it."""

    items: dict[str, Item] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    def refuse(self, where: str, key: str, why: str) -> None:
        """Adds ``where: key: why``."""
        self.problems.append(f"{where}: {key}: {why}")


class Layer(PydanticBaseSettingsSource):
    """What was found, in the shape pydantic-settings merges: nested dictionaries."""

    def __init__(self, settings_class: type[BaseSettings], found: Found) -> None:
        super().__init__(settings_class)
        self.found = found

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:  # noqa: ARG002
        """Not used: `__call__` gives all fields at once. Part of the base class's interface."""
        return None, field_name, False

    def __call__(self) -> dict[str, Any]:
        """The items as nested dictionaries."""
        result: dict[str, Any] = {}
        for key, item in self.found.items.items():
            *path, name = key.split(".")
            section = result
            for part in path:
                section = section.setdefault(part, {})
            section[name] = item.value
        return result


def read_variables(keys: Keys, variables: Mapping[str, str], place: str) -> Found:
    """``CRYPTOFLOW_A__B`` and the names of other people's making (`ALIASES`). An empty variable is one not set."""
    found = Found()
    names = {variable_of(key): key for key in keys.leaves}
    sections = {variable_of(key): key for key in keys.sections}
    for name in sorted(variables):
        value = variables[name]
        key = names.get(name) or ALIASES.get(name)
        if name in sections:
            first = variable_of(first_key(keys, sections[name]))
            found.refuse(place, name, f"is a section; set one of its keys, such as {first}")
        elif key is None:
            if name.startswith(PREFIX):
                found.refuse(place, name, "unknown variable" + _near_variable(keys, name, names))
        elif value:
            where = f"{place} {name}"
            other = found.items.get(key)
            _take_text(keys, key, value, where, found)
            mine = found.items.get(key)
            if other is not None and mine is not None and other.value != mine.value:
                found.refuse(where, key, f"differs from {other.where.removeprefix(place).strip()}; set one of them")
    return found


def read_dotenv(keys: Keys, path: Path) -> Found:
    """The file at `path`, if there is one, as `read_variables`."""
    if not path.is_file():
        return Found()
    try:
        with path.open(encoding="utf-8") as stream:
            bad = [binding.original for binding in parse_stream(stream) if binding.error]
        values = dotenv.dotenv_values(path, encoding="utf-8")
    except OSError as error:
        return Found(problems=[f"{path}: file: cannot be read: {error.strerror}"])
    except UnicodeDecodeError as error:
        return Found(problems=[f"{path}: file: is not UTF-8: {error.reason} at byte {error.start}"])
    found = read_variables(keys, {name: value or "" for name, value in values.items()}, str(path))
    for original in bad:
        found.problems.append(f"{path}:{original.line}: file: not NAME=value")
    return found


def read_overrides(keys: Keys, overrides: Mapping[str, str | None]) -> Found:
    """``--set KEY=VALUE``; None is one without ``=``."""
    found = Found()
    for key, text in overrides.items():
        if text is None:
            found.refuse("--set", key, "must be KEY=VALUE")
        elif key in keys.sections:
            found.refuse("--set", key, f"is a section; set one of its keys, such as {first_key(keys, key)}")
        elif key not in keys.leaves:
            found.refuse("--set", key, keys.unknown(key))
        elif key in keys.secrets:
            found.refuse("--set", key, f"is a secret and every process list shows it here; {where_secrets_go(key)}")
        else:
            _take_text(keys, key, text, "--set", found)
    return found


def _take_text(keys: Keys, key: str, text: str, where: str, found: Found) -> None:
    """Text becomes a list where the key is one, null where it may be; all else the models read from text."""
    types = _types(keys.leaves[key])
    value: object = text
    if type(None) in types and text.strip() in {"", "null"}:
        value = None
    elif tuple in types:
        if text.lstrip().startswith("["):
            try:
                value = json.loads(text)
            except json.JSONDecodeError as error:
                found.refuse(where, key, f"is not JSON: {error.msg} at character {error.pos + 1}")
                return
        else:
            value = [part.strip() for part in text.split(",") if part.strip()]
    found.items[key] = Item(value, where)


def _near_variable(keys: Keys, name: str, names: Iterable[str]) -> str:
    """As of a key, but what all variables begin with is no likeness."""
    bare = name.removeprefix(PREFIX)
    close = [variable_of(key) for key in keys.deeper(bare.lower().replace("__", "."))]
    close = close or [PREFIX + other for other in nearest(bare, [other.removeprefix(PREFIX) for other in names])]
    return did_you_mean(close)


def _types(info: FieldInfo) -> set[Any]:
    """The types a field's annotation is made of: ``SecretStr | None`` → {SecretStr, NoneType}."""
    parts = get_args(info.annotation) if _is_union(info.annotation) else (info.annotation,)
    return {get_origin(part) or part for part in parts}


def _is_union(annotation: Any) -> bool:
    return get_origin(annotation) is not tuple and type(None) in get_args(annotation)
