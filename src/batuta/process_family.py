"""A process and its family, all the processes that it starts: no member outlives it.

A process that dies leaves its children to init, where nobody finds them. So a process whose family
is to end with it has a supervisor: its parent, which runs no code of anybody else's. The supervisor
is a subreaper (Linux, prctl(2)): what a dead member of the family leaves becomes a child of the
supervisor, whatever session or process group it has moved to.
"""

import contextlib
import ctypes
import functools
import mmap
import os
import resource
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, NoReturn

import psutil

KILL_FAMILY: Final = signal.SIGUSR1
"""Sent to a supervisor, kills the process that it supervises, and so ends the family."""

FAMILY_VARIABLE: Final = "BATUTA_FAMILY"
"""The mark of a family, in the environment of the programs that it starts."""

_MARKS: Final[list[mmap.mmap]] = []
"""Mapped for as long as this process lives, and those that are forked from it."""
_KILL_TIMEOUT_S: Final = 5
_PR_SET_PDEATHSIG: Final = 1
_PR_SET_CHILD_SUBREAPER: Final = 36
_TERMINAL_SIGNALS: Final = (signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)
"""A terminal sends them to all the processes of a program: the supervisor outlives the others."""
_HANDLED_SIGNALS: Final = (*_TERMINAL_SIGNALS, signal.SIGTERM, KILL_FAMILY)
"""Those that a supervisor does not simply end by."""


