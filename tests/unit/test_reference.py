"""What is generated is current, config.yml is the defaults key for key, and no key is dead."""

import itertools
import json
import re
from pathlib import Path

import pytest
import yaml

from cryptoflow import reference
from shared.config_sources import Keys
from shared.settings import Settings, load

ROOT = Path(__file__).parents[2]
KEYS = Keys.of(Settings)
CONFIG = ROOT / "config/config.yml"


def dotted(mapping, prefix=""):
    for name, value in mapping.items():
        if isinstance(value, dict):
            yield from dotted(value, f"{prefix}{name}.")
        else:
            yield prefix + name


@pytest.mark.parametrize("name", reference.FILES)
def test_a_generated_file_is_current(name):
    assert (ROOT / name).read_text(encoding="utf-8") == reference.FILES[name](), (
        "run python -m cryptoflow.reference --write"
    )


def test_a_changed_or_missing_file_is_found(tmp_path):
    assert reference.stale(tmp_path) == [*reference.FILES]


def test_config_yml_is_the_defaults_key_for_key(tmp_path):
    assert load(CONFIG, environ={}, dotenv_path=tmp_path / "none") == Settings()
    assert list(dotted(yaml.safe_load(CONFIG.read_text()))) == [key for key in KEYS.leaves if key not in KEYS.secrets]


def test_every_key_of_config_yml_stands_below_one_comment():
    lines = CONFIG.read_text().splitlines()
    for above, line in itertools.pairwise(lines):
        if re.match(r" *[a-z_0-9]+:", line):
            assert above.lstrip().startswith("# "), line


def test_secrets_stand_in_config_yml_only_as_comments():
    text = CONFIG.read_text()
    for key in KEYS.secrets:
        assert re.search(rf"^ *# {key.rpartition('.')[2]}: ", text, re.MULTILINE)


def test_the_schema_knows_each_key_of_the_file_and_no_other():
    schema = json.loads((ROOT / "config/config.schema.json").read_text())

    def keys(node, prefix=""):
        node = schema["$defs"][node["$ref"].rpartition("/")[2]] if "$ref" in node else node
        if "properties" not in node:
            yield prefix.removesuffix(".")
            return
        assert node["additionalProperties"] is False
        for name, child in node["properties"].items():
            yield from keys(child, f"{prefix}{name}.")

    assert set(keys(schema)) == set(KEYS.leaves) - KEYS.secrets


def test_every_key_has_a_meaning():
    for key, info in KEYS.leaves.items():
        assert info.description, key


@pytest.mark.parametrize("key", KEYS.leaves)
def test_every_key_is_read_by_some_part(key):
    """By its attribute's name, outside the modules that define and check the settings. A name that much else has too
    (`path`, `name`) counts only behind its section's name or a variable called settings."""
    *_, section, name = key.split(".")
    common = name in {"name", "version", "environment", "host", "port", "path", "level", "format", "output", "prefix"}
    owner = rf"\b(?:{section}|\w*settings)" if common else ""
    reading = re.compile(rf"{owner}\.{name}\b(?! *=[^=])")
    assert any(reading.search(text) for text in _code()), f"nothing reads {key}"


def _code():
    own = {
        "settings.py",
        "config_models.py",
        "config_checks.py",
        "config_sources.py",
        "config_values.py",
        "config_words.py",
        "config_yaml.py",
    }
    files = [path for folder in ("shared", "services", "cryptoflow") for path in (ROOT / folder).rglob("*.py")]
    return [path.read_text(encoding="utf-8") for path in files if path.name not in own]
