"""One listing of a market, as the venue's instrument list words it. Pure; numbers stay the venue's texts."""

from __future__ import annotations

from typing import NamedTuple


class Instrument(NamedTuple):
    """What a symbol is. Decimal texts verbatim; None where the venue does not say."""

    symbol: str
    status: str  # the venue's own word; `TRADING` is what is recorded
    base: str | None = None
    quote: str | None = None
    contract_type: str | None = None
    tick_size: str | None = None
    lot_size: str | None = None
    multiplier: str | None = None  # quote units (COIN-M: USD) of one contract
    onboard_ms: int | None = None
    delivery_ms: int | None = None

    @property
    def trading(self) -> bool:
        """Whether it is recorded ("record only TRADING")."""
        return self.status == "TRADING"
