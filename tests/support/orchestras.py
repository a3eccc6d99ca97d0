"""A whole orchestra in processes of its own, started by the command, for tests that kill."""

import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil

START_S = 60.0
END_S = 40.0


class CommandProcess:
    """The `batuta` command in a process, its output read as it comes.

    Parameters
    ----------
    arguments : list of str
        What follows ``batuta``.
    folder : Path
        Where it runs; also its folder for temporary files.
    """

    def __init__(self, arguments: list[str], folder: Path) -> None:
        self.folder = folder
        self.temporary = folder / "temporary"
        self.temporary.mkdir(exist_ok=True)
        environment = {
            name: value for name, value in os.environ.items() if not name.startswith("BATUTA_")
        }
        self.process = subprocess.Popen(
            [sys.executable, "-m", "batuta", *arguments],
            cwd=folder,
            env={**environment, "TMPDIR": str(self.temporary), "COLUMNS": "200"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self.lines: list[str] = []
        self._arrived: queue.Queue[str | None] = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def output(self) -> str:
        return "".join(self.lines)

    def wait_for_line(self, start: str, timeout_s: float = START_S) -> str:
        """Return the next line that starts with `start`."""
        deadline = time.monotonic() + timeout_s
        while (left := deadline - time.monotonic()) > 0:
            try:
                line = self._arrived.get(timeout=left)
            except queue.Empty:
                break
            if line is None:
                break
            if line.startswith(start):
                return line
        raise AssertionError(f"no line {start!r} in:\n{self.output}")

    def end(self, number: int = signal.SIGINT) -> int:
        """Send it a signal, wait for it to exit, and return its exit code."""
        self.process.send_signal(number)
        return self.wait()

    def wait(self, timeout_s: float = END_S) -> int:
        code = self.process.wait(timeout_s)
        self._reader.join()
        return code

    def family(self) -> list[psutil.Process]:
        """Return all its descendant processes."""
        return psutil.Process(self.process.pid).children(recursive=True)

    def kill_service(self, kind: str) -> None:
        """SIGKILL the service started as ``batuta <kind>``."""
        for process in self.family():
            if process.cmdline()[1:4] == ["-m", "batuta", kind]:
                process.kill()
                return
        raise AssertionError(f"no {kind} among {[p.cmdline() for p in self.family()]}")

    def close(self) -> None:
        """Stop it if it still runs, and close its output."""
        if self.process.poll() is None:
            self.end()
        assert self.process.stdout is not None
        self.process.stdout.close()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line)
            self._arrived.put(line)
        self._arrived.put(None)


class OrchestraProcess(CommandProcess):
    """``batuta up`` with a configuration."""

    def __init__(self, config: Mapping[str, Any], folder: Path) -> None:
        (folder / "batuta.json").write_text(json.dumps(config))
        super().__init__(["up", "batuta.json"], folder)

    def addresses(self) -> dict[str, str]:
        """Return the address of each service, by name, once all have started."""
        self.wait_for_line("conductor  ")
        return self.listed()

    def listed(self) -> dict[str, str]:
        """Return the addresses that have been printed so far: those of pipelines come last."""
        pairs = [line.split() for line in list(self.lines)]
        return {pair[0]: pair[1] for pair in pairs if len(pair) == 2 and "://" in pair[1]}


def left_of(processes: list[psutil.Process]) -> list[psutil.Process]:
    """Return those that still run."""
    return [one for one in processes if one.is_running() and one.status() != "zombie"]
