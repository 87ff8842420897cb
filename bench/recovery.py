"""From SIGKILL to flushing and producing again, by its parts; and how a start grows with the age of the lake.

`kill`: s3writer and flattener of a line under load are killed in turn and a replacement is started at once, with the
default settings and with a short session: Kafka gives the dead member's partitions to nobody before
`kafka.session_timeout_ms` is over. Parts, in seconds since the kill: the process runs, the store is probed, partitions are
assigned, the ends of all claim logs are found, the first flush is durable (windows of 1 s); or the first norm record is.

`cold`: an s3writer starts on lines of 10, 1,000 and 100,000 claims, see `bench.cold_start`. `calls` are those of the store
that the end of the line costs, `resume` is what they take from the assignment on.

    python -m bench.recovery [--json] [--part kill|cold|both] [--rounds 3] [--sessions 30000,6000] [--claims 10,1000,100000]
        [--stores s3,folder]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import tempfile
import time
import urllib.error
import urllib.request
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.cold_start import cold
from bench.stand import KINDS, PARTITIONS, Stand, logged_at, stand
from tests.support import eventually_sync

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.processes import Service

FLUSH = {"buffer": {"snapshot_flush_interval": "1s", "delta_flush_interval": "1s"}}
POLLS = {"interval_ms": 1000, "limit": 100}
SYMBOLS = 3
KINDS_AND_PARTITIONS = len(KINDS) * PARTITIONS
RECOVERY_SECONDS = 180.0


def kill(session_ms: int, rounds: int) -> dict[str, Any]:
    """Both services killed `rounds` times under load; medians of the parts, and the longest of all."""
    group = {"session_timeout_ms": session_ms, "heartbeat_interval_ms": min(3000, session_ms // 3)}
    with (
        tempfile.TemporaryDirectory(prefix="cryptoflow-bench-") as folder,
        stand(Path(folder), symbols=SYMBOLS, polls=POLLS, kafka=group, writer=FLUSH) as on,
    ):
        return asyncio.run(_kill(on, rounds))


async def _kill(on: Stand, rounds: int) -> dict[str, Any]:
    parts: dict[str, Callable[[Service], dict[str, float | None]]] = {"s3writer": _writing, "flattener": _flattening}
    found: dict[str, Any] = {}
    running = await on.start_all()
    for name, seen in parts.items():
        lives: list[dict[str, float]] = []
        for _ in range(rounds):
            await on.caught_up()
            at = time.time()
            running[name].kill()
            running[name] = on.start(name)
            lives.append(await asyncio.to_thread(_until_all, running[name], seen, at))
            await asyncio.to_thread(running[name].wait_ready)
        found[name] = {part: round(statistics.median(life[part] for life in lives), 2) for part in lives[0]}
        found[name]["longest"] = round(max(max(life.values()) for life in lives), 2)
    await on.end(running)
    return found | {"afterwards": await on.judged()}


def _until_all(service: Service, seen: Callable[[Service], dict[str, float | None]], since: float) -> dict[str, float]:
    """Waits until every part was seen; seconds since the kill."""
    first: dict[str, float] = {}

    def all_seen() -> bool:
        assert service.alive, service.tail()
        now = seen(service)
        for part, at in now.items():
            if at is not None:
                first.setdefault(part, at)
        return first.keys() == now.keys()

    eventually_sync(all_seen, RECOVERY_SECONDS, f"{service.name} works again")
    return {part: at - since for part, at in first.items()}


def _writing(service: Service) -> dict[str, float | None]:
    resumed = len(service.logged("partition resumed")) >= KINDS_AND_PARTITIONS
    return {
        "process_runs": logged_at(service, "service starting"),
        "store_probed": _when(logged_at(service, "http listening") and "store" not in _missing(service)),
        "partitions_assigned": logged_at(service, "partitions assigned"),
        "ends_of_claims_found": _latest(service, "partition resumed") if resumed else None,
        "flushed": logged_at(service, "flushed"),
    }


def _flattening(service: Service) -> dict[str, float | None]:
    listening = logged_at(service, "http listening")
    return {
        "process_runs": logged_at(service, "service starting"),
        "partitions_assigned": logged_at(service, "partitions assigned"),
        "produced": _when(listening and service.metric("cryptoflow_flattened_messages_total") > 0),
    }


def _when(true: object) -> float | None:
    return time.time() if true else None


def _missing(service: Service) -> dict[str, str]:
    """What /readyz says is missing; the store as long as it says nothing."""
    try:
        with urllib.request.urlopen(f"{service.url}/readyz", timeout=5) as answer:
            return dict(json.loads(answer.read())["not_ready"])
    except urllib.error.HTTPError as error:  # 503, with the same body
        with error:
            return dict(json.loads(error.read())["not_ready"])
    except OSError:
        return {"store": "no answer yet"}


def _latest(service: Service, event: str) -> float:
    return datetime.fromisoformat(service.logged(event)[-1]["timestamp"]).timestamp()


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.recovery")
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")
    parser.add_argument("--part", choices=("kill", "cold", "both"), default="both")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--sessions", default="30000,6000", help="kafka.session_timeout_ms (default: %(default)s)")
    parser.add_argument("--claims", default="10,1000,100000", help="rising sizes (default: %(default)s)")
    parser.add_argument("--stores", default="s3,folder", help="where these claims lie (default: %(default)s)")
    arguments = parser.parse_args()
    found: dict[str, Any] = {"benchmark": "recovery", "rounds": arguments.rounds}
    if arguments.part != "cold":
        sessions = [int(each) for each in arguments.sessions.split(",")]
        found["kill"] = {f"session_{each}_ms": kill(each, arguments.rounds) for each in sessions}
    if arguments.part != "kill":
        sizes = [int(each) for each in arguments.claims.split(",")]
        found["cold"] = cold(sizes, arguments.rounds, arguments.stores.split(","))
    print(json.dumps(found) if arguments.json else json.dumps(found, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
