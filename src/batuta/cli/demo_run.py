"""One performance of the demonstration: services started, data imported, products awaited."""

import asyncio
import contextlib
import signal
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import psutil
from rich.markup import escape

from batuta.cli.conductor_client import ConductorClient
from batuta.cli.demo_report import Made, print_report
from batuta.cli.deployment_plan import OrchestraConfig
from batuta.cli.live_state import AVAILABLE, Scene
from batuta.cli.live_view import listening, showing
from batuta.cli.orchestra import Orchestra, playing
from batuta.cli.output import console, seconds_text
from batuta.cli.up import print_addresses
from batuta.errors import ConfigurationError
from batuta.graph import Graph, read_graph
from batuta.messaging import NatsConfig, ProcessingState, connect
from batuta.sdb import SdbClient

POLL_S: Final = 0.3
NEEDED: Final = ("stingray", "skimage", "cv2", "matplotlib")
PIPELINES: Final = ("timing", "qpo", "spectral", "stereo", "report")
VICTIM: Final = "DISPARITY"
"""The product whose processing is killed once, half-way."""
_LOST: Final = frozenset({"failed", "cancelled"})
_ENDED: Final = _LOST | {AVAILABLE, "missing"}


@dataclass(frozen=True, kw_only=True)
class Wishes:
    """What the user asked for: see the options of `batuta demo`."""

    examples: Path
    output: Path
    limit_s: float
    keep: bool
    chaos: bool


class Performance:
    """Plays the demonstration once.

    Parameters
    ----------
    wishes : Wishes
        What the user asked for.
    folder : Path
        Temporary: everything that the services keep is in it.
    """

    def __init__(self, wishes: Wishes, folder: Path) -> None:
        self._wishes = wishes
        self._folder = folder
        self._graph = read_graph(wishes.examples / "demo" / "graph.json")
        self._scene = Scene(self._graph)

    async def play(self) -> int:
        """Play it; returns the exit code, 1 where a product is missing."""
        began = time.monotonic()
        observations = await asyncio.to_thread(_observations, self._folder / "inputs")
        inputs = {one.obs_id: tuple(one.files) for one in observations}
        async with contextlib.AsyncExitStack() as services:
            async with showing(self._scene, "Batuta plays: products per observation", console):
                self._scene.say("NATS, the sdb, five pipelines and the conductor start")
                orchestra = await services.enter_async_context(self._services())
                self._scene.say(
                    f"beside it, try: batuta watch --conductor-url {orchestra.conductor_url} "
                    f"--nats-url {orchestra.nats_url}"
                )
                complete = await self._perform(orchestra, observations, began)
            made = await asyncio.to_thread(self._collect, orchestra, list(inputs))
            await asyncio.to_thread(print_report, made, self._wishes.output, self._scene.retries)
            console.print(f"Played in {seconds_text(time.monotonic() - began)}.")
            missing = await asyncio.to_thread(self._missing, orchestra, inputs)
            for line in missing:
                console.print(f"[bold red]missing[/] {escape(line)}", highlight=False)
            if self._wishes.keep:
                await self._stay(orchestra)
        return 0 if complete and not missing else 1

    def _services(self) -> contextlib.AbstractAsyncContextManager[Orchestra]:
        return playing(self._config(), self._wishes.examples.parent, self._scene.say)

    async def _perform(self, orchestra: Orchestra, observations: list[Any], began: float) -> bool:
        """Import everything and follow it to its end; False where time is up before."""
        async with (
            connect(NatsConfig(url=orchestra.nats_url), "demo") as bus,
            listening(bus, self._scene),
            asyncio.TaskGroup() as group,
        ):
            group.create_task(self._import_all(orchestra, observations))
            chaos = group.create_task(self._kill_one(orchestra))
            inputs = {one.obs_id: tuple(one.files) for one in observations}
            complete = await self._finished(orchestra, inputs, began)
            chaos.cancel()
        return complete

    def _config(self) -> OrchestraConfig:
        return OrchestraConfig(
            data_dir=self._folder / "data",
            conductor={"graph": "examples/demo/graph.json"},
            pipelines=[{"use": f"examples.demo.{name}:pipeline"} for name in PIPELINES],
        )

    async def _import_all(self, orchestra: Orchestra, observations: Iterable[Any]) -> None:
        def bring(observation: Any) -> None:
            with SdbClient(orchestra.sdb_url) as sdb:
                for product, file in observation.files.items():
                    sdb.import_file(file, product, observation.obs_id)

        for observation in observations:
            self._scene.say(f"{observation.obs_id}: {observation.title} arrives")
            await asyncio.to_thread(bring, observation)

    async def _finished(
        self, orchestra: Orchestra, inputs: Mapping[str, tuple[str, ...]], began: float
    ) -> bool:
        """Wait until all that can be made is, or nothing more will be; False where time is up."""
        expected = {obs_id: self._graph.reachable(names) for obs_id, names in inputs.items()}
        with ConductorClient(orchestra.conductor_url) as conductor:
            while time.monotonic() - began < self._wishes.limit_s:
                views = await asyncio.to_thread(_states, conductor, expected)
                if all(_over(expected[obs_id], views[obs_id], self._graph) for obs_id in expected):
                    return True
                await self._pause(orchestra)
        return False

    async def _pause(self, orchestra: Orchestra) -> None:
        """Wait a little; a service that cannot be kept running ends the performance."""
        broken = orchestra.supervisor.broken
        done, _ = await asyncio.wait([broken], timeout=POLL_S)
        if done:
            broken.result()

    async def _kill_one(self, orchestra: Orchestra) -> None:
        """Kill the victim's process when half of its tiles are done, as a system might."""
        if not self._wishes.chaos:
            return
        while True:
            await asyncio.sleep(0.02)
            for running in list(self._scene.running.values()):
                processing = running.processing
                half = 0 < processing.progress.total <= 2 * processing.progress.done
                alive = processing.state is ProcessingState.RUNNING
                if processing.product == VICTIM and alive and half and self._kill(orchestra):
                    self._scene.say(
                        f"{processing.obs_id}: the process of {VICTIM} is killed", "failed"
                    )
                    return

    def _kill(self, orchestra: Orchestra) -> bool:
        """Kill the process of the stereo pipeline's processing; False where it has just ended."""
        service = orchestra.supervisor.process_id("examples-demo-stereo-pipeline")
        worker = None if service is None else _worker_of(psutil.Process(service))
        if worker is None:
            return False
        with contextlib.suppress(psutil.NoSuchProcess):
            worker.send_signal(signal.SIGKILL)
            return True
        return False

    def _collect(self, orchestra: Orchestra, observations: list[str]) -> list[Made]:
        """Export the newest version of each product made, with the time that it took."""
        made: list[Made] = []
        with (
            SdbClient(orchestra.sdb_url) as sdb,
            ConductorClient(orchestra.conductor_url) as conductor,
        ):
            times = {
                (one["product"], one["obs_id"]): _duration_s(one)
                for one in conductor.processings(state="succeeded")
            }
            for obs_id in observations:
                for stored in sdb.list(obs_id=obs_id):
                    if stored.product in self._graph.products:
                        file = self._folder / "exports" / f"{stored.obs_id}-{stored.product}"
                        file.parent.mkdir(exist_ok=True)
                        sdb.export(stored.product, obs_id, version=stored.version, to=file)
                        made.append(Made(stored, times.get((stored.product, obs_id)), file))
        return made

    def _missing(self, orchestra: Orchestra, inputs: Mapping[str, tuple[str, ...]]) -> list[str]:
        """A line for each product that could be made and is not there: its name, and why."""
        with ConductorClient(orchestra.conductor_url) as conductor:
            states = _states(conductor, inputs)
            return [
                f"{obs_id}: {conductor.why(product, obs_id)['answer']}"
                for obs_id, names in inputs.items()
                for product in sorted(self._graph.reachable(names))
                if states[obs_id].get(product) != AVAILABLE
            ]

    async def _stay(self, orchestra: Orchestra) -> None:
        console.print("The services go on running; Ctrl-C ends them:")
        print_addresses(orchestra)
        console.print(
            f"Try: batuta status --conductor-url {orchestra.conductor_url}", highlight=False
        )
        await orchestra.supervisor.broken


