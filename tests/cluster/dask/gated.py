"""Tasks that leave a trace of each call, and end when the test opens their gate."""

import os
from dataclasses import dataclass
from pathlib import Path

from batuta.datasets import CarsDict
from tests.support.waiting import eventually_sync

PATIENCE_S = 100.0


@dataclass(frozen=True)
class Begun:
    """A call of a task."""

    name: str
    pid: int
    job: str
    """The number of its batch job; empty outside of one."""


class Gate:
    """Where tasks wait, and what they leave there.

    Parameters
    ----------
    folder : Path
        Shared with the workers.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._begun = folder / "begun"
        self._open = folder / "open"
        self._begun.touch()

    def open(self) -> None:
        """Let all tasks end, those to come too."""
        self._open.touch()

    def begun(self) -> list[Begun]:
        """List the calls so far, in their order."""
        rows = [line.split(" ") for line in self._begun.read_text().splitlines()]
        return [Begun(name, int(pid), job) for name, pid, job in rows]

    def wait_for_begun(self, count: int, timeout_s: float = 60.0) -> list[Begun]:
        """Wait until so many calls have begun."""
        eventually_sync(lambda: len(self.begun()) >= count, timeout_s)
        return self.begun()

    def pass_through(self, name: str) -> None:
        """Leave a trace, and wait until it opens."""
        with self._begun.open("a") as stream:
            stream.write(f"{name} {os.getpid()} {os.environ.get('SLURM_JOB_ID', '')}\n")
        eventually_sync(self._open.exists, PATIENCE_S)


def gated(folder: str, name: str) -> CarsDict:
    """Be a tile that waits at the gate."""
    Gate(Path(folder)).pass_through(name)
    return CarsDict({"name": name})


def at_once(folder: str, name: str) -> CarsDict:
    """Be a tile that leaves a trace, and does not wait."""
    with (Path(folder) / "begun").open("a") as stream:
        stream.write(f"{name} {os.getpid()} {os.environ.get('SLURM_JOB_ID', '')}\n")
    return CarsDict({"name": name})
