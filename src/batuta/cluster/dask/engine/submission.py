"""From jobs to the tasks of dask, and the results that they leave in workers."""

import contextlib
import itertools
import secrets
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from dask._task_spec import Task as DaskTask
from dask._task_spec import TaskRef
from dask.base import annotate
from distributed import Client

from batuta.cluster.dask.engine import remote
from batuta.cluster.dask.engine.serialization import SerializedValue, serialize
from batuta.cluster.execution import Step, job_input, step_result
from batuta.cluster.graph import Job
from batuta.cluster.task_metrics import TaskMetrics
from batuta.cluster.tasks import Delayed, Scattered, Task
from batuta.profiling.capture.contract import CallLabel

LARGE_BYTES: Final = 256 << 10
"""Arguments from this size on are sent once, however many tasks they are given to."""
_MAX_LARGE_ARGUMENTS: Final = 32
"""How many of them are remembered as sent."""
_CHECK_S: Final = 1.0


class RemoteResult:
    """A result in the memory of a worker, for the main process and for other jobs.

    Parameters
    ----------
    future : distributed.Future
        Keeps the result in its worker until it is released.
    broken : callable
        Returns why no result will come any more, or None.
    """

    __slots__ = ("_broken", "fetched", "future")

    def __init__(self, future: Any, broken: Callable[[], Exception | None] = lambda: None) -> None:
        self.future = future
        self._broken = broken
        self.fetched: SerializedValue | None = None
        """The value, once it has been fetched to the main process."""

    def load(self) -> Any:
        """Return the value, which is fetched if need be."""
        value = self.fetched
        while value is None:
            value = self._try_fetch()
        self.fetched = None
        return value.load()

    def _try_fetch(self) -> SerializedValue | None:
        """Fetch the value; return None if it takes time, so that the cluster is checked again.

        A future of a cluster that broke down meanwhile may never end.
        """
        if (exc := self._broken()) is not None:
            raise exc
        with contextlib.suppress(TimeoutError):
            value: SerializedValue = self.future.result(timeout=_CHECK_S)
            return value
        return None

    def discard(self) -> None:
        """Let the worker free it."""
        self.fetched = None
        self.future.release()


@dataclass
class TaskBatch:
    """Jobs to be submitted together, as a graph of dask."""

    graph: dict[str, DaskTask] = field(default_factory=dict)
    result_keys: dict[str, list[str]] = field(default_factory=dict)
    """The keys of the results that are wanted of each job, by the key of the job."""


@dataclass(eq=False)
class SubmittedJob:
    """A job that dask computes."""

    job: Job
    key: str
    pending: set[str]
    """Keys of the results that are not computed yet."""
    futures: list[Any] = field(default_factory=list)

    def release(self) -> None:
        """Let dask cancel the job, and free its results."""
        for future in self.futures:
            future.release()