def _observations(folder: Path) -> list[Any]:
    try:
        from examples.demo.observations import observations  # noqa: PLC0415  found at run time
    except ModuleNotFoundError as exc:
        raise ConfigurationError(
            f"the demonstration computes with {', '.join(NEEDED)}, and {exc.name} is not "
            "installed: pip install 'batuta[all]'"
        ) from exc
    return list(observations(folder))


def _states(conductor: ConductorClient, observations: Iterable[str]) -> dict[str, dict[str, str]]:
    """State of each product of each observation that the conductor knows by now."""
    known = {one["obs_id"] for one in conductor.observations()}
    return {
        obs_id: {
            view["product"]: view["state"]
            for view in (conductor.observation(obs_id)["products"] if obs_id in known else [])
        }
        for obs_id in observations
    }


def _over(expected: frozenset[str], states: Mapping[str, str], graph: Graph) -> bool:
    """Whether all that is expected is there, or what is not cannot come any more."""
    missing = {name for name in expected if states.get(name) != AVAILABLE}
    if not missing:
        return True
    moving = any(state not in _ENDED for state in states.values())
    broken = {name for name, state in states.items() if state in _LOST}
    there = {name for name, state in states.items() if state == AVAILABLE}
    to_come = any(graph.products[name].ready(there) for name in missing - broken)
    return bool(broken) and not moving and not to_come


def _worker_of(service: psutil.Process) -> psutil.Process | None:
    """The process that computes a processing, among those of a pipeline service.

    The service's fork server forks a warden for each processing, and the warden a worker.
    """
    with contextlib.suppress(psutil.NoSuchProcess):
        for server in service.children():
            for warden in server.children():
                workers = warden.children()
                if workers:
                    return workers[0]
    return None


def _duration_s(processing: Mapping[str, Any]) -> float | None:
    started, ended = processing.get("started"), processing.get("ended")
    if not (started and ended):
        return None
    return (datetime.fromisoformat(ended) - datetime.fromisoformat(started)).total_seconds()
