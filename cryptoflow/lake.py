"""The lake from Python: `open_url`, `verify`, `watermark`.

    from cryptoflow import lake

    report = lake.verify("s3://bucket/lake")
    assert report.ok, report.problems

The rows themselves need nothing of ours: they are a hive tree of Parquet (docs/reading-the-lake.md). Reads only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from shared.lake import verify as _verify
from shared.lake import watermark as _watermark
from shared.lake.report import LineKey, LineReport, Loss, Problem, Report, Verdict
from shared.lake.store import open_url
from shared.lake.watermark import LATENESS_SECONDS, LineMark, Watermark

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "LineKey",
    "LineMark",
    "LineReport",
    "Loss",
    "Problem",
    "Report",
    "Verdict",
    "Watermark",
    "open_url",
    "verify",
    "watermark",
]


def verify(
    url: str, *, fast: bool = False, strict: bool = False, progress: Callable[[int, int], None] | None = None
) -> Report:
    """Prove from claims and objects alone that the lake at `url` is whole.

    `url` is ``s3://bucket/prefix`` or a folder. `fast` reads the files' footers instead of their rows. `strict` counts a
    last claim that is not finished yet as damage. `progress` is told how many claims are done, of how many.
    Raises `RetryableError` where the store does not answer for a minute, `FatalError` where it refuses.
    """
    return _verify.verify(open_url(url), fast=fast, strict=strict, progress=progress)


def watermark(url: str, *, lateness_seconds: float = LATENESS_SECONDS) -> Watermark:
    """Until when each stream, line and book of the lake at `url` is closed: no row before that is expected any more."""
    return _watermark.watermark(open_url(url), lateness_seconds=lateness_seconds)
