"""Runs the steps of jobs in a worker process, of this machine or of dask, and measures them.

The modes differ in how a job reaches its worker, in what becomes of its results and in where its
measures go. What happens between is the same, and is here.
"""

import copy
import logging
import os
import socket
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, NamedTuple, Protocol, Self

from batuta.cluster.errors import ClusterError
from batuta.cluster.remote_error import RemoteError
from batuta.cluster.store import Traffic
from batuta.profiling.capture.contract import Caller, CallLabel
from batuta.profiling.capture.probe import Probe, ProbeStart
from batuta.profiling.capture.profiler import PlainCaller
from batuta.profiling.capture.records import Measure, Repeats, WorkerId
from batuta.profiling.capture.sink import FolderSink

LOG: Final = logging.getLogger(__name__)

LOG_FORMAT: Final = (
    "%(asctime)s %(levelname)s [process %(process)d, thread %(thread)d] %(name)s: %(message)s"
)


class StoredCall(Protocol):
    """The function, the arguments and the keyword arguments of a task, pickled."""

    def load(self) -> Any:
        """Return the three, read again each time."""


class Step(NamedTuple):
    """One task of a job, ready to run."""

    call: Any
    """A `StoredCall`."""
    nout: int
    label: CallLabel


@dataclass(frozen=True, kw_only=True)
class Instruments:
    """What the steps of a worker are called and measured with; without a probe, not measured."""

    caller: Caller
    probe: Probe | None
    repeated: bool
    """Whether each step runs several times, to find leaks."""


UNMEASURED: Final = Instruments(caller=PlainCaller(), probe=None, repeated=False)


class StepRunner:
    """Runs the steps of one job, in one thread, and measures them.

    It is a context: within it, the results that the pickle of a call refers to can be loaded, and
    `current_tile` names the tile. Left, it holds no result any more.

    Parameters
    ----------
    steps : sequence of Step
        At least one; each may use the results of the one before.
    instruments : Instruments
        Of the process, or of the run.
    traffic : Traffic
        Counts what is read and written for this job: what is counted from now on until the end of
        the first step is attributed to that step, and so on.
    tile : str
        The tile that the job computes, to be named in the log; empty when there is none.
    """

    __slots__ = (
        "_instruments",
        "_measures",
        "_read_bytes",
        "_start",
        "_steps",
        "_traffic",
        "_written_bytes",
        "inputs",
        "results",
        "step_name",
        "tile",
    )

    def __init__(
        self, steps: Sequence[Step], instruments: Instruments, traffic: Traffic, tile: str
    ) -> None:
        self.tile = tile
        self.step_name = steps[0].label.name
        """Of the step that runs, or ran last."""
        self.inputs: Sequence[Any] = ()
        """Results of other jobs, where they come with the job."""
        self.results: Sequence[Any] = ()
        """Of the last step that ended."""
        self._steps = steps
        self._instruments = instruments
        self._traffic = traffic
        self._read_bytes, self._written_bytes = traffic.read, traffic.written
        self._start: ProbeStart | None = None
        self._measures: list[Measure] = []

    def __enter__(self) -> Self:
        _THREAD.runner = self
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        _THREAD.runner = None
        # The traceback of what a step raised may outlive this, and refers to it: not to tiles.
        self.inputs = self.results = ()

    def run(self, before_step: Callable[[int, Step], None]) -> None:
        """Run the steps; the results of the last one are in `results`.

        The measure of the last step goes on until `finish`: storing its results counts.

        Parameters
        ----------
        before_step : callable
            Called with the rank of each step and the step, outside its measure.
        """
        call, probe = self._instruments.caller.call, self._instruments.probe
        for rank, step in enumerate(self._steps):
            self._end_step()
            before_step(rank, step)
            self.step_name = step.label.name
            if probe is not None:
                self._start = probe.begin()
            self.results = outputs_of(call(step.label, step.call.load), step.nout)

    def _end_step(self) -> None:
        start, probe = self._start, self._instruments.probe
        if start is None or probe is None:
            return
        read, written = self._traffic.read, self._traffic.written
        self._measures.append(
            probe.end(self.step_name, start, read - self._read_bytes, written - self._written_bytes)
        )
        self._read_bytes, self._written_bytes = read, written
        self._start = None

    def finish(self) -> tuple[Measure, ...]:
        """End the step that runs; return the measures of all that began, in order."""
        self._end_step()
        return tuple(self._measures)

    def describe_failure(self, exc: BaseException) -> RemoteError:
        """Log what the step that runs raised, and describe it for the main process."""
        LOG.warning("task %s failed", self.step_name, exc_info=exc)
        return RemoteError.from_exception(self.step_name, exc)

    def share(self, value: Any) -> Any:
        """Return a value for a step to use: a copy where it runs again, and must find it again."""
        return copy.deepcopy(value) if self._instruments.repeated else value


class _Thread(threading.local):
    """What this thread runs: the threads of a dask worker run a job each."""

    runner: StepRunner | None = None


_THREAD: Final = _Thread()


def _current() -> StepRunner:
    if _THREAD.runner is None:
        raise ClusterError("a call can be loaded only in the worker that runs its job")
    return _THREAD.runner


def current_tile() -> str:
    """Name the tile that this thread computes; empty outside a tile."""
    return "" if _THREAD.runner is None else _THREAD.runner.tile


def step_result(rank: int) -> Any:
    """Return a result of the step before: what stands for it in the pickle of a call."""
    runner = _current()
    return runner.share(runner.results[rank])


def job_input(rank: int) -> Any:
    """Return a result of another job: what stands for it in the pickle of a call."""
    runner = _current()
    return runner.share(runner.inputs[rank])


class LocalResult:
    """Stands, when pickled, for a result of the step before in the same job."""

    def __init__(self, rank: int) -> None:
        self.rank = rank

    def __reduce__(self) -> tuple[Callable[[int], Any], tuple[int]]:
        return step_result, (self.rank,)


def outputs_of(value: Any, nout: int) -> Sequence[Any]:
    """Return the `nout` results in what a task returned.

    Raises
    ------
    ClusterError
        If it returned another number of them.
    """
    if nout == 1:
        return (value,)
    if not isinstance(value, (tuple, list)) or len(value) != nout:
        given = len(value) if isinstance(value, (tuple, list)) else f"a {type(value).__name__}"
        raise ClusterError(f"a tuple of {nout} results expected (nout={nout}), {given} returned")
    return value


def collect_repeats(sink: FolderSink) -> Repeats:
    """Return what was measured of repeated tasks since the last call."""
    return Repeats(tuple(sink.collect_loops()), tuple(sink.collect_leaks()))


def this_worker() -> WorkerId:
    """Return the name of this process in profiles."""
    return worker_id(os.getpid())


def worker_id(pid: int) -> WorkerId:
    """Return the name of a worker of this machine in profiles."""
    return WorkerId(f"process {pid}", socket.gethostname(), pid)
