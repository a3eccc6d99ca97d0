"""The socket that a service listens on: taken by itself, or handed over by who started it.

A starter that holds the socket chooses a free port without a race, and keeps it while the
service is started again: who calls meanwhile waits a moment, and is not refused.
"""

import contextlib
import os
import socket
from collections.abc import Iterator
from typing import Final

from batuta.errors import ConfigurationError
from batuta.service.settings import ServiceSettings

LISTEN_VARIABLE: Final = "BATUTA_LISTEN_FD"
"""Environment variable: the file descriptor of a socket that listens already."""

BACKLOG: Final = 2048


@contextlib.contextmanager
def listening_socket(settings: ServiceSettings) -> Iterator[socket.socket]:
    """Take the port before anything else is done, or the socket that was handed over.

    Raises
    ------
    ConfigurationError
        If the port is in use, or the host is not this machine's.
    """
    number = os.environ.pop(LISTEN_VARIABLE, None)
    if number is None:
        sock = listen(settings.host, settings.port)
    else:
        os.set_inheritable(int(number), False)
        sock = socket.socket(fileno=int(number))
    with sock:
        yield sock


def listen(host: str, port: int) -> socket.socket:
    """Listen on `port` of `host`; 0 takes a free one.

    Raises
    ------
    ConfigurationError
        If the port is in use, or the host is not this machine's.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # Said to be TCP, or asyncio leaves Nagle's algorithm on and each answer waits 40 ms.
    sock = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind((host, port))
        sock.listen(BACKLOG)
    except OSError as exc:
        sock.close()
        raise ConfigurationError(
            f"--port {port} on {host}: {exc.strerror or exc} "
            "(give another with --port; 0 takes a free one)"
        ) from exc
    return sock


def address_of(sock: socket.socket) -> str:
    """URL of a listening socket."""
    host, port = sock.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
