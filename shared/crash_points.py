"""Named places in the real code where a test ends, freezes or holds the process. Off, they cost one call each.

``CRASH_POINT=s3writer.after_claim:2:kill`` in the environment of a service means: when it gets to that place for the
second time,

    kill   it gets SIGKILL
    stop   it gets SIGSTOP: a zombie, if that lasts beyond its session, until somebody sends SIGCONT
    hold   the task waits there until it is cancelled, as a rebalance does; only where one does (`HOLDABLE`)

The log says ``crash point reached`` first, and ``crash point armed`` when the service starts.
"""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from dataclasses import dataclass, field
from typing import Literal, cast, get_args

from shared.log import get_logger

Action = Literal["kill", "stop", "hold"]

POINTS = (
    "reader.before_produce",  # a batch is about to be sent
    "reader.after_produce",  # it is with the producer
    "reader.after_ack",  # Kafka has it, nobody here knows yet
    "reader.in_recovery",  # a new producer is there, the gaps of what the old one lost are not
    "reader.in_shutdown",  # nothing more is received, what waits is not published
    "flattener.in_recovery",  # partitions are assigned, none is begun
    "flattener.before_produce",  # a norm record is made
    "flattener.after_produce",  # it is with the producer
    "flattener.after_ack",  # Kafka has it, its raw records are not committed
    "flattener.before_commit",
    "flattener.after_commit",
    "flattener.in_revoke",  # tasks are cancelled, their partitions not yet let go of
    "flattener.in_shutdown",  # nothing more is fetched, what was is not published
    "s3writer.in_recovery",  # a partition is assigned, the end of its claims not looked for
    "s3writer.after_origin",  # a line of claims begins, it has none yet
    "s3writer.in_rebuild",  # an unfinished claim's records were read again
    "s3writer.before_claim",  # the files are made
    "s3writer.after_claim",  # a claim exists, its files do not
    "s3writer.before_object",  # one of the files, in no order
    "s3writer.after_object",
    "s3writer.before_commit",  # all files exist
    "s3writer.after_commit",
    "s3writer.in_revoke",
    "s3writer.in_shutdown",  # nothing more is fetched, what is buffered is not flushed
)
HOLDABLE = (  # in a task of a partition, which a rebalance cancels
    *(name for name in POINTS if name.startswith("flattener.") and name.endswith(("_produce", "after_ack"))),
    *(name for name in POINTS if name.startswith("s3writer.") and not name.endswith(("in_revoke", "in_shutdown"))),
)

_log = get_logger(__name__)


@dataclass(slots=True)
class _Plan:
    name: str
    times: int
    action: Action
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def reach(self, name: str) -> bool:
        """Whether the task has to wait here; if the process has to end or freeze, it does."""
        if name != self.name:
            return False
        with self._lock:
            self.times -= 1
            due = self.times == 0
        if not due:
            return False
        _log.warning("crash point reached", point=name, action=self.action)
        if self.action == "hold":
            return True
        os.kill(os.getpid(), signal.SIGKILL if self.action == "kill" else signal.SIGSTOP)
        return False


def plan(text: str) -> _Plan | None:
    """What ``CRASH_POINT`` says, None if it is empty. Raises `ValueError` for a place or an action that is none."""
    if not text:
        return None
    name, times, action = (*text.split(":"), "", "")[:3]
    if name not in POINTS or not times.isdecimal() or int(times) < 1 or action not in get_args(Action):
        raise ValueError(f"CRASH_POINT={text!r} is not <place>:<nth time>:<kill|stop|hold> with a place of {POINTS}")
    if action == "hold" and name not in HOLDABLE:
        raise ValueError(f"CRASH_POINT={text!r}: nothing cancels what waits there; it can be held at {HOLDABLE}")
    return _Plan(name, int(times), cast("Action", action))


_plan = plan(os.environ.get("CRASH_POINT", ""))


def announce() -> None:
    """Says in the log that this process will not live long, if so."""
    if _plan is not None:
        _log.warning("crash point armed", point=_plan.name, times=_plan.times, action=_plan.action)


def reached(name: str) -> None:
    """The code is at this place; called from any thread."""
    if _plan is not None:
        _plan.reach(name)


async def passed(name: str) -> None:
    """As `reached`, in a task that can be held here."""
    if _plan is not None and _plan.reach(name):
        await asyncio.Event().wait()
