"""The processes of a local Slurm, found by what they carry in their environment.

A job's processes are in sessions and groups of their own, and a daemon that was killed leaves
those it had started: only what they inherited tells whose they are.
"""

import os
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

FOLDER_VARIABLE: Final = "BATUTA_SLURM_OF"
"""Set for the daemons, and so for all they start, to the folder of their Slurm."""

NODE_VARIABLE: Final = "BATUTA_SLURM_NODE"
"""Set for a node's slurmd, and so for all it starts, to the name of the node."""

_PROC: Final = Path("/proc")
_POLL_S: Final = 0.05


@dataclass(frozen=True)
class Process:
    """A process as it was when it was looked at."""

    pid: int
    parent: int
    environment: dict[str, str]

    @property
    def is_job(self) -> bool:
        """Whether it is a job's own, rather than Slurm's."""
        return "SLURM_JOB_ID" in self.environment

    @property
    def node(self) -> str:
        """The node where it runs; empty for the controller and for munged."""
        return self.environment.get("SLURMD_NODENAME", self.environment.get(NODE_VARIABLE, ""))


def processes_of(folder: Path, configuration: Path) -> list[Process]:
    """Find the processes of the Slurm in `folder`: daemons, steps and jobs.

    A program that only *uses* that Slurm is none of them.
    """
    everything = {process.pid: process for process in _all_processes()}
    found = {
        pid: process
        for pid, process in everything.items()
        if process.environment.get(FOLDER_VARIABLE) == str(folder)
        or (process.is_job and process.environment.get("SLURM_CONF") == str(configuration))
    }
    _add_descendants(found, everything)
    for pid in _own_line(everything):
        found.pop(pid, None)
    return list(found.values())


def send(processes: list[Process], number: signal.Signals) -> None:
    """Send a signal to each of the processes that still exist."""
    for process in processes:
        try:
            os.kill(process.pid, number)
        except ProcessLookupError:
            continue


def end(find: Callable[[], list[Process]], patience_s: float, timeout_s: float = 10.0) -> list[int]:
    """End all processes that `find` gives, and those they start meanwhile.

    Parameters
    ----------
    find : callable
        Gives the processes that are there.
    patience_s : float
        How long jobs may take to end by themselves.
    timeout_s : float
        How long all of it may take.

    Returns
    -------
    list of int
        The processes that are still there: none, unless the system is ill.
    """
    send([each for each in find() if not each.is_job], signal.SIGKILL)
    send([each for each in find() if each.is_job], signal.SIGTERM)
    start = time.monotonic()
    while left := find():
        waited_s = time.monotonic() - start
        if waited_s > timeout_s:
            break
        if waited_s > patience_s:
            send(left, signal.SIGKILL)
        time.sleep(_POLL_S)
    return [process.pid for process in left]


def _all_processes() -> Iterator[Process]:
    for entry in _PROC.iterdir():
        if entry.name.isdecimal():
            process = _read(entry)
            if process is not None:
                yield process


def _read(entry: Path) -> Process | None:
    """Read one process; None if it ended, is a zombie, or is another user's."""
    try:
        raw = (entry / "environ").read_bytes()
        status = (entry / "stat").read_text()
    except (FileNotFoundError, PermissionError, ProcessLookupError):
        return None
    # The command's name, in parentheses, may hold anything.
    state, parent = status.rpartition(")")[2].split()[:2]
    if state in "ZX":
        return None
    pairs = (item.partition("=") for item in raw.decode(errors="replace").split("\0"))
    return Process(int(entry.name), int(parent), {name: value for name, _, value in pairs})


def _add_descendants(found: dict[int, Process], everything: dict[int, Process]) -> None:
    while new := {
        pid: process
        for pid, process in everything.items()
        if process.parent in found and pid not in found
    }:
        found.update(new)


def _own_line(everything: dict[int, Process]) -> Iterator[int]:
    pid = os.getpid()
    while pid in everything:
        yield pid
        pid = everything[pid].parent
