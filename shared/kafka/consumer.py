"""A member of a consumer group that always knows where it stands.

Positions are what the caller was handed, not what was fetched ahead. A partition is served only after `on_assigned` has
finished, from where the caller sought it, or else from `start_position`. Offsets are committed only when told, as the
member that the caller was (`Epoch`). Kafka being down raises nothing here: it is logged once and waited out. A fetch
that is not called for `max_poll_interval_ms` loses the partitions: pause, but keep fetching.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor
from aiokafka.errors import KafkaError, NoOffsetForPartitionError, OffsetOutOfRangeError

from shared.errors import RetryableError
from shared.kafka import reader
from shared.kafka.commit import Epoch, commit
from shared.kafka.connection import (
    FETCH_OPTIONS,
    Outage,
    client_options,
    start_patiently,
)
from shared.kafka.errors import OwnershipLost, from_kafka, in_words, is_passing, lost_or_retry
from shared.kafka.membership import Listener, stop_hard
from shared.kafka.places import Place, Places
from shared.kafka.silence import Silence
from shared.log import get_logger
from shared.metrics import REBALANCES

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping

    from shared.kafka.connection import Record
    from shared.kafka.places import Lag
    from shared.settings import KafkaSettings

UNANSWERED_SECONDS = 10.0  # beyond the timeout of a fetch: aiokafka waits for a rebalance without one

_log = get_logger(__name__)


class Consumer:
    """Reads `topics` as one member of `group`. Both callbacks run inside the rebalance, which waits for them.

    `on_revoked` gets all that was held, `on_assigned` all that is held now: none, where members outnumber partitions.

    An error in a callback comes out of the next `fetch`. Keep `on_assigned` well below ``session_timeout_ms``: aiokafka
    sends no heartbeat while it runs. It does while `on_revoked` runs, which has ``rebalance_timeout_ms``.
    """

    def __init__(
        self,
        settings: KafkaSettings,
        *,
        client_id: str,
        group: str,
        topics: Iterable[str],
        on_assigned: Callable[[set[TopicPartition]], Awaitable[None]],
        on_revoked: Callable[[set[TopicPartition]], Awaitable[None]],
    ) -> None:
        self._settings = settings
        self._client_id = client_id
        self._group = group
        self._topics = tuple(topics)
        self._on_assigned = on_assigned
        self._on_revoked = on_revoked
        self._options = client_options(settings, client_id)
        self._client: AIOKafkaConsumer | None = None
        self._outage = Outage(client_id)
        self._rebalances = REBALANCES.labels(group)
        self._places = Places()
        # Not aiokafka's own pause: that throws away what is fetched ahead, which is fetched again after `resume`, and
        # leaves megabytes in a reference cycle until the garbage collector comes.
        self._paused: set[TopicPartition] = set()
        self._serving = asyncio.Event()
        self._assignments = 0  # a fetch that a rebalance overtakes is told by it
        self._callback_error: BaseException | None = None
        self._pending_error: Exception | None = None
        self._silence = Silence(self._outage)
        self._log = _log.bind(client_id=client_id, group=group)

    async def start(self) -> None:
        """Joins the group; waits for Kafka for ever. Returns once assigned; `on_assigned` may still be running."""
        self._client = await start_patiently(self._make, stop_hard, self._options, self._outage)

    async def stop(self, timeout_seconds: float = 10.0) -> None:
        """Leaves the group, whatever state Kafka is in. Calls no callback: commit and drain before."""
        client, self._client = self._client, None
        self._outage.leave()
        self._serving.clear()
        self._places.clear()
        if client is None:
            return
        try:
            async with asyncio.timeout(timeout_seconds):
                if client._coordinator is not None:  # noqa: SLF001
                    await client._coordinator.close()  # noqa: SLF001  # leaves the group
        except (KafkaError, TimeoutError) as error:
            self._log.warning("kafka group not left", reason=in_words(error))
        finally:
            await stop_hard(client)

    async def fetch(
        self, timeout_seconds: float, most_records: Mapping[str, int] | None = None
    ) -> dict[TopicPartition, list[Record]]:
        """Records in offset order; empty after `timeout_seconds` without any, while rebalancing or while Kafka is down.

        `most_records` by topic: of one partition at a time; without it all that was fetched ahead.
        Raises `OffsetsLost` (seek on, then fetch again), `FatalError`, and what a callback raised.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_seconds
        self._raise_callback_error()
        if self._pending_error is not None:
            error, self._pending_error = self._pending_error, None
            await self._handle(error)
        with suppress(TimeoutError):
            async with asyncio.timeout_at(deadline):
                await self._serving.wait()
        self._raise_callback_error()
        if not self._serving.is_set():
            return {}
        client, assignments = self._connected(), self._assignments
        try:
            taken: dict[TopicPartition, list[Any]] = {}
            if most_records is not None:
                # aiokafka's limit is for all partitions together: what is at hand, one by one.
                for tp in [tp for tp in self._waiting() if tp in client._fetcher._records]:  # noqa: SLF001
                    taken |= await self._take(client, (tp,), 0.0, most_records[tp.topic], rest=taken)
            if not taken:
                most = min(most_records.values()) if most_records is not None else None
                taken = await self._take(client, self._waiting(), max(0.0, deadline - loop.time()), most)
        except (KafkaError, TimeoutError) as error:
            await self._handle(error)
            await asyncio.sleep(min(0.1, max(0.0, deadline - loop.time())))
            return {}
        if client is not self._client:
            return {}  # stopped meanwhile
        if not self._serving.is_set():
            return {}  # what was taken is taken again: `_assigned` seeks before it serves
        if assignments != self._assignments:
            self._seek_to_places()
            return {}
        self._silence.watch(client, self._waiting(), handed=bool(taken))
        return self._places.hand_out(taken)

    async def start_position(self, tp: TopicPartition) -> int:
        """Where the group goes on: the committed offset, else the beginning of the log. For use in `on_assigned`."""
        client = self._connected()
        try:
            committed: int | None = await client.committed(tp)
            if committed is not None:
                return committed
            return int((await client.beginning_offsets([tp]))[tp])
        except KafkaError as error:
            raise from_kafka(error, f"start position of {tp.topic}/{tp.partition}") from error

    async def seek(self, tp: TopicPartition, offset: int) -> None:
        """The next record of `tp` handed out is the one at `offset`. Raises `OwnershipLost` if not assigned."""
        try:
            self._connected().seek(tp, offset)
        except KafkaError as error:
            raise OwnershipLost(f"seek in {tp.topic}/{tp.partition}: not assigned") from error
        self._places[tp] = Place.at(offset)

    def position(self, tp: TopicPartition) -> int:
        """The offset after the last record handed out, or where it was sought. Raises `OwnershipLost`."""
        return self._places.of(tp).position

    def assignment(self) -> set[TopicPartition]:
        """The partitions this member may be handed records of; empty during a rebalance."""
        return set(self._places) if self._serving.is_set() else set()

    def pause(self, *tps: TopicPartition) -> None:
        """Hands out nothing of these until `resume`; a rebalance ends it too. Those not assigned are passed over."""
        self._paused.update(tp for tp in tps if tp in self._places)

    def resume(self, *tps: TopicPartition) -> None:
        """Ends `pause`. Those not assigned are passed over."""
        self._paused.difference_update(tps)

    def epoch(self) -> Epoch:
        """Who this member is now. Raises `OwnershipLost` outside the group."""
        coordinator = self._coordinator()
        if coordinator.generation < 0 or not coordinator.member_id:
            raise OwnershipLost("not a member of the group")
        return Epoch(coordinator.generation, coordinator.member_id)

    async def commit(self, offsets: Mapping[TopicPartition, int], epoch: Epoch) -> None:
        """Commits next offsets as the member of `epoch`: one try, at most ``kafka.request_timeout_ms``.

        Raises `OwnershipLost` if the group moved on, here or at the broker; `RetryableError`: it may or may not be in.
        """
        if not offsets:
            return
        if self.epoch() != epoch:
            raise OwnershipLost("the group has rebalanced since")
        for tp in offsets:
            self._places.of(tp)
        await commit(self._coordinator(), offsets, epoch, timeout_seconds=self._settings.request_timeout_ms / 1000)

    def high_watermark(self, tp: TopicPartition) -> int | None:
        """The offset the next produced record will get, as of the latest answer; None before the first."""
        self._places.of(tp)
        watermark: int | None = self._connected().highwater(tp)
        return watermark

    def lag(self, tp: TopicPartition) -> Lag:
        """As of the broker's latest answer; zero before the first one after an assignment."""
        return self._places.of(tp).lag(self.high_watermark(tp))

    def read_range(self, tp: TopicPartition, first: int, last: int) -> AsyncIterator[Record]:
        """Reads [first..last] again, beside this consumer and without moving it. See `shared.kafka.read_range`."""
        return reader.read_range(self._settings, tp, first, last, client_id=f"{self._client_id}-range")

    def _make(self) -> AIOKafkaConsumer:
        client = AIOKafkaConsumer(
            **self._options,
            **FETCH_OPTIONS,
            group_id=self._group,
            session_timeout_ms=self._settings.session_timeout_ms,
            heartbeat_interval_ms=self._settings.heartbeat_interval_ms,
            rebalance_timeout_ms=self._settings.rebalance_timeout_ms,
            max_poll_interval_ms=self._settings.max_poll_interval_ms,
            partition_assignment_strategy=(RoundRobinPartitionAssignor,),
        )
        client.subscribe(list(self._topics), listener=Listener(self._revoked, self._assigned))
        # The callbacks run before start() returns, and use the client.
        self._client = client
        return client

    async def _revoked(self, revoked: set[TopicPartition]) -> None:
        self._serving.clear()
        self._assignments += 1
        try:
            if revoked:
                await self._on_revoked(set(revoked))
        except BaseException as error:
            self._callback_error = error
            raise
        finally:
            self._places.clear()
            self._paused.clear()
            self._pending_error = None

    async def _assigned(self, assigned: set[TopicPartition]) -> None:
        try:
            await self._on_assigned(set(assigned))
            for tp in set(assigned) - set(self._places):
                await self.seek(tp, await self.start_position(tp))
        except BaseException as error:
            self._callback_error = error
            raise
        self._seek_to_places()
        self._rebalances.inc()
        self._log.info("partitions assigned", partitions=sorted(f"{tp.topic}/{tp.partition}" for tp in assigned))
        self._serving.set()

    def _seek_to_places(self) -> None:
        """A fetch that began before a rebalance takes from partitions that are sought already, and may not hand it out."""
        for tp, place in self._places.items():
            self._connected().seek(tp, place.position)

    async def _take(
        self,
        client: AIOKafkaConsumer,
        tps: tuple[TopicPartition, ...],
        timeout_seconds: float,
        limit: int | None,
        *,
        rest: Mapping[TopicPartition, Any] | None = None,
    ) -> dict[TopicPartition, list[Any]]:
        if not tps:  # all are paused; the time counts as a fetch for max_poll_interval_ms
            with client._subscription.fetch_context():  # noqa: SLF001
                await asyncio.sleep(timeout_seconds)
            return {}
        try:
            async with asyncio.timeout(timeout_seconds + UNANSWERED_SECONDS):
                taken: dict[TopicPartition, list[Any]] = await client.getmany(
                    *tps, timeout_ms=round(timeout_seconds * 1000), max_records=limit
                )
        except (KafkaError, TimeoutError) as error:
            # aiokafka counts calls in progress and forgets this one; without it max_poll_interval_ms is never noticed.
            client._subscription._fetch_count = 0  # noqa: SLF001
            if not rest:
                raise
            self._pending_error = error
            return {}
        return taken

    async def _handle(self, error: Exception) -> None:
        """Raises what the caller must know; what passes is logged once per outage."""
        client = self._connected()
        if isinstance(error, NoOffsetForPartitionError) and not self._serving.is_set():
            return  # a partition of the next assignment that nobody sought yet
        try:
            if isinstance(error, OffsetOutOfRangeError):
                await lost_or_retry(client, error)
            elif not is_passing(error):
                raise from_kafka(error, "fetch")
        except (RetryableError, KafkaError, TimeoutError) as unanswered:
            error = unanswered
        self._outage.begin(in_words(error))

    def _waiting(self) -> tuple[TopicPartition, ...]:
        """What may be handed out now: a rebalance can change it during any await."""
        return tuple(tp for tp in self._places if tp not in self._paused)

    def _raise_callback_error(self) -> None:
        error, self._callback_error = self._callback_error, None
        if error is not None:
            raise error

    def _connected(self) -> AIOKafkaConsumer:
        if self._client is None:
            raise OwnershipLost("the consumer is not started, or stopped")
        return self._client

    def _coordinator(self) -> Any:
        return self._connected()._coordinator  # noqa: SLF001  # aiokafka shows its generation nowhere else
