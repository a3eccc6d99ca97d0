"""Fork servers besides the one that `multiprocessing` has for each process.

The code that a fork server has loaded is that of all the processes forked from it. To run newer
code, or that of one cluster alone, another one is started; the former exits once the last process
that it forked has exited.
"""

import io
import os
import pickle
import signal
import sys
import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from multiprocessing import context, forkserver, popen_forkserver, reduction, spawn, util
from multiprocessing.process import BaseProcess
from types import TracebackType
from typing import TYPE_CHECKING, Any, ClassVar, Final

_CLOSE: Final[Any] = getattr(util, "close_fds")  # noqa: B009  not among the types

if TYPE_CHECKING:
    _Process = BaseProcess
else:
    _Process = context.ForkServerProcess


def end_orphans_quietly() -> None:
    """End a process without a word whose owner died before it said what to run.

    To be called in a fork server. Python shows the end of the owner's pipe as an exception, in the
    log of a service that was killed, or on the terminal of a program.
    """
    show = sys.excepthook

    def show_unless_orphaned(
        kind: type[BaseException], error: BaseException, trace: TracebackType | None
    ) -> None:
        if not (isinstance(error, EOFError | pickle.UnpicklingError) and _is_starting(trace)):
            show(kind, error, trace)

    sys.excepthook = show_unless_orphaned


def _is_starting(trace: TracebackType | None) -> bool:
    """Return whether an exception was raised where a process reads what it is to run."""
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    main: Any = getattr(spawn, "_main")  # noqa: B009  not among the types
    return trace is not None and trace.tb_frame.f_code is main.__code__


class ForkServer:
    """A fork server of its own, started by its first process.

    Not thread-safe, like all that starts and joins processes by `multiprocessing`.

    Parameters
    ----------
    preload : iterable of str
        Modules that it imports before it forks.
    """

    process_class: "ClassVar[type[ForkServerProcess]]"
    """What `process` makes; a kind of `ForkServerProcess`."""

    def __init__(self, preload: Iterable[str] = ()) -> None:
        self.server: Any = getattr(forkserver, "ForkServer")()  # noqa: B009  not among the types
        """That of `multiprocessing`."""
        self.server.set_forkserver_preload(list(preload))

    def process(self, target: Callable[..., object], *args: Any, name: str = "") -> BaseProcess:
        """Return a process that will call ``target(*args)``; it is not started yet."""
        process = self.process_class(target=target, args=args, name=name or None)
        process.server = self
        return process

    def kill(self) -> None:
        """Kill the server itself, which may hang while it loads code."""
        pid: int | None = self.server._forkserver_pid
        if pid is not None:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def retire(self) -> threading.Thread:
        """Fork no more; the server exits once all that it forked has exited.

        Returns
        -------
        threading.Thread
            Ends with the server: its exit status is waited for, which may take as long as the
            processing that runs.
        """
        thread = threading.Thread(target=self._stop, name="retire", daemon=True)
        thread.start()
        return thread

    def _stop(self) -> None:
        with suppress(ChildProcessError):  # another wait of this process has taken its exit status
            self.server._stop()


class ForkServerProcess(_Process):
    """A process of a given server, rather than of the one that `multiprocessing` has."""

    server: ForkServer
    """To be set before it is started."""

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if key != "server"}

    def preparation(self) -> dict[str, Any]:
        """Return what the process prepares before it runs: `multiprocessing.spawn.prepare`."""
        return spawn.get_preparation_data(self.name)

    @staticmethod
    def _Popen(process: Any) -> Any:  # noqa: N802  multiprocessing's name
        return _Popen(process)


ForkServer.process_class = ForkServerProcess


class _Popen(popen_forkserver.Popen):
    """As its parent, with the server of its process in the place of the only one there is."""

    @property
    def _of_parent(self) -> Any:
        """What the parent has, and the types do not tell."""
        return self

    def _launch(self, process_obj: Any) -> None:
        data, fork = io.BytesIO(), self._of_parent
        context.set_spawning_popen(self)
        try:
            reduction.dump(process_obj.preparation(), data)
            reduction.dump(process_obj, data)
        finally:
            context.set_spawning_popen(None)
        server = process_obj.server.server
        self.sentinel, write_end = server.connect_to_new_process(fork._fds)
        # The child sees that its parent is gone when this duplicate of the data pipe closes.
        parent_end = os.dup(write_end)
        self.finalizer = util.Finalize(self, _CLOSE, (parent_end, self.sentinel))
        with open(write_end, "wb", closefd=True) as pipe:  # noqa: PTH123  a descriptor
            pipe.write(data.getbuffer())
        self.pid = forkserver.read_signed(self.sentinel)
