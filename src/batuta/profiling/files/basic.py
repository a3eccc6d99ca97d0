"""The summary of every run, profiled or not: time and peak memory by task name and by worker."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from batuta.profiling.capture.records import TaskOutcome, TaskRow

MAX_WORKERS: Final = 1000
"""That are listed one by one: they may be renewed by the hundred thousand."""
OTHER_WORKERS: Final = "all others"


@dataclass(slots=True)
class Totals:
    """Totals of the attempts at tasks of one name, or in one worker."""

    attempts: int = 0
    not_done: int = 0
    """Of these attempts, those that failed or were lost."""
    wall_s: float = 0.0
    longest_s: float = 0.0
    cpu_s: float = 0.0
    peak_bytes: int = 0

    def add(self, row: TaskRow) -> None:
        """Add an attempt."""
        measure = row.measure
        self.attempts += 1
        self.not_done += row.outcome is not TaskOutcome.DONE
        self.wall_s += measure.wall_s
        self.longest_s = max(self.longest_s, measure.wall_s)
        self.cpu_s += measure.cpu_s
        self.peak_bytes = max(self.peak_bytes, measure.peak_bytes)


class BasicSummary:
    """Adds up rows as they come, in memory that does not grow with their number."""

    def __init__(self) -> None:
        self.by_name: dict[str, Totals] = defaultdict(Totals)
        self.by_worker: dict[str, Totals] = defaultdict(Totals)

    def add(self, rows: Sequence[TaskRow]) -> None:
        """Add rows; from one thread at a time."""
        for row in rows:
            self.by_name[row.measure.name].add(row)
            worker = f"{row.worker.name} on {row.worker.host}"
            if worker not in self.by_worker and len(self.by_worker) >= MAX_WORKERS:
                worker = OTHER_WORKERS
            self.by_worker[worker].add(row)
