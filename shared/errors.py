"""The error tree. Every error this project raises on purpose is one of these:

    CryptoFlowError
    ├── RetryableError      network, throttling, a dependency that is down: back off with jitter, try again
    ├── PoisonMessage       one record is bad: dead letters, counted, capped; the line goes on
    └── FatalError          the process must end, exit code not 0
        ├── ConfigError     what the user wrote is wrong: every problem at once, exit code 2
        └── UnknownVersion  a record of a version this release does not know: "upgrade me"

Nothing here is caught by accident: no module catches ``Exception`` without re-raising, converting or counting.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


class CryptoFlowError(Exception):
    """The root. Its text is for a person: what is wrong, and where known what to do."""


class RetryableError(CryptoFlowError):
    """The same call may succeed later. `retry_after_seconds` is what the other side asked for, if it did."""

    def __init__(self, message: str, *, retry_after_seconds: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


class PoisonMessage(CryptoFlowError):
    """One record cannot be processed, ever. `reason` is a bounded word for the metric label (``bad_json``)."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason

    def bare(self) -> PoisonMessage:
        """The same, to be kept: without traceback and cause, whose frames hold on to whatever was at hand there."""
        return PoisonMessage(self.reason, str(self))


class FatalError(CryptoFlowError):
    """An invariant, schema or setting is broken; going on would harm the data. The process ends with exit code 1."""


class ConfigError(FatalError):
    """What the user wrote is wrong. `problems` holds one line per mistake, all of them; exit code 2, no traceback."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = tuple(problems)


class UnknownVersion(FatalError):
    """A record carries a wire version newer than this release. Not poison: the partition stops, uncommitted."""
