"""The sequential mode: tasks run in this process, one after the other."""

import copy
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from batuta.cluster.config import CommonConfig, SequentialConfig
from batuta.cluster.contract import CreateTask
from batuta.cluster.debugging import report_task_error
from batuta.cluster.errors import ClusterError, TaskFailedError
from batuta.cluster.futures import TaskFuture, iterate_values
from batuta.cluster.graph import Job, make_plan
from batuta.cluster.in_process_runner import InProcessRunner
from batuta.cluster.remote_error import failed_here
from batuta.cluster.resources import RAM_PER_WORKER_MB
from batuta.cluster.task_metrics import TaskMetrics, task_number
from batuta.cluster.tasks import Delayed, check_task, declare, find_delayed
from batuta.cluster.tile_activity import TileStart
from batuta.datasets.cars_dataset import CarsDataset
from batuta.datasets.tiles import CarsDict
from batuta.profiling.capture.layout import PROFILE_FOLDER


class SequentialCluster:
    """For studies, debugging and notebooks: a delayed object is the data itself.

    What a task raises is raised where it is created. With ``resume``, tasks are declared as in
    the other modes, and computed while iterating over their futures: those that an earlier run
    computed must not be.
    """

    config_model: ClassVar[type[CommonConfig]] = SequentialConfig

    def __init__(
        self, config: SequentialConfig, out_dir: Path | None, *, launch_worker: bool = True
    ) -> None:
        self.out_dir = out_dir
        self.launched = launch_worker
        self._declares = config.resume
        self._computations: deque[Iterator[list[TaskFuture]]] = deque()
        """One for each call of `start_tasks` that has tasks to run, in their order."""
        self.task_metrics = TaskMetrics()
        """Receives the measurements of tasks."""
        self.on_tile_start: Callable[[TileStart], None] | None = None
        """Called when a task of a tile begins; with ``resume``, where tasks are declared."""
        profiled = config.profiling if out_dir is not None else None
        self._runner = InProcessRunner(
            self.task_metrics,
            None if profiled is None else profiled.options(),
            Path() if out_dir is None else out_dir.absolute() / PROFILE_FOLDER,
        )
        # Programs compute the size of their tiles from `max_ram_per_worker`, whatever the mode.
        self.checked_conf_cluster: dict[str, Any] = {
            "max_ram_per_worker": RAM_PER_WORKER_MB,
            **config.as_dict(),
        }

    @property
    def delayed_type(self) -> type:
        """`object`, for it is the data itself; `Delayed` with ``resume``."""
        return Delayed if self._declares else object

    def create_task(self, func: Callable[..., Any], nout: int = 1) -> CreateTask:
        """Return a function that calls `func` at once, or that declares it.

        It declares with ``resume``, and with `launch_worker` False.
        """
        check_task(func, nout)

        def call(*args: Any, **kwargs: Any) -> Any:
            if self._declares or not self.launched:
                return declare(func, args, kwargs, nout)
            values = self._runner.call(func, args, kwargs, nout)
            return values[0] if nout == 1 else tuple(values)

        return call

    def start_tasks(self, task_list: Sequence[Any]) -> list[TaskFuture]:
        """Wrap values that are computed already, or delayed objects that iterating computes."""
        if not self.launched:
            raise ClusterError("the cluster was made with launch_worker=False: it computes nothing")
        if self._declares:
            by_delayed = {delayed: TaskFuture(delayed) for delayed in task_list}
            self._computations.append(compute_tasks(by_delayed, self._runner, self._on_job))
            return [by_delayed[delayed] for delayed in task_list]
        futures = [TaskFuture(data) for data in task_list]
        for future in futures:
            future.set_value(future.delayed)
        return futures

    def future_iterator(self, future_list: Sequence[TaskFuture]) -> Iterator[Any]:
        """Iterate over values, in their order; with ``resume``, as they are computed."""
        return iterate_values(self.as_completed(future_list), future_list)

    def as_completed(self, future_list: Sequence[TaskFuture]) -> Iterator[TaskFuture]:
        """Iterate over futures in their order; with ``resume``, as they are computed."""
        ended = deque(dict.fromkeys(future for future in future_list if future.loaded))
        asked = {future for future in future_list if not future.loaded}
        # While suspended, this frame refers to no future that it has yielded: its value is large.
        del future_list
        while ended or asked:
            if not ended:
                newly = self._compute_next()
                if newly is None:  # another iterator has computed all that is missing here
                    newly = list(asked)
                ended.extend(future for future in newly if future in asked)
                asked.difference_update(newly)
                del newly
            elif ended[0].released:
                ended.popleft()
            else:
                yield ended.popleft()

    def _on_job(self, job: Job) -> None:
        if self.on_tile_start is not None and job.tile is not None:
            self.on_tile_start(TileStart(job.tile, self._runner.worker_name))

    def _compute_next(self) -> list[TaskFuture] | None:
        """Run one task; return the futures that it ends, or None where there is no task left."""
        while self._computations:
            for ended in self._computations[0]:
                return ended
            self._computations.popleft()
        return None

    def task_of(self, cell: Any) -> int | None:
        """Return the number of the task that computes, or computed, a tile; None if unknown."""
        return (
            task_number(cell.task) if isinstance(cell, Delayed) else self._runner.producer_of(cell)
        )

    def scatter(self, data: Any) -> Any:
        """Return `data` itself."""
        return data

    def cleanup(self) -> None:
        """Write what profilers have not written yet: there is no process and no file."""
        self._runner.close()


