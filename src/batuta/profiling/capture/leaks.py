"""Which lines allocate what is never freed: memray around the repetitions of a task.

The first repetition fills caches and is not tracked. The next ones are tracked one by one: a line
whose allocations survive each of them leaks, or replaces the value that it kept before. The rest
are tracked together: what is replaced survives once, what leaks survives as many times as there
were repetitions. Both views together tell a leak, and how fast it grows.
"""

import statistics
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, TypeAlias

from memray import FileReader

from batuta.profiling.capture import repeat
from batuta.profiling.capture.attribution import Attribution, Frame, Line
from batuta.profiling.capture.contract import CallLabel, OpenCall, ProfileSink
from batuta.profiling.capture.gaps import CoverageGaps
from batuta.profiling.capture.layout import MEMRAY_FOLDER, process_stem, task_stem
from batuta.profiling.capture.memray import MemrayFailedError, start_tracking
from batuta.profiling.capture.profiler import run_call
from batuta.profiling.capture.records import LeakRow, WorkerId
from batuta.profiling.capture.repeat import Repetitions, existing_objects_frozen

_MIN_BYTES: Final = 256
"""Lines that grow by less in a repetition are not reported."""
_MAX_LINES: Final = 20
_MAX_SEPARATE: Final = 3
"""Repetitions that are tracked one by one: memray takes some 50 ms to start and to stop."""

Survivors: TypeAlias = Mapping[Line, int]
"""Bytes that were allocated while memray tracked, and not freed, by line."""


class LeakCaller:
    """Runs each task several times and finds the lines that leak; the last run gives the result.

    Parameters
    ----------
    times : int
        How many; from 5 on, a leak can be told from a line that replaces what it keeps.
    worker : WorkerId
        This process.
    sink : ProfileSink
        Where the rows are delivered, and for each task memray's file of the repetitions that were
        tracked together.
    """

    def __init__(self, times: int, worker: WorkerId, sink: ProfileSink) -> None:
        self._times = times
        self._worker = worker.name
        self._sink = sink
        self._gaps = CoverageGaps(MEMRAY_FOLDER, process_stem(worker), sink)

    def call(self, task: CallLabel, open_call: OpenCall) -> Any:
        """Run a task, and return its last value or raise what a repetition raises."""
        repetitions = Repetitions(task, open_call, self._worker)
        function = open_call()[0]
        tracked = self._times - 2
        separate = tracked if tracked < 3 else min(_MAX_SEPARATE, tracked // 2)
        together = tracked - separate
        try:
            try:
                with existing_objects_frozen():
                    repetitions.run_and_drop(run_call, 1)
                    each = [self._survivors(repetitions, function, 1) for _ in range(separate)]
                    of_all = self._survivors(repetitions, function, together) if together else None
                self._sink.deliver_leaks(self._rows(task, leaking_lines(each, of_all, together)))
            except MemrayFailedError as exc:
                self._gaps.add(f"{task.name} was not profiled: {exc}")
            return repetitions.run(run_call)
        finally:
            self._sink.deliver_loops(repetitions.rows)

    def on_idle(self) -> None:
        """Deliver the text of what was not profiled; all else is delivered task by task."""
        self._gaps.deliver()

    def flush(self) -> None:
        """Deliver the text of what was not profiled; all else is delivered task by task."""
        self._gaps.deliver()

    def _survivors(
        self, repetitions: Repetitions, function: Callable[..., Any], times: int
    ) -> Survivors:
        """Track some repetitions; deliver the file if there are more than one."""
        name = f"{task_stem(repetitions.task)}.bin"
        draft = self._sink.draft_path(MEMRAY_FOLDER, name)
        try:
            with _tracking(draft):
                repetitions.run_and_drop(run_call, times)
            survivors = read_survivors(draft, function)
            if times > 1:
                self._sink.deliver_file(MEMRAY_FOLDER, name, draft)
            return survivors
        finally:
            draft.unlink(missing_ok=True)

    def _rows(self, task: CallLabel, leaks: Mapping[Line, int]) -> list[LeakRow]:
        return [
            LeakRow(task.number, task.name, self._worker, *line, bytes_per_loop)
            for line, bytes_per_loop in leaks.items()
        ]


@contextmanager
def _tracking(path: Path) -> Iterator[None]:
    tracker = start_tracking(path, exact=True, compress=True)
    try:
        yield
    finally:
        tracker.__exit__(None, None, None)


def leaking_lines(
    each: Sequence[Survivors], of_all: Survivors | None, together: int
) -> dict[Line, int]:
    """Return the lines that leak and how many bytes in each repetition, the largest first.

    Parameters
    ----------
    each : sequence of mapping
        What survived repetitions that were tracked one by one.
    of_all : mapping or None
        What survived others that were tracked together.
    together : int
        How many those are: at least 2.
    """
    growth: dict[Line, int] = {}
    for line in set().union(*each):
        growth[line] = int(statistics.median(survivors.get(line, 0) for survivors in each))
        if of_all is not None:
            # What a line keeps only once is in `of_all` once: it does not count as growth.
            more = (of_all.get(line, 0) - growth[line]) // (together - 1)
            growth[line] = min(growth[line], more)
    largest = sorted(growth.items(), key=lambda item: -item[1])[:_MAX_LINES]
    return {line: size for line, size in largest if size >= _MIN_BYTES}


def read_survivors(path: Path, function: Callable[..., Any]) -> Survivors:
    """Sum up by line what survived in a file of memray.

    Parameters
    ----------
    path : path
        The file.
    function : callable
        The task that was tracked.
    """
    survivors: Counter[Line] = Counter()
    attribution = _TaskAttribution(function)
    with FileReader(path) as reader:
        for record in reader.get_leaked_allocation_records(merge_threads=True):
            line = attribution.line_of(record.stack_trace())
            if line is not None:
                survivors[line] += record.size
    return survivors


class _TaskAttribution:
    """Attributes an allocation to a line, if the task has a part in it."""

    def __init__(self, function: Callable[..., Any]) -> None:
        while hasattr(function, "func"):  # functools.partial
            function = function.func
        self._attribution = Attribution(function)
        self._code = getattr(function, "__code__", None)

    def line_of(self, stack: Sequence[Frame]) -> Line | None:
        """Return the line of a stack; None where the task has no part in it."""
        inner: list[Frame] = []
        for frame in stack:
            # The frames inside of our own call are the task's, or those that load its arguments.
            if frame[1] == repeat.__file__:
                loading = frame[0] == Repetitions.load_call.__name__
                return self._argument_line() if loading else self._attribution.line_of(inner)
            inner.append(frame)
        # Of another thread: one that the task started, or one of the worker itself.
        program = [frame for frame in inner if self._attribution.is_program(frame)]
        return self._attribution.line_of(program)

    def _argument_line(self) -> Line | None:
        code = self._code
        if code is None:
            return None
        return Line(code.co_filename, code.co_firstlineno, f"{code.co_name} (an argument)")
