"""The store proxy as a test handles it: a process in front of a real store."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from tests.processes import Process
from tests.support import eventually_sync

if TYPE_CHECKING:
    from pathlib import Path

    from tests.containers import S3


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

    def lift(self) -> None:
        """No more faults; what stalls is let go."""

    @property
    def _announced(self) -> dict[str, Any]:
        def line() -> str:
            assert self.alive, f"{self.name} ended with {self.popen.returncode}\n{self.tail()}"
            return self.out_path.read_text()

        return dict(json.loads(eventually_sync(lambda: line().endswith("\n") and line(), what="the proxy listens")))
