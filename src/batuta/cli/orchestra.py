"""A whole orchestra on this machine: NATS, sdb, pipelines and conductor, each its own process."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import httpx

from batuta.cli.deployment_plan import OrchestraConfig, Part, Plan
from batuta.cli.supervisor import ProgramError, Supervisor, supervising
from batuta.graph import read_graph
from batuta.pipeline.settings import PipelineSettings
from batuta.pipeline.simulate.settings import SimulateSettings
from batuta.service.client import tls_for
from batuta.service.folders import own_folder

NATS_TRIES: Final = 4


@dataclass
class Orchestra:
    """What runs, and where."""

    supervisor: Supervisor
    nats_url: str
    sdb_url: str
    conductor_url: str = ""
    providers: dict[str, str] = field(default_factory=dict)

    def addresses(self) -> dict[str, str]:
        """Address of everything, by name."""
        return {
            "nats": self.nats_url,
            "sdb": self.sdb_url,
            "conductor": self.conductor_url,
            **self.providers,
        }


@contextlib.asynccontextmanager
async def playing(
    config: OrchestraConfig, folder: Path, tell: Callable[[str], None]
) -> AsyncIterator[Orchestra]:
    """Start an orchestra; it plays until left, and nothing of it is left then.

    Parameters
    ----------
    folder : Path
        What the configuration's paths are relative to.
    tell : callable
        Told, a line at a time, what happens to the services.

    Raises
    ------
    ConfigurationError
        If the configuration is wrong: every mistake, before anything is started.
    ProgramError
        If a service does not start.
    """
    with Plan(config, folder) as plan, own_folder(plan.data_dir, _taken(plan)):
        async with supervising(plan.data_dir / "logs", tell) as supervisor:
            yield await _start_all(plan, supervisor)


def _taken(plan: Plan) -> str:
    return f"data_dir {plan.data_dir}: another orchestra is playing with it"


async def _start_all(plan: Plan, supervisor: Supervisor) -> Orchestra:
    if plan.nats_is_started:
        await _start_nats(plan, supervisor)
    orchestra = Orchestra(supervisor, plan.nats_url, plan.sdb.url)
    async with asyncio.TaskGroup() as group:
        group.create_task(supervisor.start(plan.service("sdb", plan.sdb)))
        for use, part in plan.pipelines:
            group.create_task(_start_pipeline(plan, orchestra, use, part))
        if plan.simulate is not None:
            group.create_task(_start_simulation(plan, orchestra, plan.simulate))
    # It is told where the pipelines are, and asks the sdb what it holds.
    conductor = plan.service("conductor", plan.conductor(orchestra.providers))
    await supervisor.start(conductor)
    orchestra.conductor_url = conductor.url
    return orchestra


async def _start_nats(plan: Plan, supervisor: Supervisor) -> None:
    """Start NATS, on another port where its own was taken since it was found free."""
    for _ in range(NATS_TRIES):
        try:
            await supervisor.start(plan.nats())
        except ProgramError:
            if not plan.move_nats():
                raise
        else:
            return
    await supervisor.start(plan.nats())


async def _start_pipeline(
    plan: Plan, orchestra: Orchestra, use: str, part: Part[PipelineSettings]
) -> None:
    await orchestra.supervisor.start(plan.service("pipeline", part, use))
    orchestra.providers[await _name_at(part.url)] = f"{part.url}{part.settings.root_path}"


async def _start_simulation(plan: Plan, orchestra: Orchestra, part: Part[SimulateSettings]) -> None:
    await orchestra.supervisor.start(plan.service("simulate", part))
    for provider in read_graph(part.settings.graph).providers:
        # A provider that has a pipeline of its own is not simulated.
        orchestra.providers.setdefault(provider, f"{part.url}{part.settings.root_path}")


async def _name_at(url: str) -> str:
    async with httpx.AsyncClient(trust_env=False, verify=tls_for(url)) as client:
        health = (await client.get(f"{url}/health")).json()
    return str(health["service"])
