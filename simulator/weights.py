"""The venue's request accounting: weight per source address and clock minute, 429 beyond it, bans for who goes on.

Pure: the time is an argument. Counters reset when the clock minute turns, as the venue documents. Every request counts,
refused ones too. Who sends `ban_after` more requests after the first 429 of a minute is banned (418): 2 minutes at
first, longer with every repetition, up to 3 days. A ban holds for a budget: USDⓈ-M and COIN-M together, spot alone.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from simulator.markets import WEIGHT_LIMITS, Refusal, WeightGroup

MINUTE_MS = 60_000
BAN_SECONDS = (120, 600, 1_800, 7_200, 43_200, 86_400, 259_200)


@dataclass(slots=True)
class Usage:
    """What one address has used of one budget."""

    minute: int = -1  # since the epoch
    used: int = 0  # weight in this minute
    refused: int = 0  # 429s in this minute
    bans: int = 0  # so far, ever
    banned_until_ms: int = 0
    total: int = 0  # weight ever
    peak: int = 0  # the most in any minute


@dataclass(slots=True)
class Weights:
    """The ledger of all addresses. `limits` are per minute; `ban_scale` shortens bans for tests."""

    limits: dict[WeightGroup, int] = field(default_factory=lambda: dict(WEIGHT_LIMITS))
    ban_after: int = 5
    ban_scale: float = 1.0
    _usages: dict[tuple[WeightGroup, str], Usage] = field(default_factory=dict)

    def charge(self, group: WeightGroup, address: str, weight: int, now_ms: int) -> tuple[int, Refusal | None]:
        """Counts a request. Returns (used weight of this minute, the refusal if there is one)."""
        usage = self._usage(group, address, now_ms)
        if now_ms < usage.banned_until_ms:
            return usage.used, self._banned(usage, address, now_ms)
        usage.used += weight
        usage.total += weight
        usage.peak = max(usage.peak, usage.used)
        limit = self.limits[group]
        if usage.used <= limit:
            return usage.used, None
        usage.refused += 1
        if usage.refused > self.ban_after:
            seconds = BAN_SECONDS[min(usage.bans, len(BAN_SECONDS) - 1)] * self.ban_scale
            self.ban(group, address, seconds, now_ms)
            return usage.used, self._banned(usage, address, now_ms)
        seconds_left = (MINUTE_MS - now_ms % MINUTE_MS + 999) // 1000
        return usage.used, Refusal(429, -1003, too_many_text(address, limit), seconds_left)

    def ban(self, group: WeightGroup, address: str, seconds: float, now_ms: int) -> int:
        """Bans an address from a budget. Returns until when, epoch ms."""
        usage = self._usage(group, address, now_ms)
        usage.bans += 1
        usage.refused = 0
        usage.banned_until_ms = now_ms + int(seconds * 1000)
        return usage.banned_until_ms

    def pardon(self) -> None:
        """Forgets all usage and every ban."""
        self._usages.clear()

    def report(self) -> list[dict[str, object]]:
        """One row per (budget, address)."""
        return [
            {
                "group": group,
                "address": address,
                "used": usage.used,
                "minute": usage.minute,
                "peak": usage.peak,
                "total": usage.total,
                "bans": usage.bans,
                "banned_until_ms": usage.banned_until_ms,
                "limit": self.limits[group],
            }
            for (group, address), usage in self._usages.items()
        ]

    def _usage(self, group: WeightGroup, address: str, now_ms: int) -> Usage:
        usage = self._usages.setdefault((group, address), Usage())
        minute = now_ms // MINUTE_MS
        if usage.minute != minute:
            usage.minute, usage.used, usage.refused = minute, 0, 0
        return usage

    @staticmethod
    def _banned(usage: Usage, address: str, now_ms: int) -> Refusal:
        left = (usage.banned_until_ms - now_ms + 999) // 1000
        return Refusal(418, -1003, banned_text(address, usage.banned_until_ms), left)


def too_many_text(address: str, limit: int) -> str:
    """The text of a 429, as seen live."""
    return (
        f"Too many requests; current limit of IP({address}) is {limit} requests per minute. "
        "Please use the websocket for live updates to avoid polling the API."
    )


def banned_text(address: str, until_ms: int) -> str:
    """The text of a 418, as seen live."""
    return (
        f"Way too many requests; IP({address}) banned until {until_ms}. "
        "Please use the websocket for live updates to avoid bans."
    )
