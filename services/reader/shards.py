"""Which symbols are recorded from which source address: config/ip_shards.yml against the configured symbols.

    shards:
      - ip: 203.0.113.10
        binance_future_symbols: [BTCUSDT, ETHUSDT]
        binance_spot_symbols: ["*USDT"]

One list of a market serves snapshots and deltas. Every mistake is reported, all at once. Several hosts may share one
file: what is not an address of this host is skipped. No file = one shard on the default route. Never opens a connection.
"""

from __future__ import annotations

import ipaddress
import socket
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import yaml

from services.reader.refusals import refusals
from services.reader.symbols import EVERYTHING, Selection, SymbolList
from shared.errors import ConfigError
from shared.venues import VENUES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from shared.settings import Settings

Market = tuple[str, str]
"""(exchange, market)"""
NAMED_SYMBOLS = 10
NO_SYMBOLS = SymbolList()


@dataclass(frozen=True, slots=True)
class Shard:
    """A source address (None = the default route) and what is recorded from it; markets of which nothing is are left out."""

    ip: str | None
    snapshots: Mapping[Market, Selection]
    deltas: Mapping[Market, Selection]

    @property
    def markets(self) -> frozenset[Market]:
        """Those of which anything is recorded."""
        return frozenset((*self.snapshots, *self.deltas))


@dataclass(frozen=True, slots=True)
class Configured:
    """The symbols of the enabled markets, kind by kind."""

    snapshots: Mapping[Market, Sequence[str]]
    deltas: Mapping[Market, Sequence[str]]

    @classmethod
    def of(cls, settings: Settings) -> Configured:
        """As the settings have them."""
        source = settings.source
        return cls(
            {(exchange, market): found.orderbook.snapshots.symbols for exchange, market, found in source.snapshots()},
            {(exchange, market): found.orderbook.delta.symbols for exchange, market, found in source.deltas()},
        )

    def both(self) -> dict[Market, SymbolList]:
        """What is recorded of each market, of whichever kind."""
        markets = {**self.snapshots, **self.deltas}
        return {
            market: SymbolList(dict.fromkeys((*self.snapshots.get(market, ()), *self.deltas.get(market, ()))))
            for market in markets
        }


@dataclass(frozen=True, slots=True)
class _Entry:
    """One shard of the file: its address, or None where that is no address, and its list of each market."""

    ip: str | None
    symbols: Mapping[Market, SymbolList]


@dataclass(slots=True)
class _Check:
    problems: list[str] = field(default_factory=list)
    seen: dict[tuple[Market, str], str] = field(default_factory=dict)  # id or pattern → its shard


def is_local(ip: str) -> bool:
    """Whether this host has the address: a socket can be bound to it."""
    family = socket.AF_INET6 if ":" in ip else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        try:
            probe.bind((ip, 0))
        except OSError:
            return False
    return True


@dataclass(frozen=True, slots=True)
class Plan:
    """The shards this process runs, and the addresses of those it leaves to others that share the file."""

    shards: Sequence[Shard]
    others: Sequence[str] = ()


def plan(settings: Settings, local: Callable[[str], bool] = is_local) -> Plan:
    """What this process runs. Raises `ConfigError` with every problem: the file, the symbols, the limits."""
    configured = Configured.of(settings)
    problems = [f"{key}: {why}" for key, why in refusals(settings)]
    if not configured.snapshots and not configured.deltas:
        problems.append("source: no market has snapshots or deltas enabled: the reader has nothing to do")
    reader = settings.reader
    try:
        content = None if reader.ip_shards_file is None else read_shards(reader.ip_shards_file)
        shards = plan_shards(content, configured, list(VENUES), shard_ip=reader.shard_ip, local=local)
        every = plan_shards(content, configured, list(VENUES), local=lambda _: True)
    except ConfigError as error:
        raise ConfigError([*problems, *error.problems]) from None
    if problems:
        raise ConfigError(problems)
    mine = {shard.ip for shard in shards}
    return Plan(shards, [shard.ip for shard in every if shard.ip is not None and shard.ip not in mine])


def read_shards(path: Path) -> object:
    """The file as YAML. Raises `ConfigError`."""
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError([f"{path}: cannot be read: {error}"]) from error
    except yaml.YAMLError as error:
        raise ConfigError([f"{path}: is not YAML: {' '.join(str(error).split())}"]) from error


def plan_shards(
    content: object,
    configured: Configured,
    known_markets: Sequence[Market],
    *,
    shard_ip: str | None = None,
    local: Callable[[str], bool] = is_local,
) -> list[Shard]:
    """The shards this process runs. Raises `ConfigError` with every problem.

    `content` is the file's YAML, None = no file. Symbols of known markets that are not enabled may stand in the file and
    are left out.
    """
    if content is None:
        if shard_ip is not None:
            raise ConfigError([f"reader.shard_ip is {shard_ip}, but there is no reader.ip_shards_file"])
        return _divided([_Entry(None, dict.fromkeys(known_markets, EVERYTHING))], configured)
    check = _Check()
    wanted = configured.both()
    entries = list(_entries(_list_of(content), wanted, known_markets, check))
    for market, symbols in wanted.items():
        check.problems += _uncovered(market, symbols, [entry.symbols.get(market, NO_SYMBOLS) for entry in entries])
    if check.problems:
        raise ConfigError(check.problems)
    shards = _divided(entries, configured)
    mine = [shard for shard in shards if shard.ip and shard_ip in {None, shard.ip} and local(shard.ip)]
    if wanted and not mine:
        raise ConfigError([_none_is_ours([str(shard.ip) for shard in shards], shard_ip)])
    return mine


