"""The process that keeps a processing's process: it outlives it, and leaves nothing behind.

For each processing the fork server forks a warden, and the warden forks the worker, which runs
the pipeline's function in a session of its own. The warden loads nothing and runs nothing of
the pipeline's, so that whatever becomes of the worker (a crash, a kill, a hang) it is there to
end what the worker had started, to put its folder away, and to say how it ended. It holds one end
of a socket; when the other end is closed, because the service wants the processing stopped or
because the service is dead, the warden kills the worker and all its descendants.
"""

import ctypes
import os
import select
import signal
import socket
import sys
from contextlib import suppress
from pathlib import Path
from typing import Final

import psutil

from batuta.messaging import utc_now
from batuta.pipeline.exit_status import describe_exit
from batuta.pipeline.messages import WorkerExited, encode
from batuta.pipeline.retention import clean_up_work_dir
from batuta.pipeline.runner import ProcessingTask

_PR_SET_PDEATHSIG: Final = 1
_PR_SET_CHILD_SUBREAPER: Final = 36


def run_warden(service: socket.socket, task: ProcessingTask) -> None:
    """Have a worker do `task`; return once nothing of it is left."""
    # A Ctrl-C in the service's terminal is for the service: it will say what is to be stopped.
    os.setsid()
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)
    child_ended, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(wake)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    worker = _fork_worker(service, task, (child_ended, wake))
    exit_code = _wait_for_end(worker, child_ended, service)
    _reap_descendants(worker)
    if exit_code != 0:
        _append_to_log(task.log_path, f"the process {describe_exit(exit_code)}")
        _free_shared_memory()
    _clean_up(task)
    with suppress(OSError):  # nobody listens when the service is dead
        service.sendall(encode(WorkerExited(exit_code=exit_code)))


def _fork_worker(service: socket.socket, task: ProcessingTask, unneeded: tuple[int, int]) -> int:
    warden = os.getpid()
    pid = os.fork()
    if pid:
        return pid
    try:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for descriptor in unneeded:
            os.close(descriptor)
        os.setsid()
        _die_with_parent(warden)
        from batuta.pipeline.worker import run_worker  # noqa: PLC0415  the warden itself needs none of it

        run_worker(service, task)
    finally:
        os._exit(1)  # what would follow is the warden's


def _die_with_parent(warden: int) -> None:
    """Have the kernel kill this process when its warden is killed (Linux)."""
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != warden:
        os._exit(1)


def _prctl(option: int, value: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(option, ctypes.c_ulong(value), 0, 0, 0)


def _wait_for_end(worker: int, child_ended: int, service: socket.socket) -> int:
    """Wait for the worker's end, killing it when the service lets go; return its exit code."""
    watched: list[int] = [child_ended, service.fileno()]
    while True:
        ready, _, _ = select.select(watched, [], [])
        if child_ended in ready:
            os.read(child_ended, 4096)
            ended, status = os.waitpid(worker, os.WNOHANG)
            if ended:
                return os.waitstatus_to_exitcode(status)
        if service.fileno() in ready:
            watched = [child_ended]
            _kill_descendants(worker)


def _kill_descendants(worker: int) -> None:
    victims = psutil.Process().children(recursive=True)
    # Its session, for those whose parent has died where there is no subreaper (macOS).
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(worker, signal.SIGKILL)
    for victim in victims:
        with suppress(psutil.NoSuchProcess):
            victim.kill()


def _append_to_log(log_path: Path, what: str) -> None:
    """Say in the log what the worker could not."""
    with log_path.open("a") as log:
        log.write(f"{utc_now():%Y-%m-%dT%H:%M:%S.%f}Z {what}\n")


def _clean_up(task: ProcessingTask) -> None:
    try:
        clean_up_work_dir(task.work_dir, task.profiles)  # the service looks whether it is gone
    except OSError as exc:
        _append_to_log(task.log_path, f"its profile could not be kept: {exc}")


def _free_shared_memory() -> None:
    """Remove what an orchestrator that was killed has left between its tasks."""
    from batuta.cluster.store import remove_stale, shared_memory_folder  # noqa: PLC0415  rarely

    remove_stale(shared_memory_folder())


def _reap_descendants(worker: int) -> None:
    """Kill what a worker has left behind, and wait until it is gone."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(worker, signal.SIGKILL)
    with suppress(ChildProcessError):  # raised when there is none left
        while True:
            ended, _ = os.waitpid(-1, os.WNOHANG)
            if not ended:
                _kill_descendants(worker)
                os.waitpid(-1, 0)
