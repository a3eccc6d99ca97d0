"""What the dask modes have in common."""

import logging
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, ClassVar, Final

from batuta.cluster import preload
from batuta.cluster.dask.config import DaskConfig, WorkersConfig
from batuta.cluster.dask.engine.scheduler import DaskScheduler
from batuta.cluster.dask.monitor import DaskMonitor, Deployment
from batuta.cluster.dask.settings import dask_configured
from batuta.cluster.dask.telemetry.collector import EventCollector, drain_workers
from batuta.cluster.dask.telemetry.loggers import dask_loggers_redirected
from batuta.cluster.dask.telemetry.worker_plugin import BatutaPlugin, WorkerOptions
from batuta.cluster.graph_cluster import GraphCluster
from batuta.cluster.tasks import Scattered
from batuta.errors import ConfigurationError

LOG: Final = logging.getLogger(__name__)

Event = tuple[float, Mapping[str, Any]]


class DaskCluster(GraphCluster, ABC):
    """A cluster whose tasks run in dask workers."""

    _main_by_value: ClassVar[bool] = True

    def __init__(self, config: Any, out_dir: Path | None, *, launch_worker: bool = True) -> None:
        super().__init__(config, out_dir)
        self._scattered: list[Scattered] = []
        self._resources = ExitStack()
        if launch_worker and config.use_memory_logger and out_dir is None:
            raise ConfigurationError(
                "use_memory_logger: true given without out_dir, where the record is written"
            )
        if not launch_worker:
            return
        with ExitStack() as stack:
            stack.enter_context(dask_loggers_redirected())
            stack.enter_context(dask_configured(config))
            deployment = self._deploy(config, out_dir)
            stack.callback(deployment.close)
            self._engine = self._start_engine(deployment, config, stack)
            self._resources = stack.pop_all()

    @abstractmethod
    def _deploy(self, config: Any, out_dir: Path | None) -> Deployment:
        """Start, or join, the dask cluster of a mode."""

    def _start_engine(
        self, deployment: Deployment, config: DaskConfig, stack: ExitStack
    ) -> DaskScheduler:
        """Start what computes on a deployment; `stack` stops it, in reverse.

        The monitor starts last, so that no worker is set up without the plugin, and stops first,
        so that nothing submits batch jobs while the rest closes. The engine stops last: until then
        events of dask may still call it.
        """
        client = deployment.client
        ram_mb = config.max_ram_per_worker if isinstance(config, WorkersConfig) else None
        scheduler = DaskScheduler(client, self.task_metrics, ram_mb=ram_mb)
        stack.callback(scheduler.close)
        self._subscribe(client, scheduler, config, stack)
        plugin = BatutaPlugin(_worker_options(config, self.out_dir, run_id=client.id))
        self._register_plugin(deployment, plugin)
        stack.callback(DaskMonitor(deployment, scheduler).stop)
        return scheduler

    def _register_plugin(self, deployment: Any, plugin: BatutaPlugin) -> None:
        """Set up the workers that are connected, and those that connect later."""
        deployment.client.register_plugin(plugin)

    def _subscribe(
        self, client: Any, scheduler: DaskScheduler, config: DaskConfig, stack: ExitStack
    ) -> None:
        """Subscribe to the events of dask and of the workers."""
        _subscribe(client, "all", lambda event: _on_dask_event(client, scheduler, event), stack)
        _subscribe(
            client,
            "worker-restart-memory",
            lambda event: scheduler.on_memory(event[1]["worker"], event[1]["rss"]),
            stack,
        )
        # In reverse: the topic of the run is unsubscribed from, then workers return what they have
        # not sent, and only then are the files closed.
        collector = EventCollector(self.task_metrics, self.out_dir, memory=config.use_memory_logger)
        stack.callback(collector.close)
        stack.callback(drain_workers, client, collector)
        _subscribe(client, client.id, lambda event: collector.on_message(event[1]), stack)

    def scatter(self, data: Any) -> Scattered:
        """Send `data` to the workers once; each fetches it from those that have it."""
        self._require_engine()
        scattered: Scattered = self._engine.scatter(data)
        self._scattered.append(scattered)
        return scattered

    def cleanup(self) -> None:
        """Stop every worker that was started; tasks may be declared but no longer started."""
        self._engine = None
        for scattered in self._scattered:
            scattered.stored = None
        self._resources.close()


def _worker_options(config: DaskConfig, out_dir: Path | None, *, run_id: str) -> WorkerOptions:
    return WorkerOptions(
        run_id=run_id,
        path=tuple(each for each in sys.path if each),
        imports=preload.modules(),
        log_level=logging.getLogger("batuta").getEffectiveLevel(),
        send_log=out_dir is not None,
        quiet=out_dir is None and config.mode == "local_dask",
        measure_memory=config.use_memory_logger,
        measure_tasks=out_dir is not None,
        profile=None if config.profiling is None else config.profiling.options(),
    )


def _subscribe(client: Any, topic: str, handler: Callable[[Event], None], stack: ExitStack) -> None:
    client.subscribe_topic(topic, handler)
    stack.callback(_unsubscribe, client, topic)


def _unsubscribe(client: Any, topic: str) -> None:
    """Unsubscribe, unless the connection is lost: the scheduler may be that of others."""
    if client.status == "running":
        client.unsubscribe_topic(topic)


def _on_dask_event(client: Any, scheduler: DaskScheduler, event: Event) -> None:
    _, message = event
    if isinstance(message, Mapping) and message.get("action") == "remove-worker":
        address, expected = message["worker"], bool(message["expected"])
        if not expected:
            # Otherwise results are requested from it until dask gives up connecting, half a
            # minute later.
            client.rpc.remove(address, reason="the worker is lost")
        scheduler.on_lost(address, map(str, message["processing-tasks"]), expected=expected)
