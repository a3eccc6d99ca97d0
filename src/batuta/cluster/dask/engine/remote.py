"""The functions that dask workers run for us: a job, and what hands its results on."""

from dataclasses import dataclass
from typing import Any, Final

from batuta.cluster.dask.engine.serialization import SerializedValue, serialize
from batuta.cluster.dask.telemetry.task_metrics import RECORDERS
from batuta.cluster.execution import UNMEASURED, Step, StepRunner
from batuta.cluster.remote_error import RemoteError
from batuta.cluster.store import Traffic
from batuta.profiling.capture.labels import Label

_MAX_MESSAGE: Final = 200


@dataclass(frozen=True, kw_only=True)
class JobCall:
    """A job, ready to run."""

    steps: tuple[Step, ...]
    labels: tuple[Label, ...]
    """Of each step, for the rows of its measures."""
    keep: tuple[int, ...]
    """Ranks of the results of the last step that are used."""
    shared: frozenset[int]
    """Ranks of the inputs that other jobs use too."""
    tile: str
    """The tile that the job computes, to be named in the log."""
    run_id: str
    """The client of the run, which may measure its tasks."""


class JobFailedError(Exception):
    """A step of a job raised."""

    def __init__(self, error: RemoteError) -> None:
        # dask replaces exceptions whose message is long by others.
        super().__init__(error.reason[:_MAX_MESSAGE])
        self.error = error

    def __reduce__(self) -> tuple[type["JobFailedError"], tuple[RemoteError]]:
        return JobFailedError, (self.error,)


def run_job(job: JobCall, *inputs: SerializedValue) -> Any:
    """Run a job.

    Parameters
    ----------
    job : JobCall
        What to run.
    inputs : SerializedValue
        The results of other jobs, in the order of the ranks by which its calls refer to them.

    Returns
    -------
    SerializedValue or tuple of SerializedValue
        The result that is used; a tuple if several are.

    Raises
    ------
    JobFailedError
        Whatever a step raised.
    """
    recorder = RECORDERS.get(job.run_id)
    instruments = UNMEASURED if recorder is None else recorder.instruments
    traffic = Traffic()  # of this job: other threads run others
    with StepRunner(job.steps, instruments, traffic, job.tile) as runner:

        def before_step(_: int, step: Step) -> None:
            traffic.read += step.call.nbytes

        error: RemoteError | None = None
        kept: tuple[SerializedValue, ...] = ()
        try:
            runner.inputs = [
                # A copy even where no other job uses it: the task may run again, elsewhere too.
                value.load_copy(repeatedly=rank in job.shared)
                for rank, value in enumerate(inputs)
            ]
            traffic.read += sum(value.nbytes for value in inputs)
            runner.run(before_step)
            # What a task returned may be what it caches, and changes the next time.
            kept = tuple(serialize(runner.results[rank]).detached() for rank in job.keep)
            traffic.written += sum(value.nbytes for value in kept)
        except BaseException as exc:  # noqa: BLE001 - logged and described
            error = runner.describe_failure(exc)
        finally:
            if recorder is not None:
                reason = None if error is None else error.reason
                recorder.record(job.labels, runner.finish(), reason)
    if error is not None:
        # Here, so that it has no context: dask would pickle that too, and it may end the process.
        raise JobFailedError(error)
    return kept[0] if len(kept) == 1 else kept


def priority(key: str) -> int:
    """Return the priority of a job by its key: jobs run in the order in which they were sent."""
    return -int(key.rpartition("-")[2].partition(".")[0])


def identity(value: SerializedValue) -> SerializedValue:
    """Return a value: the task of scattered data, which dask can run again."""
    return value


def output(values: tuple[SerializedValue, ...], rank: int) -> SerializedValue:
    """Return one of the results of a job."""
    return values[rank]
