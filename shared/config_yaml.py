"""The YAML file as a source of settings: each value with its line, each mistake with its place.

Stricter than YAML: a key that stands twice is an error. Safe: no tag can construct anything but plain values.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import yaml

from shared.config_sources import Found, Item, Keys, first_key, where_secrets_go

if TYPE_CHECKING:
    from pathlib import Path


def read_yaml(keys: Keys, path: Path | None, default_path: Path) -> Found:
    """The file at `path`; without one `default_path`, which need not exist."""
    found = Found()
    if path is None:
        if not default_path.exists():
            return found
        path = default_path
    try:
        with path.open(encoding="utf-8") as stream:
            _read_document(keys, _UniqueKeys(stream), str(path), found)
    except OSError as error:
        found.refuse(str(path), "file", f"cannot be read: {error.strerror}")
    except UnicodeDecodeError as error:
        found.refuse(str(path), "file", f"is not UTF-8: {error.reason} at byte {error.start}")
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"{path}:{mark.line + 1}:{mark.column + 1}" if mark else str(path)
        found.refuse(place, "file", "is not YAML: " + " ".join(filter(None, [error.context, error.problem])))
    except yaml.YAMLError as error:
        found.refuse(str(path), "file", f"is not YAML: {' '.join(str(error).split())}")
    return found


class _UniqueKeys(yaml.SafeLoader):
    """YAML as it is, but a key that stands twice in one mapping is an error, not a silent choice."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        seen: set[object] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in seen and key.tag != "tag:yaml.org,2002:merge":
                    raise yaml.composer.ComposerError(None, None, f"key {key.value!r} stands twice", key.start_mark)
                seen.add(key.value)
        return node


def _read_document(keys: Keys, loader: _UniqueKeys, path: str, found: Found) -> None:
    root = loader.get_single_node()
    if isinstance(root, yaml.MappingNode):
        _Walk(keys, loader, path, found).section(root, "")
    elif root is not None:
        found.refuse(f"{path}:{root.start_mark.line + 1}", "file", "must be a mapping of sections, such as `kafka:`")


@dataclass(frozen=True, slots=True)
class _Walk:
    """From section to section; what lies in a value is the models' business."""

    keys: Keys
    loader: _UniqueKeys
    path: str
    found: Found

    def section(self, node: yaml.MappingNode, prefix: str) -> None:
        self.loader.flatten_mapping(node)
        for name, value in node.value:
            self._entry(prefix + str(name.value), value, f"{self.path}:{name.start_mark.line + 1}")

    def _entry(self, key: str, node: yaml.Node, where: str) -> None:
        if key in self.keys.secrets:
            self.found.refuse(where, key, f"is a secret and this file is read by many; {where_secrets_go(key)}")
        elif key in self.keys.leaves:
            self.found.items[key] = Item(self.loader.construct_object(node, deep=True), where)
        elif key not in self.keys.sections:
            self.found.refuse(where, key, self.keys.unknown(key))
        elif isinstance(node, yaml.MappingNode):
            self.section(node, key + ".")
        elif node.tag != "tag:yaml.org,2002:null":
            self.found.refuse(where, key, f"must be a section with keys such as {first_key(self.keys, key)}")
