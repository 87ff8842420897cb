"""Numbers and tables as the plan prints them, without precision that there is not. Decides nothing."""

from __future__ import annotations

import math

from rich.table import Table

_PREFIXES = ("", "k", "M", "G", "T", "P")
_STEP = 1000


def table(title: str, *columns: str) -> Table:
    """One without lines, wide enough for any key."""
    made = Table(title=title, title_justify="left", box=None, pad_edge=False)
    for column in columns:
        made.add_column(column, overflow="fold", no_wrap=column == "key")
    return made


def at_least(number: float | str, at_least: bool) -> str:  # noqa: FBT001 - whether patterns may add to it
    """Text as it is, a number with its thousands apart."""
    text = number if isinstance(number, str) else f"{number:,}"
    return f"at least {text}" if at_least else text


def rough(number: float) -> str:
    """Two digits that matter: ``0.37``, ``20``, ``4,800``."""
    if number <= 0:
        return "0"
    rounded = round(number, 1 - math.floor(math.log10(number)))
    return f"{rounded:,.{max(0, 1 - math.floor(math.log10(rounded)))}f}"


def bytes_in_words(number: float) -> str:
    """Two digits that matter, in powers of 1000: ``8.3 kB``, ``120 GB``."""
    power = 0
    while float(rough(number).replace(",", "")) >= _STEP and power < len(_PREFIXES) - 1:
        number, power = number / _STEP, power + 1
    return f"{rough(number)} {_PREFIXES[power]}B"
