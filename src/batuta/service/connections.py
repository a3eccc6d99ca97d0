"""Bounds on the connections of a service: how many, and how long each may make it wait.

uvicorn bounds idle connections after an answer, and nothing else: a client that never sends its
request, trickles its body or never reads its answer would keep a file descriptor for ever. Here
every wait for a client has an end (as with mod_reqtimeout of Apache, whose figures these are, but
for a longer pause). Those who come too many wait for a place (see `batuta.service.server`), and
connections that are kept alive make room for them.
"""

import asyncio
import logging
import resource
import select
import socket
import struct
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from functools import partial
from http import HTTPStatus
from typing import Any, Final, cast

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from batuta.service.bodies import BODY_EXTENSION, MIN_BODY_BYTES, BodyReceiver
from batuta.service.problems import problem_response

LOG: Final = logging.getLogger(__name__)

MAX_OPEN_FILES: Final = 65_536
MAX_CONNECTIONS: Final = 2048
"""More than the clients of an orchestra; each large upload takes up to 3 MiB of memory."""
RESERVED_FILES: Final = 256
"""Descriptors for what is not a client: the database (50 connections), NATS, logs, the store."""
REFUSALS_AT_ONCE: Final = 64
"""Connections beyond the bound that are being told so; the oldest makes room for the next."""
FULL_S: Final = 10.0
"""How long others wait while no place becomes free, before they are told to come later."""
SILENT_S: Final = 5.0
"""How long a new connection on which nothing came keeps its place while others wait for one.

Less than `FULL_S`, so that the silent leave before others are refused. A client that opens
hundreds of connections at once on a busy machine takes seconds from connecting to sending: cut off
before, it cannot tell whether to send again.
"""
MAX_CLOSED_AT_ONCE: Final = 32
"""Idle connections that make room at once, as in nginx: their clients must connect again."""
HEAD_S: Final = 20.0
"""How long a client may take for the head of its request, from the end of the last one."""
MAX_HEAD_BYTES: Final = 65_536
"""The longest head of a request."""
PATIENCE_S: Final = 60.0
"""How long a client may keep a service waiting for its body, or for its reading of the answer."""
MIN_RATE_BYTES_PER_S: Final = 500
"""What a client must send or read, on average, not to use up the patience."""
LINGER_S: Final = 2.0
"""How long more is read of a connection that was refused, so that its client reads the answer."""
RETRY_AFTER_S: Final = 2
TICK_S: Final = 1.0
"""How often connections are looked at."""
_ACKNOWLEDGED_END: Final = 128
"""Where `tcpi_bytes_acked` ends in `struct tcp_info` of <linux/tcp.h>, since Linux 4.1."""


@dataclass(frozen=True, kw_only=True)
class ConnectionLimits:
    """How many connections a service accepts, and how long each may make it wait, in seconds."""

    max_connections: int
    head_s: float = HEAD_S
    patience_s: float = PATIENCE_S
    linger_s: float = LINGER_S
    full_s: float = FULL_S
    silent_s: float = SILENT_S
    tick_s: float = TICK_S


