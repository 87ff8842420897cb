"""How a start grows with the age of the lake: an s3writer on lines of 10, 1,000 and 100,000 claims.

In S3 and in a folder; with nothing committed (the worst case: the group is new, or has expired) and with the committed
offset that the start before it left. The part `cold` of `python -m bench.recovery`.
"""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

from bench.stand import CHANNELS, STREAM, logged_at
from shared import topics
from shared.errors import RetryableError
from shared.kafka import Admin, Producer
from shared.lake import claim_log, claims, layout
from shared.lake.claim_log import ClaimLog, FirstAfter, Get
from shared.lake.schema import SCHEMA_VERSION
from shared.lake.store import Store, open_store
from shared.settings import Settings, load
from tests import containers
from tests.processes import Processes
from tests.support import eventually_sync

START_SECONDS = 180.0
WRITERS = 16
IN_FLIGHT = 200
TRIES = 5  # a store that is kept busy like that may refuse one
CASES = ("nothing_committed", "committed")


def cold(sizes: list[int], rounds: int, stores: list[str]) -> dict[str, Any]:
    """A line of each size in each store (s3, folder); started on in turn, so that all meet the same machine."""
    found: dict[str, Any] = {}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="cryptoflow-bench-")))
        kafka = stack.enter_context(containers.kafka())
        s3 = stack.enter_context(containers.s3())
        for store in stores:
            lines = {}
            for size in sizes:
                name = f"{store}-{size}"
                local = {"local": {"path": str(folder / f"lake-{size}")}}
                storage = {"s3": {"enabled": True, "prefix": name}} if store == "s3" else local
                lines[size] = OldLine(folder / name, kafka.bootstrap_servers, dict(s3.environ), storage, size)
            for number in range(rounds):
                for line in lines.values():
                    line.measure(f"round{number}")
            found[store] = {f"{size}_claims": line.medians() for size, line in lines.items()}
            for case in CASES:
                found[store][f"ratio_{sizes[-1]}_to_{sizes[-2]}_{case}"] = {
                    figure: round(
                        lines[sizes[-1]].medians()[case][figure] / lines[sizes[-2]].medians()[case][figure], 2
                    )
                    for figure in ("start_to_resumed", "resume", "calls", "seconds_of_calls")
                }
    return found


