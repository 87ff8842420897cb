"""What a peer is told, in the order of its arguments."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

ARGUMENTS = 7


@dataclass(frozen=True)
class Task:
    """All that `topic` holds, `messages` records of `kind` with `levels` levels in all, as `group`, to `folder`."""

    bootstrap: str
    topic: str
    group: str
    kind: str
    messages: int
    levels: int
    folder: Path


def told() -> Task:
    """By the command line; what follows is the peer's own."""
    bootstrap, topic, group, kind, messages, levels, folder = sys.argv[1 : ARGUMENTS + 1]
    return Task(bootstrap, topic, group, kind, int(messages), int(levels), Path(folder))


def options() -> list[str]:
    """The peer's own."""
    return sys.argv[ARGUMENTS + 1 :]
