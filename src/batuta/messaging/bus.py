"""The connection to NATS: publish events and dead letters, restore streams after a restart."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from typing import Any, Final

import nats.errors
import nats.js.errors
from nats.aio.client import Client
from nats.js import JetStreamContext
from nats.js.api import StorageType, StreamConfig

from batuta.credentials import without_password
from batuta.errors import BatutaError, ConfigurationError, one_line
from batuta.messaging import subjects
from batuta.messaging.config import NatsConfig
from batuta.messaging.events import (
    Activity,
    CloudEvent,
    DataEvent,
    activity_event,
    data_event,
)
from batuta.messaging.tls_client import NatsClient
from batuta.tls import tls_reason

LOG: Final = logging.getLogger(__name__)

PUBLISH_TIMEOUT_S: Final = 5.0
RECONNECT_WAIT_S: Final = 0.5
CANCEL_AGAIN_S: Final = 1.0
CHECK_INTERVAL_S: Final = 10.0
"""How often streams and consumers are checked while connected, in seconds."""
MAX_REASON_LENGTH: Final = 1000
MAX_HEADERS_BYTES: Final = 8192
"""Part of the largest message that the server accepts that is reserved for headers."""

Callback = Callable[[], Awaitable[None]]


class MessagingError(BatutaError):
    """NATS cannot be reached, or refused a request."""


class Bus:
    """An open connection to NATS, made by `connect`.

    Once connected, it reconnects for ever. Callers keep what must not be lost until `publish`
    has returned: nothing is buffered here.
    """

    def __init__(self, client: Client, url: str) -> None:
        self.client = client
        self.url = without_password(url)
        self.jetstream: JetStreamContext = client.jetstream(timeout=PUBLISH_TIMEOUT_S)
        self._on_reconnected: list[Callback] = []
        self.problem: str | None = None
        self._not_stored: dict[str, str] = {}

    @property
    def connected(self) -> bool:
        """Whether the connection is up now."""
        return bool(self.client.is_connected)

    @property
    def health(self) -> bool | str:
        """True if the connection is up, and its streams are there and store; else what is wrong.

        A stream may refuse to store while all else of NATS answers: after its disk was full, until
        the server is restarted.
        """
        if not self.connected:
            return "not connected"
        return self.problem or next(iter(self._not_stored.values()), True)

    async def publish(self, subject: str, event: CloudEvent) -> None:
        """Publish `event` and return once JetStream has stored it.

        NATS drops an event whose id it has stored within the last two minutes, so publishing
        again after an error is safe.

        Raises
        ------
        MessagingError
            If NATS did not confirm that it stored the event: publish it again.
        """
        await self._store(subject, event.encode(), {"Nats-Msg-Id": event.id})

    async def publish_data(self, news: DataEvent, source: str, event_id: str | None = None) -> None:
        """Announce that a product is available, or withdrawn, on ``data.<source>``."""
        await self.publish(subjects.data_subject(source), data_event(news, source, event_id))

    async def publish_activity(self, activity: Activity) -> None:
        """Publish a service's activity on ``activity.<service>``."""
        await self.publish(
            subjects.activity_subject(activity.service.name), activity_event(activity)
        )

    async def publish_payload(self, subject: str, payload: bytes, message_id: str) -> int:
        """Publish a message as it is, and return its number in its stream, once it is stored.

        Raises
        ------
        MessagingError
            If NATS did not confirm that it stored it.
        """
        return await self._store(subject, payload, {"Nats-Msg-Id": message_id})

    async def publish_dead_letter(
        self, stream: str, payload: bytes, reason: str, origin: str
    ) -> None:
        """Store a message that cannot be decoded in the dead-letter stream, with the reason.

        A message too large to leave space for the headers is truncated; a header gives its size.
        """
        headers = {
            # Several services may fail to decode the same message, and a service that could not
            # acknowledge it receives it again: with this id, NATS stores one dead letter.
            "Nats-Msg-Id": f"dead-{origin}",
            subjects.REASON_HEADER: " ".join(reason.split())[:MAX_REASON_LENGTH],
            subjects.ORIGIN_HEADER: origin,
        }
        if len(payload) > self._max_payload_bytes:
            headers[subjects.SIZE_HEADER] = str(len(payload))
        await self._store(
            subjects.dead_subject(stream), payload[: self._max_payload_bytes], headers
        )

    def on_reconnected(self, callback: Callback) -> None:
        """Register `callback`, awaited after each reconnection once the streams exist.

        It is also called every few seconds, as streams and consumers may be deleted while the
        connection is up. If one raises a `MessagingError`, all are called again: each must be
        idempotent.
        """
        self._on_reconnected.append(callback)

    async def ensure_streams(self) -> None:
        """Create missing streams, which a restarted NATS may have lost; bound those without bounds.

        Bounds that were set by others are left as they are.
        """
        for config in STREAMS:
            try:
                found = (await self.jetstream.stream_info(config.name or "")).config
            except nats.js.errors.NotFoundError:
                await self._add_stream(config)
                continue
            if found.subjects != config.subjects:
                raise MessagingError(
                    f"NATS at {self.url}: the stream {config.name} exists with the subjects "
                    f"{found.subjects} (expected: {config.subjects})"
                )
            if (found.max_bytes or -1) < 0 and (found.max_msgs or -1) < 0:
                bounds = {"max_bytes": config.max_bytes, "max_msgs": config.max_msgs}
                await self.jetstream.update_stream(found.evolve(**bounds))

    async def _add_stream(self, config: StreamConfig) -> None:
        try:
            await self.jetstream.add_stream(config)
            LOG.info("NATS at %s: created the stream %s", self.url, config.name)
        except nats.js.errors.BadRequestError as exc:
            raise MessagingError(
                f"NATS at {self.url}: cannot create the stream {config.name}: {exc.description}"
            ) from exc

    async def restore(self) -> None:
        """Create the streams that NATS may have lost, then call the callbacks."""
        await self.ensure_streams()
        for callback in self._on_reconnected:
            await callback()

    @property
    def _max_payload_bytes(self) -> int:
        return int(self.client.max_payload) - MAX_HEADERS_BYTES

    async def _store(self, subject: str, payload: bytes, headers: dict[str, str]) -> int:
        if len(payload) > self._max_payload_bytes:
            # The server would close the connection, and nats-py would not reopen it.
            raise MessagingError(
                f"{subject}: a message of {len(payload)} bytes is too large for NATS at {self.url} "
                f"(accepted: at most {self._max_payload_bytes})"
            )
        try:
            stored = await self.jetstream.publish(subject, payload, headers=headers)
        except (nats.errors.Error, TimeoutError) as exc:
            self._not_stored[subject] = f"the last message on {subject} was not stored: {exc}"
            raise MessagingError(
                f"{subject}: NATS at {self.url} did not store the message: {exc}"
            ) from exc
        self._not_stored.pop(subject, None)
        return int(stored.seq)


