"""The modes whose engine is dask, from what they share."""

import logging
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

from batuta.cluster import preload
from batuta.cluster.dask.config import DaskConfig, WorkersConfig
from batuta.cluster.dask.engine.scheduler import Director
from batuta.cluster.dask.monitor import Deployment, Looking
from batuta.cluster.dask.settings import dask_configured
from batuta.cluster.dask.telemetry.collector import Listener, take_last_words
from batuta.cluster.dask.telemetry.loggers import quiet_dask
from batuta.cluster.dask.telemetry.worker_plugin import BatutaPlugin, WorkerOptions
from batuta.cluster.graph_cluster import PlannedCluster
from batuta.cluster.tasks import Scattered
from batuta.errors import ConfigurationError

LOG: Final = logging.getLogger(__name__)

Event = tuple[float, Mapping[str, Any]]


class DaskCluster(PlannedCluster, ABC):
    """Tasks run in the workers of dask."""

    def __init__(self, config: Any, out_dir: Path | None, *, launch_worker: bool = True) -> None:
        super().__init__(config, out_dir)
        self._scattered: list[Scattered] = []
        self._open = ExitStack()
        if launch_worker and config.use_memory_logger and out_dir is None:
            raise ConfigurationError(
                "use_memory_logger: true given, and no out_dir to write the record in"
            )
        if not launch_worker:
            return
        with ExitStack() as stack:
            stack.enter_context(quiet_dask())
            stack.enter_context(dask_configured(config))
            deployment = self._deploy(config, out_dir)
            stack.callback(deployment.close)
            self._engine = self._directed(deployment, config, stack)
            self._open = stack.pop_all()

    @abstractmethod
    def _deploy(self, config: Any, out_dir: Path | None) -> Deployment:
        """Start, or join, the dask cluster of a mode."""

    def _directed(self, deployment: Deployment, config: DaskConfig, stack: ExitStack) -> Director:
        client = deployment.client
        ram_mb = config.max_ram_per_worker if isinstance(config, WorkersConfig) else None
        director = Director(client, self.task_metrics, ram_mb=ram_mb)
        stack.callback(director.close)
        self._hear(client, director, config, stack)
        plugin = BatutaPlugin(_options(config, self.out_dir, run=client.id))
        self._prepare_workers(deployment, plugin)
        stack.callback(Looking(deployment, director).stop)
        return director

    def _prepare_workers(self, deployment: Any, plugin: BatutaPlugin) -> None:
        """Have the workers that are there, and those to come, set up."""
        deployment.client.register_plugin(plugin)

    def _hear(self, client: Any, director: Director, config: DaskConfig, stack: ExitStack) -> None:
        """Have what dask and the workers tell taken."""
        _subscribe(client, "all", lambda event: _on_dask_event(client, director, event), stack)
        _subscribe(
            client,
            "worker-restart-memory",
            lambda event: director.on_memory(event[1]["worker"], event[1]["rss"]),
            stack,
        )
        listener = Listener(self.task_metrics, self.out_dir, memory=config.use_memory_logger)
        stack.callback(listener.close)
        stack.callback(take_last_words, client, listener)
        _subscribe(client, client.id, lambda event: listener.on_message(event[1]), stack)

    def scatter(self, data: Any) -> Scattered:
        """Send `data` once, for every worker to take from those that have it."""
        self._running()
        scattered: Scattered = self._engine.scatter(data)
        self._scattered.append(scattered)
        return scattered

    def cleanup(self) -> None:
        """End every worker that was started; tasks can be declared but not started any more."""
        self._engine = None
        for scattered in self._scattered:
            scattered.stored = None
        self._open.close()


def _options(config: DaskConfig, out_dir: Path | None, *, run: str) -> WorkerOptions:
    return WorkerOptions(
        run=run,
        path=tuple(each for each in sys.path if each),
        imports=preload.modules(),
        log_level=logging.getLogger("batuta").getEffectiveLevel(),
        send_log=out_dir is not None,
        measure_memory=config.use_memory_logger,
        measure_tasks=out_dir is not None,
        profile=None if config.profiling is None else config.profiling.options(),
    )


def _subscribe(client: Any, topic: str, handler: Callable[[Event], None], stack: ExitStack) -> None:
    client.subscribe_topic(topic, handler)
    stack.callback(_unsubscribe, client, topic)


def _unsubscribe(client: Any, topic: str) -> None:
    """Hear no more: the scheduler of others goes on, and clients hear of their own end."""
    if client.status == "running":
        client.unsubscribe_topic(topic)


def _on_dask_event(client: Any, director: Director, event: Event) -> None:
    _, message = event
    if isinstance(message, Mapping) and message.get("action") == "remove-worker":
        address, expected = message["worker"], bool(message["expected"])
        if not expected:
            # Or results are asked of it until dask gives up connecting, half a minute later.
            client.rpc.remove(address, reason="the worker is lost")
        director.on_lost(address, map(str, message["processing-tasks"]), expected=expected)
