"""The connection to NATS: publish, consume durably, put aside what nobody understands."""

import asyncio
import logging
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any, Final

import nats
import nats.errors
import nats.js.errors
from nats.aio.client import Client
from nats.js import JetStreamContext
from nats.js.api import StorageType, StreamConfig

from batuta.errors import BatutaError
from batuta.messaging import subjects
from batuta.messaging.events import (
    Activity,
    CloudEvent,
    DataAvailable,
    activity_event,
    data_event,
)

LOG: Final = logging.getLogger(__name__)

PUBLISH_TIMEOUT_S: Final = 5.0
RECONNECT_WAIT_S: Final = 0.5
MAX_REASON_LENGTH: Final = 1000
MAX_HEADERS_BYTES: Final = 8192
"""What headers may take of the largest message that the server accepts."""

Callback = Callable[[], Awaitable[None]]


class MessagingError(BatutaError):
    """NATS cannot be reached, or refuses."""


@dataclass(frozen=True, kw_only=True)
class NatsConfig:
    """Where NATS is, and how patient to be.

    Parameters
    ----------
    url : str
        ``nats://[user:password@]host:port``, several separated by commas.
    wait_s : float
        How long to wait for NATS at start before giving up, in seconds.
    """

    url: str = "nats://127.0.0.1:4222"
    wait_s: float = 30.0


class Bus:
    """An open connection to NATS; made by `connect`.

    It reconnects for ever once it has been connected. What must not be lost is published by
    callers that keep it until `publish` has returned.
    """

    def __init__(self, client: Client, url: str) -> None:
        self.client = client
        self.url = without_password(url)
        self.jetstream: JetStreamContext = client.jetstream(timeout=PUBLISH_TIMEOUT_S)
        self._on_reconnected: list[Callback] = []

    @property
    def connected(self) -> bool:
        """Whether the connection is up now."""
        return bool(self.client.is_connected)

    async def publish(self, subject: str, event: CloudEvent) -> None:
        """Publish `event` and return once JetStream has stored it.

        The event's id makes a repeat within two minutes harmless: NATS stores it once.

        Raises
        ------
        MessagingError
            If NATS did not say that it has it: publish again.
        """
        await self._store(subject, event.encode(), {"Nats-Msg-Id": event.id})

    async def publish_data(
        self, available: DataAvailable, source: str, event_id: str | None = None
    ) -> None:
        """Announce that a product is available, on ``data.<source>``."""
        await self.publish(subjects.data_subject(source), data_event(available, source, event_id))

    async def publish_activity(self, activity: Activity) -> None:
        """Tell a service's state, on ``activity.<service>``."""
        await self.publish(
            subjects.activity_subject(activity.service.name), activity_event(activity)
        )

    async def put_aside(self, stream: str, payload: bytes, reason: str, origin: str) -> None:
        """Keep a message that nobody understands in the dead-letter stream, with the reason.

        One so large that it leaves no room for the headers is cut, its size told beside it.
        """
        headers = {
            # Several services may refuse the same message: it is kept once.
            "Nats-Msg-Id": f"dead-{origin}",
            subjects.REASON_HEADER: " ".join(reason.split())[:MAX_REASON_LENGTH],
            subjects.ORIGIN_HEADER: origin,
        }
        room = self.client.max_payload - MAX_HEADERS_BYTES
        if len(payload) > room:
            headers[subjects.SIZE_HEADER] = str(len(payload))
        await self._store(subjects.dead_subject(stream), payload[:room], headers)

    def on_reconnected(self, callback: Callback) -> None:
        """Have `callback` awaited each time the connection has come back."""
        self._on_reconnected.append(callback)

    async def ensure_streams(self) -> None:
        """Create the streams that are not there; NATS may have come back empty."""
        for config in _STREAMS:
            try:
                found = await self.jetstream.stream_info(config.name or "")
            except nats.js.errors.NotFoundError:
                await self._add_stream(config)
            else:
                if found.config.subjects != config.subjects:
                    raise MessagingError(
                        f"NATS at {self.url}: the stream {config.name} is there, but hears "
                        f"{found.config.subjects} (expected: {config.subjects})"
                    )

    async def _add_stream(self, config: StreamConfig) -> None:
        try:
            await self.jetstream.add_stream(config)
        except nats.js.errors.BadRequestError as exc:
            raise MessagingError(
                f"NATS at {self.url}: the stream {config.name} cannot be made: {exc.description}"
            ) from exc

    async def restore(self) -> None:
        """Make good what a restarted NATS may have lost, and tell who asked to know."""
        await self.ensure_streams()
        for callback in self._on_reconnected:
            await callback()

    async def _store(self, subject: str, payload: bytes, headers: dict[str, str]) -> None:
        if len(payload) > self.client.max_payload - MAX_HEADERS_BYTES:
            # The server would close the connection, and nats-py would not open it again.
            raise MessagingError(
                f"{subject}: {len(payload)} bytes are more than NATS at {self.url} takes "
                f"(accepted: {self.client.max_payload - MAX_HEADERS_BYTES})"
            )
        try:
            await self.jetstream.publish(subject, payload, headers=headers)
        except (nats.errors.Error, TimeoutError) as exc:
            raise MessagingError(f"{subject}: NATS at {self.url} did not store it: {exc}") from exc


