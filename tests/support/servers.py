"""Real servers for tests: NATS, and PostgreSQL, each on a free port of this machine."""

import itertools
import os
import shutil
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Final

from batuta.messaging.server import server_command
from tests.support.waiting import eventually_sync

_FIRST_PORT: Final = 10_000
_PORTS: Final = 2_000
"""Of each process that runs tests. Together below those that connections are given, and whoever
asks for any: Linux begins at 32,768."""
_PROCESSES: Final = 11
_numbers = itertools.count(os.getpid())


def free_port() -> int:
    """Return a port that nothing listens on now.

    It is told only later to the server that is to listen on it: no other one is given it meanwhile.
    """
    process = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % _PROCESSES
    for _ in range(_PORTS):
        port = _FIRST_PORT + process * _PORTS + next(_numbers) % _PORTS
        with socket.socket() as sock:
            try:
                sock.bind(("127.0.0.1", port))
            except OSError:  # somebody has it
                continue
            return port
    raise AssertionError(f"no port of {_PORTS} is free")


def answers(port: int) -> bool:
    """Return whether something listens on `port`."""
    with socket.socket() as sock:
        sock.settimeout(1)
        return sock.connect_ex(("127.0.0.1", port)) == 0


class NatsServer:
    """A real NATS server that a test may stop, start again, or start again empty."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.folder = folder
        self._options = options
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"nats://127.0.0.1:{self.port}"

    @property
    def process_id(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        self._process = subprocess.Popen(
            [*server_command(self.folder, self.port), *self._options],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        probe: Callable[[], bool] = lambda: answers(self.port)  # noqa: E731  named for its failure
        eventually_sync(probe)

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def forget(self) -> None:
        """Delete its streams, as a broken disk would."""
        shutil.rmtree(self.folder)
