"""Raw records by hand through the real flattener and s3writer, archive included; and the commands that prove the lake."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import yaml
from fsspec import filesystem
from typer.testing import CliRunner

from cryptoflow.lake_cli import app
from shared.kafka import Admin, TopicPartition
from shared.lake import archive, claims, layout, parquet
from shared.lake.claims import Claim
from shared.lake.digest import digest
from shared.messages import KINDS
from tests.flattener_line import Topics
from tests.line import FLUSH, Line, make_line
from tests.processes import Process
from tests.raw_lakes import raw_record
from tests.support import eventually

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    import pyarrow as pa

    from shared.messages import Kind
    from tests.containers import S3, Kafka
    from tests.processes import Processes

PARTITIONS = 2


@dataclass
class Told:
    """How a command ended, and what its JSON said."""

    code: int
    json: dict[str, Any]

    @property
    def problems(self) -> list[tuple[str, str]]:
        return [(problem["what"], problem["path"]) for problem in self.json["problems"]]

    @property
    def against(self) -> dict[str, Any]:
        return self.json["against"]

    def compared(self) -> int:
        """Raw records."""
        return sum(line["raw_records"] for line in self.against["lines"])


@dataclass
class ProofLine:
    """Two partitions a topic; the lake under `prefix` of the bucket, the raw archive in it."""

    line: Line
    s3: S3
    prefix: str
    folder: Path
    published: dict[str, int]  # raw records by kind, as many in each partition

    @property
    def url(self) -> str:
        return f"s3://{self.s3.bucket}/{self.prefix}"

    @property
    def config_path(self) -> Path:
        return self.folder / "line.yml"

    async def publish(self, count: int, *kinds: Kind) -> None:
        """So many raw records more in each partition of these kinds."""
        for kind in kinds or KINDS:
            first = self.published.get(kind, 0)
            records = [
                (record.key, record.value, record.headers, partition)
                for partition in range(PARTITIONS)
                for offset in range(first, first + count)
                for record in [raw_record(offset, kind, partition=partition)]
            ]
            await Topics(self.line.settings, kind).publish(records)
            self.published[kind] = first + count

    async def stored(self) -> None:
        """Waits until rows and archive have all that was published, and the last claims are finished."""
        for kind in KINDS:
            await self.line.caught_up(kind=kind)
        store, stream = self.line.store, self.line.settings.kafka.stream

        def archived() -> bool:
            bounds = [
                (archive.bounds(store, kind, stream, partition), self.published.get(kind, 0))
                for kind in KINDS
                for partition in range(PARTITIONS)
            ]
            return all(not count or (found is not None and found.last == count - 1) for found, count in bounds)

        await eventually(lambda: asyncio.to_thread(archived), 90, "the archive has all", every_seconds=0.5)

    async def delete_before(self, kind: Kind, offset: int) -> None:
        """As retention does, in every raw partition of a kind."""
        topic = self.line.raw_topic(kind)
        async with Admin(self.line.settings.kafka, client_id="test") as admin:
            await admin.delete_records({TopicPartition(topic, number): offset for number in range(PARTITIONS)})

    def command(self, *arguments: str, environ: Mapping[str, str]) -> Process:
        """`cryptoflow lake …` as a process that is not waited for."""
        return Process("command", self.folder, ["cryptoflow.cli", "lake", *arguments], environ)

    async def run(self, *arguments: str) -> Told:
        """`cryptoflow lake … --json`, to its end."""

        def ended() -> Told:
            done = CliRunner().invoke(app, [*arguments, "--json"], env=dict(self.line.environ))
            assert done.stdout, (done.stderr, done.exception)
            return Told(done.exit_code, json.loads(done.stdout.splitlines()[-1]))

        return await asyncio.to_thread(ended)

    async def verify(self, *arguments: str, url: str | None = None) -> Told:
        return await self.run("verify", url or self.url, *arguments)

    async def against_kafka(self, *arguments: str, url: str | None = None) -> Told:
        return await self.verify("--against-kafka", "--config", str(self.config_path), *arguments, url=url)

    async def against_raw(self, *arguments: str, url: str | None = None) -> Told:
        return await self.verify("--against-raw", *arguments, url=url)

    def alter(self, kind: Kind, change: Callable[[pa.Table], pa.Table]) -> str:
        """Other rows in the first file of partition 0, with all that is told of them: digest, footer and claim agree."""
        store, stream = self.line.store, self.line.settings.kafka.stream
        path = min(e.path for e in store.list(layout.claims_prefix(kind, stream, 0)) if "origin" not in e.path)
        claim = claims.decode(store.get(path) or b"", Claim, path)
        entry = claim.files[0]
        body = store.get(entry.path) or b""
        rows = change(parquet.decode(body, kind))
        said = parquet.read_footer(body)
        told = {"rows": rows.num_rows, "digest": digest(rows)}
        footer = parquet.Footer(**{name: getattr(said, name) for name in said.__slots__} | told)
        altered = claims.FileEntry(path=entry.path, **told)
        fields = {name: getattr(claim, name) for name in claim.__struct_fields__}
        files = tuple(altered if known == entry else known for known in claim.files)
        self._overwrite(entry.path, parquet.encode(rows, footer))
        self._overwrite(path, claims.encode(Claim(**{**fields, "files": files})))
        return entry.path

    def _overwrite(self, path: str, body: bytes) -> None:
        """What no store of ours does."""
        s3 = filesystem(
            "s3",
            key=self.s3.access_key,
            secret=self.s3.secret_key,
            endpoint_url=self.s3.endpoint_url,
            skip_instance_cache=True,
        )
        s3.pipe_file(f"{self.s3.bucket}/{self.prefix}/{path}", body)


def make_proof_line(
    kafka: Kafka,
    s3: S3,
    services: Processes,
    make_config: Callable[..., dict[str, Any]],
    prefix: str,
    folder: Path,
) -> ProofLine:
    """Over real Kafka and a real store."""
    line = make_line(
        services,
        make_config,
        folder,
        s3=s3,
        prefix=prefix,
        kafka={"bootstrap_servers": kafka.bootstrap_servers},
        channels={f"{side}_{kind}": {"partitions": PARTITIONS} for side in ("raw", "norm") for kind in KINDS},
        processor={"dead_letter_ceiling": 1},  # one record in twelve is malformed
        writer=FLUSH,
    )
    config = {**line.config, "storage": {"s3": {"enabled": True, "prefix": prefix, "archive_raw": True}}}
    (folder / "line.yml").write_text(yaml.safe_dump(config))
    return ProofLine(Line(line.settings, config, line.environ, services), s3, prefix, folder, {})