def adopt_orphans() -> None:
    """Let the kernel hand the orphans among our descendants to this process (Linux only)."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def die_with_parent(parent_pid: int) -> None:
    """Let the kernel kill this process when the thread that forked it ends (Linux only).

    Parameters
    ----------
    parent_pid : int
        The parent. If it has died already, this process exits: the request covers deaths from now
        on, and a parent that died before is noticed by the new one that the kernel has given us.
    """
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent_pid:
        os._exit(1)


def _prctl(option: int, value: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(option, ctypes.c_ulong(value), 0, 0, 0)


def children_of(pid: int) -> list[int]:
    """List the living processes that the main thread of `pid` started, or adopted.

    Where the system lists them (Linux, proc(5)), that takes microseconds; elsewhere all processes
    are searched. None is listed where ``/proc`` is that of another PID namespace, as in some
    sandboxes: its numbers are those of other processes.
    """
    if not proc_is_ours():
        return []
    try:
        # Not by pathlib, which takes twice as long: workers are looked at twenty times a second.
        with open(f"/proc/{pid}/task/{pid}/children", "rb") as children:  # noqa: PTH123  see above
            text = children.read()
    except FileNotFoundError:
        with contextlib.suppress(psutil.Error):
            return [child.pid for child in psutil.Process(pid).children()]
        return []
    except ProcessLookupError:  # it ended while it was read
        return []
    return [int(each) for each in text.split()]


def proc_is_ours() -> bool:
    """Return whether ``/proc`` tells of the PID namespace of this process (or is not there)."""
    return _proc_is_of(os.getpid())


@functools.lru_cache(maxsize=1)  # a process that is forked into another namespace has another pid
def _proc_is_of(pid: int) -> bool:
    try:
        return Path("/proc/self").readlink() == Path(str(pid))
    except OSError:  # a system without it
        return True


def descendants_of(pid: int) -> Iterator[psutil.Process]:
    """Iterate over what the main threads of `pid` and of its descendants started, or adopted."""
    for child in children_of(pid):
        with contextlib.suppress(psutil.NoSuchProcess):
            yield psutil.Process(child)
        yield from descendants_of(child)


def end_family() -> None:
    """Kill and reap the descendants of this process, until none is left.

    Those that run as another user, and cannot be killed, are left.
    """
    # A member may fork between the listing and its kill, and the children of those that are reaped
    # become ours: so this repeats until nothing is found that can be killed.
    while killed := [each.pid for each in list(descendants_of(os.getpid())) if _try_kill(each)]:
        for pid in killed:
            with contextlib.suppress(ChildProcessError):  # a grandchild: found again, as ours
                os.waitpid(pid, 0)


def mark_family(mark: str) -> None:
    """Mark this process and all that it starts from now on, so that `kill_marked` finds them.

    Programs inherit the mark in their environment, processes that are forked in their memory map
    (Linux only): the environment that the system shows of these is that of their last exec.
    """
    os.environ[FAMILY_VARIABLE] = mark
    if hasattr(os, "memfd_create"):
        file = os.memfd_create(f"{FAMILY_VARIABLE}={mark}")
        try:
            os.truncate(file, mmap.PAGESIZE)
            _MARKS.append(mmap.mmap(file, mmap.PAGESIZE, prot=mmap.PROT_READ))
        finally:
            os.close(file)


def kill_marked(mark: str) -> None:
    """Kill the processes that bear a mark, until none is left that can be killed.

    For a family whose supervisor was killed: its members have gone to init.
    """
    while killed := [each for each in all_processes() if _bears(each, mark) and _end(each)]:
        psutil.wait_procs(killed, timeout=_KILL_TIMEOUT_S)


def all_processes() -> Iterator[psutil.Process]:
    """Iterate over the processes of the system.

    `psutil.process_iter` keeps its objects from one call to the next, and does not check them: one
    whose pid is another process's by now refuses to kill that.
    """
    for pid in psutil.pids():
        with contextlib.suppress(psutil.NoSuchProcess):
            yield psutil.Process(pid)


def _bears(process: psutil.Process, mark: str) -> bool:
    # Processes of other users hide both; others end meanwhile.
    with contextlib.suppress(psutil.Error, OSError):
        if process.pid == os.getpid() or process.status() == psutil.STATUS_ZOMBIE:
            return False
        if process.environ().get(FAMILY_VARIABLE) == mark:
            return True
        maps = Path(f"/proc/{process.pid}/maps").read_bytes()
        return f"{FAMILY_VARIABLE}={mark} ".encode() in maps
    return False


def _end(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.Error):
        process.kill()
        return True
    return False


def _try_kill(process: psutil.Process) -> bool:
    try:
        process.kill()
    except psutil.NoSuchProcess:  # reaped meanwhile: what it left is found in the next round
        return True
    except psutil.AccessDenied:
        return False
    return True


def fork_supervised(wait_for_owner: Callable[[], None], kept_fd: int) -> None:
    """Continue in a child; this process becomes its supervisor, and never returns.

    When the child ends, by itself or by a signal, its family is killed, and the supervisor ends in
    the same way. `SIGTERM` is passed on to the child; `KILL_FAMILY` kills it. To be called in the
    main thread, before any other has started.

    Parameters
    ----------
    wait_for_owner : callable
        Returns when the child is to be killed because the process that it works for has died;
        called in a thread of the supervisor.
    kept_fd : int
        The only file that the supervisor keeps open for it: any other would keep pipes and sockets
        from closing when the child dies.
    """
    supervisor = os.getpid()
    adopt_orphans()
    # Held back until the supervisor is ready for them: the child may be killed as soon as it runs.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _HANDLED_SIGNALS)
    child = os.fork()
    if child == 0:
        die_with_parent(supervisor)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        return
    try:
        _supervise(child, wait_for_owner, kept_fd)
    except BaseException:  # noqa: BLE001 - shown: nobody else could
        sys.excepthook(*sys.exc_info())
    finally:
        os._exit(1)


def _supervise(child: int, wait_for_owner: Callable[[], None], kept_fd: int) -> NoReturn:
    for number in _TERMINAL_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # ignored, statuses would be lost
    running = _Unreaped(child)
    signal.signal(signal.SIGTERM, lambda *_: running.send(signal.SIGTERM))
    signal.signal(KILL_FAMILY, lambda *_: running.send(signal.SIGKILL))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _HANDLED_SIGNALS)
    last_fd = os.sysconf("SC_OPEN_MAX")
    os.closerange(3, kept_fd)
    os.closerange(max(3, kept_fd + 1), last_fd)

    def kill_with_owner() -> None:
        wait_for_owner()
        running.send(signal.SIGKILL)

    threading.Thread(target=kill_with_owner, daemon=True).start()
    status = running.wait()
    end_family()
    _exit_like(os.waitstatus_to_exitcode(status))


class _Unreaped:
    """A child that is signalled only until it is reaped: then its number may be another's."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._reaped = False

    def send(self, number: int) -> None:
        """Send a signal, unless the child has ended."""
        if not self._reaped:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(self._pid, number)

    def wait(self) -> int:
        """Return the status with which it ended; reap the orphans that end before."""
        while True:
            # Left unreaped: until it is known which one ended, its number is still its own.
            ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOWAIT)
            pid = self._pid if ended is None else ended.si_pid
            self._reaped = pid == self._pid
            _, status = os.waitpid(pid, 0)
            if self._reaped:
                return status


def _exit_like(exit_code: int) -> NoReturn:
    """End with an exit code, or by the signal that it stands for, as its negative."""
    if exit_code < 0:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # the core of interest is the child's
        if -exit_code not in {signal.SIGKILL, signal.SIGSTOP}:
            signal.signal(-exit_code, signal.SIG_DFL)
        os.kill(os.getpid(), -exit_code)
    os._exit(exit_code)
