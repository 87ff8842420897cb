"""The demo's child processes: started apart, watched, stopped in order, and gone whatever happens.

Each child leads its own session, so that a Ctrl-C on the terminal reaches only the demo, which then stops the others in
the order of the data; on Linux the kernel also kills them should the demo itself be killed. No port is ever chosen here
and handed on: whoever listens chooses a free one and says which, so no other program can take it in between.
"""

from __future__ import annotations

import atexit
import ctypes
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Self, TypeVar

from shared.errors import CryptoFlowError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

POLL_SECONDS = 0.1
_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None

_T = TypeVar("_T")


class DemoFailed(CryptoFlowError):
    """The demo cannot go on. The text says why; `log` is the end of the log of the part that failed, if one did."""

    def __init__(self, message: str, log: str = "") -> None:
        super().__init__(message)
        self.log = log


class Interrupted(CryptoFlowError):
    """The user asked to stop before the demo ran, or asked twice."""


class Interrupts:
    """SIGINT and SIGTERM: the first sets `asked`, the second raises `Interrupted` wherever the demo is."""

    def __init__(self) -> None:
        self.asked = False
        self.draining = False  # what is being done is what was asked for: only a second signal interrupts it
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._take)

    def _take(self, number: int, _frame: object) -> None:
        if self.asked:
            raise Interrupted(f"{signal.Signals(number).name} a second time: stopped at once, nothing was drained")
        self.asked = True

    def ignore(self) -> None:
        """From here on nothing may stop the cleaning up, which is quick."""
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)


class Child:
    """One process, its log in `log_path`."""

    def __init__(self, name: str, process: subprocess.Popen[bytes], log_path: Path) -> None:
        self.name = name
        self.process = process
        self.log_path = log_path

    @property
    def exit_code(self) -> int | None:
        """None while it runs."""
        return self.process.poll()

    def log(self) -> str:
        """All it has printed so far, standard error included."""
        return self.log_path.read_text(encoding="utf-8", errors="replace")

    def tail(self, lines: int = 20) -> str:
        """The last lines it printed."""
        return "\n".join(self.log().splitlines()[-lines:])

    def check(self) -> None:
        """Raises `DemoFailed` if it has ended by itself."""
        if self.exit_code is not None:
            raise DemoFailed(
                f"{self.name} ended by itself ({_how(self.exit_code)}); its log: {self.log_path}", self.tail()
            )

    def terminate(self, timeout_seconds: float) -> None:
        """SIGTERM, and waits. Raises `DemoFailed` unless it then ends with exit code 0 in time."""
        self.process.terminate()
        try:
            code = self.process.wait(timeout_seconds)
        except subprocess.TimeoutExpired as error:
            raise DemoFailed(
                f"{self.name} did not drain within {timeout_seconds:.0f} s; its log: {self.log_path}", self.tail()
            ) from error
        if code != 0:
            raise DemoFailed(f"{self.name} did not drain cleanly ({_how(code)}); its log: {self.log_path}", self.tail())

    def kill(self) -> None:
        """SIGKILL to it and all that it started."""
        if self.process.poll() is None:
            with suppress(ProcessLookupError):  # it ended between the two calls
                os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


class Children:
    """All child processes of the demo, newest first when they are killed; a context manager that leaves none behind."""

    def __init__(self, log_folder: Path, interrupts: Interrupts) -> None:
        self._folder = log_folder
        self._interrupts = interrupts
        self._children: list[Child] = []
        atexit.register(self.kill)

    def __enter__(self) -> Self:
        return self

    def __iter__(self) -> Iterator[Child]:
        return iter(self._children)

    def __exit__(self, *_: object) -> None:
        self._interrupts.ignore()
        self.kill()
        atexit.unregister(self.kill)

    def start(self, name: str, command: Sequence[str], environment: Mapping[str, str], folder: Path) -> Child:
        """Starts `command` in `folder`; raises `DemoFailed` if there is no such program."""
        log_path = self._folder / f"{name}.log"
        try:
            with log_path.open("wb") as log:
                process = subprocess.Popen(  # noqa: S603 - our own commands
                    command,
                    stdin=subprocess.PIPE,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    env=dict(environment),
                    cwd=folder,
                    start_new_session=True,
                    preexec_fn=_die_with_parent if _LIBC else None,  # noqa: PLW1509 - the demo has a single thread
                )
        except OSError as error:
            raise DemoFailed(f"{name} could not be started: {error}") from error
        child = Child(name, process, log_path)
        self._children.append(child)
        return child

    def check(self) -> None:
        """Raises `DemoFailed` for the first child that has ended by itself."""
        for child in self._children:
            child.check()

    def wait(self, what: str, condition: Callable[[], _T | None], timeout_seconds: float, *watched: Child) -> _T:
        """What `condition` returns once it is neither None nor False.

        Raises `DemoFailed` if a watched child (all, if none is named) ends meanwhile or the time is up, `Interrupted`
        if the user asks to stop.
        """
        deadline = time.monotonic() + timeout_seconds
        children = watched or tuple(self._children)
        while True:
            found = condition()
            if found is not None and found is not False:
                return found
            for child in children:
                child.check()
            if self._interrupts.asked and not self._interrupts.draining:
                raise Interrupted(f"stopped while waiting for {what}")
            if time.monotonic() > deadline:
                raise DemoFailed(
                    f"{what}: not within {timeout_seconds:.0f} s", "\n".join(child.tail(10) for child in children)
                )
            time.sleep(POLL_SECONDS)

    def forget(self, child: Child) -> None:
        """It has done its work and may be gone."""
        self._children.remove(child)

    def kill(self) -> None:
        """None is left."""
        while self._children:
            self._children.pop().kill()


def _die_with_parent() -> None:
    assert _LIBC is not None
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _how(code: int) -> str:
    return f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
