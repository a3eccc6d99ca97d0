"""Which lines allocate what is never freed: memray around the repetitions of a task.

The first repetition fills caches and is not looked at. The next ones are, each by itself: a line
whose allocations survive each of them leaks, or keeps its last value in the place of the one
before. The rest are looked at together: what is replaced survives once, what leaks survives as
often as they are. Both together tell a leak, and how much it grows.
"""

import statistics
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, TypeAlias

from memray import FileReader

from batuta.profiling.capture import repeat
from batuta.profiling.capture.attribution import Blame, Frame, Line
from batuta.profiling.capture.contract import CallLabel, OpenCall, ProfileSink
from batuta.profiling.capture.gaps import Unseen
from batuta.profiling.capture.layout import MEMRAY_FOLDER
from batuta.profiling.capture.memray import MemrayFailedError, begin_tracking
from batuta.profiling.capture.profiler import process_stem, run, task_stem
from batuta.profiling.capture.records import LeakRow, WorkerId
from batuta.profiling.capture.repeat import Repetitions, older_objects_left_alone

_LEAST_BYTES: Final = 256
"""What grows less in a repetition is not told."""
_MAX_LINES: Final = 20
_MAX_ALONE: Final = 3
"""Repetitions that are looked at one by one: memray takes some 50 ms to begin and to end."""

Survivors: TypeAlias = Mapping[Line, int]
"""Bytes that were allocated while memray looked, and not freed, by line."""


class LeakCaller:
    """Runs each task several times and finds the lines that leak; the last gives the result.

    Parameters
    ----------
    times : int
        How many; a line can be told from one that replaces what it keeps from 5 on.
    worker : WorkerId
        This process.
    deliver : ProfileSink
        Takes the rows, and for each task memray's file of the repetitions looked at together.
    """

    def __init__(self, times: int, worker: WorkerId, deliver: ProfileSink) -> None:
        self._times = times
        self._worker = worker.name
        self._deliver = deliver
        self._unseen = Unseen(MEMRAY_FOLDER, process_stem(worker), deliver)

    def call(self, task: CallLabel, opened: OpenCall) -> Any:
        """Run a task, and give its last value or raise what a repetition raises."""
        repetitions = Repetitions(task, opened, self._worker)
        function = opened()[0]
        looked_at = self._times - 2
        alone = looked_at if looked_at < 3 else min(_MAX_ALONE, looked_at // 2)
        together = looked_at - alone
        try:
            try:
                with older_objects_left_alone():
                    repetitions.run_and_drop(run, 1)
                    apart = [self._survivors(repetitions, function, 1) for _ in range(alone)]
                    at_once = self._survivors(repetitions, function, together) if together else None
                self._deliver.leaks(self._rows(task, leaking_lines(apart, at_once, together)))
            except MemrayFailedError as exc:
                self._unseen.add(f"{task.name} was not seen: {exc}")
            return repetitions.run(run)
        finally:
            self._deliver.loops(repetitions.rows)

    def rest(self) -> None:
        """Tell what could not be seen."""
        self._unseen.tell()

    def flush(self) -> None:
        """Tell what could not be seen."""
        self._unseen.tell()

    def _survivors(
        self, repetitions: Repetitions, function: Callable[..., Any], times: int
    ) -> Survivors:
        """Run a task some times while memray looks; deliver the file if that is more than once."""
        name = f"{task_stem(repetitions.task)}.bin"
        path = self._deliver.draft(MEMRAY_FOLDER, name)
        try:
            with _tracking(path):
                repetitions.run_and_drop(run, times)
            survivors = read_survivors(path, function)
            if times > 1:
                self._deliver.file(MEMRAY_FOLDER, name, path)
            return survivors
        finally:
            path.unlink(missing_ok=True)

    def _rows(self, task: CallLabel, leaks: Mapping[Line, int]) -> list[LeakRow]:
        return [
            LeakRow(task.number, task.name, self._worker, *line, bytes_per_loop)
            for line, bytes_per_loop in leaks.items()
        ]


@contextmanager
def _tracking(path: Path) -> Iterator[None]:
    tracker = begin_tracking(path, exact=True, small=True)
    try:
        yield
    finally:
        tracker.__exit__(None, None, None)


def leaking_lines(
    apart: Sequence[Survivors], at_once: Survivors | None, together: int
) -> dict[Line, int]:
    """Tell the lines that leak, and how many bytes in each repetition, most first.

    Parameters
    ----------
    apart : sequence of mapping
        What survived repetitions that were looked at one by one.
    at_once : mapping or None
        What survived others that were looked at together.
    together : int
        How many those are: at least 2.
    """
    grown: dict[Line, int] = {}
    for line in set().union(*apart):
        grown[line] = int(statistics.median(survivors.get(line, 0) for survivors in apart))
        if at_once is not None:
            more = (at_once.get(line, 0) - grown[line]) // (together - 1)
            grown[line] = min(grown[line], more)
    most = sorted(grown.items(), key=lambda each: -each[1])[:_MAX_LINES]
    return {line: size for line, size in most if size >= _LEAST_BYTES}


def read_survivors(path: Path, function: Callable[..., Any]) -> Survivors:
    """Sum up by line what survived in a file of memray.

    Parameters
    ----------
    path : path
        The file.
    function : callable
        The task that was looked at.
    """
    survivors: Counter[Line] = Counter()
    blame = _TaskBlame(function)
    with FileReader(path) as reader:
        for record in reader.get_leaked_allocation_records(merge_threads=True):
            line = blame.line(record.stack_trace())
            if line is not None:
                survivors[line] += record.size
    return survivors


class _TaskBlame:
    """Finds the line to be named for an allocation, if the task has a part in it."""

    def __init__(self, function: Callable[..., Any]) -> None:
        while hasattr(function, "func"):  # functools.partial
            function = function.func
        self._blame = Blame(function)
        self._code = getattr(function, "__code__", None)

    def line(self, stack: Sequence[Frame]) -> Line | None:
        """Name a line; None where the task has no part in it."""
        inside: list[Frame] = []
        for frame in stack:
            if frame[1] == repeat.__file__:
                opening = frame[0] == Repetitions._open.__name__
                return self._kept_argument() if opening else self._blame.line(inside)
            inside.append(frame)
        # Of another thread: one of the task's, or of what runs it.
        return self._blame.line([frame for frame in inside if self._blame.is_program(frame)])

    def _kept_argument(self) -> Line | None:
        code = self._code
        if code is None:
            return None
        return Line(code.co_filename, code.co_firstlineno, f"{code.co_name} (an argument)")
