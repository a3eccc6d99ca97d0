"""A service in a process of its own, that is killed, paused and started again."""

import contextlib
import os
import signal
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import psutil

STOP_S: Final = 40.0


class Service:
    """A program that runs, or does not because a fault says so.

    Parameters
    ----------
    name : str
        Also names its log.
    command : list of str
        The program and its arguments.
    environment : mapping
        Added to that of this process.
    logs : Path
        The folder of its log.
    """

    def __init__(
        self, name: str, command: list[str], environment: Mapping[str, str], logs: Path
    ) -> None:
        self.name = name
        self.log = logs / f"{name}.log"
        self.is_wanted = False
        self.process_ids: list[int] = []
        self._command = command
        self._environment = environment
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def exit_code(self) -> int | None:
        """The exit code, where it has ended by itself."""
        return self._process.poll() if self._process is not None else None

    @property
    def is_running(self) -> bool:
        """Whether it runs now."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start it."""
        self.is_wanted = True
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command,
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                env={**os.environ, **self._environment},
                start_new_session=True,
            )
        self.process_ids.append(self._process.pid)

    def kill(self) -> None:
        """Kill it, and it alone, as the kernel does when memory runs out."""
        self.is_wanted = False
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        if self._process is not None:
            self._process.send_signal(number)

    def wait(self) -> int | None:
        """Wait until it ends after a signal; return its exit code, None if it had to be killed."""
        self.is_wanted = False
        if self._process is None:
            return None
        try:
            return self._process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            return None

    def last_line(self) -> str:
        """Return the last line of its log."""
        lines = self.log.read_text(errors="replace").splitlines()
        return lines[-1] if lines else ""


def left_of(variable: str, value: str) -> list[psutil.Process]:
    """Return the processes that have a variable of this value in their environment."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.pid != os.getpid() and process.environ().get(variable) == value:
                found.append(process)
    return found
