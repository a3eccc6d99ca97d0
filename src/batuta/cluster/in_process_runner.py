"""Running and measuring tasks in this process, for the sequential mode."""

import copy
import functools
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from batuta.cluster.execution import collect_repeats, outputs_of, this_worker
from batuta.cluster.graph import ExecutionPlan, Job
from batuta.cluster.task_metrics import TaskMetrics, new_number
from batuta.cluster.tasks import content_of, name_of
from batuta.errors import describe_error
from batuta.profiling.capture.contract import CallLabel, OpenCall
from batuta.profiling.capture.factory import make_caller
from batuta.profiling.capture.labels import Label, task_rows
from batuta.profiling.capture.options import ProfileOptions
from batuta.profiling.capture.probe import Probe
from batuta.profiling.capture.records import Measure
from batuta.profiling.capture.sink import FolderSink


class InProcessRunner:
    """Runs tasks one after the other in this process, and measures them.

    Parameters
    ----------
    task_metrics : TaskMetrics
        Receives their measurements.
    options : ProfileOptions or None
        How they are profiled, besides being measured.
    profile_folder : Path
        Where profilers write.
    """

    def __init__(
        self, task_metrics: TaskMetrics, options: ProfileOptions | None, profile_folder: Path
    ) -> None:
        self._task_metrics = task_metrics
        self._sink = FolderSink(profile_folder)
        self._caller = make_caller(options, this_worker(), self._sink)
        self._repeats = options is not None and options.loops > 1
        """Whether each call is repeated, and must be given the same arguments each time."""
        self._probe: Probe | None = None
        self._worker = this_worker()
        self._producers: dict[int, tuple[weakref.ref[Any], int]] = {}
        """By the identity of a value that is alive, the number of the task that returned it."""

    @property
    def worker_name(self) -> str:
        """The name of this process in profiles."""
        return self._worker.name

    def begin(self, plan: ExecutionPlan) -> None:
        """Number the tasks of a plan, which run next."""
        self._task_metrics.number_tasks(plan)

    def call(
        self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], nout: int
    ) -> Sequence[Any]:
        """Call a function that is in no plan, and that returns `nout` results."""
        if self._task_metrics.sink is None:
            return outputs_of(function(*args, **kwargs), nout)
        label = Label(-1, 1, None, ())
        if self._task_metrics.detailed:
            label = Label(new_number(), 1, None, tuple(self._producers_of((args, kwargs))))
        open_call = self._open_call(function, args, kwargs)
        name = name_of(function)
        values = self._run(
            label, name, None, lambda: self._call_profiled(label, name, open_call, nout)
        )
        if self._task_metrics.detailed:
            self._record_producer(values, label.number)
        return values

    def run(self, job: Job, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Sequence[Any]:
        """Run the one task of a job."""
        task = job.first
        label = self._task_metrics.label(job, 0)
        open_call = self._open_call(task.function, args, kwargs)
        return self._run(
            label,
            task.name,
            job.tile,
            lambda: self._call_profiled(label, task.name, open_call, task.nout),
        )

    def _open_call(
        self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> OpenCall:
        if not self._repeats:
            return lambda: (function, args, kwargs)
        return lambda: (function, *copy.deepcopy((args, kwargs)))

    def _call_profiled(
        self, label: Label, name: str, open_call: OpenCall, nout: int
    ) -> Sequence[Any]:
        return outputs_of(
            self._caller.call(CallLabel(label.number, name, label.attempt), open_call), nout
        )

    def _run(
        self, label: Label, name: str, tile: object, call: Callable[[], Sequence[Any]]
    ) -> Sequence[Any]:
        if self._probe is None:
            self._probe = Probe(private=True)
        begun = self._probe.begin()
        error: BaseException | None = None
        try:
            return call()
        except BaseException as raised:
            error = raised
            raise
        finally:
            measure = self._probe.end(name, begun)
            if self._task_metrics.tile_costs is not None:
                self._task_metrics.tile_costs.add(tile, [measure], self._worker.name)
            self._report(label, measure, error)

    def _report(self, label: Label, measure: Measure, error: BaseException | None) -> None:
        if self._task_metrics.sink is not None:
            reason = None if error is None else describe_error(error)
            self._task_metrics.sink.record_tasks(
                task_rows([label], [measure], self._worker, reason)
            )
            self._task_metrics.record_repeats(collect_repeats(self._sink))

    # Which task returned what

    def producer_of(self, value: Any) -> int | None:
        """Return the number of the task that returned a value, or None if unknown."""
        known, number = self._producers.get(id(value), (None, None))
        # An identity is reused once its object is freed: the reference tells whether it was.
        return number if known is not None and known() is value else None

    def _producers_of(self, value: Any) -> Iterator[int]:
        """Iterate over the numbers of the tasks that returned what is in a value, each once."""
        found: set[int] = set()
        entered: dict[int, Any] = {}
        """Containers, each entered once: one may contain itself, or be in many places."""
        waiting = [iter((value,))]
        while waiting:
            for item in waiting[-1]:
                number = self.producer_of(item)
                if number is not None and number not in found:
                    found.add(number)
                    yield number
                elif number is None and id(item) not in entered:
                    inside = content_of(item)
                    if inside is not None:
                        entered[id(item)] = item
                        waiting.append(inside)
                        break
            else:
                waiting.pop()

    def _record_producer(self, values: Sequence[Any], number: int) -> None:
        for value in values:
            try:
                on_freed = functools.partial(self._drop_producer, id(value))
                self._producers[id(value)] = (weakref.ref(value, on_freed), number)
            except TypeError:  # numbers, strings and None have no weak references
                continue

    def _drop_producer(self, identity: int, _: weakref.ref[Any]) -> None:
        self._producers.pop(identity, None)

    def close(self) -> None:
        """Write what profilers have not written yet."""
        self._caller.flush()
