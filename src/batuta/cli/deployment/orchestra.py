"""An orchestra on this machine: NATS, sdb, pipelines and conductor, each in its own process."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import httpx

from batuta.cli.deployment.plan import BoundService, DeploymentPlan, OrchestraConfig
from batuta.cli.deployment.restore_mark import refuse_interrupted
from batuta.cli.deployment.supervisor import ProgramError, Supervisor, supervising
from batuta.graph import read_graph
from batuta.pipeline.settings import PipelineSettings
from batuta.pipeline.simulate.settings import SimulateSettings
from batuta.service.client import tls_verification
from batuta.service.folder_lock import lock_folder
from batuta.tls import trust

NATS_TRIES: Final = 4


@dataclass
class Orchestra:
    """The running services and their URLs."""

    supervisor: Supervisor
    nats_url: str
    sdb_url: str
    conductor_url: str = ""
    dashboard_url: str = ""
    """Empty if there is none."""
    providers: dict[str, str] = field(default_factory=dict)

    def addresses(self) -> dict[str, str]:
        """Return the URL of each service, by name."""
        return {
            "nats": self.nats_url,
            "sdb": self.sdb_url,
            "conductor": self.conductor_url,
            **self.providers,
            **({"dashboard": self.dashboard_url} if self.dashboard_url else {}),
        }


def running_orchestra(
    config: OrchestraConfig, folder: Path, report: Callable[[str], None]
) -> AbstractAsyncContextManager[Orchestra]:
    """Start an orchestra, and stop all of it when the block ends.

    Parameters
    ----------
    folder : Path
        The folder that the configuration's paths are relative to.
    report : callable
        Called with one line for each event in the life of a service.

    Raises
    ------
    ConfigurationError
        One line for each mistake of the configuration, before anything is started.
    ProgramError
        If a service does not start.
    """
    return running_plan(DeploymentPlan(config, folder), report)


@asynccontextmanager
async def running_plan(
    plan: DeploymentPlan, report: Callable[[str], None]
) -> AsyncIterator[Orchestra]:
    """Start the orchestra of `plan`, which is closed at the end: see `running_orchestra`."""
    # The clients of this process look at the services too.
    trust(plan.tls.ca)
    with plan, lock_folder(plan.data_dir, _folder_in_use(plan)):
        refuse_interrupted(plan.data_dir)
        async with supervising(plan.data_dir / "logs", report) as supervisor:
            yield await _start_all(plan, supervisor)


def _folder_in_use(plan: DeploymentPlan) -> str:
    return f"data_dir {plan.data_dir}: another orchestra is running in it"


async def _start_all(plan: DeploymentPlan, supervisor: Supervisor) -> Orchestra:
    plan.write_derived_graph()
    if plan.nats_is_started:
        await _start_nats(plan, supervisor)
    orchestra = Orchestra(supervisor, plan.nats_url, plan.sdb.url)
    async with asyncio.TaskGroup() as group:
        group.create_task(supervisor.start(plan.service("sdb", plan.sdb)))
        for use, part in plan.pipelines:
            group.create_task(_start_pipeline(plan, orchestra, use, part))
        if plan.dashboard is not None:
            # It does not wait for the others: it shows which of them do not answer yet.
            group.create_task(supervisor.start(plan.service("dashboard", plan.dashboard)))
            orchestra.dashboard_url = plan.dashboard.url
        if plan.simulate is not None:
            group.create_task(_start_simulation(plan, orchestra, plan.simulate))
    # Last: it needs the URLs of the pipelines, and reads the sdb when it starts.
    conductor = plan.service("conductor", plan.conductor(orchestra.providers))
    await supervisor.start(conductor)
    orchestra.conductor_url = conductor.url
    return orchestra


async def _start_nats(plan: DeploymentPlan, supervisor: Supervisor) -> None:
    """Start NATS, on another port if its own was taken since it was found free."""
    for _ in range(NATS_TRIES):
        try:
            await supervisor.start(plan.nats())
        except ProgramError:
            if not plan.change_nats_port():
                raise
        else:
            return
    await supervisor.start(plan.nats())


async def _start_pipeline(
    plan: DeploymentPlan, orchestra: Orchestra, use: str, part: BoundService[PipelineSettings]
) -> None:
    await orchestra.supervisor.start(plan.service("pipeline", part, use))
    orchestra.providers[await _name_at(part.url)] = f"{part.url}{part.settings.root_path}"


async def _start_simulation(
    plan: DeploymentPlan, orchestra: Orchestra, part: BoundService[SimulateSettings]
) -> None:
    await orchestra.supervisor.start(plan.service("simulate", part))
    for provider in read_graph(part.settings.graph).providers:
        if provider not in part.settings.elsewhere:
            orchestra.providers[provider] = f"{part.url}{part.settings.root_path}"


async def _name_at(url: str) -> str:
    async with httpx.AsyncClient(trust_env=False, verify=tls_verification(url)) as client:
        health = (await client.get(f"{url}/health")).json()
    return str(health["service"])
