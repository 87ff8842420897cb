"""The command line, and the exchange it describes."""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from simulator.book import IDS_PER_MS
from simulator.capture import CaptureMarket
from simulator.capture_files import captured_markets
from simulator.clock import EventClock
from simulator.exchange import Exchange, synthetic
from simulator.fault_kinds import KINDS
from simulator.faults import Faults, Rule
from simulator.firehose import FirehoseMarket
from simulator.frame_faults import FRAME_KINDS
from simulator.markets import WEIGHT_LIMITS
from simulator.stream_limits import MAX_AGE_SECONDS, StreamLimits
from simulator.weights import Weights

if TYPE_CHECKING:
    from simulator.markets import MarketName

FIXED_START_MS = 1_767_225_600_000  # 2026-01-01T00:00:00Z: where a stepped clock begins
MAX_PORT = 65535


def parser() -> argparse.ArgumentParser:
    """Every option with its default."""
    made = argparse.ArgumentParser(
        prog="python -m simulator",
        description="An exchange that speaks Binance's REST and websocket streams for USDⓈ-M futures, COIN-M futures and "
        "spot on one port. "
        "Prints one JSON line with its port when it listens; ends on SIGTERM or SIGINT.",
        epilog="Control API under /_sim/: faults (GET lists the kinds), truth, counters, symbols, listings, book, clock, "
        "step, speed, weights, flush, health.",
    )
    listen = made.add_argument_group("where it listens")
    listen.add_argument("--host", default="127.0.0.1", help="address (default: %(default)s)")
    listen.add_argument("--port", type=_port, default=0, help="0 takes a free one (default: %(default)s)")
    books = made.add_argument_group("books")
    books.add_argument("--seed", type=int, default=1, help="same seed, same books (default: %(default)s)")
    books.add_argument(
        "--symbols-per-market", type=_listings, default=40, metavar="N", help="listings (default: %(default)s)"
    )
    books.add_argument(
        "--speed", type=_share, default=1.0, metavar="F", help="event time per real time; 0: stepped (default: 1)"
    )
    books.add_argument(
        "--start-ms", type=_whole, metavar="MS", help="event time at start (default: now; with --speed 0 fixed)"
    )
    books.add_argument(
        "--captures",
        type=Path,
        action="append",
        default=[],
        metavar="DIR",
        help="play a recorded session in the place of its market's books; may be repeated",
    )
    books.add_argument("--hold", action="store_true", help="of a capture serve the recorded bodies for ever")
    books.add_argument(
        "--await-subscriptions",
        action="store_true",
        help="a capture begins when all its symbols are subscribed to (default: with the first SUBSCRIBE or request)",
    )
    books.add_argument(
        "--firehose",
        type=_share,
        metavar="FRAMES_PER_SECOND",
        help="send a capture's frames again and again at this rate, ids rewritten to chain; books do not follow",
    )
    limits = made.add_argument_group("request limits, per minute and source address")
    limits.add_argument(
        "--futures-weight-limit",
        type=_whole,
        default=WEIGHT_LIMITS["binance-futures"],
        metavar="N",
        help="USDⓈ-M and COIN-M together (default: %(default)s)",
    )
    limits.add_argument(
        "--spot-weight-limit",
        type=_whole,
        default=WEIGHT_LIMITS["binance-spot"],
        metavar="N",
        help="spot (default: %(default)s)",
    )
    limits.add_argument(
        "--ban-after", type=_whole, default=5, metavar="N", help="429s in a minute before the ban (default: 5)"
    )
    limits.add_argument(
        "--ban-scale",
        type=_share,
        default=1.0,
        metavar="F",
        help="factor on ban times of 2 minutes and up (default: 1)",
    )
    _add_stream_limits(made)
    faults = made.add_argument_group("faults and truth")
    faults.add_argument("--faults", type=Path, metavar="FILE", help="a JSON list of rules in force from the start")
    faults.add_argument("--truth", type=Path, metavar="FILE", help="log every response as a JSON line; overwritten")
    faults.add_argument("--truth-bodies", type=Path, metavar="DIR", help="keep every distinct body by its SHA-256")
    faults.add_argument(
        "--truth-frames",
        type=Path,
        metavar="FILE",
        help="log every event and its fate at every connection; overwritten",
    )
    return made


