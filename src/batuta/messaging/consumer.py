"""A durable consumer of a stream: messages are acknowledged once their work is recorded.

Delivery is at least once. A message is acknowledged after its handler has returned, so a crash
between the two makes NATS deliver it again: handlers must recognise a repeat.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final, Generic, TypeAlias, TypeVar

import nats.errors
import nats.js.errors
from nats.aio.msg import Msg
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy

from batuta.messaging import subjects
from batuta.messaging.bus import RECONNECT_WAIT_S, Bus, MessagingError
from batuta.messaging.events import MalformedEventError

LOG: Final = logging.getLogger(__name__)

ACK_WAIT_S: Final = 10.0
"""A message not acknowledged by then is redelivered: its consumer is dead or stuck."""
MAX_BATCH: Final = 512
MAX_UNACKNOWLEDGED: Final = 8 * MAX_BATCH
"""Bounds the messages queued here: the server sends no more until some are acknowledged."""
INACTIVE_THRESHOLD_S: Final = 30 * 86_400
"""The server removes a consumer that has had no subscriber for so long."""

T = TypeVar("T")


@dataclass(frozen=True)
class Delivery(Generic[T]):
    """A decoded message.

    Attributes
    ----------
    event
        What was decoded.
    subject : str
        Its subject.
    sequence : int
        Its number in its stream.
    stored : float
        When NATS stored it, in seconds since 1970.
    """

    event: T
    subject: str
    sequence: int
    stored: float


@dataclass(frozen=True)
class Rejection(Generic[T]):
    """A message that its handler refuses: it becomes a dead letter, with the reason."""

    delivery: Delivery[T]
    reason: str


Handler: TypeAlias = Callable[[Sequence[Delivery[T]]], Awaitable[Sequence[Rejection[T]]]]
"""Handles messages, and returns those that it refuses."""


@dataclass(frozen=True, kw_only=True)
class ConsumerSpec(Generic[T]):
    """What a consumer reads.

    Parameters
    ----------
    stream, subject : str
        The stream and the subjects in it.
    durable : str
        The consumer's name: a process that opens it again continues where it stopped, and
        several processes that open it share the messages.
    decode : callable
        Decodes a payload, or raises `MalformedEventError`.
    from_start : bool
        Whether a new consumer receives all messages of the stream, or only later ones.
    ack_wait_s : float
        How long after its delivery an unacknowledged message is redelivered, in seconds.
    """

    stream: str
    subject: str
    durable: str
    decode: Callable[[bytes], T]
    from_start: bool = True
    ack_wait_s: float = ACK_WAIT_S


class Consumer(Generic[T]):
    """Delivers the messages of one stream to a handler, in batches, in order.

    The handler receives all messages that arrived since it was last called, at most `MAX_BATCH`.
    When it returns, they are acknowledged; if it raises, they are not, and are redelivered.
    Malformed messages and those that the handler rejects become dead letters, and are counted in
    `malformed`.
    """

    def __init__(self, bus: Bus, spec: ConsumerSpec[T]) -> None:
        self._bus = bus
        self._spec = spec
        self._arrived: asyncio.Queue[Msg] = asyncio.Queue()
        self._held: set[int] = set()
        self.malformed = 0

    async def run(self, handle: Handler[T]) -> None:
        """Receive until cancelled; an exception of `handle` is raised."""
        # Subscribed before the consumer is created: the server delivers from then on.
        subscription = await self._bus.client.subscribe(
            subjects.delivery_subject(self._spec.durable),
            queue=self._spec.durable,
            cb=self._receive,
        )
        try:
            # Registered before the first creation, so that no reconnection is missed.
            self._bus.on_reconnected(self._create_if_missing)
            await self._create_with_retries()
            while True:
                batch = await self._next_batch()
                # Only after it is handled: were a message acknowledged before, a crash would
                # lose it. Dead letters wait as well: redelivered, they are stored once by their id.
                for message in await self._process(batch, handle):
                    await _acknowledge(message)
                self._held.difference_update(map(_sequence, batch))
        finally:
            if self._bus.connected:
                await subscription.unsubscribe()

    async def _create_with_retries(self) -> None:
        """Create the consumer, retrying for as long as NATS cannot be reached."""
        while True:
            try:
                await self._create_if_missing()
            except (nats.errors.Error, TimeoutError) as exc:
                LOG.warning("consumer %s: not ready yet: %s", self._spec.durable, exc)
                await asyncio.sleep(RECONNECT_WAIT_S)
            else:
                return

    async def _create_if_missing(self) -> None:
        """Create the consumer if it is missing; a restarted NATS may have lost it."""
        spec, jetstream = self._spec, self._bus.jetstream
        try:
            await jetstream.consumer_info(spec.stream, spec.durable)
        except nats.js.errors.NotFoundError:
            policy = DeliverPolicy.ALL if spec.from_start else DeliverPolicy.NEW
            await jetstream.add_consumer(
                spec.stream,
                ConsumerConfig(
                    durable_name=spec.durable,
                    deliver_subject=subjects.delivery_subject(spec.durable),
                    deliver_group=spec.durable,
                    deliver_policy=policy,
                    ack_policy=AckPolicy.EXPLICIT,
                    ack_wait=spec.ack_wait_s,
                    max_ack_pending=MAX_UNACKNOWLEDGED,
                    filter_subject=spec.subject,
                    inactive_threshold=INACTIVE_THRESHOLD_S,
                ),
            )

    async def _receive(self, message: Msg) -> None:
        try:
            sequence = _sequence(message)
        except nats.js.errors.Error as exc:
            # Published by someone to the delivery subject itself: it belongs to no stream and
            # cannot be acknowledged.
            LOG.warning("%s: dropped a message that belongs to no stream: %s", message.subject, exc)
            return
        # While its handler waits, for a database perhaps, the server delivers a message again and
        # again: what is here already is not queued twice.
        if sequence not in self._held:
            self._held.add(sequence)
            self._arrived.put_nowait(message)

    async def _next_batch(self) -> list[Msg]:
        batch = [await self._arrived.get()]
        while len(batch) < MAX_BATCH and not self._arrived.empty():
            batch.append(self._arrived.get_nowait())
        return batch

    async def _process(self, batch: Sequence[Msg], handle: Handler[T]) -> list[Msg]:
        """Decode and handle `batch`; return the messages that may be acknowledged."""
        deliveries: list[Delivery[T]] = []
        refused: dict[int, str] = {}
        for message in batch:
            sequence = _sequence(message)
            try:
                event = self._spec.decode(message.data)
            except MalformedEventError as exc:
                refused[sequence] = str(exc)
            else:
                stored = message.metadata.timestamp.timestamp()
                deliveries.append(Delivery(event, message.subject, sequence, stored))
        if deliveries:
            for rejection in await handle(deliveries):
                refused[rejection.delivery.sequence] = rejection.reason
        done = []
        for message in batch:
            reason = refused.get(_sequence(message))
            if reason is None or await self._store_dead_letter(message, reason):
                done.append(message)
        return done

    async def _store_dead_letter(self, message: Msg, reason: str) -> bool:
        """Store `message` as a dead letter; return whether it may be acknowledged.

        If it could not be stored it must not be acknowledged, or it would be lost: NATS delivers
        it again, and it is refused again then.
        """
        origin = f"{message.subject}#{_sequence(message)}"
        try:
            await self._bus.publish_dead_letter(self._spec.stream, message.data, reason, origin)
        except MessagingError as exc:
            LOG.warning("%s: could not store the dead letter; will be redelivered: %s", origin, exc)
            return False
        self.malformed += 1
        LOG.warning("%s: stored as a dead letter: %s", origin, reason)
        return True


def _sequence(message: Msg) -> int:
    return int(message.metadata.sequence.stream)


async def _acknowledge(message: Msg) -> None:
    """Acknowledge a message whose work is recorded.

    While NATS cannot be reached this fails, harmlessly: the message is redelivered, and its
    handler finds the work already recorded.
    """
    try:
        await message.ack()
    except nats.errors.Error as exc:
        LOG.warning("%s: not acknowledged; will be redelivered: %s", message.subject, exc)