def without_password(url: str) -> str:
    """`url` as it may be shown."""
    return re.sub(r"//[^@/,]*@", "//", url)


_STREAMS: Final = (
    StreamConfig(
        name=subjects.DATA_STREAM,
        subjects=[subjects.DATA_SUBJECTS],
        storage=StorageType.FILE,
    ),
    StreamConfig(
        name=subjects.ACTIVITY_STREAM,
        subjects=[subjects.ACTIVITY_SUBJECTS],
        storage=StorageType.FILE,
        max_age=subjects.ACTIVITY_MAX_AGE_S,
    ),
    StreamConfig(
        name=subjects.DEAD_STREAM,
        subjects=[subjects.DEAD_SUBJECTS],
        storage=StorageType.FILE,
    ),
)


@asynccontextmanager
async def connect(config: NatsConfig, name: str) -> AsyncIterator[Bus]:
    """Open a `Bus`, waiting for NATS up to ``config.wait_s`` and saying so.

    Raises
    ------
    MessagingError
        If NATS is not there by then.
    """
    links = _Links(config)
    client = await links.open(name)
    bus = Bus(client, config.url)
    links.bus = bus
    try:
        try:
            await bus.ensure_streams()
        except (nats.errors.Error, TimeoutError) as exc:
            raise MessagingError(
                f"NATS at {bus.url} has no JetStream (start it with -js): {exc}"
            ) from exc
        async with _meanwhile(links.keep_restored(bus)):
            yield bus
    finally:
        await client.close()


@asynccontextmanager
async def _meanwhile(work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Do `work` until left; what it raises is raised."""
    task = asyncio.create_task(work)
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


class _Links:
    """What nats-py calls back as the connection comes and goes."""

    def __init__(self, config: NatsConfig) -> None:
        self.config = config
        self.shown = without_password(config.url)
        self.bus: Bus | None = None
        self._said_waiting = False
        self._restore = asyncio.Event()
        self._last_error = "no answer"

    async def open(self, name: str) -> Client:
        try:
            async with asyncio.timeout(self.config.wait_s):
                return await nats.connect(
                    self.config.url.split(","),
                    name=name,
                    error_cb=self.failed,
                    disconnected_cb=self.lost,
                    reconnected_cb=self.back,
                    max_reconnect_attempts=-1,
                    reconnect_time_wait=RECONNECT_WAIT_S,
                )
        except TimeoutError as exc:
            raise MessagingError(
                f"NATS at {self.shown} is not there after {self.config.wait_s:g} s "
                f"({self._last_error}): start it, or give its address with --nats-url"
            ) from exc
        except (nats.errors.Error, OSError, ValueError) as exc:
            raise MessagingError(f"NATS at {self.shown}: {exc}") from exc

    async def failed(self, exc: Exception) -> None:
        self._last_error = str(exc) or type(exc).__name__
        if self.bus is None and not self._said_waiting:
            self._said_waiting = True
            LOG.warning(
                "NATS at %s: %s; waiting for it up to %g s",
                self.shown,
                self._last_error,
                self.config.wait_s,
            )

    async def lost(self) -> None:
        if self.bus is not None and not self.bus.client.is_closed:
            LOG.warning("NATS at %s: connection lost; reconnecting", self.config.url)

    async def back(self) -> None:
        # nats-py takes what is raised here for a broken connection: the work is done elsewhere.
        self._restore.set()

    async def keep_restored(self, bus: Bus) -> None:
        """After each reconnection, see that streams and consumers are there."""
        while True:
            await self._restore.wait()
            self._restore.clear()
            try:
                await bus.restore()
            except (nats.errors.Error, TimeoutError, MessagingError) as exc:
                # JetStream answers a moment after the server does.
                LOG.info("NATS at %s: not ready yet: %s", bus.url, exc)
                await asyncio.sleep(RECONNECT_WAIT_S)
                self._restore.set()
            else:
                LOG.info("NATS at %s: connected again", bus.url)
