"""docs/faults.md: what happens when something goes wrong, from cryptoflow/faults.yml and from what the code says itself.

faults.yml has the words that nothing else has: what the line does by itself, what a person does. What a metric or an alert
means is taken from its own definition. Whatever a fault names has to exist, else there is no page: metrics, alerts,
log events, settings, commands of tests, sections that are linked to. It shows words and judges nothing.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import yaml

from shared import metrics
from shared.config_sources import Keys
from shared.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

ROOT = Path(__file__).parent.parent
DATA = Path(__file__).with_name("faults.yml")
HEAD = """# What happens when …

<!-- Written by `python -m cryptoflow.reference --write` from cryptoflow/faults.yml; do not edit. -->

One section for each fault: what shows it, what the line does by itself, what you do, and the tests that have seen it. The
sections of [alerts.md](alerts.md) go further into what to look at and which commands to type. What an outage has cost,
`cryptoflow lake gaps` and `cryptoflow lake verify` say.

`make soak` plays the fault matrix on a real Kafka and a real store; `make soak ARGS="--cell 'store outage'"` plays the cells
with these words in their names. `python -m bench outage` is ten minutes without the store and ten without Kafka,
`python -m bench recovery` the time from SIGKILL to work.
"""


class Fault(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One section. Texts are Markdown; the first of `tests` and `cells` are the nearest."""

    title: str
    alone: tuple[str, ...]  # what the line does by itself
    do: tuple[str, ...]
    tests: tuple[str, ...]  # ``path::name``
    cells: tuple[str, ...] = ()  # words of names of the fault matrix' cells
    logs: dict[str, tuple[str, ...]] = {}  # events by service
    signs: tuple[str, ...] = ()  # what else shows it
    alerts: tuple[str, ...] = ()
    metrics: tuple[str, ...] = ()


class Chapter(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Faults of one part of the line."""

    title: str
    faults: tuple[Fault, ...]


def read(path: Path | None = None) -> list[Chapter]:
    """All chapters. Raises `msgspec.ValidationError` for one of another shape."""
    return msgspec.convert(yaml.safe_load((path or DATA).read_text(encoding="utf-8")), list[Chapter])


def page() -> str:
    """The whole page. Raises `ValueError` naming what does not exist."""
    chapters, alerts = read(), alert_rules()
    if wrong := problems(chapters, alerts):
        raise ValueError("cryptoflow/faults.yml: " + "; ".join(wrong))
    lines = [HEAD, *_contents(chapters)]
    for chapter in chapters:
        lines += ["", f"## {chapter.title}"]
        for fault in chapter.faults:
            lines += ["", f"### {fault.title}", *_section(fault, alerts)]
    return "\n".join(lines) + "\n"


def alert_rules(root: Path = ROOT) -> dict[str, dict[str, Any]]:
    """Every alert of Prometheus' rules, by name."""
    groups = yaml.safe_load((root / "deploy/prometheus/rules/alerts.yml").read_text(encoding="utf-8"))["groups"]
    return {rule["alert"]: rule for group in groups for rule in group["rules"]}


def problems(chapters: Sequence[Chapter], alerts: Mapping[str, Any], root: Path = ROOT) -> list[str]:
    """What is named and does not exist."""
    known = {definition.name for definition in metrics.DEFINITIONS}
    faults = [fault for chapter in chapters for fault in chapter.faults]
    titles = [fault.title for fault in faults]
    found = [f"two faults are called {title!r}" for title in sorted({t for t in titles if titles.count(t) > 1})]
    for fault in faults:
        missing = [
            *(f"metric {name}" for name in fault.metrics if name not in known),
            *(f"alert {name}" for name in fault.alerts if name not in alerts),
            *(f"test {test}" for test in fault.tests if not _is_test(test, root)),
            *(
                f"event {event!r} of the {service}"
                for service, events in fault.logs.items()
                for event in events
                if not _is_logged(event, service, root)
            ),
            *_missing_in_text(" ".join((*fault.alone, *fault.do, *fault.signs)), root),
        ]
        found += [f"{fault.title}: no {name}" for name in missing]
    return found


def _is_test(test: str, root: Path) -> bool:
    path, _, name = test.partition("::")
    return (root / path).is_file() and f"def {name}(" in (root / path).read_text(encoding="utf-8")


def _is_logged(event: str, service: str, root: Path) -> bool:
    folders = (root / "services" / service, root / "shared")
    return any(f'"{event}"' in path.read_text(encoding="utf-8") for each in folders for path in each.rglob("*.py"))


def _missing_in_text(text: str, root: Path) -> Iterator[str]:
    """Settings and sections of other pages that a text names and that are not there."""
    keys = Keys.of(Settings).leaves
    sections = {key.partition(".")[0] for key in keys}
    for name in re.findall(r"`([a-z0-9]+(?:\.[a-z0-9_]+)+)`", text):
        if name.partition(".")[0] in sections and name not in keys:
            yield f"setting {name}"
    for target, anchor in re.findall(r"\]\(([a-z-]+\.md)#([^)]+)\)", text):
        headings = re.findall(r"^#+ (.+)$", (root / "docs" / target).read_text(encoding="utf-8"), re.MULTILINE)
        if anchor not in map(slug, headings):
            yield f"section {target}#{anchor}"


def slug(heading: str) -> str:
    """The anchor that a heading gets."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def _contents(chapters: Sequence[Chapter]) -> Iterator[str]:
    for chapter in chapters:
        yield f"* {chapter.title}: " + ", ".join(f"[{fault.title}](#{slug(fault.title)})" for fault in chapter.faults)


def _section(fault: Fault, alerts: Mapping[str, Any]) -> Iterator[str]:
    yield from ("", "**What shows it**", "")
    for service, events in fault.logs.items():
        yield f"* Log of the {service}: " + ", ".join(f"`{event}`" for event in events)
    yield from (f"* {text}" for text in fault.signs)
    for name in fault.alerts:
        rule = alerts[name]
        yield f"* Alert [{name}](alerts.md#{slug(name)}) ({rule['labels']['severity']}): {in_words(rule['annotations']['summary'])}"
    meanings = {definition.name: definition.when_it_moves for definition in metrics.DEFINITIONS}
    yield from (f"* Metric `{name}`: {meanings[name]}" for name in fault.metrics)
    yield from ("", "**By itself**", "", *(f"* {text}" for text in fault.alone))
    yield from ("", "**What you do**", "", *(f"* {text}" for text in fault.do))
    yield from ("", "**Seen by**", "", *(f"* `{test}`" for test in fault.tests))
    if fault.cells:
        yield "* cells of the fault matrix: " + ", ".join(f"`{words}`" for words in fault.cells)


def in_words(template: str) -> str:
    """An alert's text without what Prometheus fills in."""
    return re.sub(r"\{\{ \$labels\.(\w+) \}\}", r"`\1`", template)
