"""The contract of a cluster, which every mode implements: ours, and those of plugins."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, TypeAlias, runtime_checkable

if TYPE_CHECKING:
    from batuta.cluster.config import CommonConfig
    from batuta.cluster.task_metrics import TaskMetrics
    from batuta.cluster.tile_activity import TileStart

CreateTask: TypeAlias = Callable[..., Any]
"""Called with a task's arguments; returns its delayed object, or a tuple of `nout` of them."""


@dataclass(frozen=True)
class WorkerCount:
    """The number of workers at one moment."""

    present: int
    asked: int | None
    """None where the cluster does not decide how many there will be."""
    waiting_for: str = ""
    """Why the others have not started, in the batch system's words."""


class Future(Protocol):
    """The result of a delayed object that was started, available once its task has ended."""

    @property
    def delayed(self) -> Any:
        """The delayed object that `start_tasks` was called with."""

    def result(self) -> Any:
        """Return the value, or raise `TaskFailedError` with the root cause.

        Valid between the moment when `as_completed` yields the future and `release`.
        """

    def release(self) -> None:
        """Drop the value: `result` cannot return it, and `as_completed` skips the future."""


class AbstractCluster(Protocol):
    """Where tasks run.

    A mode is a class with these members, called with its checked configuration, the output folder
    (or None) and whether to start workers. It is registered in `batuta.cluster.modes.MODES`, or
    by an entry point of the group ``batuta.clusters``.
    """

    config_model: ClassVar["type[CommonConfig]"]
    """The model of its configuration: every key, with its type and default."""

    def __init__(self, config: Any, out_dir: Path | None, *, launch_worker: bool = True) -> None:
        """Start workers; with `launch_worker` False, start nothing and only declare tasks."""

    @property
    def checked_conf_cluster(self) -> dict[str, Any]:
        """The configuration in force, every key with its value."""

    @property
    def delayed_type(self) -> type:
        """The type of its delayed objects; `object` where they are the data itself."""

    def create_task(self, func: Callable[..., Any], nout: int = 1) -> CreateTask:
        """Return a function that declares a call of `func`, which returns `nout` results."""

    def start_tasks(self, task_list: Sequence[Any]) -> list[Any]:
        """Start computing delayed objects and what they depend on; return a future for each."""

    def future_iterator(self, future_list: Sequence[Any]) -> Iterator[Any]:
        """Iterate over the values of futures as they are computed; None is a value too.

        Each value is handed over once, as often as its future is in `future_list`, and released:
        iterating over the same futures again yields the values that are still to come.
        `batuta.cluster.futures.iterate_values` implements it over `as_completed`.

        Raises
        ------
        TaskFailedError
            After all values, if tasks failed: that of the first, with a note for each other.
        """

    def as_completed(self, future_list: Sequence[Any]) -> Iterator[Any]:
        """Iterate over futures as their tasks end, failed ones included, each once.

        A failed task does not end the iteration. The cluster holds no future that it has yielded:
        the value goes with the future.
        """

    def scatter(self, data: Any) -> Any:
        """Put `data` where every worker can read it; return what to pass to tasks in its place."""

    def cleanup(self) -> None:
        """End every process and remove every temporary file; may be called again."""


@runtime_checkable
class ReportsTaskMetrics(Protocol):
    """A cluster whose workers measure the time and memory of tasks."""

    task_metrics: "TaskMetrics"
    """Receives their measurements."""

    def task_of(self, cell: Any) -> int | None:
        """Return the number of the task that computes the tile `cell`, or None if unknown."""


@runtime_checkable
class ReportsWorkerCount(Protocol):
    """A cluster whose number of workers changes, and that reports it."""

    on_workers: Callable[[WorkerCount], None] | None
    """Called when workers come or go, in the thread that iterates over futures."""


@runtime_checkable
class ReportsTileStarts(Protocol):
    """A cluster that reports which workers have begun which tiles.

    What is short may begin and end unreported: workers are looked at from time to time.
    """

    on_tile_start: "Callable[[TileStart], None] | None"
    """Called in the thread that iterates over futures."""
