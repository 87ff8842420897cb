"""Effective settings with their origins, and what they amount to: request weight, streams, files. Refuses what cannot be.

The arithmetic needs no network: budgets are the venues' documented ones (the running reader learns the real ones), and
what patterns match is the venue's instrument list to say: only ids are counted unless a number is assumed.
Secrets are masked. Nothing is started and nothing is written.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from pydantic import SecretStr

from cryptoflow.check_config_load import DEFAULT_ROUTE, load, recorded
from cryptoflow.check_config_memory import memory
from cryptoflow.check_config_notes import notes
from cryptoflow.check_config_output import output
from cryptoflow.check_config_overloads import overloads
from cryptoflow.check_config_traffic import kafka
from services.reader.refusals import refusals
from services.reader.shards import Configured, plan_shards, read_shards
from shared.config_sources import Keys, did_you_mean, nearest
from shared.errors import ConfigError
from shared.log import MASK
from shared.settings import Settings
from shared.venues import VENUES

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from cryptoflow.check_config_load import Budget, DeltaLoad, PollLoad, Recorded
    from cryptoflow.check_config_memory import Memory
    from cryptoflow.check_config_output import Output
    from cryptoflow.check_config_traffic import Kafka
    from services.reader.shards import Market, Shard
    from shared.settings import Loaded

ASSUME = "--assume-symbols"
ASSUME_UPDATES = "--assume-updates-per-second"
MOST_UPDATES = 1_000.0


@dataclass(frozen=True, slots=True)
class Effective:
    """One key, its value (secrets masked) and where it came from."""

    key: str
    value: Any
    origin: str


@dataclass(frozen=True, slots=True)
class Plan:
    """What the settings amount to; `problems` says what of it cannot be, `notes` what may not be meant."""

    polls: tuple[PollLoad, ...]
    deltas: tuple[DeltaLoad, ...]
    budgets: tuple[Budget, ...]
    kafka: Kafka
    output: Output
    memory: Memory
    problems: tuple[str, ...]
    notes: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        """Plain values, for ``--json``."""
        return asdict(self)


def effective(loaded: Loaded) -> Iterator[Effective]:
    """Every key in the order of config/config.yml."""
    for key in Keys.of(Settings).leaves:
        value: Any = loaded.settings
        for part in key.split("."):
            value = getattr(value, part)
        shown = MASK if isinstance(value, SecretStr) else value
        yield Effective(key, _plain(shown), loaded.origins.get(key, "default"))


def assumptions(pairs: Sequence[str]) -> dict[Market, int]:
    """Symbols per market out of ``exchange.market=N``. Raises `ConfigError` with every problem."""
    known = {f"{exchange}.{market}": (exchange, market) for exchange, market in VENUES}
    found, problems = {}, []
    for pair in pairs:
        name, _, number = pair.partition("=")
        if name not in known:
            problems.append(f"{ASSUME}: {name}: unknown market{did_you_mean(nearest(name, known))}")
        elif not (number.isdecimal() and int(number) > 0):
            problems.append(f"{ASSUME}: {name}: must be {name}=N with a whole number of symbols, is {pair!r}")
        else:
            found[known[name]] = int(number)
    if problems:
        raise ConfigError(problems)
    return found


def assumed_rate(number: float | None) -> float | None:
    """The same, if updates can come so often. Raises `ConfigError`."""
    if number is not None and not 0 <= number <= MOST_UPDATES:
        raise ConfigError([f"{ASSUME_UPDATES}: must be between 0 and {MOST_UPDATES:,.0f}, is {number:g}"])
    return number


def plan(loaded: Loaded, assumed: Mapping[Market, int], updates_per_second: float | None = None) -> Plan:
    """The arithmetic. What a venue or a shard file refuses, or more than there is to spend, is a problem in words.

    `assumed`: so many symbols a market's patterns are taken to match; `updates_per_second`: of every symbol.
    """
    settings = loaded.settings
    problems = [f"{loaded.origins.get(key, 'default')}: {key}: {why}" for key, why in refusals(settings)]
    everything = recorded(plan_shards(None, Configured.of(settings), list(VENUES)), assumed)
    mine: list[Recorded] = []
    try:
        everything = recorded(_shards(settings, None), assumed)
        addresses = {shard.ip or DEFAULT_ROUTE for shard in _shards(settings, settings.reader.shard_ip)}
        mine = [one for one in everything if one.address in addresses]
    except ConfigError as error:
        problems += error.problems
    asked = load(settings, mine)
    moved = kafka(settings, everything, updates_per_second)
    lake = output(settings, everything, moved, updates_per_second)
    return Plan(
        polls=asked.polls,
        deltas=asked.deltas,
        budgets=asked.budgets,
        kafka=moved,
        output=lake,
        memory=memory(settings, asked, moved),
        problems=(*problems, *overloads(settings, asked)),
        notes=(*notes(settings, asked, lake), *_uncounted(mine), *_unused(settings, assumed)),
    )


def _shards(settings: Settings, shard_ip: str | None) -> list[Shard]:
    """As the readers divide the symbols, on all hosts that share the file. Raises `ConfigError`."""
    path = settings.reader.ip_shards_file
    content = None if path is None else read_shards(path)
    return plan_shards(content, Configured.of(settings), list(VENUES), shard_ip=shard_ip, local=lambda _: True)


def _uncounted(what: Sequence[Recorded]) -> Iterator[str]:
    for exchange, market in dict.fromkeys((one.exchange, one.market) for one in what if one.at_least):
        yield (
            f"{exchange} {market}: what patterns match depends on the venue's instrument list: only ids are counted; "
            f"{ASSUME} {exchange}.{market}=N counts as if N symbols matched"
        )


def _unused(settings: Settings, assumed: Mapping[Market, int]) -> Iterator[str]:
    wanted = Configured.of(settings).both()
    for market in assumed:
        if market not in wanted or not wanted[market].patterns:
            yield f"{ASSUME} {'.'.join(market)}: no pattern of this market is enabled: it changes nothing"


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, bool | int | float):
        return value
    return list(value) if isinstance(value, tuple) else str(value)