def _none_is_ours(addresses: Sequence[str], shard_ip: str | None) -> str:
    if shard_ip is not None and shard_ip not in addresses:
        return f"ip_shards: reader.shard_ip {shard_ip} is none of {', '.join(addresses)}, which have anything to record"
    return (
        f"ip_shards: no address of this host is in the file with anything to record: {shard_ip or ', '.join(addresses)}"
    )


def _divided(entries: Sequence[_Entry], configured: Configured) -> list[Shard]:
    """Each shard with what it records; a shard that records nothing is left out."""

    def selections(symbols: Mapping[Market, Sequence[str]], place: int) -> dict[Market, Selection]:
        lists = {market: [entry.symbols.get(market, NO_SYMBOLS) for entry in entries] for market in symbols}
        every = {market: Selection(SymbolList(symbols[market]), lists[market], place) for market in symbols}
        return {market: selection for market, selection in every.items() if selection}

    shards = [
        Shard(entry.ip, selections(configured.snapshots, place), selections(configured.deltas, place))
        for place, entry in enumerate(entries)
    ]
    return [shard for shard in shards if shard.snapshots or shard.deltas]


def _uncovered(market: Market, wanted: SymbolList, lists: Sequence[SymbolList]) -> Iterator[str]:
    """What is configured and has no shard."""
    name = "/".join(market)
    missing = sorted(symbol for symbol in wanted.ids if not any(symbol in entries for entries in lists))
    if missing:
        yield f"ip_shards: {name}: {_some(missing)} in no shard"
    if wanted.patterns and not any(entries.patterns for entries in lists):
        yield f"ip_shards: {name}: {_some(wanted.patterns)} configured, but no shard has a pattern: the symbols would be in none"


def _list_of(content: object) -> list[Any]:
    entries = content.get("shards") if isinstance(content, dict) and set(content) == {"shards"} else None
    if not isinstance(entries, list) or not entries:
        raise ConfigError(["ip_shards: must be `shards:` with a list of {ip, <exchange>_<market>_symbols: […]}"])
    return entries


def _entries(
    entries: list[Any], wanted: Mapping[Market, SymbolList], known: Sequence[Market], check: _Check
) -> Iterator[_Entry]:
    keys = {f"{exchange}_{market}_symbols": (exchange, market) for exchange, market in known}
    addresses: set[str] = set()
    for number, entry in enumerate(entries, start=1):
        name = f"shard {number}"
        if not isinstance(entry, dict):
            check.problems.append(f"ip_shards: {name} is not a mapping")
            continue
        ip = _address(entry.get("ip"), name, check)
        if ip is not None and ip in addresses:
            check.problems.append(f"ip_shards: {name}: ip {ip} is in two shards")
        addresses.add(ip or name)
        symbols = {}
        for key, value in entry.items():
            if key == "ip":
                continue
            if key not in keys:
                check.problems.append(f"ip_shards: {name}: unknown key {key!r}; known: ip, {', '.join(keys)}")
            else:
                symbols[keys[key]] = _symbols(value, keys[key], wanted, f"{name}: {key}", check)
        yield _Entry(ip, symbols)


def _address(value: Any, name: str, check: _Check) -> str | None:
    try:
        return str(ipaddress.ip_address(value if isinstance(value, str) else "none"))
    except ValueError:
        check.problems.append(f"ip_shards: {name}: ip {value!r} is not an IP address")
        return None


def _symbols(value: Any, market: Market, wanted: Mapping[Market, SymbolList], where: str, check: _Check) -> SymbolList:
    if not isinstance(value, list) or not all(isinstance(symbol, str) and symbol for symbol in value):
        check.problems.append(f"ip_shards: {where}: must be a list of symbols")
        return NO_SYMBOLS
    for symbol in value:
        if (market, symbol) in check.seen:
            check.problems.append(f"ip_shards: {where}: {symbol} is already in {check.seen[market, symbol]}")
        check.seen.setdefault((market, symbol), where.partition(":")[0])
    symbols = SymbolList(value)
    if market in wanted:
        unknown = [symbol for symbol in value if symbol in symbols.ids and symbol not in wanted[market]]
        if unknown:
            check.problems.append(f"ip_shards: {where}: {_some(unknown)} not among the configured symbols")
        idle = [pattern for pattern in symbols.patterns if _matches_nothing(pattern, wanted[market])]
        if idle:
            check.problems.append(f"ip_shards: {where}: {_some(idle)} for none of the configured symbols")
    return symbols


def _matches_nothing(pattern: str, wanted: SymbolList) -> bool:
    """Whether no configured symbol can ever match; two patterns may always have one in common."""
    return not wanted.patterns and not any(map(SymbolList([pattern]).matches, wanted.ids))


def _some(symbols: Sequence[str]) -> str:
    shown = ", ".join(symbols[:NAMED_SYMBOLS])
    more = len(symbols) - NAMED_SYMBOLS
    return f"{shown} and {more} more are" if more > 0 else f"{shown} {'is' if len(symbols) == 1 else 'are'}"
