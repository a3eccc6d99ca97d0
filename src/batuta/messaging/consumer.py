"""A durable consumer: each message is acknowledged after its work is recorded, never before."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

import nats.errors
import nats.js.errors
from nats.aio.msg import Msg
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy

from batuta.messaging import subjects
from batuta.messaging.bus import RECONNECT_WAIT_S, Bus, MessagingError
from batuta.messaging.events import MalformedEventError

LOG: Final = logging.getLogger(__name__)

ACK_WAIT_S: Final = 10.0
"""A message not acknowledged by then is delivered again: its consumer is dead or stuck."""
MAX_BATCH: Final = 512
MAX_UNACKNOWLEDGED: Final = 8 * MAX_BATCH
FORGOTTEN_AFTER_S: Final = 30 * 86_400
"""A consumer that nobody has listened to for so long is removed by the server."""

T = TypeVar("T")


@dataclass(frozen=True)
class Delivery(Generic[T]):
    """A message understood: what it says, on which subject, under which number in its stream."""

    event: T
    subject: str
    sequence: int


@dataclass(frozen=True, kw_only=True)
class ConsumerSpec(Generic[T]):
    """What to listen to.

    Parameters
    ----------
    stream, subject : str
        The stream and the subjects in it.
    durable : str
        The consumer's name: whoever opens it again goes on where it stopped, and several
        processes that share it share the work.
    decode : callable
        Reads a payload; raises `MalformedEventError` on one that it does not understand.
    from_start : bool
        Whether a new consumer hears all that the stream holds, or only what comes.
    ack_wait_s : float
        How long after its delivery a message that is not acknowledged comes again, in seconds.
    """

    stream: str
    subject: str
    durable: str
    decode: Callable[[bytes], T]
    from_start: bool = True
    ack_wait_s: float = ACK_WAIT_S


class Consumer(Generic[T]):
    """Delivers the messages of one stream to a handler, in batches, in order.

    The handler gets all that has come since it was last called, at most `MAX_BATCH`. When it
    returns, they are acknowledged; when it raises, they are not, and will come again.
    Malformed messages are put aside with the reason, and counted in `malformed`.
    """

    def __init__(self, bus: Bus, spec: ConsumerSpec[T]) -> None:
        self._bus = bus
        self._spec = spec
        self._arrived: asyncio.Queue[Msg] = asyncio.Queue()
        self.malformed = 0

    async def run(self, handle: Callable[[Sequence[Delivery[T]]], Awaitable[None]]) -> None:
        """Listen until cancelled; an exception of `handle` ends it."""
        subscription = await self._bus.client.subscribe(
            subjects.delivery_subject(self._spec.durable),
            queue=self._spec.durable,
            cb=self._arrived.put,
        )
        try:
            self._bus.on_reconnected(self._ensure)
            await self._ensured()
            while True:
                sorted_out = await self._sort_out(await self._next_batch())
                if sorted_out.deliveries:
                    await handle(sorted_out.deliveries)
                for message in sorted_out.settled:
                    await _acknowledge(message)
        finally:
            if self._bus.connected:
                await subscription.unsubscribe()

    async def _ensured(self) -> None:
        """Create the consumer, however long NATS is away meanwhile."""
        while True:
            try:
                await self._ensure()
            except (nats.errors.Error, TimeoutError) as exc:
                LOG.warning("consumer %s: not ready yet: %s", self._spec.durable, exc)
                await asyncio.sleep(RECONNECT_WAIT_S)
            else:
                return

    async def _ensure(self) -> None:
        """Create the consumer where it is missing; NATS may have come back empty."""
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
                    inactive_threshold=FORGOTTEN_AFTER_S,
                ),
            )

    async def _next_batch(self) -> list[Msg]:
        batch = [await self._arrived.get()]
        while len(batch) < MAX_BATCH and not self._arrived.empty():
            batch.append(self._arrived.get_nowait())
        return batch

    async def _sort_out(self, batch: Sequence[Msg]) -> "_SortedOut[T]":
        result: _SortedOut[T] = _SortedOut([], [])
        for message in batch:
            try:
                sequence = message.metadata.sequence.stream
            except nats.js.errors.Error as exc:
                # Published straight to where the server delivers: no stream knows of it.
                LOG.warning("%s: dropped, it is of no stream: %s", message.subject, exc)
                continue
            try:
                event = self._spec.decode(message.data)
            except MalformedEventError as exc:
                if await self._refuse(message, sequence, str(exc)):
                    result.settled.append(message)
            else:
                result.deliveries.append(Delivery(event, message.subject, sequence))
                result.settled.append(message)
        return result

    async def _refuse(self, message: Msg, sequence: int, reason: str) -> bool:
        """Put `message` aside; False if NATS could not take it: it will be delivered again."""
        origin = f"{message.subject}#{sequence}"
        try:
            await self._bus.put_aside(self._spec.stream, message.data, reason, origin)
        except MessagingError as exc:
            LOG.warning("%s: not put aside, it will come again: %s", origin, exc)
            return False
        self.malformed += 1
        LOG.warning("%s put aside: %s", origin, reason)
        return True


@dataclass(frozen=True)
class _SortedOut(Generic[T]):
    """A batch: what was understood, and every message that can be acknowledged after it."""

    deliveries: list[Delivery[T]]
    settled: list[Msg]


async def _acknowledge(message: Msg) -> None:
    """Say that the work is recorded.

    While NATS is away this cannot be said; the message comes again, and whoever handles it
    finds its work already recorded.
    """
    try:
        await message.ack()
    except nats.errors.Error as exc:
        LOG.warning("%s: not acknowledged, it will come again: %s", message.subject, exc)
