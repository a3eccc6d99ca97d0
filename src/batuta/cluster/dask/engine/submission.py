"""From jobs to what dask is asked."""

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
from batuta.cluster.dask.engine.serialization import Pack, packed
from batuta.cluster.graph import Job
from batuta.cluster.task_metrics import TaskMetrics
from batuta.cluster.tasks import Delayed, Scattered, Task

LARGE_BYTES: Final = 256 << 10
"""Arguments from this size on are sent once, however many tasks they are given to."""
_PATIENCE_S: Final = 1.0
_REMEMBERED: Final = 32
"""How many of them are remembered."""


class Held:
    """A result that a worker holds, for the main process and for other jobs."""

    __slots__ = ("_reason", "future", "pack")

    def __init__(self, future: Any, reason: Callable[[], Exception | None] = lambda: None) -> None:
        self.future = future
        self._reason = reason
        """Gives why nothing will come any more, if so."""
        self.pack: Pack | None = None
        """Once it has come to the main process."""

    def load(self) -> Any:
        """Return the value; have it come if it is not here."""
        pack = self.pack
        while pack is None:
            pack = self._brought()
        self.pack = None
        return pack.open()

    def _brought(self) -> Pack | None:
        """Have the value come; None where it takes time."""
        if (error := self._reason()) is not None:
            raise error
        with contextlib.suppress(TimeoutError):
            found: Pack = self.future.result(timeout=_PATIENCE_S)
            return found
        return None

    def discard(self) -> None:
        """Let the worker forget it."""
        self.pack = None
        self.future.release()


@dataclass
class Request:
    """Jobs to be computed: the graph of dask, and what to hear of."""

    graph: dict[str, DaskTask] = field(default_factory=dict)
    wanted: dict[str, list[str]] = field(default_factory=dict)
    """Of each job, by its key, the keys of the results that are wanted."""


