"""The plan and the settings as tables, for a person. Formats numbers; decides nothing."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING

from rich.console import Console

from cryptoflow.check_config_overloads import span
from cryptoflow.check_config_tables_lake import assumed, disk, lake, together, traffic
from cryptoflow.check_config_words import at_least as _at_least
from cryptoflow.check_config_words import table as _table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.table import Table

    from cryptoflow.check_config import Effective, Plan
    from cryptoflow.check_config_load import Budget, DeltaLoad, PollLoad


def print_settings(values: Sequence[Effective]) -> None:
    """Every key, its value and where it came from."""
    table = _table("Effective settings", "key", "value", "from")
    for value in values:
        table.add_row(value.key, json.dumps(value.value, ensure_ascii=False), value.origin)
    _console().print(table)


def print_plan(plan: Plan) -> None:
    """What they amount to; a part that there is not is left out."""
    console = _console()
    if plan.polls:
        console.print(_polls(plan.polls))
    if plan.deltas:
        console.print(_streams(plan.deltas))
        console.print(_anchors(plan.deltas))
    if plan.budgets:
        console.print(_budgets(plan.budgets))
    if plan.kafka.assumed:
        console.print(assumed(plan.kafka.assumed))
    if plan.kafka.traffic:
        console.print(traffic(plan.kafka.traffic))
        console.print(disk(plan.kafka.topics))
        console.print(lake(plan.output.kinds))
    console.print(together(plan))
    for note in plan.notes:
        console.print(f"\nnote: {note}", highlight=False, soft_wrap=True)


def _polls(loads: Sequence[PollLoad]) -> Table:
    table = _table("\nPolls", "address", "market", "symbols", "every", "levels", "weight each", "weight a minute")
    for load in loads:
        table.add_row(
            load.address,
            f"{load.exchange} {load.market}",
            _at_least(load.symbols, load.at_least),
            f"{load.interval_ms / 1000:g} s",
            f"{load.limit:,}",
            f"{load.request_weight:,}",
            _at_least(_weight(load.weight_per_minute), load.at_least),
        )
    return table


def _streams(loads: Sequence[DeltaLoad]) -> Table:
    table = _table(
        "\nUpdates", "address", "market", "streams", "every", "connections", "in a hand-over", "attempts in 5 min", ""
    )
    for load in loads:
        attempts, allowed = load.connects_per_five_minutes, load.venue_connects_per_five_minutes
        table.add_row(
            load.address,
            f"{load.exchange} {load.market}",
            _at_least(load.symbols, load.at_least),
            f"{load.interval_ms:,} ms",
            _at_least(load.connections, load.at_least),
            _at_least(load.handover_connections, load.at_least),
            f"{_at_least(attempts, load.at_least)} of {allowed:,}",
            "too many" if attempts > allowed else "fits",
        )
    return table


def _anchors(loads: Sequence[DeltaLoad]) -> Table:
    columns = ("address", "market", "levels", "weight each", "weight of a sweep", "takes", "every", "weight a minute")
    table = _table("\nAnchors", *columns)
    for load in loads:
        table.add_row(
            load.address,
            f"{load.exchange} {load.market}",
            f"{load.limit:,}",
            f"{load.request_weight:,}",
            _at_least(load.sweep_weight, load.at_least),
            _sweep(load),
            span(load.anchor_interval_seconds / 60),
            _at_least(_weight(load.weight_per_minute), load.at_least),
        )
    return table


def _sweep(load: DeltaLoad) -> str:
    if load.sweep_minutes is None:
        return "never ends"
    return _at_least(span(load.sweep_minutes), load.at_least)


def _budgets(budgets: Sequence[Budget]) -> Table:
    columns = ("address", "group", "polls", "anchors", "lists", "asked", "may spend", "venue allows", "share", "")
    table = _table("\nRequest weight a minute", *columns)
    for budget in budgets:
        table.add_row(
            budget.address,
            budget.weight_group,
            _weight(budget.polls_per_minute),
            _weight(budget.anchors_per_minute),
            _weight(budget.instruments_per_minute),
            _at_least(f"{math.ceil(budget.weight_per_minute):,}", budget.at_least),
            f"{budget.budget_per_minute:,}",
            f"{budget.venue_weight_per_minute:,}",
            f"{budget.weight_share:g}",
            "too much" if budget.weight_per_minute > budget.budget_per_minute else "fits",
        )
    return table


def _weight(number: float) -> str:
    return f"{number:,.0f}" if number >= 10 else f"{number:.2f}"  # noqa: PLR2004 - two digits that matter


def _console() -> Console:
    """As wide as the terminal; wide enough for any key where there is none."""
    console = Console()
    return console if console.is_terminal else Console(width=160)
