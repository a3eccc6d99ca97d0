"""NATS with JetStream, in this process: what nats-py shows of it, and no more than Batuta uses.

Delivery is at least once, in order, to a subscriber of the consumer's group; what is not
acknowledged in time is delivered again; an id that was stored within two minutes is not stored
again. What is stored stays, as an embedded server syncs each message.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any, Final

import nats.errors
import nats.js.errors
from nats.aio.msg import Msg
from nats.js.api import ConsumerConfig, DeliverPolicy, PubAck, StreamConfig

from tests.support.simulation.loop import (
    PROCESS,
    Process,
    SimulationLoop,
    checkpoint,
    context_of,
    point,
)
from tests.support.simulation.plan import NATS

DUPLICATE_WINDOW_S: Final = 120.0
MAX_PAYLOAD: Final = 2**20
TIMEOUT_S: Final = 5.0
RECONNECT_S: Final = 0.5
MAX_ACK_PENDING: Final = 4096

Callback = Callable[..., Awaitable[Any]]


@dataclass(frozen=True)
class Stored:
    """A message of a stream."""

    sequence: int
    subject: str
    data: bytes
    headers: dict[str, str]
    time: float


@dataclass
class Stream:
    """A stream, and the ids that it has stored lately, with the time and the sequence."""

    config: StreamConfig
    messages: list[Stored] = field(default_factory=list)
    ids: dict[str, tuple[float, int]] = field(default_factory=dict)

    def store(self, subject: str, data: bytes, headers: dict[str, str], now_s: float) -> PubAck:
        """Store a message, unless one with its id was stored lately."""
        name = self.config.name or ""
        message_id = headers.get("Nats-Msg-Id")
        if message_id in self.ids and now_s - self.ids[message_id][0] < DUPLICATE_WINDOW_S:
            return PubAck(stream=name, seq=self.ids[message_id][1], duplicate=True)
        sequence = len(self.messages) + 1
        self.messages.append(Stored(sequence, subject, data, headers, now_s))
        if message_id is not None:
            self.ids[message_id] = (now_s, sequence)
        return PubAck(stream=name, seq=sequence)


@dataclass(eq=False)
class _Consumer:
    stream: Stream
    config: ConsumerConfig
    next: int
    pending: dict[int, int] = field(default_factory=dict)
    """How often each message was delivered that is not acknowledged."""
    due_again: list[int] = field(default_factory=list)
    """Those whose time for an acknowledgement has passed while nobody was there."""


class Server:
    """The server: its streams, its consumers, and whoever is connected.

    Parameters
    ----------
    loop : SimulationLoop
        Where time passes.
    wall_s : callable
        Its wall clock.
    is_faulty, separated, note
        As in `Network`.
    delay_s : callable
        Draws how long a message takes.
    """

    def __init__(
        self,
        loop: SimulationLoop,
        wall_s: Callable[[], float],
        is_faulty: Callable[[str, str], bool],
        separated: Callable[[str, str], str],
        note: Callable[[str], None],
        delay_s: Callable[[], float],
    ) -> None:
        self.loop = loop
        self.wall_s = wall_s
        self.is_faulty = is_faulty
        self.separated = separated
        self.note = note
        self.delay_s = delay_s
        self.streams: dict[str, Stream] = {}
        self.clients: list[Client] = []
        self.process = Process(NATS)
        self._consumers: dict[tuple[str, str], _Consumer] = {}

    def client(self, _config: object) -> "Client":
        """Make a client of the process that runs, in the place of a `NatsClient`."""
        process = PROCESS.get()
        assert process is not None, "simulation: a client of nobody"
        return Client(self, process)

    def add(self, client: "Client") -> None:
        """Take a client that has connected, until its process is killed."""
        self.clients.append(client)
        client.process.on_kill.append(lambda: self.drop(client))

    def is_reachable(self, client: "Client") -> bool:
        """Return whether a client and the server can reach each other now."""
        return client.process.alive and not self.separated(client.process.name, NATS)

    def drop(self, client: "Client") -> None:
        """Forget a client, and its subscriptions."""
        if client in self.clients:
            self.clients.remove(client)

    def connections_changed(self) -> None:
        """Connect and disconnect clients as they can be reached, and deliver what waits."""
        for client in [*self.clients]:
            client.update(self.is_reachable(client))
        self.deliver_all()

    def deliver_all(self) -> None:
        """Deliver what waits for a subscriber."""
        for consumer in self._consumers.values():
            self.deliver(consumer)

    def store(self, subject: str, data: bytes, headers: dict[str, str]) -> PubAck:
        """Store a message in its stream."""
        for stream in self.streams.values():
            if any(fnmatchcase(subject, pattern) for pattern in stream.config.subjects or []):
                stored = stream.store(subject, data, headers, self.wall_s())
                for consumer in self._consumers.values():
                    if consumer.stream is stream:
                        self.deliver(consumer)
                return stored
        raise nats.js.errors.NoStreamResponseError

    def add_consumer(self, stream: str, config: ConsumerConfig) -> None:
        """Create a durable consumer."""
        found = self.streams[stream]
        first = 1 if config.deliver_policy is DeliverPolicy.ALL else len(found.messages) + 1
        consumer = _Consumer(found, config, first)
        self._consumers[stream, config.durable_name or ""] = consumer
        self.deliver(consumer)

    def consumer(self, stream: str, durable: str) -> ConsumerConfig:
        """Return a durable consumer; raise `NotFoundError` if there is none."""
        if (stream, durable) not in self._consumers:
            raise nats.js.errors.NotFoundError(404, "consumer not found")
        return self._consumers[stream, durable].config

    def is_read(self, stream: str) -> bool:
        """Return whether a stream has a consumer, and that has acknowledged all of it."""
        consumers = [each for (name, _), each in self._consumers.items() if name == stream]
        return bool(consumers) and not any(
            each.pending or each.next <= len(each.stream.messages) for each in consumers
        )

    def deliver(self, consumer: _Consumer) -> None:
        """Deliver what a consumer is to receive now."""
        again, consumer.due_again = consumer.due_again, []
        for sequence in again:
            if sequence in consumer.pending and not self._send(consumer, sequence):
                consumer.due_again.append(sequence)
        while consumer.next <= len(consumer.stream.messages):
            if len(consumer.pending) >= MAX_ACK_PENDING or not self._send(consumer, consumer.next):
                return
            consumer.next += 1

    def acknowledge(self, stream: str, durable: str, sequence: int) -> None:
        """Take an acknowledgement."""
        self._consumers[stream, durable].pending.pop(sequence, None)

    def _send(self, consumer: _Consumer, sequence: int) -> bool:
        client = self._subscriber_of(consumer)
        if client is None:
            return False
        count = consumer.pending.get(sequence, 0) + 1
        consumer.pending[sequence] = count
        message = consumer.stream.messages[sequence - 1]
        tokens = (consumer.stream.config.name, consumer.config.durable_name, count, sequence)
        reply = f"$JS.ACK.{'.'.join(map(str, tokens))}.1.{int(message.time * 1e9)}.0"
        name = client.process.name
        copies = 1
        if self.is_faulty("lost_delivery", name):
            copies = 0
        elif self.is_faulty("repeated_delivery", name):
            copies = 2
        if copies != 1:
            self.note(f"nats -> {name} {message.subject} #{sequence}: {copies} times")
        for _ in range(copies):
            client.receive(consumer.config.deliver_subject or "", message, reply)
        self.loop.call_later(
            consumer.config.ack_wait or 30.0,
            self._check_acknowledged,
            consumer,
            sequence,
            count,
            context=context_of(self.process),
        )
        return True

    def _check_acknowledged(self, consumer: _Consumer, sequence: int, count: int) -> None:
        if consumer.pending.get(sequence) == count:
            consumer.due_again.append(sequence)
            self.deliver(consumer)

    def _subscriber_of(self, consumer: _Consumer) -> "Client | None":
        subject = consumer.config.deliver_subject
        found = [each for each in self.clients if each.is_connected and subject in each.callbacks]
        return self.loop.chance.choice(found) if found else None


class Client:
    """A connection: what `Bus` and `Consumer` use of nats-py's client."""

    max_payload: Final = MAX_PAYLOAD

    def __init__(self, server: Server, process: Process) -> None:
        self.server = server
        self.process = process
        self.is_connected = False
        self.is_closed = False
        self.callbacks: dict[str, Callback] = {}
        self._options: dict[str, Any] = {}
        self._last_arrival_s = 0.0

    async def open(self, **options: Any) -> None:
        """Connect, trying again and again."""
        self._options = options
        while not self.server.is_reachable(self):
            await options["error_cb"](ConnectionRefusedError(111, "Connection refused"))
            await asyncio.sleep(RECONNECT_S)
        self.is_connected = True
        self.server.add(self)
        await asyncio.sleep(self.server.delay_s())

    def renew_tls(self) -> None:
        """Renew nothing: there is no TLS."""

    def jetstream(self, **_: object) -> "JetStream":
        return JetStream(self)

    async def subscribe(self, subject: str, cb: Callback, **_: object) -> "Subscription":
        self.callbacks[subject] = cb
        self.server.deliver_all()
        return Subscription(self, subject)

    async def publish(self, subject: str) -> None:
        """Send an acknowledgement: nobody is told whether it arrives."""
        if self.is_closed:
            raise nats.errors.ConnectionClosedError
        name = self.process.name
        if not self.is_connected or self.server.is_faulty("lost_ack", name):
            self.server.note(f"{name} -> nats {subject}: lost")
            return
        _, _, stream, durable, _, sequence, *_ = subject.split(".")
        self.server.loop.call_later(
            self.server.delay_s(),
            self.server.acknowledge,
            stream,
            durable,
            int(sequence),
            context=context_of(self.server.process),
        )

    async def close(self) -> None:
        self.is_closed, self.is_connected = True, False
        self.server.drop(self)

    def receive(self, subject: str, message: Stored, reply: str) -> None:
        """Call the subscriber, after all that was sent to it before."""
        loop = self.server.loop
        arrives_s = max(self._last_arrival_s, loop.time() + self.server.delay_s())
        self._last_arrival_s = arrives_s
        loop.call_at(
            arrives_s, self._arrived, subject, message, reply, context=context_of(self.process)
        )

    def _arrived(self, subject: str, message: Stored, reply: str) -> None:
        if self.is_connected and subject in self.callbacks:
            point(self.server.loop, "delivery")
            arrived = Msg(
                _client=self,  # type: ignore[arg-type]  # all that it uses of one
                subject=message.subject,
                reply=reply,
                data=message.data,
                headers=dict(message.headers),
            )
            if self.process.alive:
                self.server.loop.spawn(self.process, _call(self.callbacks[subject], arrived))

    def update(self, reachable: bool) -> None:
        """Connect or disconnect, and tell it."""
        if self.is_closed or reachable == self.is_connected:
            return
        self.is_connected = reachable
        told = self._options["reconnected_cb" if reachable else "disconnected_cb"]
        self.server.note(f"{self.process.name} {'re' if reachable else 'dis'}connected")
        self.server.loop.spawn(self.process, _call(told))


