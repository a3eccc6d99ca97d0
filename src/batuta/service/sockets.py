"""The listening socket of a service: opened by itself, or passed on by its supervisor.

A supervisor that owns the socket can choose a free port without a race between finding and binding
it. While it restarts the service the socket stays open: connections wait in the backlog instead of
being refused.
"""

import contextlib
import os
import socket
from collections.abc import Iterator
from typing import Final

from batuta.errors import ConfigurationError
from batuta.service.settings import ServiceSettings
from batuta.tls import ServerCertificate

LISTEN_VARIABLE: Final = "BATUTA_LISTEN_FD"
"""Environment variable: the file descriptor of a listening socket."""

BACKLOG: Final = 2048


@contextlib.contextmanager
def listening_socket(settings: ServiceSettings) -> Iterator[socket.socket]:
    """Open the port, or adopt the socket of the supervisor, before anything else starts.

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
    # asyncio disables Nagle's algorithm only if the protocol is explicitly TCP; with it each
    # answer would be delayed by 40 ms.
    sock = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind((host, port))
        sock.listen(BACKLOG)
    except OSError as exc:
        sock.close()
        raise ConfigurationError(
            f"--port {port} on {host}: {exc.strerror or exc} "
            "(choose another --port; 0 takes a free one)"
        ) from exc
    return sock


def address_of(sock: socket.socket, certificate: ServerCertificate | None = None) -> str:
    """URL of a listening socket; with a certificate, of a name that it is valid for."""
    host, port = sock.getsockname()[:2]
    scheme = "http"
    if certificate is not None:
        scheme, host = "https", certificate.name_for(host)
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"