class OldLine:
    """One partition of snapshots with `size` claims of an offset each, and s3writers that start on it."""

    def __init__(
        self, folder: Path, bootstrap: str, environ: dict[str, str], storage: dict[str, Any], size: int
    ) -> None:
        folder.mkdir()
        self._folder = folder
        self._environ = environ
        self._size = size
        self._made_ms = round(time.time() * 1000)  # of every record: an s3writer compares the last with its claim
        self._config = {
            "kafka": {"bootstrap_servers": bootstrap, "stream": STREAM},
            "channels": {
                each: {"topic": f"{each.replace('_', '-')}-{folder.name}", "partitions": 1} for each in CHANNELS
            },
            "storage": storage,
            "logging": {"format": "json"},
        }
        path = folder / "line.yml"
        path.write_text(json.dumps(self._config), encoding="utf-8")  # which is YAML
        os.environ.update(environ)  # where the AWS chain looks for keys
        self._settings = load(path, environ=environ, dotenv_path=folder / "no.env")
        self._store: Store = open_store(self._settings.storage)
        asyncio.run(topics.create(self._settings))
        self._log = ClaimLog(
            kind="fobs",
            stream=STREAM,
            partition=0,
            topic=self._settings.channels.norm_fobs.topic,
            cluster_id=asyncio.run(_cluster_id(self._settings)),
        )
        self._made_per_second = self._make()
        self._starts: dict[str, list[dict[str, float]]] = {case: [] for case in CASES}

    def measure(self, group: str) -> None:
        """Two starts of a group: what the first one finds is nothing, what the second one finds is the first one's commit."""
        for case, hint in zip(CASES, (0, self._size), strict=True):
            self._starts[case].append(self._start(group) | self._resumed(hint))

    def medians(self) -> dict[str, Any]:
        """Of every figure, by what was committed."""
        found: dict[str, Any] = {"claims_made_per_second": self._made_per_second}
        for case, starts in self._starts.items():
            found[case] = {part: round(statistics.median(start[part] for start in starts), 4) for part in starts[0]}
        return found

    def _make(self) -> int:
        """Origin, claims, and a record on the topic for each claim. Gives claims per second."""
        origin = claims.Origin(first=0, cluster_id=self._log.cluster_id, topic=self._log.topic)
        self._store.create(layout.origin_path("fobs", STREAM, 0), claims.encode(origin))

        def create(offset: int) -> None:
            path = layout.claim_path("fobs", STREAM, 0, offset)
            for _ in range(TRIES):
                with suppress(RetryableError):
                    self._store.create(path, claims.encode(self._claim(offset)))
                    return
            raise AssertionError(f"{path} could not be made")

        began = time.monotonic()
        with ThreadPoolExecutor(WRITERS) as pool:
            for _ in pool.map(create, range(self._size)):
                pass
        seconds = time.monotonic() - began
        asyncio.run(_fill(self._settings, self._log.topic, self._size, self._made_ms))
        return round(self._size / seconds)

    def _claim(self, offset: int) -> claims.Claim:
        return claims.Claim(
            kind="fobs", stream=STREAM, partition=0, first=offset, last=offset, schema_version=SCHEMA_VERSION,
            topic=self._log.topic, files=(), done_before=offset - 1, done_after=offset, writer=f"bench-{offset}",
            last_timestamp_ms=self._made_ms, last_src=f"{self._settings.channels.raw_fobs.topic}/0/{offset}-{offset}",
        )  # fmt: skip

    def _start(self, group: str) -> dict[str, float]:
        """An s3writer that is ended in order once it stands: seconds from its start."""
        processes = Processes(self._folder)
        at, topic = time.time(), self._log.topic
        name = {"cryptoflow": {"name": group}}
        service = processes.start("s3writer", self._config | name, environ=self._environ, ready=False)
        try:
            eventually_sync(lambda: logged_at(service, "partition resumed", topic=topic), START_SECONDS, "resumed")
            entry = next(line for line in service.logged("partition resumed") if line["topic"] == topic)
            assert entry["next_offset"] == self._size, entry
            service.wait_ready()
            code = service.terminate()
            assert code == 0, service.tail()
        finally:
            processes.end()
        runs, assigned = logged_at(service, "service starting"), logged_at(service, "partitions assigned")
        resumed = logged_at(service, "partition resumed", topic=topic)
        service.log_path.unlink()
        assert runs is not None
        assert assigned is not None
        assert resumed is not None
        return {
            "process_runs": runs - at,
            "partitions_assigned": assigned - at,
            "start_to_resumed": resumed - at,
            "resume": resumed - assigned,
        }

    def _resumed(self, hint: int) -> dict[str, float]:
        """The same protocol here, answered by the store itself: calls of the store, and how long they took."""
        steps, calls, began = self._log.resume(start=0, hint=hint, nonce="bench"), 0, time.monotonic()
        request = next(steps)
        while True:
            calls += isinstance(request, FirstAfter | Get)
            answer = self._answer(request)
            try:
                request = steps.send(answer)
            except StopIteration as end:
                position = end.value
                break
        assert position.next_offset == self._size, position
        return {"calls": calls, "seconds_of_calls": time.monotonic() - began}

    def _answer(self, request: claim_log.Request) -> Any:
        match request:
            case FirstAfter(prefix, start_after):
                entries = self._store.list(prefix, start_after, 1)
                return entries[0].path if entries else None
            case Get(path):
                return self._store.get(path)
            case claim_log.Digests(paths):
                assert not paths
                return ()
        raise AssertionError(request)


async def _cluster_id(settings: Settings) -> str:
    async with Admin(settings.kafka, client_id="bench") as admin:
        return await admin.cluster_id()


async def _fill(settings: Settings, topic: str, records: int, timestamp_ms: int) -> None:
    """So many records more: the claims say that they are stored, so nobody reads them."""
    producer = Producer(settings.kafka, client_id="bench")
    await producer.start()
    waiting: set[asyncio.Future[int]] = set()
    for _ in range(records):
        waiting.add(await producer.send(topic, b"x", partition=0, timestamp_ms=timestamp_ms))
        if len(waiting) >= IN_FLIGHT:
            done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            for future in done:
                future.result()
    await asyncio.gather(*waiting)
    await producer.stop(10)