# The oldest messages make room for new ones. Bytes are reserved on the disk of the server, so
# the stream that may grow large is bounded by its number of messages.
STREAMS: Final = (
    StreamConfig(
        name=subjects.DATA_STREAM,
        subjects=[subjects.DATA_SUBJECTS],
        storage=StorageType.FILE,
        max_msgs=subjects.DATA_MAX_MESSAGES,
    ),
    StreamConfig(
        name=subjects.ACTIVITY_STREAM,
        subjects=[subjects.ACTIVITY_SUBJECTS],
        storage=StorageType.FILE,
        max_age=subjects.ACTIVITY_MAX_AGE_S,
        max_bytes=subjects.ACTIVITY_MAX_BYTES,
    ),
    StreamConfig(
        name=subjects.DEAD_STREAM,
        subjects=[subjects.DEAD_SUBJECTS],
        storage=StorageType.FILE,
        max_bytes=subjects.DEAD_MAX_BYTES,
    ),
)
"""The streams of an orchestra, created where they are missing."""


@asynccontextmanager
async def connect(config: NatsConfig, name: str) -> AsyncIterator[Bus]:
    """Connect to NATS, waiting for it up to ``config.wait_s`` seconds, and open a `Bus`.

    Raises
    ------
    ConfigurationError
        If a file of its TLS is not accepted.
    MessagingError
        If NATS cannot be reached by then, or has no JetStream.
    """
    connector = _Connector(config)
    client = await connector.connect(name)
    bus = Bus(client, config.url)
    connector.bus = bus
    try:
        try:
            await bus.ensure_streams()
        except nats.js.errors.ServerError as exc:
            # Such as a disk too small for what the streams may take: JetStream is there.
            raise MessagingError(
                f"NATS at {bus.url}: its streams cannot be opened: {exc.description}"
            ) from exc
        except (nats.errors.Error, TimeoutError) as exc:
            raise MessagingError(
                f"NATS at {bus.url} has no JetStream (start it with -js): {exc}"
            ) from exc
        async with _in_background(connector.keep_streams(bus)):
            yield bus
    finally:
        await client.close()