class Packer:
    """Puts jobs in the form that dask takes.

    Parameters
    ----------
    client : Client
        Of the cluster.
    task_metrics : TaskMetrics
        Where what workers measure goes.
    """

    def __init__(self, client: Client, task_metrics: TaskMetrics) -> None:
        self._client = client
        self._task_metrics = task_metrics
        self._run = secrets.token_hex(4)
        """In every key: those of other programs on the same scheduler are others."""
        self._numbers = itertools.count()
        self._large: OrderedDict[int, tuple[Any, Scattered]] = OrderedDict()
        """Arguments that were sent apart, by their identity; held, so that it stays theirs."""

    def scatter(self, value: Any) -> Scattered:
        """Put a value where every worker can take it from; kept as long as what is given back.

        It is a task that gives it: dask can run that again where a worker is lost.
        """
        key = self._key("data")
        graph = {key: DaskTask(key, remote.itself, packed(value, _PLAIN))}
        return Scattered(value, Held(submitted(self._client, graph, [key])[0]))

    def add(self, job: Job, request: Request) -> str:
        """Add a job to a request; return its key.

        Raises
        ------
        Exception
            Whatever pickling its arguments raises; the request is left as it was.
        """
        inputs = _Inputs()
        before: list[Task | None] = [None, *job.steps[:-1]]
        steps = tuple(
            remote.CallStep(
                self._packed_call(task, previous, inputs),
                task.name,
                task.nout,
                self._task_metrics.label(job, rank),
            )
            for rank, (task, previous) in enumerate(zip(job.steps, before, strict=True))
        )
        keep = tuple(output.index for output in job.last.outputs if output.uses)
        key = self._key(job.last.name)
        call = remote.Call(
            steps=steps,
            keep=keep,
            shared=frozenset(inputs.shared),
            tile="" if job.tile is None else str(job.tile),
            run=self._client.id,
        )
        request.graph[key] = DaskTask(key, remote.run, call, *inputs.references)
        request.wanted[key] = [key] if len(keep) == 1 else self._apart(key, len(keep), request)
        return key

    def _key(self, name: str) -> str:
        """Make a key; see `remote.turn`."""
        return f"{name}-{self._run}-{next(self._numbers)}"

    def begin(self) -> None:
        """Forget what was sent in the run before: it may have changed since."""
        self._large.clear()

    @staticmethod
    def _apart(key: str, count: int, request: Request) -> list[str]:
        """Add tasks that give the results of a job one by one."""
        keys = [f"{key}.{rank}" for rank in range(count)]
        for rank, each in enumerate(keys):
            request.graph[each] = DaskTask(each, remote.output, TaskRef(key), rank)
        return keys

    def _packed_call(self, task: Task, before: Task | None, inputs: "_Inputs") -> Pack:
        inside = () if before is None else before.outputs
        special = {
            Delayed: lambda delayed: (
                (remote.step_result, (delayed.index,))
                if delayed in inside
                else inputs.reduced(delayed, shared=delayed.uses > 1)
            ),
            Scattered: lambda scattered: (
                scattered.__reduce__()
                if scattered.stored is None
                else inputs.reduced(scattered, shared=True)
            ),
        }
        args, kwargs = self._known_apart(task)
        pack = packed((task.function, args, kwargs), special)
        if pack.nbytes < LARGE_BYTES or not self._send_large(
            itertools.chain(args, kwargs.values())
        ):
            return pack
        return packed((task.function, *self._known_apart(task)), special)

    def _known_apart(self, task: Task) -> tuple[tuple[Any, ...], Mapping[str, Any]]:
        """Return the arguments of a task, with those that were sent apart replaced."""
        if not self._large:
            return task.args, task.kwargs
        args = tuple(self._known(each) for each in task.args)
        return args, {name: self._known(each) for name, each in task.kwargs.items()}

    def _known(self, argument: Any) -> Any:
        found = self._large.get(id(argument))
        if found is None:
            return argument
        self._large.move_to_end(id(argument))
        return found[1]

    def _send_large(self, arguments: Iterable[Any]) -> bool:
        """Send apart those arguments that are large; say whether there are."""
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
        while len(self._large) > _REMEMBERED:
            self._large.popitem(last=False)
        return found


class _NotAloneError(Exception):
    """A value has something in it that stands for another value."""


def _refuse(_: Any) -> tuple[Any, ...]:
    raise _NotAloneError


_PLAIN: Final[dict[type, Any]] = {}
"""Nothing special: but classes of the main script travel whole."""
_ALONE: Final[dict[type, Any]] = {Delayed: _refuse, Scattered: _refuse}


def _is_large(value: Any) -> bool:
    """Whether a value is to be sent apart."""
    try:
        return packed(value, _ALONE).nbytes >= LARGE_BYTES
    except _NotAloneError:
        return False


class _Inputs:
    """What the steps of a job take from elsewhere, each once."""

    def __init__(self) -> None:
        self.references: list[TaskRef] = []
        self.shared: set[int] = set()
        self._ranks: dict[str, int] = {}

    def reduced(self, taken: Delayed | Scattered, *, shared: bool) -> tuple[Any, tuple[int]]:
        """Return what stands for a value in the pickle of a call."""
        if not isinstance(taken.stored, Held):
            raise TypeError(
                f"{taken!r} is not computed: it was put in an argument after the task was declared"
            )
        key = taken.stored.future.key
        if key not in self._ranks:
            self._ranks[key] = len(self.references)
            self.references.append(TaskRef(key))
        rank = self._ranks[key]
        if shared:
            self.shared.add(rank)
        return remote.job_input, (rank,)


def submitted(client: Client, graph: Mapping[str, Any], keys: Sequence[str]) -> list[Any]:
    """Have dask compute a graph; return the futures of `keys`."""
    with annotate(priority=remote.turn):
        futures: list[Any] = client.get(dict(graph), list(keys), sync=False)
    return futures
