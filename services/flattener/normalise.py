"""From a cut to the values of its norm records: one, or more where one would be too large for Kafka.

What a raw record becomes is decided here and in what this calls, for whoever publishes it and for whoever proves later
that the lake holds it. Pure: no Kafka, no clock.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from services.flattener.flatten import Flattened, encode, flatten_fobd, flatten_fobs
from shared.errors import PoisonMessage
from shared.kafka import MAX_RECORD_BYTES
from shared.venues.levels import LevelParser

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from services.flattener.cut import Cut
    from services.flattener.message import Message
    from shared.messages import Kind

    Flatten = Callable[[Sequence[Message], LevelParser], Flattened]

FLATTEN: dict[Kind, Flatten] = {"fobs": flatten_fobs, "fobd": flatten_fobd}

_HEADROOM_BYTES = 4096  # headers and framing of a record
MOST_VALUE_BYTES = MAX_RECORD_BYTES - _HEADROOM_BYTES


@dataclass(frozen=True, slots=True)
class Piece:
    """What one norm record covers, its rows, and its value."""

    cut: Cut
    flattened: Flattened
    value: bytes


class Normaliser:
    """Makes the norm records of one kind."""

    def __init__(self, kind: Kind, *, most_value_bytes: int = MOST_VALUE_BYTES) -> None:
        self._flatten = FLATTEN[kind]
        self._most_value_bytes = most_value_bytes
        self._parser = LevelParser()

    def pieces(self, cut: Cut) -> Iterator[Piece]:
        """The records of a cut that has messages, in the order of their offsets; each is made when it is asked for."""
        flattened = self._flatten(cut.messages, self._parser)
        value = encode(flattened.batch)
        if len(value) > self._most_value_bytes:
            if len(cut.messages) > 1:
                for half in cut.halves():
                    yield from self.pieces(half)
                return
            poison = PoisonMessage("too_large", f"its norm record has {len(value)} bytes")
            flattened = self._flatten([cut.messages[0].spoilt(poison)], self._parser)
            value = encode(flattened.batch)
        yield Piece(cut, flattened, value)
