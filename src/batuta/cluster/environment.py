"""What starting workers takes from around this process: a current folder, a place for sockets."""

import multiprocessing
import os
import sys
import tempfile
from multiprocessing import util
from pathlib import Path
from typing import Final

from batuta.cluster.errors import ClusterError
from batuta.cluster.main_script import prepare_main_script
from batuta.errors import describe_error
from batuta.process_family import proc_is_ours

MAX_SOCKET_PATH_BYTES: Final = 107 if sys.platform == "linux" else 103
"""Of the path of a socket: see unix(7)."""
_SOCKET_NAME_BYTES: Final = len("/pymp-12345678/listener-12345678")
"""Of what `multiprocessing` appends to the temporary folder."""
MAX_TEMPORARY_FOLDER_BYTES: Final = MAX_SOCKET_PATH_BYTES - _SOCKET_NAME_BYTES
_SHORT_FOLDERS: Final = ("/tmp", "/var/tmp", "/dev/shm")  # noqa: S108 - a folder made by mkdtemp, 0700


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
    """Check that this process can start others.

    Raises
    ------
    ClusterError
        If the current folder or the main script was removed, if `sys.stdout` or `sys.stderr`
        cannot be flushed, which `multiprocessing` does before it starts a process, or if ``/proc``
        tells of other processes than those that would be started.
    """
    if not proc_is_ours():
        raise ClusterError(
            "/proc is that of another PID namespace: workers cannot be found in it; mount it anew"
            " (unshare --mount-proc), or compute with mode sequential"
        )
    current_folder()
    prepare_main_script()
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


def prepare_socket_folder() -> None:
    """Let `multiprocessing` make its sockets in a folder with a path that is short enough.

    It makes one in the temporary folder, for the whole life of this process, which batch systems
    and build systems may set to a path that no socket can have (``TMPDIR``).

    Raises
    ------
    ClusterError
        If there is no other.
    """
    folder = tempfile.gettempdir()
    if len(os.fsencode(folder)) <= MAX_TEMPORARY_FOLDER_BYTES:
        return
    short = next((each for each in _SHORT_FOLDERS if os.access(each, os.W_OK | os.X_OK)), folder)
    before = tempfile.tempdir
    tempfile.tempdir = short
    try:
        made: str = util.get_temp_dir()
    finally:
        tempfile.tempdir = before
    if len(os.fsencode(made)) + len("/listener-12345678") > MAX_SOCKET_PATH_BYTES:
        raise ClusterError(
            f"TMPDIR: {folder!r} given, a path of at most {MAX_TEMPORARY_FOLDER_BYTES} bytes"
            " expected: workers need a socket in it"
        )
