"""The store proxy as a test handles it: a process in front of a real store."""

from __future__ import annotations

import json
import urllib.request
from typing import TYPE_CHECKING, Any

from tests.processes import Process
from tests.support import eventually_sync

if TYPE_CHECKING:
    from pathlib import Path

    from tests.containers import S3
    from tests.store_proxy.rules import Kind


class StoreProxy(Process):
    """``python -m tests.store_proxy``; passes everything on until `rule` says otherwise."""

    def __init__(self, folder: Path, store: S3, *, seed: int = 1, name: str = "store-proxy") -> None:
        super().__init__(name, folder, ["tests.store_proxy", "--upstream", store.endpoint_url, "--seed", str(seed)])
        self._store = store

    @property
    def endpoint_url(self) -> str:
        return f"http://127.0.0.1:{self._announced['port']}"

    @property
    def environ(self) -> dict[str, str]:
        """What a process needs to reach the store through it."""
        return self._store.environ | {"S3_ENDPOINT_URL": self.endpoint_url}

    def rule(self, kind: Kind, **options: Any) -> int:
        """Put a fault in force; gives its id. The kinds and their options: `tests.store_proxy.rules`."""
        return int(self._ask("POST", "/rules", {"kind": kind, **options})["id"])

    def lift(self, rule: int | None = None) -> None:
        """This fault is over, or all are; what stalls is let go."""
        self._ask("DELETE", "/rules" if rule is None else f"/rules/{rule}")

    def close(self, rule: int) -> None:
        """This fault takes no more requests; those that it holds stay held."""
        self._ask("PUT", f"/rules/{rule}/closed")

    def hits(self, rule: int) -> int:
        """How many requests have met this fault."""
        return int(self._ask("GET", f"/rules/{rule}")["hits"])

    def counters(self) -> dict[str, dict[str, int]]:
        """How many requests there were: by verb, then by the fault that they met or as "passed"."""
        return self._ask("GET", "/counters")

    def reseed(self, seed: int) -> None:
        """What happens by chance begins anew."""
        self._ask("PUT", f"/seed/{seed}")

    def _ask(self, method: str, path: str, content: dict[str, Any] | None = None) -> dict[str, Any]:
        body = None if content is None else json.dumps(content).encode()
        request = urllib.request.Request(self._announced["control"] + path, data=body, method=method)
        with urllib.request.urlopen(request, timeout=10) as answer:
            return dict(json.load(answer))

    @property
    def _announced(self) -> dict[str, Any]:
        def line() -> str:
            assert self.alive, f"{self.name} ended with {self.popen.returncode}\n{self.tail()}"
            return self.out_path.read_text()

        return dict(json.loads(eventually_sync(lambda: line().endswith("\n") and line(), what="the proxy listens")))