def _add_stream_limits(made: argparse.ArgumentParser) -> None:
    limits = made.add_argument_group("limits of websocket connections")
    limits.add_argument(
        "--messages-per-second", type=_whole, metavar="N", help="from a client (default: futures 10, spot 5)"
    )
    limits.add_argument("--max-streams", type=_whole, default=1024, metavar="N", help="of one (default: %(default)s)")
    limits.add_argument(
        "--max-connection-age",
        type=_share,
        default=MAX_AGE_SECONDS,
        metavar="SECONDS",
        help="then it is closed; 0: never (default: %(default)g)",
    )
    limits.add_argument(
        "--ping-seconds",
        type=_share,
        metavar="SECONDS",
        help="between pings; what may pass without a pong scales with it (default: futures 180, spot 20)",
    )
    limits.add_argument(
        "--connects-per-five-minutes",
        type=_whole,
        default=300,
        metavar="N",
        help="attempts of a source address in a market, 429 beyond (default: %(default)s)",
    )
    limits.add_argument(
        "--slow-consumer-bytes",
        type=_whole,
        default=32 * 1024 * 1024,
        metavar="N",
        help="unsent for more than a second: cut off; 0: never (default: %(default)s)",
    )


def build_stream_limits(arguments: argparse.Namespace) -> StreamLimits:
    """The limits of connections as asked for. Raises `ValueError` for pings without a pause."""
    if arguments.ping_seconds == 0:
        raise ValueError("--ping-seconds 0 would ping without a pause")
    return StreamLimits(
        messages_per_second=arguments.messages_per_second,
        ping_seconds=arguments.ping_seconds,
        max_streams=arguments.max_streams,
        max_age_seconds=arguments.max_connection_age,
        connects_per_five_minutes=arguments.connects_per_five_minutes,
        slow_consumer_bytes=arguments.slow_consumer_bytes,
    )


def build_exchange(arguments: argparse.Namespace) -> Exchange:
    """The markets as asked for. Raises `ValueError` where a capture is none."""
    start_ms = arguments.start_ms
    if start_ms is None:
        start_ms = FIXED_START_MS if arguments.speed == 0 else time.time_ns() // 1_000_000
    weights = Weights(
        {"binance-futures": arguments.futures_weight_limit, "binance-spot": arguments.spot_weight_limit},
        ban_after=arguments.ban_after,
        ban_scale=arguments.ban_scale,
    )
    clock = EventClock(start_ms, arguments.speed)
    sources = synthetic(clock, seed=arguments.seed, symbols=arguments.symbols_per_market)
    folders: dict[MarketName, list[Path]] = {}
    for folder in arguments.captures:
        markets = captured_markets(folder)
        if not markets:
            raise ValueError(f"{folder} holds no Binance depth answer")
        for market in markets:
            folders.setdefault(market, []).append(folder)
    for market, of_market in folders.items():
        if arguments.firehose:
            sources[market] = FirehoseMarket(market, clock, of_market, per_second=arguments.firehose)
        else:
            sources[market] = CaptureMarket(
                market, clock, of_market, hold=arguments.hold, await_all=arguments.await_subscriptions
            )
    return Exchange(sources, weights)


def build_faults(arguments: argparse.Namespace) -> Faults:
    """The rules of ``--faults``. Raises `ValueError` where the file is wrong."""
    faults = Faults(KINDS, arguments.seed, FRAME_KINDS)
    if arguments.faults is not None:
        try:
            rules = msgspec.json.decode(arguments.faults.read_bytes(), type=list[Rule])
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise ValueError(f"{arguments.faults}: {error}") from error
        for rule in rules:
            faults.add(rule)
    return faults


def _port(text: str) -> int:
    number = _whole(text)
    if number > MAX_PORT:
        raise argparse.ArgumentTypeError(f"{number} is above {MAX_PORT}")
    return number


def _listings(text: str) -> int:
    number = _whole(text)
    if not 0 < number < IDS_PER_MS:
        raise argparse.ArgumentTypeError(f"{number} is not from 1 to {IDS_PER_MS - 1}")
    return number


def _whole(text: str) -> int:
    try:
        number = int(text)
    except ValueError:
        number = -1
    if number < 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 0 up")
    return number


def _share(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not 0 <= number < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 0 up")
    return number