def raise_open_files_limit() -> ConnectionLimits:
    """Allow many open files, as far as the system lets; return the limits that follow.

    The soft limit is 1024 on most systems, for the sake of programs that use select(2). Each
    connection may take two descriptors: its socket, and the file that it fills or reads.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MAX_OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, MAX_OPEN_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        soft = wanted
    files = MAX_OPEN_FILES if soft == resource.RLIM_INFINITY else soft
    spared = max((files - RESERVED_FILES - REFUSALS_AT_ONCE) // 2, 8)
    return ConnectionLimits(max_connections=min(spared, MAX_CONNECTIONS))


class Connections:
    """The open connections of a service; `protocol` is what uvicorn makes of each.

    Parameters
    ----------
    limits : ConnectionLimits
        Their bounds.

    Attributes
    ----------
    others_wait : bool
        Whether connections wait for a place: then none is kept alive after its answer.
    on_room : callable
        Called each time a place has become free.
    """

    def __init__(self, limits: ConnectionLimits) -> None:
        self.limits = limits
        self.others_wait = False
        self.on_room: Callable[[], None] = _do_nothing
        self.protocol = cast("type[asyncio.Protocol]", partial(_BoundedProtocol, self))
        self._served: set[_BoundedProtocol] = set()
        # In the order of their refusal.
        self._refused: dict[_BoundedProtocol, None] = {}

    async def watch(self) -> None:
        """End the connections whose clients make the service wait too long, until cancelled."""
        while True:
            await asyncio.sleep(self.limits.tick_s)
            for connection in (*self._served, *self._refused):
                connection.check(self.limits.tick_s)
            if self.places:
                # Whoever waited has been accepted since.
                self.nobody_waits()
            elif self.others_wait:
                self._close_idle()

    @property
    def places(self) -> int:
        """How many more connections can be served."""
        return self.limits.max_connections - len(self._served)

    def make_room(self) -> None:
        """Let no connection be kept alive, as others wait for a place; close those that are idle.

        All are examined when others begin to wait, and then at each tick; between these, each
        connection closes itself at the end of its answer.
        """
        if self.others_wait:
            return
        self.others_wait = True
        for connection in self._served:
            connection.end_after_answer()
        self._close_idle()

    def nobody_waits(self) -> None:
        """Keep connections alive again."""
        self.others_wait = False

    def _close_idle(self) -> None:
        """Close the connections that have been idle for longest."""
        now = asyncio.get_running_loop().time()
        idle = sorted(
            (connection for connection in self._served if connection.is_idle(now)),
            key=lambda connection: connection.idle_since_s,
        )
        for connection in _silent(idle)[:MAX_CLOSED_AT_ONCE]:
            connection.transport.close()

    def opened(self, connection: "_BoundedProtocol") -> None:
        """Serve a new connection, or refuse it."""
        if len(self._served) < self.limits.max_connections:
            self._served.add(connection)
        else:
            LOG.warning("%d connections, as many as accepted: more are refused", len(self._served))
            connection.refuse(_TOO_MANY)

    def refused(self, connection: "_BoundedProtocol") -> None:
        """Count a connection that is only open so that its client reads its last answer."""
        self._free_place(connection)
        self._refused[connection] = None
        if len(self._refused) > REFUSALS_AT_ONCE:
            next(iter(self._refused)).abort()

    def closed(self, connection: "_BoundedProtocol") -> None:
        """Forget a connection."""
        self._free_place(connection)
        self._refused.pop(connection, None)

    def _free_place(self, connection: "_BoundedProtocol") -> None:
        if connection in self._served:
            self._served.remove(connection)
            self.on_room()


def _unsent_counter(transport: asyncio.Transport) -> Callable[[], int]:
    """Return what counts the bytes that the system has not taken yet.

    Of TLS, asyncio counts those that were not encrypted yet alone. There is no public way to those
    that were, and wait in the transport below.
    """
    tls = getattr(transport, "_ssl_protocol", None)
    below = getattr(tls, "_transport", None)
    if tls is None or below is None:
        return transport.get_write_buffer_size
    # Not by `transport`, which loses its protocol when it is closed twice.
    return lambda: int(tls._get_write_buffer_size()) + int(below.get_write_buffer_size())


def _do_nothing() -> None:
    """Stand for a server that accepts without asking."""


def _silent(connections: Sequence["_BoundedProtocol"]) -> list["_BoundedProtocol"]:
    """Return those on which nothing has arrived that was not read yet.

    A request may have come since the loop looked: it must not be lost.
    """
    poll = select.poll()
    by_descriptor = {each.transport.get_extra_info("socket").fileno(): each for each in connections}
    for descriptor in by_descriptor:
        poll.register(descriptor, select.POLLIN)
    readable = {descriptor for descriptor, _ in poll.poll(0)}
    return [each for descriptor, each in by_descriptor.items() if descriptor not in readable]


class _Awaited(Enum):
    """What a service waits for, of a client."""

    NOTHING = auto()
    HEAD = auto()
    BODY = auto()
    READING = auto()
    CLOSING = auto()


class _BoundedProtocol(HttpToolsProtocol):
    """A connection of uvicorn's, which ends if its client makes the service wait too long.

    Its patience is used up by waiting, second by second, and restored by the bytes that the client
    sends or reads, at `MIN_RATE_BYTES_PER_S`. So an upload takes as long as it needs, over any
    link that carries that much, and waiting for the service itself costs a client nothing.
    """

    def __init__(self, connections: Connections, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._connections = connections
        self._limits = connections.limits
        self._refusing = False
        self._awaited_since: tuple[_Awaited, object] = (_Awaited.NOTHING, None)
        self._left_s = 0.0
        self._received_bytes = 0
        self._head_bytes = 0
        self._body_is_open = False
        self._framing_bytes = 0
        self._receiver: BodyReceiver | None = None
        self._kept_alive = True
        self._unread_bytes = 0
        self._acknowledged_bytes = 0
        self._unsent: Callable[[], int] = int
        self._socket: socket.socket | None = None
        self.idle_since_s = 0.0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        """Serve it, or refuse it if there are too many."""
        super().connection_made(transport)
        self._unsent = _unsent_counter(transport)
        self._socket = transport.get_extra_info("socket")
        self.idle_since_s = self.loop.time()
        self._connections.opened(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget it."""
        self._connections.closed(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Pass on what the client sends, unless it was refused."""
        # TLS goes on reading while it closes.
        if self._refusing or self.transport.is_closing():
            return
        self._received_bytes += len(data)
        before, was_body = self.cycle, self._body_is_open
        self._framing_bytes += len(data)
        super().data_received(data)
        if not self._body_is_open:
            self._framing_bytes = 0
        elif self._framing_bytes > MAX_HEAD_BYTES:
            self.refuse(_TOO_LONG)
            return
        if self.cycle is not before or was_body or self._body_is_open:
            self._head_bytes = 0
            return
        # The parser has no bound of its own.
        self._head_bytes += len(data)
        if self._head_bytes > MAX_HEAD_BYTES:
            self.refuse(_TOO_LONG)

    def on_headers_complete(self) -> None:
        """Note that what follows is no head, and offer it to what serves the request."""
        self._body_is_open = True
        super().on_headers_complete()
        extensions = {BODY_EXTENSION: partial(self._receive_body, self.cycle)}
        self.scope["extensions"] = cast("dict[str, dict[object, object]]", extensions)
        if self._connections.others_wait:
            self.end_after_answer()

    def on_body(self, body: bytes) -> None:
        """Note that what came last is a body: the parser keeps trailers, without a bound."""
        self._framing_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Note that a head follows, also where the answer came before the end of the body."""
        self._body_is_open = False
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """Go on with the next request, or make room if others wait for a place."""
        super().on_response_complete()
        self.idle_since_s = self.loop.time()
        if self._connections.others_wait and self.is_idle(self.idle_since_s) and _silent([self]):
            self.transport.close()

    def end_after_answer(self) -> None:
        """Let the answer that has not begun say that the connection ends with it."""
        if self.cycle is not None and not self.cycle.response_started:
            self.cycle.keep_alive = self._kept_alive = False

    def is_idle(self, now_s: float) -> bool:
        """Whether nothing of a request has come: since an answer, or for some time if it is new."""
        if self.transport.is_closing() or self._awaited() is not _Awaited.HEAD or self._head_bytes:
            return False
        return now_s - self.idle_since_s >= self._limits.silent_s or self.cycle is not None

    def _receive_body(self, cycle: RequestResponseCycle) -> BodyReceiver | None:
        """Return what receives the rest of the body of `cycle`; None if it is short or chunked."""
        length = dict(cycle.scope["headers"]).get(b"content-length", b"")
        left_bytes = int(length) - len(cycle.body) if length.isdigit() else 0
        if cycle is not self.cycle or not cycle.more_body or left_bytes < MIN_BODY_BYTES:
            return None
        if cycle.waiting_for_100_continue and not self.transport.is_closing():
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            cycle.waiting_for_100_continue = False
        self._receiver = BodyReceiver(self, bytes(cycle.body), left_bytes)
        cycle.body = bytearray()
        # Where the body is left before its end, no other request can follow on this connection.
        self._kept_alive, cycle.keep_alive = cycle.keep_alive, False
        self.transport.set_protocol(self._receiver)
        self.flow.resume_reading()
        return self._receiver

    def count_received(self, size_bytes: int) -> None:
        """Count what the client has sent of a body."""
        self._received_bytes += size_bytes

    def pause_body(self) -> None:
        """Stop reading a body."""
        self.flow.pause_reading()

    def resume_body(self) -> None:
        """Go on reading a body."""
        self.flow.resume_reading()

    def body_ended(self) -> None:
        """Parse requests again: the parser still waits for the body, and a new one does not."""
        self._receiver = None
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn's
        self._body_is_open = False
        self.cycle.more_body = False
        self.cycle.keep_alive = self._kept_alive
        self.transport.set_protocol(self)

    def check(self, elapsed_s: float) -> None:
        """Count `elapsed_s` seconds against the client, if it is the client that is awaited."""
        awaited = self._awaited()
        # The cycle is one request with its answer: the next one has all its time again.
        if self._awaited_since != (awaited, self.cycle):
            self._awaited_since = awaited, self.cycle
            self._left_s = self._time_for(awaited)
        self._left_s += self._moved_bytes(awaited) / MIN_RATE_BYTES_PER_S - elapsed_s
        self._left_s = min(self._left_s, self._time_for(awaited))
        if self._left_s <= 0 and awaited is not _Awaited.NOTHING:
            self._end(awaited)

    def refuse(self, answer: bytes) -> None:
        """Send `answer` as the last one, and close the connection once the client has read it.

        Closed at once, with bytes of the client unread, it would be reset, and the answer lost.
        """
        self._refusing = True
        self._connections.refused(self)
        self._unset_keepalive_if_required()
        if self.cycle is not None:
            # As if the client had gone: what serves it stops, and what it still sends is dropped.
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        if self._receiver is not None:
            self._receiver.disconnect()
            self.transport.set_protocol(self)
        self.flow.resume_reading()
        self.transport.write(answer)
        # TLS has no half of a connection to close: the answer has its length, and says "close".
        if self.transport.can_write_eof():
            self.transport.write_eof()

    def abort(self) -> None:
        """Close it at once."""
        self._connections.closed(self)
        self.transport.abort()

    def _awaited(self) -> _Awaited:
        if self._refusing:
            return _Awaited.CLOSING
        if self.transport.is_closing():
            # What is left is sent, and TLS waits for the client to close as well.
            return _Awaited.READING if self._unsent() else _Awaited.CLOSING
        answered = self.cycle is None or self.cycle.response_complete
        if self.flow.write_paused or (answered and self._unsent()):
            return _Awaited.READING
        if answered:
            return _Awaited.HEAD
        asked = not (self.flow.read_paused or self.cycle.waiting_for_100_continue)
        if self.cycle.more_body and asked and not self.cycle.response_started:
            return _Awaited.BODY
        return _Awaited.NOTHING

    def _time_for(self, awaited: _Awaited) -> float:
        if awaited is _Awaited.CLOSING:
            return self._limits.linger_s
        return self._limits.head_s if awaited is _Awaited.HEAD else self._limits.patience_s

    def _moved_bytes(self, awaited: _Awaited) -> int:
        """Return what the client has sent, or read, since the last call."""
        received_bytes, self._received_bytes = self._received_bytes, 0
        if awaited is _Awaited.BODY:
            return received_bytes
        if awaited is not _Awaited.READING:
            return 0
        # The system takes megabytes, and more only once a third of them has been read: of a
        # slow client, what waits here changes so rarely that it would seem not to read at all.
        before, self._acknowledged_bytes = self._acknowledged_bytes, self._acknowledged()
        unread, self._unread_bytes = self._unread_bytes, self._unsent()
        return max(self._acknowledged_bytes - before, unread - self._unread_bytes, 0)

    def _acknowledged(self) -> int:
        """Return how many bytes the client's system has taken, where ours tells it."""
        sock = self._socket
        if sock is None or sys.platform != "linux":
            return 0
        try:
            info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _ACKNOWLEDGED_END)
        except OSError:  # not a TCP socket, or closed meanwhile
            return 0
        if len(info) < _ACKNOWLEDGED_END:
            return 0
        return int(struct.unpack_from("=Q", info, _ACKNOWLEDGED_END - 8)[0])

    def _end(self, awaited: _Awaited) -> None:
        if awaited is _Awaited.BODY or (awaited is _Awaited.HEAD and self._head_bytes):
            LOG.warning("a client sent its request too slowly: it was ended with 408")
            self.refuse(_TOO_SLOW)
            return
        if awaited is _Awaited.READING:
            LOG.warning("a client read its answer too slowly: its connection was closed")
        self.abort()


def raw_answer(status: HTTPStatus, detail: str, headers: Mapping[str, str]) -> bytes:
    """Return a whole answer, for a request that uvicorn may not have read to its end."""
    response = problem_response(status, detail, {"Connection": "close", **headers})
    lines = [f"HTTP/1.1 {status.value} {status.phrase}".encode()]
    lines += [name + b": " + value for name, value in response.raw_headers]
    return b"\r\n".join((*lines, b"", bytes(response.body)))


_TOO_MANY: Final = raw_answer(
    HTTPStatus.SERVICE_UNAVAILABLE,
    "too many connections: come again in a moment",
    {"Retry-After": str(RETRY_AFTER_S)},
)
_TOO_SLOW: Final = raw_answer(
    HTTPStatus.REQUEST_TIMEOUT,
    f"the request came too slowly (accepted: its head within {HEAD_S:g} s; its body at "
    f"{MIN_RATE_BYTES_PER_S} bytes/s, with pauses of {PATIENCE_S:g} s)",
    {},
)
_TOO_LONG: Final = raw_answer(
    HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
    f"the head of the request is longer than {MAX_HEAD_BYTES} bytes",
    {},
)
