"""When the next anchor of a symbol is to be asked for, and why. Pure: times are arguments, in ns since the epoch.

One is due at once after a gap, then every interval; a symbol that says nothing is compared with a snapshot, each time
after twice as long. What failed is tried again with backoff. Never decides when a request may be sent.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from shared.venues.base import SECOND_NS

if TYPE_CHECKING:
    from collections.abc import Callable

FIRST_RETRY_NS = SECOND_NS // 2
LONGEST_RETRY_NS = 60 * SECOND_NS

Want = Literal["gap", "interval", "check"]
"""Why an anchor is wanted: none stands since the last gap; it is time for another; a silent symbol is to be compared."""


class AnchorDue:
    """Of one symbol. An interval is spread over its last tenth, so that symbols started together drift apart."""

    def __init__(self, interval_ns: int, check_after_ns: int, random: Callable[[], float]) -> None:
        self._interval_ns = interval_ns
        self._check_after_ns = check_after_ns
        self._random = random
        self._why: Want | None = None
        self._at_ns = 0
        self._tries = 0
        self._heard_ns = 0  # the latest update, or the start of its subscription
        self._check_ns = check_after_ns  # doubled with every check
        self._check_at_ns = check_after_ns

    def why(self, now_ns: int) -> Want | None:
        """Why one is due now; None if none is."""
        return self._why if now_ns >= self._at_ns else None

    def ask(self, why: Want, at_ns: int) -> None:
        """One is due then. A gap comes first; a check does not put off what is due anyway."""
        if self._why == "gap" and why != "gap":
            return
        if why == "check" and self._why is not None and self._at_ns <= at_ns:
            return
        self._why, self._at_ns = why, at_ns

    def ask_now(self, why: Want, now_ns: int) -> None:
        """One is due now, whatever failed before."""
        self._tries = 0
        self.ask(why, now_ns)

    def retry(self, now_ns: int) -> None:
        """There was none: later again, for the same reason."""
        ceiling_ns = min(LONGEST_RETRY_NS, FIRST_RETRY_NS * 2**self._tries)
        self._tries = min(self._tries + 1, 10)
        self._why = self._why or "interval"
        self._at_ns = now_ns + int(ceiling_ns * (0.5 + 0.5 * self._random()))

    def placed(self, now_ns: int) -> None:
        """One was published."""
        self._tries = 0
        self._why, self._at_ns = "interval", now_ns + int(self._interval_ns * (0.9 + 0.1 * self._random()))

    def nevermore(self) -> None:
        """The symbol is not recorded any more."""
        self._why = None

    # --- the silent ---------------------------------------------------------------------------------------------------

    def heard(self, at_ns: int) -> None:
        """An update came, or a subscription began."""
        self._heard_ns = at_ns
        self._check_ns = self._check_after_ns
        self._check_at_ns = at_ns + self._check_after_ns

    def silent_ns(self, now_ns: int) -> int:
        """Since then."""
        return now_ns - self._heard_ns

    def check_if_silent(self, now_ns: int) -> None:
        """Ask for one if nothing was heard for long; next time after twice as long, at most the interval."""
        if now_ns >= self._check_at_ns:
            self.ask("check", now_ns)
            self._check_ns = min(2 * self._check_ns, max(self._interval_ns, self._check_after_ns))
            self._check_at_ns = now_ns + self._check_ns
