"""How a worker profiles its tasks; every worker imports it, so it is light."""

from dataclasses import dataclass
from typing import Literal, TypeAlias

ProfilingMode: TypeAlias = Literal["cars_profiling", "cprofile", "memray"]
Scope: TypeAlias = Literal["worker", "task"]


@dataclass(frozen=True, kw_only=True)
class ProfileOptions:
    """How tasks are profiled, beyond their basic measures."""

    mode: ProfilingMode = "cars_profiling"
    scope: Scope = "worker"
    """Whether cprofile and memray have a file for each worker, or for each task."""
    loops: int = 1
    """How many times each task runs, the last time for its result; above 1 with loop_testing."""

    @property
    def needs_flush(self) -> bool:
        """Whether a profile is lost with a worker that is killed without having been flushed."""
        return self.mode == "cprofile"
