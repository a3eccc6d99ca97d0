"""A fork server that can be replaced by another one: `multiprocessing` has one per process.

The code that a fork server has loaded is that of all the processes forked from it. To run newer
code, another one is started; the former exits once the last process that it forked has exited.
"""

import io
import os
import signal
import threading
from collections.abc import Callable
from contextlib import suppress
from multiprocessing import context, forkserver, popen_forkserver, reduction, spawn, util
from multiprocessing.process import BaseProcess
from typing import Any, Final

PRELOADED: Final = "batuta.pipeline.preload"


_CLOSE: Final[Any] = getattr(util, "close_fds")  # noqa: B009  not among the types


class ForkServer:
    """A fork server of its own, started by its first process.

    Not thread-safe, like all that starts and joins processes by `multiprocessing`.
    """

    def __init__(self) -> None:
        self._server: Any = getattr(forkserver, "ForkServer")()  # noqa: B009  not among the types
        self._server.set_forkserver_preload([PRELOADED])

    def process(self, target: Callable[..., object], *args: Any, name: str = "") -> BaseProcess:
        """Return a process that will call ``target(*args)``; it is not started yet."""
        return _Process(self._server, target, args, name or None)

    def kill(self) -> None:
        """Kill the server itself, which may hang while it loads code."""
        pid: int | None = self._server._forkserver_pid
        if pid is not None:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def retire(self) -> None:
        """Fork no more; the server exits once all that it forked has exited."""
        # Its exit status is waited for: that may take as long as the processing that runs.
        threading.Thread(target=self._server._stop, name="retire", daemon=True).start()


class _Process(context.ForkServerProcess):
    """A process of a given server, rather than of the one that `multiprocessing` has."""

    def __init__(
        self, server: Any, target: Callable[..., object], args: tuple[Any, ...], name: str | None
    ) -> None:
        super().__init__(target=target, args=args, name=name)
        self.server = server

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if key != "server"}

    @staticmethod
    def _Popen(process: Any) -> Any:  # noqa: N802  multiprocessing's name
        return _Popen(process)


class _Popen(popen_forkserver.Popen):
    """As its parent, with the server of its process in the place of the only one there is."""

    @property
    def _of_parent(self) -> Any:
        """What the parent has, and the types do not tell."""
        return self

    def _launch(self, process_obj: Any) -> None:
        preparation = spawn.get_preparation_data(process_obj.name)
        data, fork = io.BytesIO(), self._of_parent
        context.set_spawning_popen(self)
        try:
            reduction.dump(preparation, data)
            reduction.dump(process_obj, data)
        finally:
            context.set_spawning_popen(None)
        self.sentinel, write_end = process_obj.server.connect_to_new_process(fork._fds)
        # The child sees that its parent is gone when this duplicate of the data pipe closes.
        parent_end = os.dup(write_end)
        self.finalizer = util.Finalize(self, _CLOSE, (parent_end, self.sentinel))
        with open(write_end, "wb", closefd=True) as pipe:  # noqa: PTH123  a descriptor
            pipe.write(data.getbuffer())
        self.pid = forkserver.read_signed(self.sentinel)
