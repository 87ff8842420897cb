"""The simulated exchange of a running stack: it publishes no port, so it is asked from within its own container."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

ASK = """
import sys, urllib.request
method, path, body = sys.argv[1:]
request = urllib.request.Request("http://127.0.0.1:8000/_sim/" + path, body.encode() or None, method=method)
sys.stdout.write(urllib.request.urlopen(request, timeout=10).read().decode())
"""


class Exchange:
    """`compose` runs ``docker compose …`` and gives its output."""

    def __init__(self, compose: Callable[..., str]) -> None:
        self._compose = compose

    def counters(self) -> dict[str, Any]:
        """What was served and sent."""
        return self._ask("GET", "counters")

    def truth(self, after: int) -> list[dict[str, Any]]:
        """Every answer served after the one with this `seq`."""
        return list(self._ask("GET", f"truth?after={after}")["entries"])

    def fault(self, kind: str, **rule: Any) -> int:
        """A rule in force from now on; gives its id."""
        return int(self._ask("POST", "faults", {"kind": kind, **rule})["rules"][0]["id"])

    def lift(self, rule_id: int | None = None) -> None:
        """One rule, or all."""
        self._ask("DELETE", "faults" if rule_id is None else f"faults?id={rule_id}")

    def speed(self, speed: float) -> None:
        """Event time per real time; 0 holds the streams."""
        self._ask("POST", "speed", {"speed": speed})

    def pardon(self) -> None:
        """Bans and spent weight are forgotten."""
        self._ask("POST", "weights", {"pardon": True})

    def _ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        text = "" if body is None else json.dumps(body)
        return dict(json.loads(self._compose("exec", "-T", "simulator", "python", "-c", ASK, method, path, text)))
