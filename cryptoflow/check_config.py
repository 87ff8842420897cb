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
from cryptoflow.check_config_output import output
from cryptoflow.check_config_overloads import overloads
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
    from cryptoflow.check_config_output import Output
    from services.reader.shards import Market, Shard
    from shared.settings import Loaded

ASSUME = "--assume-symbols"


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
    output: Output
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


def plan(loaded: Loaded, assumed: Mapping[Market, int]) -> Plan:
    """The arithmetic. What a venue or a shard file refuses, or more than there is to spend, is a problem in words.

    `assumed`: so many symbols a market's patterns are taken to match.
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
    problems += overloads(settings, asked)
    notes = (*_notes(settings), *_uncounted(mine), *_unused(settings, assumed))
    return Plan(
        asked.polls, asked.deltas, asked.budgets, output(settings, everything), problems=tuple(problems), notes=notes
    )


def _shards(settings: Settings, shard_ip: str | None) -> list[Shard]:
    """As the readers divide the symbols, on all hosts that share the file. Raises `ConfigError`."""
    path = settings.reader.ip_shards_file
    content = None if path is None else read_shards(path)
    return plan_shards(content, Configured.of(settings), list(VENUES), shard_ip=shard_ip, local=lambda _: True)


def _notes(settings: Settings) -> Iterator[str]:
    if not list(settings.source.snapshots()) and not list(settings.source.deltas()):
        yield "no market has snapshots or deltas enabled: the reader refuses to start"
    s3 = settings.storage.s3
    if s3.bucket is not None and not s3.enabled:
        yield f"storage.s3.bucket is {s3.bucket}, but storage.s3.enabled is false: the lake is {settings.storage.local.path}"


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
