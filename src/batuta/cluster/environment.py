"""What starting workers takes from around this process: a current folder, streams, semaphores."""

import multiprocessing
import sys
from pathlib import Path

from batuta.cluster.errors import ClusterError
from batuta.cluster.main_script import prepare_main_script
from batuta.errors import describe_error
from batuta.process_family import proc_is_ours


def current_folder() -> Path:
    """Return the current folder, in which workers start.

    Raises
    ------
    ClusterError
        If it was removed.
    """
    try:
        return Path.cwd()
    except FileNotFoundError as exc:
        raise ClusterError(
            "the current folder does not exist any more: workers start in it; go to another one"
            " (os.chdir) before"
        ) from exc


def check_start() -> None:
    """Check that this process can start others, which import its main script.

    Raises
    ------
    ClusterError
        If the current folder or the main script was removed, or as `check_fork` says.
    """
    check_fork()
    current_folder()
    prepare_main_script()


def check_fork() -> None:
    """Check that this process can be forked, and its workers be found.

    Raises
    ------
    ClusterError
        If `sys.stdout` or `sys.stderr` cannot be flushed, which is done before a process is
        started, or if ``/proc`` tells of other processes than those that would be started.
    """
    if not proc_is_ours():
        raise ClusterError(
            "/proc is that of another PID namespace: workers cannot be found in it; mount it anew"
            " (unshare --mount-proc), or compute with mode sequential"
        )
    for name in ("stdout", "stderr"):
        try:
            getattr(sys, name).flush()
        except (AttributeError, ValueError):  # none, or closed: as `multiprocessing` does
            continue
        except OSError as exc:
            raise ClusterError(
                f"sys.{name} cannot be written to: {describe_error(exc)}; workers start only once"
                " it is flushed"
            ) from exc


def check_semaphores() -> None:
    """Check that the system gives semaphores, by which the nannies of dask speak to workers.

    Raises
    ------
    ClusterError
        If it does not: its shared memory is missing, full or not writable.
    """
    try:
        multiprocessing.get_context("fork").Lock()
    except OSError as exc:
        raise ClusterError(
            f"semaphores, which workers of dask need, cannot be made: {describe_error(exc)}; the"
            " system keeps them in /dev/shm"
        ) from exc