async def _call(callback: Callback, *args: Any) -> None:
    await callback(*args)


@dataclass(frozen=True)
class Subscription:
    client: Client
    subject: str

    async def unsubscribe(self) -> None:
        self.client.callbacks.pop(self.subject, None)


@dataclass(frozen=True)
class _StreamState:
    messages: int


@dataclass(frozen=True)
class StreamInfo:
    config: StreamConfig
    state: _StreamState


class JetStream:
    """What `Bus`, `Consumer` and `apply_bounds` use of nats-py's JetStream."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._server = client.server

    async def publish(self, subject: str, payload: bytes, headers: dict[str, str]) -> PubAck:
        server, name = self._server, self._client.process.name
        await checkpoint(server.loop, "publish")
        what = f"{name} -> nats {subject} {headers.get('Nats-Msg-Id', '')}"
        await self._reach()
        if server.is_faulty("lost_publish", name):
            server.note(f"{what}: lost")
            await self._time_out()
        stored = server.store(subject, payload, headers)
        server.note(f"{what}: #{stored.seq}{' again' if stored.duplicate else ''}")
        await checkpoint(server.loop, "stored")
        if server.is_faulty("lost_publish_ack", name):
            server.note(f"{what}: its acknowledgement is lost")
            await self._time_out()
        await self._reach()
        return stored

    async def stream_info(self, name: str) -> StreamInfo:
        await self._reach()
        if name not in self._server.streams:
            raise nats.js.errors.NotFoundError(404, "stream not found")
        stream = self._server.streams[name]
        return StreamInfo(stream.config, _StreamState(len(stream.messages)))

    async def add_stream(self, config: StreamConfig) -> None:
        await self._reach()
        self._server.streams.setdefault(config.name or "", Stream(config))

    async def update_stream(self, config: StreamConfig) -> None:
        await self._reach()
        self._server.streams[config.name or ""].config = config

    async def consumer_info(self, stream: str, durable: str) -> ConsumerConfig:
        await self._reach()
        return self._server.consumer(stream, durable)

    async def add_consumer(self, stream: str, config: ConsumerConfig) -> None:
        await self._reach()
        self._server.add_consumer(stream, config)

    async def _reach(self) -> None:
        """Let a message go one way; time out where it cannot."""
        if self._client.is_closed:
            raise nats.errors.ConnectionClosedError
        await asyncio.sleep(self._server.delay_s())
        if not self._client.is_connected:
            await self._time_out()

    async def _time_out(self) -> None:
        await asyncio.sleep(TIMEOUT_S)
        raise nats.errors.TimeoutError
