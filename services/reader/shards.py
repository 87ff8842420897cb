"""Which symbols are polled from which source address: config/ip_shards.yml against the configured symbols.

    shards:
      - ip: 203.0.113.10
        binance_future_symbols: [BTCUSDT, ETHUSDT]
        binance_spot_symbols: [BTCUSDT]

Every mistake is reported, all at once. Several hosts may share one file: what is not an address of this host is skipped.
No file = one shard on the default route. Never opens a connection.
"""

from __future__ import annotations

import ipaddress
import socket
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import yaml

from shared.errors import ConfigError
from shared.venues import VENUES, venue

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from shared.settings import Settings

Market = tuple[str, str]
"""(exchange, market)"""
NAMED_SYMBOLS = 10


@dataclass(frozen=True, slots=True)
class Shard:
    """A source address (None = the default route) and the symbols polled from it."""

    ip: str | None
    symbols: Mapping[Market, tuple[str, ...]]


@dataclass(slots=True)
class _Check:
    problems: list[str] = field(default_factory=list)
    seen: dict[tuple[Market, str], str] = field(default_factory=dict)  # symbol → its shard


def is_local(ip: str) -> bool:
    """Whether this host has the address: a socket can be bound to it."""
    family = socket.AF_INET6 if ":" in ip else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        try:
            probe.bind((ip, 0))
        except OSError:
            return False
    return True


def plan(settings: Settings, local: Callable[[str], bool] = is_local) -> list[Shard]:
    """The shards this process runs. Raises `ConfigError` with every problem: the file, the symbols, the limits.

    With `local` always true it is the plan of all hosts that share the file.
    """
    configured = {
        (exchange, market): found.orderbook.snapshots.symbols for exchange, market, found in settings.source.snapshots()
    }
    problems = [
        f"source.{exchange}.{market}.orderbook.snapshots.limit: {problem}"
        for exchange, market, found in settings.source.snapshots()
        if (problem := venue(exchange, market).check_limit(found.orderbook.snapshots.limit))
    ]
    if not configured:
        problems.append("source: no market has snapshots enabled: the reader has nothing to do")
    reader = settings.reader
    try:
        content = None if reader.ip_shards_file is None else read_shards(reader.ip_shards_file)
        shards = plan_shards(content, configured, list(VENUES), shard_ip=reader.shard_ip, local=local)
    except ConfigError as error:
        raise ConfigError([*problems, *error.problems]) from None
    if problems:
        raise ConfigError(problems)
    return shards


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
    configured: Mapping[Market, Sequence[str]],
    known_markets: Sequence[Market],
    *,
    shard_ip: str | None = None,
    local: Callable[[str], bool] = is_local,
) -> list[Shard]:
    """The shards this process runs. Raises `ConfigError` with every problem.

    `content` is the file's YAML, None = no file. `configured` are the symbols of the enabled markets; symbols of known
    markets that are not enabled may stand in the file and are left out.
    """
    if content is None:
        if shard_ip is not None:
            raise ConfigError([f"reader.shard_ip is {shard_ip}, but there is no reader.ip_shards_file"])
        return [Shard(None, {market: tuple(symbols) for market, symbols in configured.items()})]
    check = _Check()
    shards = list(_shards(_entries(content), configured, known_markets, check))
    for market, symbols in configured.items():
        missing = [symbol for symbol in symbols if (market, symbol) not in check.seen]
        if missing:
            check.problems.append(f"ip_shards: {'/'.join(market)}: {_some(missing)} in no shard")
    addresses = [str(shard.ip) for shard in shards]
    mine = [shard for shard in shards if shard.ip and shard_ip in {None, shard.ip} and local(shard.ip)]
    if not check.problems and not mine:
        if shard_ip is not None and shard_ip not in addresses:
            check.problems.append(f"ip_shards: reader.shard_ip {shard_ip} is none of {', '.join(addresses)}")
        else:
            wanted = shard_ip or ", ".join(addresses)
            check.problems.append(f"ip_shards: no address of this host is in the file: {wanted}")
    if check.problems:
        raise ConfigError(check.problems)
    return mine


def _entries(content: object) -> list[Any]:
    entries = content.get("shards") if isinstance(content, dict) and set(content) == {"shards"} else None
    if not isinstance(entries, list) or not entries:
        raise ConfigError(["ip_shards: must be `shards:` with a list of {ip, <exchange>_<market>_symbols: […]}"])
    return entries


def _shards(
    entries: list[Any], configured: Mapping[Market, Sequence[str]], known: Sequence[Market], check: _Check
) -> Iterator[Shard]:
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
                symbols[keys[key]] = _symbols(value, keys[key], configured, f"{name}: {key}", check)
        polled = {market: chosen for market, chosen in symbols.items() if market in configured and chosen}
        if ip is not None and polled:
            yield Shard(ip, polled)


def _address(value: Any, name: str, check: _Check) -> str | None:
    try:
        return str(ipaddress.ip_address(value if isinstance(value, str) else "none"))
    except ValueError:
        check.problems.append(f"ip_shards: {name}: ip {value!r} is not an IP address")
        return None


def _symbols(
    value: Any, market: Market, configured: Mapping[Market, Sequence[str]], where: str, check: _Check
) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(symbol, str) for symbol in value):
        check.problems.append(f"ip_shards: {where}: must be a list of symbols")
        return ()
    for symbol in value:
        if (market, symbol) in check.seen:
            check.problems.append(f"ip_shards: {where}: {symbol} is already in {check.seen[market, symbol]}")
        check.seen.setdefault((market, symbol), where.partition(":")[0])
    unknown = [symbol for symbol in value if market in configured and symbol not in configured[market]]
    if unknown:
        check.problems.append(f"ip_shards: {where}: {_some(unknown)} not among the configured symbols")
    return tuple(value)


def _some(symbols: Sequence[str]) -> str:
    shown = ", ".join(symbols[:NAMED_SYMBOLS])
    more = len(symbols) - NAMED_SYMBOLS
    return f"{shown} and {more} more are" if more > 0 else f"{shown} {'is' if len(symbols) == 1 else 'are'}"
