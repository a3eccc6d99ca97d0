"""The dead letters: listed by their number, shown, and sent again to where they came from."""

import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

import nats.errors
import nats.js.errors
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy, RawStreamMsg
from nats.js.client import JetStreamContext

from batuta.errors import one_line
from batuta.messaging import subjects
from batuta.messaging.bus import Bus, MessagingError

FETCHED: Final = 64
"""Letters that are fetched together: each may have the size of the largest message."""
FETCH_TIMEOUT_S: Final = 5.0
UNUSED_S: Final = 30.0
"""The server removes the consumer of a list that was not read to its end after so long."""

_SUBJECT: Final = re.compile(r"(?:data|activity)\.[^.\s*>]+")


class CannotResendError(MessagingError):
    """A dead letter that is not sent again, in one line."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetter:
    """A message that was put aside.

    Attributes
    ----------
    sequence : int
        Its number in the stream of dead letters.
    stored : datetime
        When it was put aside.
    subject : str
        Where it had been published; empty if that is not known.
    origin : int or None
        Its number in the stream that it came from.
    reason : str
        Why it was put aside, in one line.
    payload : bytes
        The message, or its start.
    full_size : int
        Its size in bytes; more than `payload` has if it was too large to be stored whole.
    """

    sequence: int
    stored: datetime
    subject: str
    origin: int | None
    reason: str
    payload: bytes
    full_size: int

    @property
    def whole(self) -> bool:
        """Whether the message was stored whole."""
        return self.full_size <= len(self.payload)


class DeadLetters:
    """The stream of dead letters; every method raises `MessagingError` if NATS does not answer."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus

    async def count(self) -> int:
        """Return how many there are."""
        with _translated(self._bus):
            info = await self._bus.jetstream.stream_info(subjects.DEAD_STREAM)
        return int(info.state.messages)

    async def count_between(self, begin: datetime, end: datetime) -> int:
        """Return how many of them were put aside from a time on, and before another."""
        with _translated(self._bus):
            counts = []
            for since in (begin, end):
                start = ConsumerConfig(
                    deliver_policy=DeliverPolicy.BY_START_TIME, opt_start_time=since
                )
                async with self._reading(start) as subscription:
                    counts.append((await subscription.consumer_info()).num_pending or 0)
        return max(0, counts[0] - counts[1])

    async def after(self, sequence: int, at_most: int) -> list[DeadLetter]:
        """Return the letters that follow a number, the oldest first, `at_most` so many."""
        letters: list[DeadLetter] = []
        with _translated(self._bus):
            start = ConsumerConfig(
                deliver_policy=DeliverPolicy.BY_START_SEQUENCE, opt_start_seq=sequence + 1
            )
            async with self._reading(start) as subscription:
                pending = (await subscription.consumer_info()).num_pending or 0
                left = min(at_most, pending)
                while left > 0:
                    batch = await subscription.fetch(min(left, FETCHED), timeout=FETCH_TIMEOUT_S)
                    letters += [
                        _letter(
                            message.metadata.sequence.stream,
                            message.metadata.timestamp,
                            message.headers or {},
                            message.data,
                        )
                        for message in batch
                    ]
                    left -= len(batch)
        return letters

    async def get(self, sequence: int) -> DeadLetter | None:
        """Return one letter; None if there is none, or no longer."""
        with _translated(self._bus):
            try:
                found: RawStreamMsg = await self._bus.jetstream.get_msg(
                    subjects.DEAD_STREAM, sequence
                )
            except nats.js.errors.NotFoundError:
                return None
        stored = found.time or datetime.fromtimestamp(0, UTC)
        return _letter(sequence, stored, found.headers or {}, found.data or b"")

    async def resend(self, letter: DeadLetter, confirmation: str) -> int:
        """Publish a letter where it came from, and remove it; return its number there.

        Removed only once NATS has stored the message: killed in between, the letter is still
        there. With the same `confirmation`, NATS drops a repeat.

        Raises
        ------
        CannotResendError
            If it was not stored whole, or came from no stream of ours.
        """
        if not letter.whole:
            raise CannotResendError(
                f"dead letter {letter.sequence}: only {len(letter.payload)} of its "
                f"{letter.full_size} bytes were stored: publish it again where it came from"
            )
        if not _SUBJECT.fullmatch(letter.subject):
            raise CannotResendError(
                f"dead letter {letter.sequence}: came from {letter.subject!r:.200} "
                "(accepted: data.<source>, activity.<service>)"
            )
        message_id = f"resend-{letter.sequence}-{confirmation}"
        sequence = await self._bus.publish_payload(letter.subject, letter.payload, message_id)
        # Another request of the same letter may have been quicker.
        with _translated(self._bus), suppress(nats.js.errors.NotFoundError):
            await self._bus.jetstream.delete_msg(subjects.DEAD_STREAM, letter.sequence)
        return sequence

    @asynccontextmanager
    async def _reading(
        self, start: ConsumerConfig
    ) -> AsyncIterator[JetStreamContext.PullSubscription]:
        subscription = await self._bus.jetstream.pull_subscribe(
            subjects.DEAD_SUBJECTS,
            stream=subjects.DEAD_STREAM,
            config=start.evolve(
                ack_policy=AckPolicy.NONE,
                inactive_threshold=UNUSED_S,
                mem_storage=True,
            ),
        )
        try:
            yield subscription
        finally:
            await subscription.unsubscribe()


def _letter(
    sequence: int, stored: datetime, headers: "dict[str, str]", payload: bytes
) -> DeadLetter:
    subject, _, origin = headers.get(subjects.ORIGIN_HEADER, "").rpartition("#")
    size = headers.get(subjects.SIZE_HEADER, "")
    return DeadLetter(
        sequence=sequence,
        stored=stored,
        subject=subject,
        origin=int(origin) if origin.isdecimal() else None,
        reason=headers.get(subjects.REASON_HEADER, ""),
        payload=payload,
        full_size=int(size) if size.isdecimal() else len(payload),
    )


@contextmanager
def _translated(bus: Bus) -> Iterator[None]:
    try:
        yield
    except (nats.errors.Error, TimeoutError) as exc:
        reason = one_line(exc) or type(exc).__name__
        raise MessagingError(
            f"NATS at {bus.url}: the dead letters cannot be read: {reason}"
        ) from exc
