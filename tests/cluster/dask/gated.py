"""Tasks that record each call in a file, and end when the test opens their gate."""

import os
from dataclasses import dataclass
from pathlib import Path

from batuta.datasets import CarsDict
from tests.support.waiting import eventually_sync

TIMEOUT_S = 100.0


@dataclass(frozen=True)
class TaskStart:
    """The start of a task."""

    name: str
    pid: int
    job: str
    """The id of its batch job; empty outside of one."""


class Gate:
    """Where tasks wait, and the record of those that started.

    Parameters
    ----------
    folder : Path
        Shared with the workers.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._starts = folder / "starts"
        self._open = folder / "open"
        self._starts.touch()

    def open(self) -> None:
        """Let all tasks end, including those that start later."""
        self._open.touch()

    def starts(self) -> list[TaskStart]:
        """List the tasks that have started, in order."""
        rows = [line.split(" ") for line in self._starts.read_text().splitlines()]
        return [TaskStart(name, int(pid), job) for name, pid, job in rows]

    def wait_for_starts(self, count: int, timeout_s: float = 60.0) -> list[TaskStart]:
        """Wait until `count` tasks have started; return all that have."""
        eventually_sync(lambda: len(self.starts()) >= count, timeout_s)
        return self.starts()

    def pass_through(self, name: str) -> None:
        """Record a start, and wait until the gate opens."""
        with self._starts.open("a") as stream:
            stream.write(f"{name} {os.getpid()} {os.environ.get('SLURM_JOB_ID', '')}\n")
        eventually_sync(self._open.exists, TIMEOUT_S)


def gated(folder: str, name: str) -> CarsDict:
    """Make a tile once the gate is open."""
    Gate(Path(folder)).pass_through(name)
    return CarsDict({"name": name})


def ungated(folder: str, name: str) -> CarsDict:
    """Make a tile at once, and record the start."""
    with (Path(folder) / "starts").open("a") as stream:
        stream.write(f"{name} {os.getpid()} {os.environ.get('SLURM_JOB_ID', '')}\n")
    return CarsDict({"name": name})
