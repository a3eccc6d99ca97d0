"""A fork server that is a copy of this process: nothing is imported a second time.

The forkserver of Python is a new interpreter, which imports all that workers need once more: a
second or so, and the memory of the modules. A copy has them, and shares their pages with this
process. Where a copy would not be safe, the forkserver of Python is started, as ever.

A copy has all the memory of this process and none of its threads: a lock that another thread held
stays locked in it for ever. So there must be none, but those of libraries that fork with care.
Where a program asks for it by name (``mp_mode: fork``), whether it is safe is the program's affair.
"""

import contextlib
import fcntl
import gc
import importlib
import logging
import os
import signal
import stat
import sys
import threading
import warnings
from collections.abc import Iterable, Iterator
from multiprocessing import connection, forkserver, resource_tracker, util
from pathlib import Path
from socket import AF_UNIX, socket
from typing import Any, Final, NoReturn

import psutil
from threadpoolctl import threadpool_info

from batuta.fork_server import end_orphans_quietly

MAX_MEMORY_BYTES: Final = 1 << 30
"""A copy keeps what this process frees later, and each worker copies its page tables."""
_CAREFUL_THREADS: Final = frozenset({"jemalloc_bg_thd"})
"""Names of threads of libraries that are stopped and started again around a fork (jemalloc)."""
_NO_COPIES: Final = ("libcuda.so",)
"""Libraries that do not work in a copy of a process that uses them (CUDA)."""
_PACKAGE: Final = "batuta"
_OPEN_FILES: Final = Path("/proc/self/fd" if sys.platform == "linux" else "/dev/fd")


def can_be_copied() -> bool:
    """Return whether a copy of this process can start workers in its place."""
    if (
        sys.platform != "linux"
        or threading.active_count() > 1
        or threading.current_thread() is not threading.main_thread()
        or sys.gettrace() is not None
        or sys.getprofile() is not None
        # Python 3.14: its forkserver and those who ask it prove that they know each other.
        or hasattr(_server(), "_forkserver_authkey")
    ):
        return False
    try:
        return (
            psutil.Process().memory_info().rss < MAX_MEMORY_BYTES
            and not _uses_what_cannot_be_copied()
            # Connections: whoever has one in the copy would speak over that of this process.
            and not any(stat.S_ISSOCK(mode) for _, mode in _open_files())
            and _has_careful_threads_only()
        )
    except OSError:  # no /proc, or a thread that ends as it is looked at
        return False


def _uses_what_cannot_be_copied() -> bool:
    mapped = Path("/proc/self/maps").read_text()
    return any(each in mapped for each in _NO_COPIES)


def _has_careful_threads_only() -> bool:
    """Return whether the threads that this process runs, beside its own, are known to fork well.

    OpenBLAS ends its threads before a fork, and starts others when it needs them.
    """
    names = [
        (each / "comm").read_text(errors="replace").strip()
        for each in Path("/proc/self/task").iterdir()
    ]
    unknown = sum(name not in _CAREFUL_THREADS for name in names) - 1
    openblas: int = sum(
        each["num_threads"] - 1
        for each in threadpool_info()
        if each["internal_api"] == "openblas" and each.get("threading_layer") == "pthreads"
    )
    return unknown <= openblas


def copy_as_forkserver(modules: Iterable[str], server: Any = None) -> int:
    """Start a copy of this process as a fork server; return its process id.

    Parameters
    ----------
    modules : iterable of str
        What it imports, if this process has not.
    server : multiprocessing.forkserver.ForkServer, optional
        Asks the copy for processes; the default is that of this process.
    """
    names = tuple(modules)
    resource_tracker.ensure_running()
    with socket(AF_UNIX) as listener:
        address = connection.arbitrary_address("AF_UNIX")  # type: ignore[attr-defined]  # not among the types
        listener.bind(address)
        if not util.is_abstract_socket_namespace(address):
            Path(address).chmod(0o600)
        listener.listen()
        # Whoever uses the fork server holds one end of this pipe; it ends once nobody does.
        alive_out, alive_in = os.pipe()
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(AttributeError, ValueError):  # none, or closed
                stream.flush()
        with warnings.catch_warnings():
            # Of the threads that `can_be_copied` knows (Python 3.12 and later).
            warnings.simplefilter("ignore", DeprecationWarning)
            pid = os.fork()
        if pid == 0:
            _serve(listener.detach(), alive_out, names)
        os.close(alive_out)
    user = _server() if server is None else server
    user._forkserver_address = address
    user._forkserver_alive_fd = alive_in
    user._forkserver_pid = pid
    return pid


def _server() -> Any:
    return getattr(forkserver, "_forkserver")  # noqa: B009 - not among the types


def _serve(listener: int, alive: int, modules: Iterable[str]) -> NoReturn:
    """Be the forkserver: the whole life of the copy."""
    code = 1
    try:
        # First: what this process was about to delete is not to be deleted once more.
        gc.freeze()
        end_orphans_quietly()
        _forget_the_rest_of_the_program({listener, alive})
        for name in modules:
            with contextlib.suppress(ImportError):  # the task that needs it will raise it
                importlib.import_module(name)
        gc.freeze()
        forkserver.main(listener, alive, [])
    except SystemExit:
        code = 0
    except BaseException:  # noqa: BLE001 - shown, as the forkserver of Python shows it
        sys.excepthook(*sys.exc_info())
    finally:
        os._exit(code)


def _forget_the_rest_of_the_program(kept: set[int]) -> None:
    """Leave what a new interpreter would not have: signals, logs, pipes, files to write."""
    signal.set_wakeup_fd(-1)
    for each in signal.valid_signals():
        handler = signal.getsignal(each)
        if callable(handler) and handler is not signal.default_int_handler:
            signal.signal(each, signal.SIG_DFL)
    for logger in (logging.root, logging.getLogger(_PACKAGE)):
        logger.handlers.clear()
    tracker: Any = getattr(resource_tracker, "_resource_tracker")  # noqa: B009 - not among the types
    tracker._fd = tracker._pid = None
    _server()._forkserver_pid = None  # a child of the program
    # Others wait for the end of a pipe, or for a lock, until every copy of it is closed. Its number
    # is not to be that of another file: who still has it gets an error.
    nothing = os.open(os.devnull, os.O_RDONLY)
    for number, mode in list(_open_files()):
        if number not in kept and not _is_harmless(number, mode):
            os.dup2(nothing, number, inheritable=False)
    os.close(nothing)


def _open_files() -> Iterator[tuple[int, int]]:
    """Iterate over open files and their modes, but for the standard streams."""
    for each in _OPEN_FILES.iterdir():
        number = int(each.name)
        if number > 2:
            with contextlib.suppress(OSError):  # that of the list itself
                yield number, os.fstat(number).st_mode


def _is_harmless(number: int, mode: int) -> bool:
    """Return whether an open file may stay open: a device, or what is only read or added to."""
    if not stat.S_ISREG(mode):
        return stat.S_ISCHR(mode) or stat.S_ISDIR(mode)
    flags = fcntl.fcntl(number, fcntl.F_GETFL)
    return flags & os.O_ACCMODE == os.O_RDONLY or bool(flags & os.O_APPEND)
