"""Runs a service: its socket, its signals, its background work, its shutdown."""

import asyncio
import contextlib
import gc
import logging
import signal
import sys
import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Final, Protocol, TypeVar

from fastapi import FastAPI

from batuta.errors import printable
from batuta.service.connections import Connections, raise_open_files_limit
from batuta.service.lifeline import watch_lifeline
from batuta.service.repeated_lines import RepeatedLines
from batuta.service.server import Listener, Server
from batuta.service.settings import ServiceSettings, forget_secrets
from batuta.service.sockets import address_of, listening_socket
from batuta.tls import trust

LOG: Final = logging.getLogger(__name__)

GRACE_S: Final = 10
"""How long pending requests may take once a service is stopping, in seconds."""
NEW_OBJECTS: Final = 5000
"""After how many new objects, less those that are gone, the garbage collector looks at them. With
Python's 700, it takes a tenth of the processor time of a small import."""

S = TypeVar("S", bound=ServiceSettings)
S_contra = TypeVar("S_contra", bound=ServiceSettings, contravariant=True)


class Service(Protocol):
    """A service that is open: an application to serve, and work to do meanwhile."""

    app: FastAPI

    async def run(self) -> None:
        """Do the background work until cancelled; an exception ends the service."""


class OpenService(Protocol[S_contra]):
    """Opens a service."""

    def __call__(self, settings: S_contra, url: str, /) -> AbstractAsyncContextManager[Service]:
        """Open it with `settings`; `url` is the address that it listens on."""


def run_service(name: str, settings: S, open_service: OpenService[S]) -> None:
    """Serve until SIGINT or SIGTERM.

    Prints ``<name> listening on <url>`` on standard output once it answers.

    Raises
    ------
    ConfigurationError
        If it is not allowed to listen there, or cannot.
    BatutaError
        If a service or a database that it needs is unavailable, or its background work failed.
    """
    settings.require_token_beyond_loopback()
    certificate = settings.server_certificate()
    trust(settings.tls_ca)
    for warning in (settings.clear_text_warning, settings.nats_clear_text_warning):
        if warning is not None:
            LOG.warning("%s", warning)
    forget_secrets()
    watch_lifeline()
    connections = Connections(raise_open_files_limit())
    with listening_socket(settings) as sock:
        listener = Listener(sock, certificate)
        asyncio.run(_serve(name, settings, open_service, listener, connections))


async def _serve(
    name: str,
    settings: S,
    open_service: OpenService[S],
    listener: Listener,
    connections: Connections,
) -> None:
    stopper = _Stopper()
    url = address_of(listener.sock, listener.certificate)
    try:
        async with open_service(settings, url) as service:
            server = Server(service.app, connections, listener, GRACE_S)
            stopper.stop = server.stop
            _collect_less()
            working = asyncio.create_task(service.run())
            working.add_done_callback(lambda _: server.stop())
            print(f"{name} listening on {url}", flush=True)  # noqa: T201  its parent waits for this line
            async with asyncio.TaskGroup() as group:
                watching = group.create_task(connections.watch())
                await server.serve()
                watching.cancel()
            working.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await working
    except asyncio.CancelledError:
        if not stopper.requested:
            raise


def _collect_less() -> None:
    """Let the garbage collector look at what requests leave, not at what the service has loaded.

    That lives as long as the service: hundreds of thousands of objects, of which each full
    collection takes as long as tens of requests.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(NEW_OBJECTS, *gc.get_threshold()[1:])


class _Stopper:
    """Turns SIGINT and SIGTERM into a stop.

    While the service opens, a signal cancels the opening; once it serves, `stop` is replaced and
    the server shuts down gracefully. `requested` distinguishes a cancellation caused by a
    signal from one that comes from outside and must be raised.
    """

    def __init__(self) -> None:
        self.requested = False
        self.stop: Callable[[], object] = _current_task().cancel
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._signalled)

    def _signalled(self) -> None:
        self.requested = True
        self.stop()


def _current_task() -> asyncio.Task[None]:
    task = asyncio.current_task()
    assert task is not None  # noqa: S101  we are inside one
    return task


def set_up_logging(level: str = "INFO") -> None:
    """Log to standard error, one line each, with the time in UTC."""
    handler = _StandardError()
    formatter = _OneLineFormatter(
        "%(asctime)s.%(msecs)03dZ %(levelname)s %(name)s: %(message)s", "%Y-%m-%dT%H:%M:%S"
    )
    formatter.converter = time.gmtime
    handler.setFormatter(formatter)
    root = logging.getLogger()
    for previous in [one for one in root.handlers if isinstance(one, _StandardError)]:
        root.removeHandler(previous)
    root.addHandler(handler)
    root.setLevel(level.upper())
    # Each call by httpx, reconnection attempt by nats and file that is written is noise.
    for chatty in ("httpx", "httpcore", "nats", "watchfiles"):
        logging.getLogger(chatty).setLevel(logging.WARNING)


class _OneLineFormatter(logging.Formatter):
    """Keeps each message on its line: what others sent must not pass for lines of ours."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  logging's name
        return printable(super().formatMessage(record)).replace("\n", "\\n")


class _StandardError(logging.Handler):
    """Writes to what standard error is when the line is written, not when logging was set up."""

    def __init__(self) -> None:
        super().__init__()
        self._repeated = RepeatedLines()

    def emit(self, record: logging.LogRecord) -> None:
        more = self._repeated.admit(record)
        if more is None or sys.stderr is None:
            return
        # A terminal that is gone, a closed stream or a full disk must not end the service, and
        # leaves nowhere to tell it.
        with contextlib.suppress(OSError, ValueError):
            sys.stderr.write(f"{self.format(record)}{more}\n")