@asynccontextmanager
async def _in_background(work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Run `work` until the block is left, then cancel it."""
    task = asyncio.create_task(work)
    try:
        yield
    finally:
        # Again and again: asyncio.wait_for, by which nats-py waits for answers, swallows a
        # cancellation that comes together with the answer (before Python 3.12).
        while not task.done():
            task.cancel()
            await asyncio.wait([task], timeout=CANCEL_AGAIN_S)
        if not task.cancelled():
            task.result()


class _Connector:
    """Connects to NATS, and reacts to what nats-py reports about the connection."""

    def __init__(self, config: NatsConfig) -> None:
        self.config = config
        self.display_url = without_password(config.url)
        self.bus: Bus | None = None
        self._waiting_logged = False
        self._reconnected = asyncio.Event()
        self._last_error = "no answer"
        self._client = NatsClient(config)

    async def connect(self, name: str) -> Client:
        client = self._client
        try:
            async with asyncio.timeout(self.config.wait_s):
                await client.open(
                    name=name,
                    error_cb=self.on_error,
                    disconnected_cb=self.on_disconnected,
                    reconnected_cb=self.on_reconnected,
                    max_reconnect_attempts=-1,
                    reconnect_time_wait=RECONNECT_WAIT_S,
                )
                return client
        except TimeoutError as exc:
            raise MessagingError(
                f"could not connect to NATS at {self.display_url} within {self.config.wait_s:g} s "
                f"({self._last_error}): {self._way_out}"
            ) from exc
        except (nats.errors.Error, OSError, ValueError) as exc:
            reason = without_password(one_line(exc))
            raise MessagingError(f"NATS at {self.display_url}: {reason}") from None

    @property
    def _way_out(self) -> str:
        if self._was_refused:
            return (
                "give its token with BATUTA_NATS_TOKEN (that of batuta up is the token of the "
                "orchestra; named tokens are for REST alone)"
            )
        return "start it, or give its address with --nats-url"

    @property
    def _was_refused(self) -> bool:
        return "authorization" in self._last_error.lower()

    async def on_error(self, exc: Exception) -> None:
        told = tls_reason(exc) or without_password(one_line(exc))
        # A server that refuses also closes the connection, and that may be told last.
        if not self._was_refused:
            self._last_error = told or type(exc).__name__
        if self.bus is None and not self._waiting_logged:
            self._waiting_logged = True
            LOG.warning(
                "NATS at %s: %s; waiting for it up to %g s",
                self.display_url,
                self._last_error,
                self.config.wait_s,
            )

    async def on_disconnected(self) -> None:
        if self.bus is not None and not self.bus.client.is_closed:
            LOG.warning("NATS at %s: connection lost; reconnecting", self.display_url)
            self._renew_tls()

    def _renew_tls(self) -> None:
        """Take certificates that were renewed; those that are refused are told, and not taken."""
        try:
            self._client.renew_tls()
        except (ConfigurationError, OSError) as exc:
            LOG.warning("NATS at %s: TLS is not renewed: %s", self.display_url, one_line(exc))

    async def on_reconnected(self) -> None:
        # nats-py takes a NATS error raised here for a failed reconnection: only signal here, and
        # restore in a task of our own.
        self._reconnected.set()

    async def keep_streams(self, bus: Bus) -> None:
        """Restore streams and consumers after each reconnection, and whenever they are missing."""
        while True:
            reconnected = await self._wait_for_reconnection(CHECK_INTERVAL_S)
            if not bus.connected:
                continue  # the reconnection sets the event
            try:
                await bus.restore()
            except (nats.errors.Error, TimeoutError, MessagingError) as exc:
                # JetStream becomes available a moment after the server accepts connections.
                problem = without_password(one_line(exc)) or type(exc).__name__
                LOG.info("NATS at %s: not ready: %s", bus.url, problem)
                bus.problem = f"JetStream: {problem}"
                await asyncio.sleep(RECONNECT_WAIT_S)
                self._reconnected.set()
            else:
                bus.problem = None
                if reconnected:
                    LOG.info("NATS at %s: reconnected", bus.url)

    async def _wait_for_reconnection(self, timeout_s: float) -> bool:
        """Return whether there was a reconnection within that time."""
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._reconnected.wait()
        # Cleared before the work: a reconnection during it sets the event again, and the work is
        # repeated on the new connection.
        reconnected = self._reconnected.is_set()
        self._reconnected.clear()
        return reconnected