@dataclass(frozen=True, eq=False, slots=True)
class Outcome:
    """The value of a delayed object, or why it has no value."""

    value: Any
    error: TaskFailedError | None = None


def compute_tasks(
    wanted: Mapping[Delayed, TaskFuture],
    runner: InProcessRunner,
    on_job: Callable[[Job], None] = lambda _: None,
) -> Iterator[list[TaskFuture]]:
    """Run tasks in the order of the plan, each result held until its last use.

    Yields, after each task, the futures of `wanted` that it ended; calls `on_job` before each.
    """
    futures = dict(wanted)
    del wanted  # the caller's mapping may go, and each future once it was yielded
    outcomes: dict[Delayed, Outcome] = {}
    plan = make_plan(tuple(futures), fuse=False)
    runner.begin(plan)
    for job in plan.jobs:
        (task,) = job.steps
        on_job(job)
        outcomes.update(_outcomes_of(job, outcomes, runner))
        for delayed in task.dependencies:
            _release_use(delayed, outcomes)
        asked = [output for output in task.outputs if output in futures]
        for output in task.outputs:
            if output in futures:
                _settle(futures[output], outcomes[output])
                _release_use(output, outcomes)
            elif output.uses == 0:
                del outcomes[output]
        yield [futures.pop(output) for output in asked]


def _settle(future: TaskFuture, outcome: Outcome) -> None:
    future.set_value(outcome.value)
    if outcome.error is not None:
        future.fail(outcome.error)


def _outcomes_of(
    job: Job, outcomes: Mapping[Delayed, Outcome], runner: InProcessRunner
) -> dict[Delayed, Outcome]:
    """Call a task; its failure, or that of one of its inputs, is the outcome of every output."""
    task = job.first
    error = next((outcomes[each].error for each in task.dependencies if outcomes[each].error), None)
    values: Sequence[Any] = [None] * task.nout
    if error is None:
        try:
            args, kwargs = _with_values((task.args, dict(task.kwargs)), outcomes)
            values = runner.run(job, args, kwargs)
        except (Exception, SystemExit) as cause:  # noqa: BLE001 - what a task raises is a result
            report_task_error(cause)
            error = failed_here(task.name, cause)
    return {
        output: Outcome(value, error) for output, value in zip(task.outputs, values, strict=True)
    }


def _with_values(content: Any, outcomes: Mapping[Delayed, Outcome]) -> Any:
    """Replace delayed objects in `content` by their values; what contains none is not copied."""
    if isinstance(content, Delayed):
        return outcomes[content].value
    if next(find_delayed(content), None) is None:
        return content
    if isinstance(content, CarsDataset | CarsDict):
        filled = copy.copy(content)
        attribute = "tiles" if isinstance(content, CarsDataset) else "data"
        setattr(filled, attribute, _with_values(getattr(content, attribute), outcomes))
        return filled
    if isinstance(content, dict):
        return {key: _with_values(value, outcomes) for key, value in content.items()}
    make = getattr(content, "_make", tuple if isinstance(content, tuple) else list)
    return make(_with_values(value, outcomes) for value in content)


def _release_use(delayed: Delayed, outcomes: dict[Delayed, Outcome]) -> None:
    """Count one use of a value less; drop it after the last."""
    delayed.uses -= 1
    if delayed.uses <= 0:
        del outcomes[delayed]
