"""What a cluster is: the one page that every mode, ours or a plugin's, keeps to."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, TypeAlias, runtime_checkable

if TYPE_CHECKING:
    from batuta.cluster.config import CommonConfig
    from batuta.cluster.task_metrics import TaskMetrics

CreateTask: TypeAlias = Callable[..., Any]
"""Called with a task's arguments: gives its delayed object, or a tuple of `nout` of them."""


@dataclass(frozen=True)
class WorkerCount:
    """How many workers there are to compute."""

    present: int
    asked: int | None
    """None where others decide how many there will be."""
    waiting_for: str = ""
    """What keeps those that are not there, as the batch system says it."""


class Future(Protocol):
    """A task that was started, whose result will come."""

    @property
    def delayed(self) -> Any:
        """What `start_tasks` was given."""

    def result(self) -> Any:
        """Return the result, or raise `TaskFailedError` with the root cause.

        To be called on futures that `future_iterator` has given.
        """


class AbstractCluster(Protocol):
    """Where tasks run.

    A mode is a class with these members, made with its checked configuration, the output folder
    (None where there is none) and whether to start at once. It is named in
    `batuta.cluster.modes.MODES`, or by an entry point of the group ``batuta.clusters``.
    """

    config_model: ClassVar["type[CommonConfig]"]
    """Its configuration: every key, type and default."""

    def __init__(self, config: Any, out_dir: Path | None, *, launch_worker: bool = True) -> None:
        """Take what it needs; with `launch_worker` False, declare tasks only."""

    @property
    def checked_conf_cluster(self) -> dict[str, Any]:
        """The configuration in force, every key with its value."""

    @property
    def delayed_type(self) -> type:
        """Type of its delayed objects; `object` where they are the data itself."""

    def create_task(self, func: Callable[..., Any], nout: int = 1) -> CreateTask:
        """Declare that `func`, which returns `nout` results, is to be called."""

    def start_tasks(self, task_list: Sequence[Any]) -> list[Any]:
        """Start computing delayed objects and all they need; one future each, in their order."""

    def future_iterator(self, future_list: Sequence[Any]) -> Iterator[Any]:
        """Return the futures of `future_list` as they end, failed ones included.

        The result of a future is freed when the next one is asked for, unless it was taken.
        """

    def scatter(self, data: Any) -> Any:
        """Put `data` where every task can read it; return what to pass to tasks in its place."""

    def cleanup(self) -> None:
        """End every process and remove every temporary file; harmless when done before."""


@runtime_checkable
class ReportsTaskMetrics(Protocol):
    """A cluster whose workers measure the tasks that they run."""

    task_metrics: "TaskMetrics"
    """Where what they measure goes."""

    def task_of(self, cell: Any) -> int | None:
        """Return the number of the task that gives the tile `cell`; None where none is known."""


@runtime_checkable
class ReportsWorkerCount(Protocol):
    """A cluster that also tells how many workers there are, where that changes."""

    on_workers: Callable[[WorkerCount], None] | None
    """Called when workers come or go, by the thread that iterates."""
