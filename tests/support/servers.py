"""Real servers for tests: NATS, and PostgreSQL, each on a free port of this machine."""

import shutil
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path

from batuta.messaging.server import server_command
from tests.support.waiting import eventually_sync


def free_port() -> int:
    """Return a port that nothing listens on now."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


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
