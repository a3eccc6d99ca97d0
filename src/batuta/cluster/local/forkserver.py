"""The forkserver: a process without threads, from which workers are forked with their imports done.

Python has one for each process (`multiprocessing`, start method ``forkserver``), so the first
cluster that starts workers decides what it imports.
"""

import contextlib
import json
import multiprocessing
import os
import sys
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from multiprocessing import forkserver, spawn
from typing import Any, Final

import psutil

from batuta.cluster.local.zygote import can_be_copied, copy_as_forkserver
from batuta.cluster.preload import FORKSERVER_VARIABLE
from batuta.socket_folder import prepare_socket_folder

_FIRST: Final = "batuta.cluster.local.forkserver_path"
_LAST: Final = "batuta.cluster.local.forkserver_main"
_LOCK: Final = threading.Lock()
_imported: dict[int | None, frozenset[str]] = {}
"""Modules that each forkserver was started with here, by its process id. One that the program
itself started, with `multiprocessing`, is not among them."""


def copy_forkserver(modules: Iterable[str], *, needed: Iterable[str] = ()) -> None:
    """Start the forkserver of this process as a copy of it, unless it is running.

    Where a copy would not be safe, nothing happens: `start_forkserver` starts another.

    Parameters
    ----------
    modules : iterable of str
        What it imports besides, if this process has not.
    needed : iterable of str
        Modules without which one that is running is replaced.

    Raises
    ------
    ConfigurationError
        If no folder is there for its socket.
    """
    if not can_be_copied():
        return
    # Without the lock: there is no other thread, and the copy would inherit it locked.
    _forget_inherited()
    _retire_if_without(needed)
    if _running_pid() is None:
        names = tuple(modules)
        prepare_socket_folder()
        _imported[copy_as_forkserver(names)] = frozenset((*sys.modules, *names))


def start_forkserver(
    modules: Iterable[str], environment: Mapping[str, str], *, needed: Iterable[str] = ()
) -> bool:
    """Start the forkserver of this process, unless it is running.

    Parameters
    ----------
    modules : iterable of str
        What it imports, after the module search path is set and before the main script is run.
    environment : mapping of str to str
        Environment variables that it starts with, besides those of this process.
    needed : iterable of str
        Modules without which one that is running is replaced.

    Returns
    -------
    bool
        Whether the forkserver that runs now was started with all of `modules`.

    Raises
    ------
    ConfigurationError
        If no folder is there for its socket.
    """
    names = tuple(modules)
    # The environment is changed for as short as possible, and by one thread at a time: two clusters
    # may start at once, and one would delete what the other has set before its forkserver
    # inherits it.
    with _LOCK:
        prepare_socket_folder()
        _forget_inherited()
        _retire_if_without(needed)
        multiprocessing.get_context("forkserver").set_forkserver_preload([_FIRST, *names, _LAST])
        before = _running_pid()
        with _environment({**environment, FORKSERVER_VARIABLE: _preparation()}):
            forkserver.ensure_running()
        pid = _running_pid()
        if pid != before:
            _imported[pid] = frozenset(names)
        return _imported.get(pid, frozenset()).issuperset(names)


def _running_pid() -> int | None:
    # There is no public way to see whether `ensure_running` started one, or found one.
    pid: int | None = _server()._forkserver_pid
    return pid


def _server() -> Any:
    return getattr(forkserver, "_forkserver")  # noqa: B009 - not among the types


def _forget_inherited() -> None:
    """Forget the forkserver of a process that this one was forked from.

    Python takes it for a child of this process, and fails when it asks whether it has ended.
    """
    pid, server = _running_pid(), _server()
    if pid is None:
        return
    with contextlib.suppress(psutil.NoSuchProcess):
        if psutil.Process(pid).ppid() == os.getpid():
            return
    os.close(server._forkserver_alive_fd)  # our copy: the forkserver ends once nobody has any
    server._forkserver_address = server._forkserver_alive_fd = server._forkserver_pid = None


def _retire_if_without(needed: Iterable[str]) -> None:
    """Let go of a forkserver whose workers would each import what they need."""
    _retired[:] = [each for each in _retired if not each.has_ended()]
    pid, server = _running_pid(), _server()
    if pid is None or pid not in _imported or _imported[pid].issuperset(needed):
        return
    _retired.append(_Retired(pid, server._forkserver_alive_fd))
    server._forkserver_address = server._forkserver_alive_fd = server._forkserver_pid = None
    _retired[:] = [each for each in _retired if not each.has_ended()]


class _Retired:
    """A forkserver that starts no more workers. It reports how those end that it has started."""

    def __init__(self, pid: int, alive_fd: int) -> None:
        self._pid = pid
        self._alive_fd: int | None = alive_fd

    def has_ended(self) -> bool:
        """End it once its workers have; return whether it has ended."""
        with contextlib.suppress(psutil.NoSuchProcess):
            if self._alive_fd is not None and not psutil.Process(self._pid).children():
                os.close(self._alive_fd)
                self._alive_fd = None
        try:
            return os.waitpid(self._pid, os.WNOHANG)[0] == self._pid
        except ChildProcessError:  # another of this process's waits has taken its exit status
            return True


_retired: Final[list[_Retired]] = []


def _preparation() -> str:
    """Describe the main process: its module search path and its main script."""
    preparation: dict[str, Any] = spawn.get_preparation_data("forkserver")
    wanted = ("sys_path", "init_main_from_path", "init_main_from_name")
    return json.dumps({key: preparation[key] for key in wanted if key in preparation})


@contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
