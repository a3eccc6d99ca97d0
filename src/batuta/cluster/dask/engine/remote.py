"""What runs in a dask worker: the steps of one job."""

import contextlib
import copy
import logging
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from batuta.cluster.dask.engine.serialization import SerializedValue, serialize
from batuta.cluster.dask.telemetry.task_metrics import EQUIPPED, StepMeasures
from batuta.cluster.local.worker_main import outputs_of
from batuta.cluster.remote_error import Raised
from batuta.profiling.capture.labels import Label

LOG: Final = logging.getLogger(__name__)
_SHOWN: Final = 200


class CallStep(NamedTuple):
    """One task of a job."""

    call: SerializedValue
    """The function, its arguments and its keyword arguments."""
    name: str
    nout: int
    label: Label


@dataclass(frozen=True)
class Call:
    """A job, ready to run: its steps, one after the other."""

    steps: tuple[CallStep, ...]
    keep: tuple[int, ...]
    """Ranks of the results of the last step that somebody wants."""
    shared: frozenset[int]
    """Ranks of the inputs that other jobs use too."""
    tile: str
    """The tile that it works for, to be named in the log."""
    run: str
    """The client of the run, whose workers measure tasks."""


class JobFailedError(Exception):
    """A step of a job raised."""

    def __init__(self, raised: Raised) -> None:
        super().__init__(raised.reason[:_SHOWN])  # dask puts another in the place of long ones
        self.raised = raised

    def __reduce__(self) -> tuple[type["JobFailedError"], tuple[Raised]]:
        return JobFailedError, (self.raised,)


class _Doing(threading.local):
    """What the thread that runs a job is doing."""

    inputs: Sequence[Any] = ()
    results: Sequence[Any] = ()
    tile: str = ""
    repeated: bool = False


_DOING = _Doing()


def tile_worked_for() -> str:
    """Name the tile that this thread works for; empty when there is none."""
    return _DOING.tile


def job_input(rank: int) -> Any:
    """Return a result of another job: what stands for it in the pickle of a call."""
    return _own(_DOING.inputs[rank])


def step_result(rank: int) -> Any:
    """Return a result of the step before: what stands for it in the pickle of a call."""
    return _own(_DOING.results[rank])


def _own(value: Any) -> Any:
    """Return a value as it is, or its copy where the call is repeated, and must find it again."""
    return copy.deepcopy(value) if _DOING.repeated else value


def run(call: Call, *inputs: SerializedValue) -> Any:
    """Run a job.

    Parameters
    ----------
    call : Call
        What to run.
    inputs : SerializedValue
        What other jobs gave, in the order of the ranks that the call knows them by.

    Returns
    -------
    SerializedValue or tuple of SerializedValue
        The result that is wanted; a tuple if several are.

    Raises
    ------
    JobFailedError
        Whatever a step raised.
    """
    equipment = EQUIPPED.get(call.run)
    measures = StepMeasures(equipment)
    with _working(call.tile, repeated=equipment is not None and equipment.repeated):
        try:
            _DOING.inputs = [
                # Its own even where nobody else uses it: the task may run again, elsewhere too.
                pack.load_copy(repeatedly=rank in call.shared)
                for rank, pack in enumerate(inputs)
            ]
            taken = sum(pack.nbytes for pack in inputs)
            for step in call.steps:
                measures.end()
                measures.begin(step.name, step.label, step.call.nbytes + taken)
                _DOING.results = outputs_of(measures.call(step.call.load), step.nout)
                taken = 0
            # What a task gave may be what it keeps, and changes the next time.
            kept = tuple(serialize(_DOING.results[rank]).detached() for rank in call.keep)
            measures.end(sum(pack.nbytes for pack in kept))
            measures.tell(None)
        except BaseException as exc:
            LOG.warning("task %s failed", measures.name or call.steps[0].name, exc_info=True)
            raised = Raised.by(measures.name or call.steps[0].name, exc)
            measures.tell(raised.reason)
            # Not "from error": that may not cross to the main process, and is told all the same.
            raise JobFailedError(raised) from None
    return kept[0] if len(kept) == 1 else kept


@contextlib.contextmanager
def _working(tile: str, *, repeated: bool) -> Iterator[None]:
    _DOING.tile, _DOING.repeated = tile, repeated
    try:
        yield
    finally:
        _DOING.inputs = _DOING.results = ()
        _DOING.tile = ""


def turn(key: str) -> int:
    """Return the priority of a job by its key: the first that was sent runs first."""
    return -int(key.rpartition("-")[2].partition(".")[0])


def itself(pack: SerializedValue) -> SerializedValue:
    """Return what many jobs will use: the task of scattered data, which dask can run again."""
    return pack


def output(packs: tuple[SerializedValue, ...], rank: int) -> SerializedValue:
    """Return one of the results of a job."""
    return packs[rank]
