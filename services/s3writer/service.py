"""The s3writer: norm records in, Parquet files out, each row exactly once. The whole line stands in `serve`."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from services.s3writer.storage import Storage
from services.s3writer.writer import Writer
from shared import topics
from shared.errors import FatalError
from shared.kafka import Admin, Consumer
from shared.lake.store import open_store

if TYPE_CHECKING:
    from shared.messages import Kind
    from shared.service import Lifecycle
    from shared.settings import Settings


async def serve(settings: Settings, lifecycle: Lifecycle) -> None:
    """Take norm records, buffer them, write them by claims; after SIGTERM flush, commit and return."""
    storage = Storage(open_store(settings.storage), lifecycle)
    await storage.probe()
