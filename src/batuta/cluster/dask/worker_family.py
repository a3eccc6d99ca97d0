"""Workers of dask whose families end with them: the processes in which nannies run them.

As a preload of nannies (``dask worker --preload-nanny batuta.cluster.dask.worker_family``) it does
so for all the workers of a process.
"""

import multiprocessing
import os
from contextlib import AbstractContextManager
from multiprocessing import context
from typing import Any, Final

from distributed import Nanny
from distributed import process as _dask_process
from distributed.utils import get_mp_context

from batuta.cluster.dask.process_state import SharedProcessState, State
from batuta.cluster.family_process import (
    FamilyProcess,
    ForkFamilyProcess,
    ForkServerFamilyProcess,
    SpawnFamilyProcess,
)


class _WorkerProcess(FamilyProcess):
    """Its `pid` is that of the worker, whose memory nannies measure by it."""

    _worker_pid: int | None = None
    _pid_writer: Any = None

    def start(self) -> None:
        """Start the worker; return once it has its process."""
        reader, self._pid_writer = multiprocessing.Pipe(duplex=False)
        with reader:
            super().start()
            self._pid_writer.close()
            try:
                self._worker_pid = reader.recv()
            except EOFError:  # it has died: its exit code says how
                self._worker_pid = self.ident

    @property
    def pid(self) -> int | None:
        """The id of the process of the worker."""
        return self._worker_pid

    def run_target(self) -> None:
        """Run the worker."""
        with self._pid_writer as writer:
            writer.send(os.getpid())
        super().run_target()


class _ForkProcess(_WorkerProcess, ForkFamilyProcess):
    pass


class _SpawnProcess(_WorkerProcess, SpawnFamilyProcess):
    pass


class _ForkServerProcess(_WorkerProcess, ForkServerFamilyProcess):
    pass


class _ForkContext(context.ForkContext):
    Process = _ForkProcess


class _SpawnContext(context.SpawnContext):
    Process = _SpawnProcess


class _ForkServerContext(context.ForkServerContext):
    Process = _ForkServerProcess


_CONTEXTS: Final[dict[str, context.BaseContext]] = {
    "fork": _ForkContext(),
    "spawn": _SpawnContext(),
    "forkserver": _ForkServerContext(),
}


def _family_context() -> context.BaseContext:
    """Return what dask starts processes by, of the method that is set in its configuration."""
    return _CONTEXTS[get_mp_context().get_start_method()]


_PROCESS_MODULE: Final[Any] = _dask_process
"""Takes what it starts processes by from this global; dask has no option for it."""


def _read_context() -> State:
    return {"get": _PROCESS_MODULE.get_mp_context}


def _write_context(state: State) -> None:
    _PROCESS_MODULE.get_mp_context = state["get"]


_CONTEXT: Final = SharedProcessState(_read_context, _write_context)


def worker_families_end() -> AbstractContextManager[None]:
    """Let the workers that nannies of this process start end with all that they started."""
    return _CONTEXT.changed(lambda _: {"get": _family_context})


def dask_setup(_: Nanny) -> None:
    """Do so for good: called by dask when this is a preload of nannies."""
    _write_context({"get": _family_context})
