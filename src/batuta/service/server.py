"""The HTTP server of a service: uvicorn, which accepts only as many connections as have a place.

Those beyond wait in the backlog of the socket, as with Apache and nginx, and are served as places
become free; connections that are kept alive make room for them. Only where no place becomes free
for long are they told to come later, so that clients too slow for the rest leave nobody waiting
without an answer.
"""

import asyncio
import contextlib
import errno
import logging
import socket
import ssl
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

import uvicorn
from fastapi import FastAPI

from batuta.errors import one_line
from batuta.service.app import CERTIFICATE
from batuta.service.connections import REFUSALS_AT_ONCE, Connections, raw_answer
from batuta.service.sockets import BACKLOG
from batuta.tls import ServerCertificate

LOG: Final = logging.getLogger(__name__)

ACCEPTED_AT_ONCE: Final = 32
"""Connections accepted before any of them is served."""
RETRY_S: Final = 1.0
"""How long nothing is accepted after the system lacked descriptors or memory, as in asyncio."""
STOPPING: Final = "stopping"
"""Of the state of a request: an `asyncio.Event`, set once the server stops. What answers without an
end has to end then."""
_EXHAUSTED: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})


@dataclass(frozen=True)
class Listener:
    """A socket that listens, and the certificate to show there; without one, no TLS is spoken."""

    sock: socket.socket
    certificate: ServerCertificate | None = None


class Server(uvicorn.Server):
    """Serves `app` on a socket that listens, without signal handlers of its own.

    Parameters
    ----------
    app : FastAPI
        What answers.
    connections : Connections
        Bounds its connections; the caller runs `Connections.watch` meanwhile.
    listener : Listener
        Where it listens; closed at the end.
    grace_s : int
        How long pending requests may take once it is stopping.
    """

    def __init__(
        self, app: FastAPI, connections: Connections, listener: Listener, grace_s: int
    ) -> None:
        config = uvicorn.Config(
            app,
            http=connections.protocol,
            # None of ours speaks it, and what an upgrade takes over is out of all bounds.
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            timeout_graceful_shutdown=grace_s,
        )
        super().__init__(config)
        self._stopping = asyncio.Event()
        setattr(app.state, CERTIFICATE, listener.certificate)
        self._sock = listener.sock
        self._acceptor = _Acceptor(listener, connections, self._protocol)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals to the caller."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:  # noqa: ARG002  uvicorn's signature
        """Start to accept; uvicorn itself accepts nothing, as it would accept all."""
        await super().startup([])
        self._acceptor.start()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:  # noqa: ARG002  uvicorn's signature
        """Accept no more, and let pending requests end."""
        self._stopping.set()
        self._acceptor.stop()
        await super().shutdown([self._sock])

    def stop(self) -> None:
        """Make `serve` end."""
        self.should_exit = True

    def _protocol(self) -> asyncio.Protocol:
        made: asyncio.Protocol = self.config.http_protocol_class(  # type: ignore[call-arg]  # as uvicorn calls it
            config=self.config,
            server_state=self.server_state,
            app_state={STOPPING: self._stopping},
        )
        return made


class _Acceptor:
    """Accepts connections while they have a place, or to refuse them."""

    def __init__(
        self,
        listener: Listener,
        connections: Connections,
        protocol: Callable[[], asyncio.Protocol],
    ) -> None:
        self._sock = listener.sock
        self._certificate = listener.certificate
        self._connections = connections
        self._protocol = protocol
        self._loop = asyncio.get_running_loop()
        # With when each began.
        self._opening: dict[asyncio.Task[object], float] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._stopped = False
        self._refusing = False

    def start(self) -> None:
        self._sock.setblocking(False)
        self._sock.listen(BACKLOG)
        self._connections.on_room = self._resume
        self._loop.add_reader(self._sock, self._accept)

    def stop(self) -> None:
        self._stopped = True
        self._cancel_timer()
        self._loop.remove_reader(self._sock)
        for opening in self._opening:
            opening.cancel()

    def _accept(self) -> None:
        """Accept those that wait, of whom there is at least one: the socket is readable."""
        if not self._may_accept():
            # Not looked at until there is a place: the loop would be told each time round.
            self._pause(self._connections.limits.full_s, self._refuse)
            self._connections.make_room()
            self._loop.call_later(self._connections.limits.silent_s, self._end_slow_handshakes)
            return
        for _ in range(ACCEPTED_AT_ONCE):
            if not self._may_accept():
                return
            try:
                accepted, _address = self._sock.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                self._connections.nobody_waits()
                return
            except OSError as exc:
                if exc.errno not in _EXHAUSTED:
                    raise
                LOG.warning("no connection can be accepted for %g s: %s", RETRY_S, exc.strerror)
                self._pause(RETRY_S, self._resume)
                return
            opening = self._loop.create_task(self._open(accepted))
            self._opening[opening] = self._loop.time()
            opening.add_done_callback(self._opened)

    def _may_accept(self) -> bool:
        if self._refusing:
            return len(self._opening) < REFUSALS_AT_ONCE
        return self._connections.places > len(self._opening)

    async def _open(self, accepted: socket.socket) -> None:
        if self._certificate is not None:
            await self._open_with_tls(accepted, self._certificate)
            return
        try:
            await self._loop.connect_accepted_socket(self._protocol, accepted)
        except BaseException:
            accepted.close()
            raise

    async def _open_with_tls(self, accepted: socket.socket, certificate: ServerCertificate) -> None:
        limits = self._connections.limits
        # asyncio closes its own without a word when a handshake fails.
        with accepted.dup() as kept:
            try:
                await self._loop.connect_accepted_socket(
                    self._protocol,
                    accepted,
                    ssl=certificate.context,
                    ssl_handshake_timeout=limits.head_s,
                    # `Connections.watch` ends those who do not close, sooner.
                    ssl_shutdown_timeout=10 * limits.patience_s,
                )
            except (OSError, TimeoutError) as exc:
                if reason := one_line(exc):  # none if it left: others look whether a port is open
                    LOG.info("a client did not agree on TLS: %s", reason)
                if isinstance(exc, ssl.SSLError) and exc.reason == "HTTP_REQUEST":
                    with contextlib.suppress(OSError):
                        kept.send(_NO_TLS)

    def _end_slow_handshakes(self) -> None:
        """Close connections whose TLS handshake takes too long: others wait for their places."""
        if self._timer is None:
            return
        oldest_s = self._loop.time() - self._connections.limits.silent_s
        for opening, since_s in list(self._opening.items()):
            if since_s <= oldest_s:
                opening.cancel()

    def _opened(self, opening: asyncio.Task[object]) -> None:
        del self._opening[opening]
        # While it opened it was counted twice, so that a place may have seemed taken.
        if self._may_accept():
            self._resume(refusing=self._refusing)

    def _pause(self, seconds: float, then: Callable[[], None]) -> None:
        self._loop.remove_reader(self._sock)
        self._cancel_timer()
        self._timer = self._loop.call_later(seconds, then)

    def _resume(self, *, refusing: bool = False) -> None:
        """Accept again: there is a place, or to refuse."""
        self._refusing = refusing
        if self._timer is not None and not self._stopped:
            self._cancel_timer()
            self._loop.add_reader(self._sock, self._accept)

    def _refuse(self) -> None:
        """Accept, to refuse, until there is a place: none has become free for long."""
        self._resume(refusing=True)

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


_NO_TLS: Final = raw_answer(
    HTTPStatus.BAD_REQUEST, "this port speaks TLS alone (accepted: an address https://...)", {}
)
