"""One run of the demonstration: start services, import data, wait for products."""

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
from batuta.cli.demonstration.evidence import KILL, SITUATIONS, read_record
from batuta.cli.demonstration.report import MadeProduct, print_report, print_situations
from batuta.cli.demonstration.scenario import Scenario
from batuta.cli.deployment.orchestra import Orchestra, running_orchestra
from batuta.cli.deployment.plan import OrchestraConfig
from batuta.cli.live.state import AVAILABLE, LiveState
from batuta.cli.live.view import displayed, updated_by_events
from batuta.cli.output import console, print_addresses
from batuta.errors import ConfigurationError
from batuta.formatting import format_seconds
from batuta.graph import Graph, read_graph
from batuta.messaging import NatsConfig, ProcessingState, connect
from batuta.sdb import SdbClient

TITLE: Final = "Products per observation"
POLL_S: Final = 0.3
REQUIRED_MODULES: Final = ("stingray", "skimage", "cv2", "matplotlib")
PIPELINES: Final = ("timing", "qpo", "spectral", "stereo", "report")
KILLED_PRODUCT: Final = "DISPARITY"
"""The product whose processing is killed once, half-way through."""
_UNSUCCESSFUL: Final = frozenset({"failed", "cancelled"})
_ENDED: Final = _UNSUCCESSFUL | {AVAILABLE, "missing"}


@dataclass(frozen=True, kw_only=True)
class DemoOptions:
    """The options of `batuta demo`."""

    examples: Path
    output: Path
    limit_s: float
    keep: bool
    chaos: bool