class TaskSubmitter:
    """Translates jobs to tasks of dask, and submits them.

    Parameters
    ----------
    client : Client
        Of the cluster.
    task_metrics : TaskMetrics
        Labels what workers measure.
    """

    def __init__(self, client: Client, task_metrics: TaskMetrics) -> None:
        self._client = client
        self._task_metrics = task_metrics
        self._key_prefix = secrets.token_hex(4)
        """In every key, to tell them from those of other programs on the same scheduler."""
        self._numbers = itertools.count()
        self._large: OrderedDict[int, tuple[Any, Scattered]] = OrderedDict()
        """Large arguments and what was scattered for each, by identity. The argument is held, or
        another object might get the same identity."""

    def scatter(self, value: Any) -> Scattered:
        """Send a value to the workers; it stays there as long as what is returned.

        It is the result of a task rather than data scattered by dask: a task runs again where its
        worker is lost, scattered data are gone.
        """
        key = self._new_key("data")
        graph = {key: DaskTask(key, remote.identity, serialize(value, _NO_REDUCERS))}
        return Scattered(value, RemoteResult(self._submit_graph(graph, [key])[0]))

    def submit(self, batch: TaskBatch) -> dict[str, Any]:
        """Submit a batch; return a future for each result, by its key."""
        keys = [key for keys in batch.result_keys.values() for key in keys]
        return dict(zip(keys, self._submit_graph(batch.graph, keys), strict=True))

    def _submit_graph(self, graph: Mapping[str, Any], keys: Sequence[str]) -> list[Any]:
        with annotate(priority=remote.priority):
            futures: list[Any] = self._client.get(dict(graph), list(keys), sync=False)
        return futures

    def add_job(self, job: Job, batch: TaskBatch) -> str:
        """Add a job to a batch; return its key.

        Raises
        ------
        Exception
            Anything that pickling its arguments raises; the batch is left as it was.
        """
        inputs = _JobInputs()
        previous_steps: list[Task | None] = [None, *job.steps[:-1]]
        calls = [
            self._serialize_call(task, previous, inputs)
            for task, previous in zip(job.steps, previous_steps, strict=True)
        ]
        # Once all calls are there: a label counts as an attempt.
        labels = tuple(self._task_metrics.label(job, rank) for rank in range(len(job.steps)))
        steps = tuple(
            Step(call, task.nout, CallLabel(label.number, task.name, label.attempt))
            for task, call, label in zip(job.steps, calls, labels, strict=True)
        )
        keep = tuple(output.index for output in job.last.outputs if output.uses)
        key = self._new_key(job.last.name)
        call = remote.JobCall(
            steps=steps,
            labels=labels,
            keep=keep,
            shared=frozenset(inputs.shared),
            tile="" if job.tile is None else str(job.tile),
            run_id=self._client.id,
        )
        batch.graph[key] = DaskTask(key, remote.run_job, call, *inputs.references)
        batch.result_keys[key] = (
            [key] if len(keep) == 1 else self._add_output_tasks(key, len(keep), batch)
        )
        return key

    def _new_key(self, name: str) -> str:
        """Return a new key, whose number is its priority: see `remote.priority`."""
        return f"{name}-{self._key_prefix}-{next(self._numbers)}"

    def reset(self) -> None:
        """Forget the large arguments of the previous computation: they may have changed since."""
        self._large.clear()

    @staticmethod
    def _add_output_tasks(key: str, count: int, batch: TaskBatch) -> list[str]:
        """Add a task for each result of a job, so that they are fetched and freed one by one."""
        keys = [f"{key}.{rank}" for rank in range(count)]
        for rank, each in enumerate(keys):
            batch.graph[each] = DaskTask(each, remote.output, TaskRef(key), rank)
        return keys

    def _serialize_call(
        self, task: Task, previous: Task | None, inputs: "_JobInputs"
    ) -> SerializedValue:
        inner = () if previous is None else previous.outputs
        reducers = {
            Delayed: lambda delayed: (
                (step_result, (delayed.index,))
                if delayed in inner
                else inputs.reduce(delayed, shared=delayed.uses > 1)
            ),
            Scattered: lambda scattered: (
                scattered.__reduce__()
                if scattered.stored is None
                else inputs.reduce(scattered, shared=True)
            ),
        }
        args, kwargs = self._replace_large(task)
        call = serialize((task.function, args, kwargs), reducers)
        arguments = itertools.chain(args, kwargs.values())
        if call.nbytes < LARGE_BYTES or not self._scatter_large(arguments):
            return call
        return serialize((task.function, *self._replace_large(task)), reducers)

    def _replace_large(self, task: Task) -> tuple[tuple[Any, ...], Mapping[str, Any]]:
        """Return the arguments of a task, with those that were scattered replaced."""
        if not self._large:
            return task.args, task.kwargs
        args = tuple(self._replacement(each) for each in task.args)
        return args, {name: self._replacement(each) for name, each in task.kwargs.items()}

    def _replacement(self, argument: Any) -> Any:
        found = self._large.get(id(argument))
        if found is None:
            return argument
        self._large.move_to_end(id(argument))
        return found[1]

    def _scatter_large(self, arguments: Iterable[Any]) -> bool:
        """Scatter the arguments that are large; return whether there are any."""
        found = False
        for each in arguments:
            value = each
            if isinstance(each, Scattered):
                if each.stored is not None:
                    continue
                value = each.value  # of a cluster that was closed
            if _is_large(value):
                self._large[id(each)] = (each, self.scatter(value))
                found = True
        while len(self._large) > _MAX_LARGE_ARGUMENTS:
            self._large.popitem(last=False)
        return found


class _PlaceholderError(Exception):
    """A value has something in it that stands for another value."""


def _refuse(_: Any) -> tuple[Any, ...]:
    raise _PlaceholderError


_NO_REDUCERS: Final[dict[type, Any]] = {}
"""No special type; but classes of the main script are serialized whole."""
_NO_PLACEHOLDERS: Final[dict[type, Any]] = {Delayed: _refuse, Scattered: _refuse}


def _is_large(value: Any) -> bool:
    """Whether a value is to be scattered: it is large, and does not depend on others."""
    try:
        return serialize(value, _NO_PLACEHOLDERS).nbytes >= LARGE_BYTES
    except _PlaceholderError:
        return False


class _JobInputs:
    """The results of other jobs that the steps of a job need, each once."""

    def __init__(self) -> None:
        self.references: list[TaskRef] = []
        self.shared: set[int] = set()
        """Ranks of those that other jobs need too."""
        self._ranks: dict[str, int] = {}

    def reduce(self, value: Delayed | Scattered, *, shared: bool) -> tuple[Any, tuple[int]]:
        """Return what stands for a value in the pickle of a call."""
        if not isinstance(value.stored, RemoteResult):
            raise TypeError(
                f"{value!r} is not computed: it was put in an argument after the task was declared"
            )
        key = value.stored.future.key
        if key not in self._ranks:
            self._ranks[key] = len(self.references)
            self.references.append(TaskRef(key))
        rank = self._ranks[key]
        if shared:
            self.shared.add(rank)
        return job_input, (rank,)
