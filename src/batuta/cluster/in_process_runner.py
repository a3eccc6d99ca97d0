"""Where the tasks of this process run, measured: the workbench of the sequential mode."""

import copy
import functools
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from batuta.cluster.execution import collect_repeats, outputs_of, this_worker
from batuta.cluster.graph import Job, Plan
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


class Bench:
    """Runs tasks one by one, and measures them.

    Parameters
    ----------
    task_metrics : TaskMetrics
        Where what they take goes.
    options : ProfileOptions or None
        How they are profiled beyond their measures.
    profile_folder : Path
        Where profilers write.
    """

    def __init__(
        self, task_metrics: TaskMetrics, options: ProfileOptions | None, profile_folder: Path
    ) -> None:
        self._task_metrics = task_metrics
        self._delivery = FolderSink(profile_folder)
        self._caller = make_caller(options, this_worker(), self._delivery)
        self._repeated = options is not None and options.loops > 1
        """Whether each call is repeated, and must find the same arguments."""
        self._probe: Probe | None = None
        self._who = this_worker()
        self._makers: dict[int, tuple[weakref.ref[Any], int]] = {}
        """By the identity of a value that is still there, the number of the task that gave it."""

    def begin(self, plan: Plan) -> None:
        """Record that the tasks of a plan run next."""
        self._task_metrics.begin(plan)

    def call(
        self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], nout: int
    ) -> Sequence[Any]:
        """Call a function that no plan knows, which returns `nout` results."""
        if self._task_metrics.sink is None:
            return outputs_of(function(*args, **kwargs), nout)
        label = Label(-1, 1, None, ())
        if self._task_metrics.detailed:
            label = Label(new_number(), 1, None, tuple(self._makers_of((args, kwargs))))
        opened = self._opened(function, args, kwargs)
        name = name_of(function)
        values = self._run(label, name, lambda: self._called(label, name, opened, nout))
        if self._task_metrics.detailed:
            self._remember(values, label.number)
        return values

    def run(self, job: Job, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Sequence[Any]:
        """Run the one task of a job."""
        task = job.first
        label = self._task_metrics.label(job, 0)
        opened = self._opened(task.function, args, kwargs)
        return self._run(
            label, task.name, lambda: self._called(label, task.name, opened, task.nout)
        )

    def _opened(
        self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> OpenCall:
        if not self._repeated:
            return lambda: (function, args, kwargs)
        return lambda: (function, *copy.deepcopy((args, kwargs)))

    def _called(self, label: Label, name: str, opened: OpenCall, nout: int) -> Sequence[Any]:
        return outputs_of(
            self._caller.call(CallLabel(label.number, name, label.attempt), opened), nout
        )

    def _run(self, label: Label, name: str, call: Callable[[], Sequence[Any]]) -> Sequence[Any]:
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
            self._tell(label, self._probe.end(name, begun), error)

    def _tell(self, label: Label, measure: Measure, error: BaseException | None) -> None:
        if self._task_metrics.sink is not None:
            why = None if error is None else describe_error(error)
            self._task_metrics.sink.record_tasks(task_rows([label], [measure], self._who, why))
            self._task_metrics.repeated(collect_repeats(self._delivery))

    # Which task gave what

    def maker_of(self, value: Any) -> int | None:
        """Return the number of the task that gave a value; None where it is not known."""
        kept, number = self._makers.get(id(value), (None, None))
        return number if kept is not None and kept() is value else None

    def _makers_of(self, value: Any) -> Iterator[int]:
        """Walk the numbers of the tasks that gave what is in a value, each once."""
        seen: set[int] = set()
        entered: dict[int, Any] = {}
        """Lists and such, each once: one may hold itself, or be in many places."""
        waiting = [iter((value,))]
        while waiting:
            for item in waiting[-1]:
                number = self.maker_of(item)
                if number is not None and number not in seen:
                    seen.add(number)
                    yield number
                elif number is None and id(item) not in entered:
                    inside = content_of(item)
                    if inside is not None:
                        entered[id(item)] = item
                        waiting.append(inside)
                        break
            else:
                waiting.pop()

    def _remember(self, values: Sequence[Any], number: int) -> None:
        for value in values:
            try:
                forget = functools.partial(self._forget, id(value))
                self._makers[id(value)] = (weakref.ref(value, forget), number)
            except TypeError:  # numbers, strings, None: nobody can tell one from its equal
                continue

    def _forget(self, identity: int, _: weakref.ref[Any]) -> None:
        self._makers.pop(identity, None)

    def close(self) -> None:
        """Write what profilers have not written."""
        self._caller.flush()
