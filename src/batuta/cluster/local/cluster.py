"""The mode that runs tasks in processes of this machine."""

import contextlib
import logging
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar, Final

from batuta.cluster import preload
from batuta.cluster.config import CommonConfig, MultiprocessingConfig
from batuta.cluster.environment import check_fork, check_start
from batuta.cluster.errors import NoSpaceError
from batuta.cluster.graph_cluster import GraphCluster
from batuta.cluster.local.forkserver import copy_forkserver
from batuta.cluster.local.limits import Limits
from batuta.cluster.local.program_copy import ProgramCopy
from batuta.cluster.local.scheduler import LocalScheduler
from batuta.cluster.local.worker_handle import PRELOADED, PoolSettings, modules_for_tiles
from batuta.cluster.main_script import MainNames
from batuta.cluster.store import ResultStore, private_temporary_folder, put
from batuta.cluster.task_metrics import TaskMetrics
from batuta.cluster.tasks import Scattered
from batuta.profiling.capture.layout import LOGS_FOLDER, PROFILE_FOLDER

RESULTS_FOLDER: Final = "tmp_save_disk"
MIN_LIFE_S: Final = 3.0
"""For how long a worker runs tasks at least, where `max_tasks_per_worker` is not given."""


class MultiprocessingCluster(GraphCluster):
    """Runs tasks in processes of this machine, each renewed and limited on its own."""

    config_model: ClassVar[type[CommonConfig]] = MultiprocessingConfig

    def __init__(
        self, config: MultiprocessingConfig, out_dir: Path | None, *, launch_worker: bool = True
    ) -> None:
        super().__init__(config, out_dir)
        self._copy: ProgramCopy | None = None
        self._scattered: list[Scattered] = []
        self._stores: _Stores | None = None
        if not launch_worker:
            return
        try:
            self._prepare_start(config.mp_mode)
            self._stores = _Stores(config, out_dir)
            self._engine = _scheduler(
                config, self._stores, out_dir, self.task_metrics, copy=self._copy
            )
        except BaseException:
            self.cleanup()  # nobody else can
            raise

    def _prepare_start(self, mp_mode: str) -> None:
        """Prepare what workers are started by, while the cluster has no thread."""
        for_tiles = modules_for_tiles()
        modules = (*preload.modules(), *PRELOADED, *for_tiles)
        if mp_mode == "fork":
            check_fork()
            self._copy = ProgramCopy(modules)
            return
        check_start()  # now, rather than when the first worker is to start
        if mp_mode == "forkserver":
            copy_forkserver(modules, needed=for_tiles)

    def scatter(self, data: Any) -> Scattered:
        """Store `data` once, for every task to map."""
        self._require_engine()
        assert self._stores is not None  # noqa: S101 - there with the engine
        scattered = Scattered(
            data, put(data, str(self._stores.results.folder), main=MainNames.now().if_any_lacks())
        )
        self._scattered.append(scattered)
        return scattered

    def cleanup(self) -> None:
        """Kill the workers and remove the results; tasks can still be declared, but not started."""
        engine, self._engine = self._engine, None
        stores, self._stores = self._stores, None
        try:
            if engine is not None:
                engine.close()
        finally:
            if self._copy is not None:
                self._copy.close()
            if stores is not None:
                stores.close()
            for scattered in self._scattered:
                scattered.stored = None


class _Stores:
    """The folders of results, for those that tasks read and those that the main process reads."""

    def __init__(self, config: MultiprocessingConfig, out_dir: Path | None) -> None:
        self._removals: list[Callable[[], object]] = []
        self.results = self.handover = self._open(_results_parent(config, out_dir))
        if config.dump_to_disk:
            with contextlib.suppress(NoSpaceError):  # it would only be faster
                self.handover = self._open(None)

    def _open(self, parent: Path | None) -> ResultStore:
        store = ResultStore(parent)
        # So that a program that ends without cleaning up leaves no file.
        self._removals.append(weakref.finalize(self, store.close))
        return store

    def close(self) -> None:
        for remove in self._removals:
            remove()


def _scheduler(
    config: MultiprocessingConfig,
    stores: _Stores,
    out_dir: Path | None,
    task_metrics: TaskMetrics,
    *,
    copy: ProgramCopy | None,
) -> LocalScheduler:
    profiled = config.profiling if out_dir is not None else None
    scheduler = LocalScheduler(
        PoolSettings(
            start_method=config.mp_mode,
            copy=copy,
            folder=str(stores.results.folder),
            handover_folder=str(stores.handover.folder),
            log_folder=_log_folder(out_dir),
            log_level=logging.getLogger("batuta").getEffectiveLevel(),
            profile=None if profiled is None else profiled.options(),
            profile_folder="" if out_dir is None else str(out_dir.resolve() / PROFILE_FOLDER),
        ),
        Limits(
            nb_workers=config.nb_workers,
            job_timeout_s=config.per_job_timeout,
            ram_mb=config.max_ram_per_worker,
            max_jobs=config.max_tasks_per_worker,
            min_life_s=0.0 if config.max_tasks_given else MIN_LIFE_S,
        ),
        task_metrics,
        fuse=config.factorize_tasks,
    )
    scheduler.start()
    return scheduler


def _results_parent(config: MultiprocessingConfig, out_dir: Path | None) -> Path | None:
    if not config.dump_to_disk:
        return None
    if out_dir is None:
        return private_temporary_folder(RESULTS_FOLDER)
    return out_dir / RESULTS_FOLDER


def _log_folder(out_dir: Path | None) -> str | None:
    if out_dir is None:
        return None
    folder = out_dir / LOGS_FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    return str(folder.resolve())
