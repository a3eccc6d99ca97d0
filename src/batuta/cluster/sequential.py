"""Tasks in this process, one after the other, computed when they are created."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from batuta.cluster.config import RAM_PER_WORKER_MB, CommonConfig, SequentialConfig
from batuta.cluster.contract import CreateTask
from batuta.cluster.errors import ClusterError
from batuta.cluster.tasks import check_nout, declare
from batuta.cluster.worker import outputs_of


@dataclass(frozen=True, eq=False)
class KnownFuture:
    """A result that was there from the start."""

    delayed: Any

    def result(self) -> Any:
        """Give the result."""
        return self.delayed


class SequentialCluster:
    """For studies, debugging and notebooks: a delayed object is the data itself.

    What a task raises is raised where it is created.
    """

    config_model: ClassVar[type[CommonConfig]] = SequentialConfig

    def __init__(
        self, config: SequentialConfig, out_dir: Path | None, *, launch_worker: bool = True
    ) -> None:
        self.out_dir = out_dir
        self.launched = launch_worker
        # Programs size their tiles from it, whatever the mode.
        self.checked_conf_cluster: dict[str, Any] = {
            "max_ram_per_worker": RAM_PER_WORKER_MB,
            **config.model_dump(),
        }

    @property
    def delayed_type(self) -> type:
        """Any object: the data itself."""
        return object

    def create_task(self, func: Callable[..., Any], nout: int = 1) -> CreateTask:
        """Give what computes `func` at once; not launched, what only declares it."""
        check_nout(nout)

        def call(*args: Any, **kwargs: Any) -> Any:
            if not self.launched:
                return declare(func, args, kwargs, nout)
            values = outputs_of(func(*args, **kwargs), nout)
            return values[0] if nout == 1 else tuple(values)

        return call

    def start_tasks(self, task_list: Sequence[Any]) -> list[KnownFuture]:
        """Wrap what is computed already."""
        if not self.launched:
            raise ClusterError("the cluster was made with launch_worker=False: it computes nothing")
        return [KnownFuture(data) for data in task_list]

    def future_iterator(self, future_list: Sequence[KnownFuture]) -> Iterator[KnownFuture]:
        """Give them in their order."""
        return iter(future_list)

    def scatter(self, data: Any) -> Any:
        """Give `data` itself."""
        return data

    def cleanup(self) -> None:
        """Nothing to end, nothing to remove."""
