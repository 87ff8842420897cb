"""Instants as people and machines write them, to nanoseconds since the epoch and back. Pure; reads no clock."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

from shared.messages import INT64_MAX

Instant = int | str | datetime
"""ns since the epoch; ISO 8601 with a zone, or ns, us or ms since the epoch as digits; or an aware `datetime`."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SECOND_NS = 1_000_000_000
_NS_DIGITS = 9
_NS_OF_DIGITS = {19: 1, 16: 1_000, 13: 1_000_000}
_FRACTION = re.compile(r"(?P<seconds>.*\d:\d\d:\d\d)[.,](?P<fraction>\d+)(?P<zone>\D.*|)")


def instant_ns(value: Instant) -> int:
    """Nanoseconds since the epoch. Raises `ValueError`, in words, for what is no instant, or one of no known zone.

    Text is read to the nanosecond. An `int` is always nanoseconds; digits in a text are told by how many they are.
    """
    if isinstance(value, datetime):
        ns = _of_datetime(value, str(value))
    elif isinstance(value, int):
        ns = value
    elif value.strip().isdecimal():
        ns = _of_digits(value.strip())
    else:
        ns = _of_text(value.strip())
    if not 0 <= ns <= INT64_MAX:
        raise ValueError(f"{value} is not between 1970 and 2262")
    return ns


def instant_text(ns: int) -> str:
    """ISO 8601 in UTC with as many digits as it takes: ``2026-09-21T14:13:20Z``, ``2026-09-21T14:13:20.000000007Z``."""
    seconds, fraction = divmod(ns, _SECOND_NS)
    text = f"{_EPOCH + timedelta(seconds=seconds):%Y-%m-%dT%H:%M:%S}"
    if fraction:
        digits = f"{fraction:09}"
        text += "." + (digits if fraction % 1000 else digits[:6] if fraction % 1_000_000 else digits[:3])
    return text + "Z"


def _of_digits(text: str) -> int:
    factor = _NS_OF_DIGITS.get(len(text))
    if factor is None:
        raise ValueError(
            f"{text} has {len(text)} digits: an instant in digits is ms (13), us (16) or ns (19) since the epoch"
        )
    return int(text) * factor


def _of_text(text: str) -> int:
    # `datetime` holds microseconds only, and drops further digits without a word.
    match = _FRACTION.fullmatch(text)
    whole, fraction = (match["seconds"] + match["zone"], match["fraction"]) if match else (text, "")
    if len(fraction) > _NS_DIGITS:
        raise ValueError(f"{text!r} is finer than nanoseconds")
    try:
        time = datetime.fromisoformat(whole)
    except ValueError as error:
        raise ValueError(f"{text!r} is no instant: write 2026-11-25T10:00:00Z, or ns since the epoch") from error
    return _of_datetime(time, text) + int(fraction.ljust(_NS_DIGITS, "0"))


def _of_datetime(time: datetime, text: str) -> int:
    if time.utcoffset() is None:
        raise ValueError(f"{text!r} names no zone: end it with Z for UTC, or with an offset like +02:00")
    return (time - _EPOCH) // timedelta(microseconds=1) * 1000
