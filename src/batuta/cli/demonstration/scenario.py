"""What the demonstration brings about besides importing observations: alert, campaign, approval."""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar

from batuta.cli.conductor_client import ConductorClient
from batuta.cli.deployment.orchestra import Orchestra
from batuta.cli.live.state import AVAILABLE
from batuta.graph import Graph
from batuta.sdb import SdbClient
from batuta.stages import PRELIMINARY, Stage
from batuta.work_classes import WorkClass

T = TypeVar("T")

OPERATOR: Final = "scientist-on-shift"
REPROCESSED: Final = ("LIGHT_CURVE", "POWER_SPECTRUM", "DYN_POWER_SPECTRUM")
"""What the campaign makes again, with all that follows from it."""
APPROVED: Final = "STEREO_REPORT"
"""The product that waits for a person."""
JUDGED: Final = ("DISPARITY_ERROR", "HEIGHTS")
"""What that person looks at before."""
REASON: Final = "compared with the true disparity: fit to be published"


class Scenario:
    """Plays the observations, and what a person does meanwhile.

    Every step waits for what the conductor says has happened before.

    Parameters
    ----------
    orchestra : Orchestra
        Where the services are.
    graph : Graph
        The product graph that they use.
    observations : sequence
        The observations to import.
    log : callable
        Is given a line for each step.
    pause : callable
        Waits before the conductor is asked again.
    """

    def __init__(
        self,
        orchestra: Orchestra,
        graph: Graph,
        observations: Sequence[Any],
        *,
        log: Callable[[str], None],
        pause: Callable[[], Awaitable[None]],
    ) -> None:
        self._orchestra = orchestra
        self._graph = graph
        self._observations = observations
        self._log = log
        self._pause = pause

    async def play(self) -> None:
        """Play all of it, to the end of the campaign."""
        with ConductorClient(self._orchestra.conductor_url, operator=OPERATOR) as conductor:
            alerts = [one for one in self._observations if one.alert]
            others = [one for one in self._observations if not one.alert]
            for observation in others:
                await self._import(observation)
            async with asyncio.TaskGroup() as group:
                for observation in others:
                    if observation.preliminary:
                        group.create_task(self._improve(conductor, observation))
                group.create_task(self._approve(conductor))
                group.create_task(self._overtake(conductor, others, alerts))

    async def _import(self, observation: Any) -> None:
        """Import an observation; what has a preliminary version, in this one."""
        alert = " as an alert" if observation.alert else ""
        self._log(f"{observation.obs_id}: {observation.title} arrives{alert}")
        work_class = WorkClass.ALERT if observation.alert else None
        final = {
            name: file
            for name, file in observation.files.items()
            if name not in observation.preliminary
        }
        await asyncio.to_thread(self._import_files, observation.obs_id, final, work_class)
        await asyncio.to_thread(
            self._import_files, observation.obs_id, observation.preliminary, work_class, PRELIMINARY
        )

    def _import_files(
        self,
        obs_id: str,
        files: Mapping[str, Path],
        work_class: WorkClass | None = None,
        stage: Stage | None = None,
    ) -> None:
        with SdbClient(self._orchestra.sdb_url) as sdb:
            for product, file in files.items():
                sdb.import_file(file, product, obs_id, work_class=work_class, stage=stage)

    async def _improve(self, conductor: ConductorClient, observation: Any) -> None:
        """Import the final inputs, once all is made from the preliminary ones; wait for it."""
        obs_id, files = observation.obs_id, observation.files
        improved = {
            made.name for each in observation.preliminary for made in self._graph.fed_by(each)
        }
        await self._until(lambda: _are_available(conductor, obs_id, improved))
        self._log(f"{obs_id}: its final {', '.join(observation.preliminary)} arrives")
        final = {name: files[name] for name in observation.preliminary}
        await asyncio.to_thread(self._import_files, obs_id, final, None, "final")
        await self._until(lambda: _are_available(conductor, obs_id, improved, version=2))

    async def _approve(self, conductor: ConductorClient) -> None:
        """Approve what waits for a person, once there is what that person looks at."""
        waiting = await self._until(lambda: list(conductor.approvals(product=APPROVED)))
        items = [{"product": one["product"], "obs_id": one["obs_id"]} for one in waiting]
        for one in items:
            await self._until(partial(_are_available, conductor, one["obs_id"], JUDGED))
        for answer in await asyncio.to_thread(conductor.answer, "approve", items, REASON):
            if answer["problem"] is not None:
                self._log(f"{APPROVED} could not be approved: {answer['problem']}")

    async def _overtake(
        self, conductor: ConductorClient, others: Sequence[Any], alerts: Sequence[Any]
    ) -> None:
        """Start a campaign once its products are there; import the alerts while it waits."""
        made = {
            one.obs_id: self._graph.reachable(one.files)
            for one in others
            if self._graph.reachable(one.files) & set(REPROCESSED)
        }
        for obs_id, products in made.items():
            await self._until(partial(_are_available, conductor, obs_id, products))
        campaign = await asyncio.to_thread(self._start_campaign, conductor, list(made))
        number = str(campaign["number"])
        await self._until(lambda: conductor.first_processings(1, campaign=number, state="waiting"))
        for observation in alerts:
            await self._import(observation)
        await self._until(lambda: conductor.campaign(campaign["number"])["state"] == "done")

    def _start_campaign(self, conductor: ConductorClient, obs_ids: list[str]) -> dict[str, Any]:
        order = {
            "name": "new timing calibration",
            "products": list(REPROCESSED),
            "obs_ids": obs_ids,
            "downstream": True,
        }
        campaign = conductor.plan_campaign(order)
        self._log(f"campaign {campaign['number']}: {order['name']}, {', '.join(obs_ids)}")
        return conductor.order_campaign(campaign["number"], "start")

    async def _until(self, condition: Callable[[], T]) -> T:
        """Ask the conductor until the answer is true, and return it."""
        while not (answer := await asyncio.to_thread(condition)):
            await self._pause()
        return answer


def _are_available(
    conductor: ConductorClient,
    obs_id: str,
    products: Collection[str],
    version: int = 1,
) -> bool:
    """Whether products of an observation are available, of this version at least."""
    known = any(one["obs_id"] == obs_id for one in conductor.observations())
    views = conductor.observation(obs_id)["products"] if known else []
    return set(products) <= {
        view["product"]
        for view in views
        if view["state"] == AVAILABLE and (view["version"] or 1) >= version
    }
