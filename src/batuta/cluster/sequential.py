"""Tasks in this process, one after the other."""

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from batuta.cluster.config import RAM_PER_WORKER_MB, CommonConfig, SequentialConfig
from batuta.cluster.contract import CreateTask
from batuta.cluster.errors import ClusterError, TaskFailedError
from batuta.cluster.graph import Job, make_plan
from batuta.cluster.in_process_runner import Bench
from batuta.cluster.task_metrics import TaskMetrics, task_number
from batuta.cluster.tasks import Delayed, check_task, declare, find_delayed
from batuta.datasets import CarsDataset, CarsDict
from batuta.errors import describe_error
from batuta.profiling.capture.layout import PROFILE_FOLDER


@dataclass(frozen=True, eq=False)
class KnownFuture:
    """A result that is there, or why it is not."""

    delayed: Any
    value: Any
    error: BaseException | None = None

    def result(self) -> Any:
        """Return the result, or raise why there is none."""
        if self.error is not None:
            raise self.error
        return self.value


class SequentialCluster:
    """For studies, debugging and notebooks: a delayed object is the data itself.

    What a task raises is raised where it is created. With ``resume``, tasks are declared as in
    the other modes, and computed by `future_iterator`: those that an earlier run computed must
    not be.
    """

    config_model: ClassVar[type[CommonConfig]] = SequentialConfig

    def __init__(
        self, config: SequentialConfig, out_dir: Path | None, *, launch_worker: bool = True
    ) -> None:
        self.out_dir = out_dir
        self.launched = launch_worker
        self._declares = config.resume
        self.task_metrics = TaskMetrics()
        """Where what tasks take goes."""
        profiled = config.profiling if out_dir is not None else None
        self._bench = Bench(
            self.task_metrics,
            None if profiled is None else profiled.options(),
            Path(out_dir or "").absolute() / PROFILE_FOLDER,
        )
        # Programs size their tiles from it, whatever the mode.
        self.checked_conf_cluster: dict[str, Any] = {
            "max_ram_per_worker": RAM_PER_WORKER_MB,
            **config.model_dump(),
        }

    @property
    def delayed_type(self) -> type:
        """Any object, the data itself; `Delayed` with ``resume``."""
        return Delayed if self._declares else object

    def create_task(self, func: Callable[..., Any], nout: int = 1) -> CreateTask:
        """Return what computes `func` at once; not launched, or to resume, what declares it."""
        check_task(func, nout)

        def call(*args: Any, **kwargs: Any) -> Any:
            if self._declares or not self.launched:
                return declare(func, args, kwargs, nout)
            values = self._bench.call(func, args, kwargs, nout)
            return values[0] if nout == 1 else tuple(values)

        return call

    def start_tasks(self, task_list: Sequence[Any]) -> list[KnownFuture]:
        """Wrap what is computed already, or will be by `future_iterator`."""
        if not self.launched:
            raise ClusterError("the cluster was made with launch_worker=False: it computes nothing")
        return [KnownFuture(data, data) for data in task_list]

    def future_iterator(self, future_list: Sequence[KnownFuture]) -> Iterator[KnownFuture]:
        """Return them in their order; with ``resume``, as they are computed."""
        if not self._declares:
            return iter(future_list)
        return computed([future.delayed for future in future_list], self._bench)

    def task_of(self, cell: Any) -> int | None:
        """Return the number of the task that gave a tile, where tasks are told apart."""
        return task_number(cell.task) if isinstance(cell, Delayed) else self._bench.maker_of(cell)

    def scatter(self, data: Any) -> Any:
        """Return `data` itself."""
        return data

    def cleanup(self) -> None:
        """Nothing to end, nothing to remove, but what profilers have not written."""
        self._bench.close()


def computed(wanted: Sequence[Delayed], bench: Bench) -> Iterator[KnownFuture]:
    """Compute delayed objects in the order of the plan, each result kept until its last use."""
    asked = frozenset(wanted)
    results: dict[Delayed, KnownFuture] = {}
    plan = make_plan(wanted, fuse=False)
    bench.begin(plan)
    for job in plan.jobs:
        (task,) = job.steps
        results.update({each.delayed: each for each in _outcome(job, results, bench)})
        for delayed in task.dependencies:
            _used(delayed, results)
        for output in task.outputs:
            if output in asked:
                yield results[output]
                _used(output, results)
            elif output.uses == 0:
                del results[output]


def _outcome(job: Job, results: Mapping[Delayed, KnownFuture], bench: Bench) -> list[KnownFuture]:
    """Call a task; what it raises, or what its inputs lack, is the outcome of all its outputs."""
    task = job.first
    error = next((results[each].error for each in task.dependencies if results[each].error), None)
    values: Sequence[Any] = [None] * task.nout
    if error is None:
        try:
            args, kwargs = _with_values((task.args, dict(task.kwargs)), results)
            values = bench.run(job, args, kwargs)
        except (Exception, SystemExit) as cause:  # noqa: BLE001 - what a task raises is a result
            error = TaskFailedError(task.name, describe_error(cause))
            error.__cause__ = cause
    return [
        KnownFuture(output, value, error)
        for output, value in zip(task.outputs, values, strict=True)
    ]


def _with_values(content: Any, results: Mapping[Delayed, KnownFuture]) -> Any:
    """Return `content` with values where it has delayed objects; what holds none stays itself."""
    if isinstance(content, Delayed):
        return results[content].value
    if next(find_delayed(content), None) is None:
        return content
    if isinstance(content, CarsDataset | CarsDict):
        filled = copy.copy(content)
        held = "tiles" if isinstance(content, CarsDataset) else "data"
        setattr(filled, held, _with_values(getattr(content, held), results))
        return filled
    if isinstance(content, dict):
        return {key: _with_values(value, results) for key, value in content.items()}
    make = getattr(content, "_make", tuple if isinstance(content, tuple) else list)
    return make(_with_values(value, results) for value in content)


def _used(delayed: Delayed, results: dict[Delayed, KnownFuture]) -> None:
    delayed.uses -= 1
    if delayed.uses <= 0:
        del results[delayed]