class DemoRun:
    """Runs the demonstration once.

    Parameters
    ----------
    options : DemoOptions
        The options of the command.
    folder : Path
        A temporary folder that holds all data of the services.
    """

    def __init__(self, options: DemoOptions, folder: Path) -> None:
        self._options = options
        self._folder = folder
        self._graph = read_graph(options.examples / "demo" / "graph.json")
        self._live_state = LiveState(self._graph)
        self._awaited: list[str] = []
        """What the scenario waited for when it was stopped."""

    async def run(self) -> int:
        """Run it, and return the exit code: 1 if a product is missing, or what it is to show."""
        began = time.monotonic()
        observations = await asyncio.to_thread(_demo_observations, self._folder / "inputs")
        inputs = {one.obs_id: tuple(one.files) for one in observations}
        async with contextlib.AsyncExitStack() as services:
            async with displayed(self._live_state, TITLE, console):
                self._live_state.log("starting NATS, the sdb, five pipelines and the conductor")
                orchestra = await services.enter_async_context(self._services())
                # However it ends: that takes a while, after Ctrl-C too.
                services.callback(console.print, "Stopping the services.")
                self._live_state.log(f"the dashboard shows all of it: {orchestra.dashboard_url}")
                self._live_state.log(
                    f"in another terminal, try: batuta watch"
                    f" --conductor-url {orchestra.conductor_url} --nats-url {orchestra.nats_url}"
                )
                complete = await self._process_observations(orchestra, observations, began)
            limit = format_seconds(self._options.limit_s)
            console.print(
                "No more products are to come." if complete else f"Gave up after {limit}."
            )
            for what in self._awaited:
                console.print(f"[bold red]never came[/] {escape(what)}", highlight=False)
            console.print("Fetching the products, drawing pictures of them.")
            made = await asyncio.to_thread(self._collect, orchestra, list(inputs))
            await asyncio.to_thread(
                print_report, made, self._options.output, self._live_state.retries
            )
            happened = await asyncio.to_thread(self._happened, orchestra)
            all_happened = print_situations(happened)
            missing = await asyncio.to_thread(self._missing, orchestra, inputs)
            for line in missing:
                console.print(f"[bold red]missing[/] {escape(line)}", highlight=False)
            console.print(f"Done in {format_seconds(time.monotonic() - began)}.")
            if self._options.keep:
                await self._keep_running(orchestra)
        return 0 if complete and all_happened and not missing else 1

    def _services(self) -> contextlib.AbstractAsyncContextManager[Orchestra]:
        return running_orchestra(
            self._config(), self._options.examples.parent, self._live_state.log
        )

    async def _process_observations(
        self, orchestra: Orchestra, observations: list[Any], began: float
    ) -> bool:
        """Play everything and follow it to its end; return False if time runs out first."""
        async with (
            connect(NatsConfig(url=orchestra.nats_url), "demo") as bus,
            updated_by_events(bus, self._live_state),
            asyncio.TaskGroup() as group,
        ):
            scenario = Scenario(
                orchestra.conductor_url,
                orchestra.sdb_url,
                self._graph,
                observations,
                log=self._live_state.log,
                pause=lambda: self._pause(orchestra),
            )
            played = group.create_task(scenario.play())
            chaos = group.create_task(self._kill_one(orchestra))
            inputs = {one.obs_id: tuple(one.files) for one in observations}
            complete = await self._finished(orchestra, inputs, began, played)
            chaos.cancel()
            if not played.done():
                self._awaited = list(scenario.awaited)
            played.cancel()
        return complete

    def _config(self) -> OrchestraConfig:
        return OrchestraConfig(
            data_dir=self._folder / "data",
            conductor={"graph": "examples/demo/graph.json"},
            pipelines=[{"use": f"examples.demo.{name}:pipeline"} for name in PIPELINES],
        )

    async def _finished(
        self,
        orchestra: Orchestra,
        inputs: Mapping[str, tuple[str, ...]],
        began: float,
        played: asyncio.Task[None],
    ) -> bool:
        """Wait until nothing more will be made; return False if time runs out first."""
        expected = {obs_id: self._graph.reachable(names) for obs_id, names in inputs.items()}
        with ConductorClient(orchestra.conductor_url) as conductor:
            while time.monotonic() - began < self._options.limit_s:
                views = await asyncio.to_thread(_states, conductor, expected)
                # What waits for a product that failed is not played any more.
                broken = any(_UNSUCCESSFUL & set(states.values()) for states in views.values())
                settled = all(
                    _is_settled(expected[obs_id], states, self._graph) or (broken and not states)
                    for obs_id, states in views.items()
                )
                if settled and (broken or played.done()):
                    return True
                await self._pause(orchestra)
        return False

    async def _pause(self, orchestra: Orchestra) -> None:
        """Wait for the next poll; raise if a service cannot be kept running."""
        failed = orchestra.supervisor.failed
        done, _ = await asyncio.wait([failed], timeout=POLL_S)
        if done:
            failed.result()

    async def _kill_one(self, orchestra: Orchestra) -> None:
        """Kill the process of one processing once half of its tiles are done."""
        if not self._options.chaos:
            return
        while True:
            await asyncio.sleep(0.02)
            for running in list(self._live_state.running.values()):
                processing = running.processing
                half = 0 < processing.progress.total <= 2 * processing.progress.done
                alive = processing.state is ProcessingState.RUNNING
                if (
                    processing.product == KILLED_PRODUCT
                    and alive
                    and half
                    and self._kill(orchestra)
                ):
                    self._live_state.log(
                        f"{processing.obs_id}: the process of {KILLED_PRODUCT} is killed", "failed"
                    )
                    return

    def _kill(self, orchestra: Orchestra) -> bool:
        """Kill the process of the stereo processing; return False if it has just ended."""
        service = orchestra.supervisor.process_id("examples-demo-stereo-pipeline")
        worker = None if service is None else _worker_of(psutil.Process(service))
        if worker is None:
            return False
        with contextlib.suppress(psutil.NoSuchProcess):
            worker.send_signal(signal.SIGKILL)
            return True
        return False

    def _collect(self, orchestra: Orchestra, observations: list[str]) -> list[MadeProduct]:
        """Export the newest version of each product made, with the duration of its processing."""
        made: list[MadeProduct] = []
        with (
            SdbClient(orchestra.sdb_url) as sdb,
            ConductorClient(orchestra.conductor_url) as conductor,
        ):
            # The newest come first.
            times = {
                (one["product"], one["obs_id"]): _duration_s(one)
                for one in reversed(list(conductor.processings(state="succeeded")))
            }
            for obs_id in observations:
                for stored in sdb.list(obs_id=obs_id, latest=True):
                    if stored.product in self._graph.products:
                        file = self._folder / "exports" / f"{stored.obs_id}-{stored.product}"
                        file.parent.mkdir(exist_ok=True)
                        sdb.export(stored.product, obs_id, version=stored.version, to=file)
                        made.append(MadeProduct(stored, times.get((stored.product, obs_id)), file))
        return made

    def _happened(self, orchestra: Orchestra) -> dict[str, str | None]:
        """Return what the record shows of each situation; None for one that did not happen."""
        with ConductorClient(orchestra.conductor_url) as conductor:
            record = read_record(conductor)
        return {
            situation: told(record)
            for situation, told in SITUATIONS.items()
            if self._options.chaos or situation != KILL
        }

    def _missing(self, orchestra: Orchestra, inputs: Mapping[str, tuple[str, ...]]) -> list[str]:
        """Return a line for each product that could be made and is missing, with the reason."""
        with ConductorClient(orchestra.conductor_url) as conductor:
            states = _states(conductor, inputs)
            return [
                f"{obs_id}: {conductor.why(product, obs_id)['answer']}"
                for obs_id, names in inputs.items()
                for product in sorted(self._graph.reachable(names))
                if states[obs_id].get(product) != AVAILABLE
            ]

    async def _keep_running(self, orchestra: Orchestra) -> None:
        console.print("The services keep running; press Ctrl-C to stop them:")
        print_addresses(orchestra.addresses())
        console.print(
            f"Try: batuta status --conductor-url {orchestra.conductor_url}", highlight=False
        )
        await orchestra.supervisor.failed


def _demo_observations(folder: Path) -> list[Any]:
    try:
        from examples.demo.observations import observations  # noqa: PLC0415  found at run time
    except ModuleNotFoundError as exc:
        raise ConfigurationError(
            f"the demonstration needs {', '.join(REQUIRED_MODULES)}, and {exc.name} is not "
            "installed: pip install 'batuta[all]'"
        ) from exc
    return list(observations(folder))


def _states(conductor: ConductorClient, observations: Iterable[str]) -> dict[str, dict[str, str]]:
    """Return the state of each product of each observation known to the conductor."""
    known = {one["obs_id"] for one in conductor.observations()}
    return {
        obs_id: {
            view["product"]: view["state"]
            for view in (conductor.observation(obs_id)["products"] if obs_id in known else [])
        }
        for obs_id in observations
    }


def _is_settled(expected: frozenset[str], states: Mapping[str, str], graph: Graph) -> bool:
    """Whether all expected products are available, or the missing ones cannot be made."""
    missing = {name for name in expected if states.get(name) != AVAILABLE}
    if not missing:
        return True
    moving = any(state not in _ENDED for state in states.values())
    broken = {name for name, state in states.items() if state in _UNSUCCESSFUL}
    there = {name for name, state in states.items() if state == AVAILABLE}
    to_come = any(graph.products[name].ready(there) for name in missing - broken)
    return bool(broken) and not moving and not to_come


def _worker_of(service: psutil.Process) -> psutil.Process | None:
    """Return the process that computes a processing of a pipeline service, if any.

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
