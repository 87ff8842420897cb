"""Two flatteners against one, and two s3writers against one, on the same simulated market of 500 symbols.

Processes join their group on empty topics, are held still (SIGSTOP) while the load is poured in, and are let go at once:
neither a start, nor a rebalance, nor the pouring counts. Set-ups of one and two take turns. Flatteners are measured while
the middle 80 % of the messages pass; s3writers while they take all, and from the end of their flush window to the last
file. Kafka, and what else runs here, need their share of the cores: how busy the machine was and what
a level costs stand beside each rate. Each level must have been flattened and stored once, or nothing is said.

    python -m bench.scaling [--json] [--levels 4000000] [--rounds 3] [--broker auto|docker|embedded]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import statistics
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import psutil

from bench import ours
from bench.running import Service
from bench.stored import look
from bench.work import Filled, Work, fill, work
from cryptoflow.demo_line import CONSUMED, FLATTENED
from services.s3writer.buffer import window_end
from shared import topics
from shared.kafka import Admin, Producer, Record, TopicPartition, read_range

if TYPE_CHECKING:
    from collections.abc import Iterator

    from shared.settings import Settings

LEVELS = 4_000_000  # seconds of work: an s3writer sees the end of its window up to half a second late, which counts
ROUNDS = 3
INTERVAL_SECONDS = 15
SETUPS = (1, 2)
WORK = "market"
STREAM = "scaling"
ASK_SECONDS = 0.1
JOIN_SECONDS = 90.0
RUN_SECONDS = 600.0
MIDDLE = (0.1, 0.9)
LEVELS_FLATTENED = "cryptoflow_flattened_levels_total"
FLUSHES = "cryptoflow_flushes_total"
REBALANCES = "cryptoflow_rebalances_total"
HELD_STILL_MS = "600000"  # longer than pouring takes


class Look(NamedTuple):
    """At one moment: messages flattened so far; CPU seconds of the services; of the machine, busy and in all."""

    at: float
    messages: float
    cpu_seconds: float
    busy_seconds: float
    machine_seconds: float


@dataclass(frozen=True)
class Measured:
    """One run of a stage."""

    levels: float
    seconds: float
    cpu_seconds: float
    machine_busy: float  # share of all cores, whoever used them

    def figures(self) -> dict[str, float]:
        return {
            "levels_per_second": self.levels / self.seconds,
            "cpu_ns_per_level": self.cpu_seconds / self.levels * 1e9,
            "cores_used": self.cpu_seconds / self.seconds,
            "machine_busy": self.machine_busy,
        }


@dataclass
class Bench:
    """The load, and each stage over it."""

    place: ours.Place
    work: Work
    levels: int
    interval_seconds: int
    numbers: Iterator[int] = field(default_factory=count)
    filled: Filled | None = None
    norm: list[Record] = field(default_factory=list)  # what flatteners made of the load
    fingerprints: set[int | None] = field(default_factory=set)

    def flattener(self, number: int) -> Measured:
        """So many of them over the messages."""
        with self._group("flattener", number) as (services, settings):
            filled = self.filled = asyncio.run(fill(settings, self.work, self.levels))
            looks = [_let_go(services)]
            while looks[-1].messages < filled.messages:
                self.place.children.check()
                if looks[-1].at > looks[0].at + RUN_SECONDS:
                    raise SystemExit(f"{number} flatteners: not within {RUN_SECONDS:g} s")
                time.sleep(ASK_SECONDS)
                looks.append(_look(services, _sum(services, FLATTENED)))
            flattened = _sum(services, LEVELS_FLATTENED)
        if (looks[-1].messages, flattened) != (filled.messages, filled.levels):
            raise SystemExit(f"{flattened:g} of {filled.levels} levels were flattened: nothing was measured")
        self.norm = self.norm or asyncio.run(_read(settings))
        return _middle(looks, filled)

    def s3writer(self, number: int) -> Measured:
        """So many of them over what one run of flatteners made."""
        assert self.filled is not None
        partitions = len({record.partition for record in self.norm})
        with self._group("s3writer", number) as (services, settings):
            asyncio.run(_publish(settings, self.norm))
            interval = settings.writer.buffer.delta_flush_interval
            time.sleep(window_end(time.time(), interval) - time.time())  # a whole window to take all in
            ended_at = window_end(time.time(), interval)
            looks = [_let_go(services)]
            services[0].wait("and others to take all", lambda: _sum(services, CONSUMED) >= len(self.norm), interval)
            looks.append(_look(services, 0))
            time.sleep(max(0.0, ended_at - time.time()))
            looks.append(_look(services, 0))
            services[0].wait(
                "and others to flush", lambda: _sum(services, FLUSHES, trigger="interval") >= partitions, RUN_SECONDS
            )
            looks.append(_look(services, 0))
        lake = self.place.folder / settings.storage.local.path
        stored = look(lake)
        self.fingerprints.add(stored.fingerprint)
        if stored.levels != self.filled.levels or len(self.fingerprints) != 1:
            raise SystemExit(f"{stored.levels} of {self.filled.levels} levels were stored, or others")
        last_at = max(path.stat().st_ctime for path in lake.rglob("*.parquet"))
        taking, flushing = (np.subtract(looks[at + 1], looks[at]) for at in (0, 2))
        both = Look(*(taking + flushing).tolist())
        seconds = taking[0] + last_at - ended_at
        return Measured(stored.levels, seconds, both.cpu_seconds, both.busy_seconds / both.machine_seconds)

    @contextmanager
    def _group(self, service: str, number: int) -> Iterator[tuple[list[Service], Settings]]:
        """So many processes of it that hold all partitions of empty topics, held still; afterwards they are gone."""
        name = f"run_{next(self.numbers)}"
        chosen = ours.variables(self.place.bootstrap, name, self.place.folder / name) | {
            "CRYPTOFLOW_CRYPTOFLOW__NAME": name,  # a group of its own
            "CRYPTOFLOW_KAFKA__STREAM": STREAM,
            "CRYPTOFLOW_WRITER__BUFFER__DELTA_FLUSH_INTERVAL": f"{self.interval_seconds}s",
            "CRYPTOFLOW_KAFKA__SESSION_TIMEOUT_MS": HELD_STILL_MS,
            "CRYPTOFLOW_KAFKA__REQUEST_TIMEOUT_MS": HELD_STILL_MS,
            "CRYPTOFLOW_KAFKA__MAX_POLL_INTERVAL_MS": HELD_STILL_MS,
        }
        settings = ours.settings_of(chosen, self.place.folder)
        asyncio.run(topics.create(settings))
        channels = settings.channels
        wanted = channels.raw_fobs.partitions + channels.raw_fobd.partitions
        services = [Service(self.place, service, chosen, name=f"{service}-{each}") for each in range(number)]

        def joined() -> bool:
            held = [each.assigned() for each in services]
            return all(held) and sum(held) == wanted and all(each.ready() for each in services)

        services[0].wait(f"and {number - 1} others to join", joined, JOIN_SECONDS)
        given = _sum(services, REBALANCES)
        for each in services:
            each.child.process.send_signal(signal.SIGSTOP)
        yield services, settings
        if _sum(services, REBALANCES) != given:
            raise SystemExit("the group rebalanced: nothing was measured")
        for each in services:
            each.ask_to_stop()
        for each in services:
            each.ended()


def _sum(services: list[Service], metric: str, **labels: str) -> float:
    return sum(each.sum(metric, **labels) for each in services)


def _let_go(services: list[Service]) -> Look:
    """All at once."""
    found = _look(services, 0)
    for each in services:
        each.child.process.send_signal(signal.SIGCONT)
    return found


def _look(services: list[Service], messages: float) -> Look:
    times = psutil.cpu_times()
    idle = times.idle + getattr(times, "iowait", 0.0)
    in_all = (
        sum(times) - getattr(times, "guest", 0.0) - getattr(times, "guest_nice", 0.0)
    )  # they stand in user time too
    spent = sum(each.cpu_seconds() for each in services)
    return Look(time.monotonic(), messages, spent, in_all - idle, in_all)


def _middle(looks: list[Look], filled: Filled) -> Measured:
    """Between two shares of the messages, looks in between taken as evenly spread."""
    at, messages, cpu, busy, machine = (np.array(column) for column in zip(*looks, strict=True))
    shares = [share * filled.messages for share in MIDDLE]
    seconds, cpu_seconds, busy_seconds, machine_seconds = (
        float(np.diff(np.interp(shares, messages, values))[0]) for values in (at, cpu, busy, machine)
    )
    levels = (MIDDLE[1] - MIDDLE[0]) * filled.levels
    return Measured(levels, seconds, cpu_seconds, busy_seconds / machine_seconds)


async def _read(settings: Settings) -> list[Record]:
    """The norm topic as it is."""
    channel = settings.channels.norm_fobd
    partitions = [TopicPartition(channel.topic, number) for number in range(channel.partitions)]
    async with Admin(settings.kafka, client_id="bench") as admin:
        ends = await admin.end_offsets(partitions)
    return [
        record
        for tp, end in ends.items()
        async for record in read_range(settings.kafka, tp, 0, end - 1, client_id="bench")
    ]


async def _publish(settings: Settings, records: list[Record]) -> None:
    """As they were, into another norm topic."""
    producer = Producer(settings.kafka, client_id="bench", compression="none")
    await producer.start()
    for record in records:
        await producer.send(
            settings.channels.norm_fobd.topic, record.value, partition=record.partition, headers=record.headers
        )
    await producer.stop(60)


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    with ours.place(arguments.broker) as place:
        bench = Bench(place, work(WORK), arguments.levels, arguments.interval)
        found: dict[str, dict[int, list[Measured]]] = {"flattener": {}, "s3writer": {}}
        for _ in range(arguments.rounds):
            for stage, measure in (("flattener", bench.flattener), ("s3writer", bench.s3writer)):
                for number in SETUPS:
                    found[stage].setdefault(number, []).append(measure(number))
                    _say(stage, number, found[stage][number][-1])
    assert bench.filled is not None
    return {
        "benchmark": "scaling",
        "broker": place.broker,
        "work": bench.work.source,
        "messages": bench.filled.messages,
        "levels": bench.filled.levels,
        "rounds": arguments.rounds,
        **{stage: _figures(of_stage) for stage, of_stage in found.items()},
    }


def _figures(runs: dict[int, list[Measured]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for number, measured in runs.items():
        figures = [each.figures() for each in measured]
        found[f"of_{number}"] = {name: _short(statistics.median(each[name] for each in figures)) for name in figures[0]}
        rates = [each["levels_per_second"] for each in figures]
        found[f"of_{number}"] |= {"lowest_levels_per_second": round(min(rates))}
        found[f"of_{number}"] |= {"highest_levels_per_second": round(max(rates))}
    one, two = (found[f"of_{number}"] for number in SETUPS)
    return {
        "two_over_one": round(two["levels_per_second"] / one["levels_per_second"], 2),
        "cpu_per_level_two_over_one": round(two["cpu_ns_per_level"] / one["cpu_ns_per_level"], 2),
    } | found


def _short(value: float) -> float:
    return round(value) if value > 100 else round(value, 2)


def _say(stage: str, number: int, measured: Measured) -> None:
    figures = ", ".join(f"{name} {_short(value):,}" for name, value in measured.figures().items())
    sys.stderr.write(f"{number} x {stage}: {figures}\n")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.scaling", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")
    parser.add_argument("--levels", type=int, default=LEVELS, help="of the load (default: %(default)s)")
    parser.add_argument(
        "--interval", type=int, default=INTERVAL_SECONDS, help="s3writers take all in it (default: %(default)s s)"
    )
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="of one and two in turn (default: %(default)s)")
    parser.add_argument("--broker", choices=ours.BROKERS, default="auto", help=ours.BROKER_HELP)
    arguments = parser.parse_args()
    found = run(arguments)
    print(json.dumps(found) if arguments.json else json.dumps(found, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
