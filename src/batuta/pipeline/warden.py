"""The warden: the process that supervises a worker process, outlives it and cleans up after it.

For each run the fork server forks a warden, and the warden forks the worker, which runs the
pipeline's function in a session of its own. The warden loads and runs no code of the pipeline, so
whatever happens to the worker (a crash, a kill, a hang) the warden is still there to kill the
processes that the worker started, to clean up its work folder and to report its exit code. It holds
one end of a socket. When the other end is closed, because the service stops the run or because
the service has died, the warden kills the worker and all its descendants.
"""

import os
import select
import signal
import socket
import sys
from contextlib import suppress
from pathlib import Path

import psutil

from batuta.errors import one_line
from batuta.messaging import utc_now
from batuta.pipeline.exit_status import describe_exit
from batuta.pipeline.messages import WorkerExited, encode
from batuta.pipeline.retention import clean_up_work_dir
from batuta.pipeline.runner import ProcessingTask
from batuta.process_family import adopt_orphans, die_with_parent


def run_warden(service: socket.socket, task: ProcessingTask) -> None:
    """Run `task` in a worker; return once the worker and all its descendants are gone."""
    # Ctrl-C in the service's terminal signals the terminal's whole process group. Only the service
    # may act on it: it decides which runs to stop, and does so by closing the socket.
    os.setsid()
    # Orphaned descendants of the worker become children of the warden instead of init's, so they
    # stay visible in its process tree and can be waited for.
    adopt_orphans()
    # The self-pipe trick: a SIGCHLD that arrives just before select() leaves a byte in the pipe, so
    # select() returns at once and no exit is missed. Python writes the byte only for a signal that
    # has a Python handler, hence the empty one. The pipe must not block the signal handler; bytes
    # lost to a full pipe do not matter, as one is enough to wake up. All of it precedes the fork:
    # the worker may exit at once.
    child_ended, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(wake)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    worker = _fork_worker(service, task, (child_ended, wake))
    exit_code, stopped = _wait_for_end(worker, child_ended, service)
    # Only now is the work folder quiet: a descendant that still ran could write in it while it is
    # being removed.
    _reap_descendants(worker)
    if exit_code != 0:
        how = "stopped by its service" if stopped else f"worker process {describe_exit(exit_code)}"
        _append_to_log(task.log_path, how)
        _free_shared_memory()
    _clean_up(task)
    # The last message: once the service reads it, nothing of the run is left.
    with suppress(OSError):  # the service may have died
        service.sendall(encode(WorkerExited(exit_code=exit_code)))


def _fork_worker(service: socket.socket, task: ProcessingTask, unneeded: tuple[int, int]) -> int:
    warden = os.getpid()
    pid = os.fork()
    if pid:
        return pid
    try:
        # Before the pipe is closed: its descriptor numbers may be reused, and a signal would
        # then write its byte into some file of the pipeline's.
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for descriptor in unneeded:
            os.close(descriptor)
        os.setsid()
        die_with_parent(warden)
        from batuta.pipeline.worker import run_worker  # noqa: PLC0415  not needed in the warden

        run_worker(service, task)
    finally:
        os._exit(1)  # never return into the code of the warden


def _wait_for_end(worker: int, child_ended: int, service: socket.socket) -> tuple[int, bool]:
    """Wait for the worker to exit, killing it if the service hangs up.

    Returns
    -------
    tuple of int and bool
        Its exit code, and whether it was killed: on a cancellation, after `timeout_s`, or because
        the service has ended.
    """
    stopped = False
    watched: list[int] = [child_ended, service.fileno()]
    while True:
        ready, _, _ = select.select(watched, [], [])
        if child_ended in ready:
            # Drained first, then waited for: an exit after this read leaves a new byte. The child
            # that exited may also be an adopted orphan, and then the wait goes on.
            os.read(child_ended, 4096)
            ended, status = os.waitpid(worker, os.WNOHANG)
            if ended:
                return os.waitstatus_to_exitcode(status), stopped
        if service.fileno() in ready:
            # The service never writes: readable means closed. It stays readable from now on, so
            # watching it any longer would spin.
            watched = [child_ended]
            stopped = True
            _kill_descendants(worker)


def _kill_descendants(worker: int) -> None:
    # Listed before anything is killed: each kill re-parents the children of its victim.
    victims = psutil.Process().children(recursive=True)
    # The worker's process group too: without a subreaper (macOS) orphans are no longer in our tree.
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(worker, signal.SIGKILL)
    for victim in victims:
        with suppress(psutil.NoSuchProcess):
            victim.kill()


def _append_to_log(log_path: Path, line: str) -> None:
    """Add a line to the log in place of the worker, which may be dead."""
    try:
        with log_path.open("a") as log:
            log.write(f"{utc_now():%Y-%m-%dT%H:%M:%S.%f}Z {line}\n")
    except OSError as exc:
        # The disk may be full. What the run has left must be cleaned up all the same, and its end
        # be reported: the service's own log has the line instead.
        sys.stderr.write(f"{log_path.name} cannot be written: {one_line(exc)}; {line}\n")


def _clean_up(task: ProcessingTask) -> None:
    # Should it fail, the work folder is still there: the service then tries again.
    try:
        clean_up_work_dir(task.work_dir, task.profiles)
    except OSError as exc:
        _append_to_log(task.log_path, f"the profile could not be retained: {one_line(exc)}")


def _free_shared_memory() -> None:
    """Remove the shared memory that a killed orchestrator has left."""
    from batuta.cluster.store import remove_stale, shared_memory_folder  # noqa: PLC0415  rarely

    remove_stale(shared_memory_folder())


def _reap_descendants(worker: int) -> None:
    """Kill the processes that a worker has left, and wait until none is left.

    A process may fork between the listing and the kill, so this repeats until the kernel says that
    there is no child left.
    """
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(worker, signal.SIGKILL)
    with suppress(ChildProcessError):  # no child is left
        while True:
            ended, _ = os.waitpid(-1, os.WNOHANG)
            if not ended:
                _kill_descendants(worker)
                os.waitpid(-1, 0)
