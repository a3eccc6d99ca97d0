"""The processes of a local Slurm, found by their environment.

The processes of a batch job are in sessions and groups of their own, and those that a daemon had
started outlive it: only variables that they inherited identify them.
"""

import os
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

FOLDER_VARIABLE: Final = "BATUTA_SLURM_OF"
"""Set to the folder of the Slurm for its daemons, and so for all that they start."""

NODE_VARIABLE: Final = "BATUTA_SLURM_NODE"
"""Set to the name of the node for its slurmd, and so for all that it starts."""

_PROC: Final = Path("/proc")
_POLL_S: Final = 0.05


@dataclass(frozen=True)
class Process:
    """A process as it was when it was read."""

    pid: int
    parent: int
    environment: dict[str, str]

    @property
    def is_job(self) -> bool:
        """Whether it belongs to a batch job, rather than to Slurm itself."""
        return "SLURM_JOB_ID" in self.environment

    @property
    def node(self) -> str:
        """The node that it runs on; empty for the controller and for munged."""
        return self.environment.get("SLURMD_NODENAME", self.environment.get(NODE_VARIABLE, ""))


def processes_of(folder: Path, configuration: Path) -> list[Process]:
    """Return the processes of the Slurm in `folder`: daemons, job steps and batch jobs.

    Programs that only *use* that Slurm do not count, nor do this process and its ancestors.
    """
    processes = {process.pid: process for process in _all_processes()}
    found = {
        pid: process
        for pid, process in processes.items()
        if process.environment.get(FOLDER_VARIABLE) == str(folder)
        or (process.is_job and process.environment.get("SLURM_CONF") == str(configuration))
    }
    _add_descendants(found, processes)
    for pid in _ancestry(processes):
        found.pop(pid, None)
    return list(found.values())


def send_signal(processes: list[Process], number: signal.Signals) -> None:
    """Send a signal to those of the processes that still exist."""
    for process in processes:
        try:
            os.kill(process.pid, number)
        except ProcessLookupError:
            continue


def kill_all(
    find: Callable[[], list[Process]], grace_s: float, timeout_s: float = 10.0
) -> list[int]:
    """Kill all processes that `find` returns, and those that they start meanwhile.

    Daemons are killed first, so that they do not act on the end of their batch jobs.

    Parameters
    ----------
    find : callable
        Returns the processes that exist; called again until there are none.
    grace_s : float
        How long batch jobs may take to end after SIGTERM.
    timeout_s : float
        How long it may take in all.

    Returns
    -------
    list of int
        The processes that could not be killed: normally none.
    """
    send_signal([each for each in find() if not each.is_job], signal.SIGKILL)
    send_signal([each for each in find() if each.is_job], signal.SIGTERM)
    start = time.monotonic()
    while left := find():
        waited_s = time.monotonic() - start
        if waited_s > timeout_s:
            break
        if waited_s > grace_s:
            send_signal(left, signal.SIGKILL)
        time.sleep(_POLL_S)
    return [process.pid for process in left]


def _all_processes() -> Iterator[Process]:
    for entry in _PROC.iterdir():
        if entry.name.isdecimal():
            process = _read(entry)
            if process is not None:
                yield process


def _read(entry: Path) -> Process | None:
    """Read a process; return None if it has ended, is a zombie, or is another user's."""
    try:
        raw = (entry / "environ").read_bytes()
        status = (entry / "stat").read_text()
    except (FileNotFoundError, PermissionError, ProcessLookupError):
        return None
    # The name of the command, in parentheses, may contain anything.
    state, parent = status.rpartition(")")[2].split()[:2]
    if state in "ZX":
        return None
    pairs = (item.partition("=") for item in raw.decode(errors="replace").split("\0"))
    return Process(int(entry.name), int(parent), {name: value for name, _, value in pairs})


def _add_descendants(found: dict[int, Process], processes: dict[int, Process]) -> None:
    while new := {
        pid: process
        for pid, process in processes.items()
        if process.parent in found and pid not in found
    }:
        found.update(new)


def _ancestry(processes: dict[int, Process]) -> Iterator[int]:
    pid = os.getpid()
    while pid in processes:
        yield pid
        pid = processes[pid].parent
