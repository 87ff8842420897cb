"""Where one norm record ends and the next begins: only between raw messages, so that ranges of raw offsets tile.

Pure: the time is an argument, in seconds of any monotonic clock. It never reorders, never splits a message, and never
leaves an offset out: what Kafka does not show (compacted, control records) belongs to the range of the next message.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from services.flattener.message import Message

MOST_MESSAGES = 2**15 - 1  # each may be of another book, and a book is an int16 in the record's dictionary


@dataclass(frozen=True, slots=True)
class Cut:
    """What one norm record covers: raw offsets `first` to `last`, both included. No messages: they are lost."""

    first: int
    last: int
    messages: tuple[Message, ...]

    @property
    def lost(self) -> bool:
        """Whether Kafka no longer had these offsets."""
        return not self.messages

    def halves(self) -> tuple[Cut, Cut]:
        """The same range as two cuts. Needs two messages at least."""
        middle = len(self.messages) // 2
        head, tail = self.messages[:middle], self.messages[middle:]
        boundary = head[-1].record.offset
        return Cut(self.first, boundary, head), Cut(boundary + 1, self.last, tail)


class Cutter:
    """Collects the messages of one raw partition from `position` on, and cuts them.

    A cut has at most `max_rows` rows (one message may have more), and is due when it is full, when its first message has
    waited `max_wait_seconds`, when offsets after it are lost, or when it is asked for.
    """

    def __init__(self, position: int, *, max_rows: int, max_wait_seconds: float) -> None:
        self._first = position
        self._max_rows = max_rows
        self._max_wait_seconds = max_wait_seconds
        self._messages: deque[Message] = deque()
        self._rows = 0
        self._oldest_seconds = 0.0
        self._lost_before: int | None = None

    @property
    def wants_more(self) -> bool:
        """Whether another message may still go into the next cut."""
        return self._rows < self._max_rows and len(self._messages) < MOST_MESSAGES and self._lost_before is None

    def add(self, message: Message, now_seconds: float) -> None:
        """The next message; only while `wants_more`. Its offset must be above all before."""
        assert self.wants_more
        if not self._messages:
            self._oldest_seconds = now_seconds
        self._messages.append(message)
        self._rows += message.rows

    def lose(self, beginning: int) -> None:
        """Kafka has nothing before offset `beginning`, which is above all that was added; only while `wants_more`."""
        self._lost_before = beginning

    def take(self, now_seconds: float, *, at_once: bool = False) -> Cut | None:
        """The next cut if it is due, or, if `at_once`, if there is anything to cut."""
        if not self._messages:
            return self._take_lost()
        if not at_once and self.wants_more and self.due_in_seconds(now_seconds) > 0:
            return None
        taken: list[Message] = []
        rows = 0
        while self._messages and (not taken or rows + self._messages[0].rows <= self._max_rows):
            message = self._messages.popleft()
            taken.append(message)
            rows += message.rows
        self._rows -= rows
        return self._cut(taken[-1].record.offset, tuple(taken))

    def due_in_seconds(self, now_seconds: float) -> float:
        """How long until `take` gives a cut without another message; infinite where there is none. Never negative."""
        if not self._messages:
            return 0.0 if self._lost_before is not None else float("inf")
        return max(0.0, self._oldest_seconds + self._max_wait_seconds - now_seconds) if self.wants_more else 0.0

    def _take_lost(self) -> Cut | None:
        if self._lost_before is None:
            return None
        last, self._lost_before = self._lost_before - 1, None
        return self._cut(last, ())

    def _cut(self, last: int, messages: tuple[Message, ...]) -> Cut:
        cut = Cut(self._first, last, messages)
        self._first = last + 1
        return cut
