"""Why a plan cannot be, in words, with the numbers.

More request weight or connections than the venue gives a source address; records that Kafka deletes before they are stored.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from cryptoflow.check_config_load import MINUTE_MS
from cryptoflow.check_config_output import HOUR_SECONDS, window_seconds

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from cryptoflow.check_config_load import Budget, DeltaLoad, Kind, Load
    from shared.config_models import ChannelSettings
    from shared.settings import Settings


def overloads(settings: Settings, load: Load) -> Iterator[str]:
    """One line for each."""
    for budget in load.budgets:
        if budget.weight_per_minute > budget.budget_per_minute:
            yield _too_much(budget, load)
    for one in load.deltas:
        if one.connects_per_five_minutes > one.venue_connects_per_five_minutes:
            reader = settings.reader
            yield (
                f"plan: {one.exchange} {one.market} from {one.address}: {one.connects_per_five_minutes:,} connection "
                f"attempts in five minutes ({one.symbols:,} symbols, {reader.streams_per_connection:,} a connection, each "
                f"handed over after {reader.max_connection_age:g} s), the venue allows "
                f"{one.venue_connects_per_five_minutes:,}: raise reader.streams_per_connection or "
                f"reader.max_connection_age, or add source addresses"
            )
    yield from _forgotten(settings)


def _forgotten(settings: Settings) -> Iterator[str]:
    """What is buffered is in Kafka alone: a window that is being flushed, and the one that fills meanwhile."""
    channels = settings.channels
    enabled: list[tuple[Kind, str, ChannelSettings]] = []
    if any(settings.source.snapshots()):
        enabled.append(("fobs", "snapshot_flush_interval", channels.norm_fobs))
    if any(settings.source.deltas()):
        enabled.append(("fobd", "delta_flush_interval", channels.norm_fobd))
    for kind, name, channel in enabled:
        seconds = window_seconds(settings, kind)
        if channel.retention_hours * HOUR_SECONDS < 2 * seconds:
            yield (
                f"plan: channels.norm_{kind}.retention_hours is {channel.retention_hours}, two windows of "
                f"writer.buffer.{name} are {2 * seconds / HOUR_SECONDS:g} h: Kafka deletes what is not stored yet: keep it "
                f"for {math.ceil(2 * seconds / HOUR_SECONDS)} hours at least, better for longer than any outage"
            )


def _too_much(budget: Budget, load: Load) -> str:
    group = (budget.address, budget.weight_group)
    polls = [one for one in load.polls if (one.address, one.weight_group) == group]
    deltas = [one for one in load.deltas if (one.address, one.weight_group) == group]
    parts = [
        f"{one.market} polls: {one.symbols:,} symbols x weight {one.request_weight} x {MINUTE_MS / one.interval_ms:g}"
        for one in polls
    ]
    parts += [
        f"{one.market} anchors: {one.symbols:,} symbols x weight {one.request_weight} / {span(one.anchor_interval_seconds / 60)}"
        for one in deltas
    ]
    return (
        f"plan: {budget.weight_group} from {budget.address}: asks for {math.ceil(budget.weight_per_minute):,} request weight a minute "
        f"({', '.join(parts)}, instrument lists: {budget.instruments_per_minute:.3g}), may spend "
        f"{budget.budget_per_minute:,} ({budget.venue_weight_per_minute:,} x reader.weight_share {budget.weight_share:g})"
        f"{''.join(_sweeps(budget, deltas))}: {', '.join(_ways_out(budget))}, or add source addresses"
    )


def _sweeps(budget: Budget, deltas: Sequence[DeltaLoad]) -> Iterator[str]:
    for one in deltas:
        interval = one.anchor_interval_seconds / 60
        if one.sweep_minutes is None:
            yield f"; polls leave nothing for the {one.market} anchors"
        elif one.sweep_minutes > interval:
            yield (
                f"; a sweep of the {one.market} anchors takes {span(one.sweep_minutes)} of the "
                f"{budget.left_by_polls:,.0f} a minute that polls leave, anchor_interval is {span(interval)}"
            )


def _ways_out(budget: Budget) -> Iterator[str]:
    """What alone would make it fit; factors are rounded up, so that they do."""
    for_polls = budget.budget_per_minute - budget.anchors_per_minute - budget.instruments_per_minute
    if budget.polls_per_minute > 0 and for_polls > 0:
        yield f"poll {_rounded_up(budget.polls_per_minute / for_polls)} times less often"
    if budget.anchors_per_minute > 0 and budget.left_by_polls > 0:
        yield f"place anchors {_rounded_up(budget.anchors_per_minute / budget.left_by_polls)} times less often"
    yield "ask for fewer levels or symbols"


def _rounded_up(factor: float) -> str:
    return f"{math.ceil(factor * 100) / 100:,.2f}"


def span(minutes: float) -> str:
    """``1.2 s``, ``12.5 min``, ``3 h``."""
    if minutes < 1:
        return f"{minutes * 60:.3g} s"
    return f"{minutes:.3g} min" if minutes < 2 * 60 else f"{minutes / 60:,.3g} h"
